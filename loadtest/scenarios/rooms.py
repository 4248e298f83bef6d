"""`rooms`: what a chat does, many rooms of few, messages at their times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Open, Phase, Plan, Publish
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Rate, Seconds, Size, Window


def rooms(
    *,
    rooms: Annotated[int, typer.Option(min=1, help="Rooms.")] = 100,
    members: Annotated[int, typer.Option(min=1, help="Clients in each room; all of them publish in turn.")] = 20,
    rate: Rate = 200,
    seconds: Seconds = 30,
    size: Size = 128,
    window: Window = 256,
    channel: Prefix = "chat:room-",
) -> Plan:
    """N rooms of M members, messages at a fixed rate."""
    return Plan(
        name="rooms",
        clients=rooms * members,
        channels=[Channels(prefix=channel, size=members)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            Phase(name="talk", activities=[Publish(publishers=0, rate=rate, seconds=seconds, size=size)]),
        ],
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    return []
