"""`broadcast`: one publisher, many readers of one channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Open, Phase, Plan, Publish
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Rate, Seconds, Size, Window


def broadcast(
    *,
    readers: Annotated[int, typer.Option(min=1, help="Clients in the channel; the first of them publishes.")] = 1000,
    rate: Rate = 5,
    burst: Annotated[int, typer.Option(min=1, help="Messages at once, in one write.")] = 1,
    seconds: Seconds = 20,
    size: Size = 128,
    window: Window = 256,
    channel: Prefix = "chat:broadcast",
) -> Plan:
    """One publisher and N readers in a channel, one message at a time or in bursts."""
    return Plan(
        name="broadcast",
        clients=readers,
        channels=[Channels(prefix=channel)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            Phase(name="publish", activities=[Publish(rate=rate, burst=burst, seconds=seconds, size=size)]),
        ],
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    return []
