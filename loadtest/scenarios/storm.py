"""`storm`: everybody is cut off at once, comes back, and gets what was missed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Cut, Open, Phase, Plan, Publish
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Rate, Seconds, Size, Window


def storm(
    *,
    connections: Annotated[int, typer.Option(min=2, help="Clients; one of each channel publishes and stays.")] = 2000,
    members: Annotated[int, typer.Option(min=2, help="Clients in a channel.")] = 100,
    rate: Rate = 100,
    back_within: Annotated[
        float, typer.Option(min=0, help="Seconds over which they come back; 0: all of them at once.")
    ] = 0,
    seconds: Seconds = 20,
    size: Size = 128,
    window: Window = 512,
    channel: Prefix = "chat:storm-",
) -> Plan:
    """Cut everybody off; they come back and recover while others publish."""
    return Plan(
        name="storm",
        clients=connections,
        channels=[Channels(prefix=channel, size=members)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            Phase(
                name="storm",
                activities=[
                    Publish(rate=rate, seconds=seconds, size=size),
                    Cut(after=1, back_within=back_within, window=window),
                ],
            ),
        ],
        drain=60,
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    if plan.clients < 100_000:
        return []
    return [
        Budget("B6", "everybody is back and has what was missed", "most", 45, "recovery_seconds", "s"),
        Budget("B6", "publishes meanwhile, 99 % of them", "most", 250, "publish_p99_ms", "ms"),
    ]
