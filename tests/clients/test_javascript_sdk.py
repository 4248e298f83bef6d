"""The npm SDK `centrifuge`, unchanged, against a server of two nodes; the scenarios are in `scenarios.mjs`."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from loadtest.server import Server

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "scenario", ["publish", "history", "presence", "recovery", "rpc", "refresh", "badToken", "expiredToken", "batch"]
)
def test_scenario(scenario: str, run_javascript: Callable[..., str], server: Server) -> None:
    tokens = {
        "ana": server.token("ana"),
        "bo": server.token("bo"),
        "short": server.token("ana", ttl=2),
        "expired": server.token("ana", ttl=-10),
    }
    run_javascript(scenario, channel=f"chat:{uuid.uuid4()}", tokens=tokens)


def test_a_closed_channel_needs_a_subscription_token(run_javascript: Callable[..., str], server: Server) -> None:
    channel = f"closed:{uuid.uuid4()}"
    tokens = {"ana": server.token("ana"), "subscription": server.token("ana", channel=channel)}
    run_javascript("closedChannel", channel=channel, tokens=tokens)
