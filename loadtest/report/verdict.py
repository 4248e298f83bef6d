"""Whether a run is good, from its report alone: the ledger, the budgets, whether it came to its end."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.report.model import Budget, Report
from loadtest.report.words import plural


@dataclass(frozen=True, slots=True)
class Judged:
    """A budget and what was measured; `met` is None where nothing was."""

    budget: Budget
    measured: float | None
    met: bool | None


def judged(report: Report) -> list[Judged]:
    found = []
    for budget in report.budgets:
        value = report.facts.get(budget.fact)
        met = None
        if value is not None and budget.kind in ("most", "least"):
            met = value <= budget.limit if budget.kind == "most" else value >= budget.limit
        found.append(Judged(budget, value, met))
    return found


def clean(report: Report) -> bool:
    return report.ledger.fault_count == 0 and not report.ledger.faults


def books(report: Report) -> str:
    """The ledger in a sentence."""
    ledger = report.ledger
    channels = [*ledger.channels, *([ledger.others] if ledger.others else [])]
    if not clean(report):
        return f"Ledger broken: {plural(max(ledger.fault_count, len(ledger.faults)), 'fault')}."
    if not any(channel.sent for channel in channels):
        return "Ledger clean: nothing was published."
    acknowledged = sum(channel.acknowledged for channel in channels)
    stored = sum(channel.stored for channel in channels if channel.durable)
    delivered = sum(channel.delivered for channel in channels)
    kept = f", {stored:,} stored" if stored else ""
    return (
        f"Ledger clean: {acknowledged:,} acknowledged{kept}, {plural(delivered, 'delivery', 'deliveries')}, no fault."
    )


def limits(report: Report) -> str:
    """The budgets in a sentence; empty where there are none."""
    all_of_them = judged(report)
    if not all_of_them:
        return ""
    missed = [each.budget.name for each in all_of_them if each.met is False]
    unknown = [each.budget.name for each in all_of_them if each.met is None]
    parts = [f"{sum(each.met is True for each in all_of_them)} of {len(all_of_them)} budgets met"]
    if missed:
        parts.append("missed: " + ", ".join(dict.fromkeys(missed)))
    if unknown:
        parts.append("not measured: " + ", ".join(dict.fromkeys(unknown)))
    return "; ".join(parts) + "."


def passed(report: Report) -> bool:
    """Whole, clean, and within every budget."""
    return not report.partial and clean(report) and all(each.met for each in judged(report))
