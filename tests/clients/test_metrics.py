"""What `/metrics` says of a node is what its clients did."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from centrifuge import ReplyError
from prometheus_client.parser import text_string_to_metric_families

from loadtest.server import Server
from tests.clients.people import PATIENCE, person

pytestmark = pytest.mark.integration


async def numbers(server: Server) -> Counter[tuple[str, str]]:
    """The samples by name and node."""

    def ask() -> str:
        with urllib.request.urlopen(server.url("/metrics"), timeout=10) as answer:
            return str(answer.read().decode())

    families = text_string_to_metric_families(await asyncio.to_thread(ask))
    found: Counter[tuple[str, str]] = Counter()
    for family in families:
        for sample in family.samples:
            found[sample.name.removeprefix("chalkwire_"), sample.labels.get("node", "")] += int(sample.value)
    return found


async def test_the_numbers_are_what_the_clients_did(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        await talk_and_count(server)


async def talk_and_count(server: Server) -> None:
    channel = "chat:lobby"
    async with (
        person(server.websocket(0), server.token("ana")) as ana,
        person(server.websocket(1), server.token("bo")) as bo,
    ):
        here, heard_here = await ana.subscribe(channel)
        _, heard_there = await bo.subscribe(channel)
        for number in range(10):
            await here.publish(number)
        await heard_here.publications.take(10)
        await heard_there.publications.take(10)
        with pytest.raises(ReplyError):
            await ana.client.rpc("no.such", {})
        expected = {
            ("publishes_total", "node-1"): 10,
            ("publish_seconds_count", "node-1"): 10,
            ("commands_refused_total", "node-1"): 1,
            ("commands_total", "node-1"): 13,  # connect, subscribe, publishes, rpc
            ("deliveries_total", "node-1"): 10,
            ("deliveries_total", "node-2"): 10,
            ("connections", "node-1"): 1,
            ("subscriptions", "node-2"): 2,  # the channel and the personal one
        }
        async with asyncio.timeout(PATIENCE):
            while True:  # a snapshot is a second old, and after a pause fifteen
                found = await numbers(server)
                if all(found[name] == value for name, value in expected.items()):
                    break
                await asyncio.sleep(0.2)
        assert found["broker_published_total", "node-1"] >= 10  # joins, too, and what nodes say of themselves
        assert found["broker_received_total", "node-2"] >= 10
        assert found["messages_in_total", "node-1"] >= 13
        assert found["broker_dropped_total", "node-1"] == 0
