"""`durable`: acknowledged, and so stored, messages a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from loadtest.plan import Channels, Open, Phase, Plan, Publish
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Seconds, Size, Window


def durable(
    *,
    publishers: Annotated[int, typer.Option(min=1, help="Clients that publish, each in a channel of its own.")] = 100,
    in_flight: Annotated[int, typer.Option(min=1, help="Unanswered messages of each, where there is no --rate.")] = 32,
    rate: Annotated[
        float, typer.Option(min=0, help="Messages a second in all, at their times; 0: as many as are answered.")
    ] = 0,
    seconds: Seconds = 20,
    size: Size = 128,
    window: Window = 256,
    channel: Prefix = "chat:durable-",
) -> Plan:
    """Acknowledged publishes a second; each publisher reads its own messages back."""
    publish = Publish(rate=rate, in_flight=0 if rate else in_flight, seconds=seconds, size=size)
    return Plan(
        name="durable",
        clients=publishers,
        channels=[Channels(prefix=channel, size=1)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            Phase(name="publish", activities=[publish]),
        ],
    )


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    publish = next(each for each in plan.phases[-1].activities if isinstance(each, Publish))
    if not publish.rate:
        return [Budget("B4", "acknowledged messages a second", "least", 15_000, "acknowledged_per_second", "/s")]
    if 900 <= publish.rate <= 1100:
        return [
            Budget("B4", "acknowledged within, half of them, at 1,000/s", "most", 5, "publish_p50_ms", "ms"),
            Budget("B4", "acknowledged within, 99 % of them, at 1,000/s", "most", 25, "publish_p99_ms", "ms"),
        ]
    return []
