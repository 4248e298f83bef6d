"""`slow`: some readers stop reading. The others must not notice, and they must miss nothing in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Open, Phase, Plan, Publish, Stall
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Rate, Size, Window


def slow(
    *,
    readers: Annotated[int, typer.Option(min=2, help="Clients in the channel; the first of them publishes.")] = 200,
    stalled: Annotated[float, typer.Option(min=0.001, max=1, help="Share of them that stops reading.")] = 0.1,
    stall: Annotated[float, typer.Option(min=0.5, help="Seconds that they do not read.")] = 12,
    rate: Rate = 50,
    size: Size = 16384,
    window: Window = 256,
    channel: Prefix = "chat:slow",
) -> Plan:
    """Some readers stall; nobody else waits for them."""
    return Plan(
        name="slow",
        clients=readers,
        channels=[Channels(prefix=channel)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            Phase(
                name="stall",
                activities=[
                    Publish(rate=rate, seconds=stall + 2, size=size),
                    Stall(share=stalled, seconds=stall),
                ],
            ),
        ],
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    return []
