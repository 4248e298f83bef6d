"""The built-in scenarios: each makes a plan from a few options, and says which budgets its facts are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from loadtest.plan import Plan
from loadtest.report.model import Budget
from loadtest.scenarios import broadcast, churn, classroom, connect, durable, mix, rooms, slow, storm
from loadtest.target import Local

Budgets = Callable[[Plan, Mapping[str, float]], list[Budget]]


class Preparation(Protocol):
    """What has to be there before a run, and is looked at after it."""

    plan: Plan

    def facts(self, counts: Mapping[str, int]) -> dict[str, float]: ...


Prepare = Callable[[Plan, Local], Preparation]


class Scenario(NamedTuple):
    """`make` has the scenario's options as keyword parameters, described for typer. `prepare` raises Unusable."""

    make: Callable[..., Plan]
    budgets: Budgets
    prepare: Prepare | None = None


SCENARIOS: dict[str, Scenario] = {
    "connect": Scenario(connect.connect, connect.budgets),
    "broadcast": Scenario(broadcast.broadcast, broadcast.budgets),
    "rooms": Scenario(rooms.rooms, rooms.budgets),
    "durable": Scenario(durable.durable, durable.budgets),
    "storm": Scenario(storm.storm, storm.budgets),
    "slow": Scenario(slow.slow, slow.budgets),
    "class": Scenario(classroom.classroom, classroom.budgets),
    "churn": Scenario(churn.churn, churn.budgets),
    "mix": Scenario(mix.mix, mix.budgets, mix.Prepared),
}


def no_budgets(plan: Plan, facts: Mapping[str, float]) -> list[Budget]:
    """Of a plan that is not ours."""
    return []
