"""`mix`: a day in a school, many connections that are there and the REST that comes with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from msgspec.structs import replace

from loadtest import school
from loadtest.plan import Channels, Group, Open, Phase, Plan, Publish, Request
from loadtest.report.model import Budget
from loadtest.scenarios.options import Prefix, Window
from loadtest.target import Local

SHARES = {"read": 0.90, "step": 0.09, "submit": 0.01}


def mix(
    *,
    connections: Annotated[int, typer.Option(min=1, help="Clients that are there.")] = 1000,
    members: Annotated[int, typer.Option(min=1, help="Clients in each room.")] = 30,
    requests: Annotated[
        float, typer.Option(min=1, max=1e5, help="Requests a second: 90 % course reads, 9 % progress, 1 % submissions.")
    ] = 100,
    rate: Annotated[float, typer.Option(min=0, max=1e6, help="Messages a second over all rooms.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 30,
    window: Window = 256,
    channel: Prefix = "chat:mix-",
) -> Plan:
    """A day in a school: clients in rooms, and the requests of students at their times."""
    talk = [Publish(rate=rate, seconds=seconds)] if rate else []
    return Plan(
        name="mix",
        clients=connections,
        channels=[Channels(prefix=channel, size=members)],
        phases=[
            Phase(name="connect", activities=[Open(window=window)]),
            # Which requests, is known when the school is there.
            Phase(name="day", activities=[*talk, Request(rate=requests, seconds=seconds)]),
        ],
        drain=120,
    )


class Prepared:
    """The plan with the requests of a school that was made for it."""

    def __init__(self, plan: Plan, local: Local) -> None:
        """Raises Unusable."""
        self._school = school.make(local, SHARES)
        self.plan = _with_requests(plan, list(self._school.groups))

    def facts(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Nothing that was acknowledged may be lost: what was handed in is counted where it is stored."""
        stored, acknowledged = self._school.stored(), counts.get("submit_answered", 0)
        return {
            "submissions_acknowledged": acknowledged,
            "submissions_stored": stored,
            "submissions_lost": max(0, acknowledged - stored),
        }


def _with_requests(plan: Plan, groups: list[Group]) -> Plan:
    def filled(phase: Phase) -> Phase:
        given = [replace(each, groups=groups) if isinstance(each, Request) else each for each in phase.activities]
        return replace(phase, activities=given)

    return replace(plan, phases=[filled(phase) for phase in plan.phases])


def budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    found = [
        Budget("mix", "submissions that were acknowledged and lost", "most", 0, "submissions_lost", ""),
        Budget("mix", "requests that failed", "most", 0, "requests_failed", ""),
    ]
    if plan.clients >= 100_000:
        found += [
            Budget("mix", "connections at the same time", "least", 100_000, "connections", ""),
            Budget("mix", "requests, 99 % of them", "most", 250, "request_p99_ms", "ms"),
        ]
    return found
