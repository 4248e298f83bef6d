"""`churn`: people come and go while others talk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Churn, Open, Phase, Plan, Publish
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Rate, Seconds, Size, Window


def churn(
    *,
    connections: Annotated[int, typer.Option(min=2, help="Clients.")] = 1000,
    members: Annotated[int, typer.Option(min=2, help="Clients in a channel; the first of them publishes.")] = 20,
    leaves: Annotated[float, typer.Option(min=0.1, help="Clients a second that leave, and return after 1 s.")] = 100,
    rate: Rate = 50,
    seconds: Seconds = 20,
    size: Size = 128,
    window: Window = 256,
    channel: Prefix = "chat:churn-",
) -> Plan:
    """Joins and leaves (half of them of connections, half of subscriptions) beside messages."""
    return Plan(
        name="churn",
        clients=connections,
        channels=[Channels(prefix=channel, size=members)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            Phase(
                name="churn",
                activities=[Publish(rate=rate, seconds=seconds, size=size), Churn(rate=leaves, seconds=seconds)],
            ),
        ],
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    return []
