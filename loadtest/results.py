"""From what was measured to a report: single numbers with names, held against budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from loadtest.balance import balance
from loadtest.coordinator import Outcome
from loadtest.latency import Histogram
from loadtest.plan import Cut, Open, Plan, Publish, Request
from loadtest.report.model import FORMAT, KernelSample, Ledger, Machine, Phase, Process, Report
from loadtest.scenarios import Budgets

LATENCY_FACTS = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")


@dataclass
class Memory:
    """PSS of all server processes, and the kernel's slab, in bytes: before the first client, and with all of them."""

    server_before: int = 0
    server_after: int = 0
    kernel_before: int = 0
    kernel_after: int = 0


@dataclass
class Measured:
    """Everything about a run that the workers do not know."""

    plan: Plan
    command: str
    options: Mapping[str, Any]
    target: str
    server: Mapping[str, Any]
    machine: Machine
    started: float  # seconds since 1970
    processes: Sequence[Process] = ()
    kernel: Sequence[KernelSample] = ()
    memory: Memory = field(default_factory=Memory)
    notes: Sequence[str] = ()


def report(outcome: Outcome, measured: Measured, budgets: Budgets, more: dict[str, float] | None = None) -> Report:
    """`more`: facts that the scenario has found by itself."""
    ledger = balance(outcome)
    found = facts(outcome, ledger, measured) | (more or {})
    notes = list(measured.notes)
    if outcome.refused:
        channel, why = next(iter(outcome.refused.items()))
        notes.append(
            f"The history of {len(outcome.refused)} channels could not be read ({channel}: {why}): there, acknowledged "
            "is held against delivered, not against stored."
        )
    return Report(
        format=FORMAT,
        scenario=measured.plan.name,
        started=datetime.fromtimestamp(measured.started, UTC).isoformat(timespec="seconds"),
        seconds=round(outcome.seconds, 3),
        command=measured.command,
        options={**measured.options, "plan": msgspec.to_builtins(measured.plan)},
        target=measured.target,
        server=dict(measured.server),
        machine=measured.machine,
        partial=outcome.partial,
        phases=outcome.phases,
        facts=found,
        counts=outcome.counts,
        errors=dict(sorted(outcome.errors.items(), key=lambda each: -each[1])[:100]),
        latency={kind: histogram.latency() for kind, histogram in outcome.latency.items()},
        ledger=ledger,
        budgets=budgets(measured.plan, found),
        moments=outcome.moments,
        processes=list(measured.processes),
        kernel=list(measured.kernel),
        notes=notes,
    )


def facts(outcome: Outcome, ledger: Ledger, measured: Measured) -> dict[str, float]:
    """Single numbers by name. One that was not measured is not there."""
    plan, counts = measured.plan, outcome.counts
    delivered = sum(channel.delivered for channel in ledger.channels) + (
        ledger.others.delivered if ledger.others else 0
    )
    found: dict[str, float] = {
        "clients": plan.clients,
        "connections": max((moment.connections for moment in outcome.moments), default=0),
        "published": counts.get("published", 0),
        "acknowledged": counts.get("acknowledged", 0),
        "deliveries": delivered,
    }
    opening = _during(plan, outcome.phases, Open)
    if opening and counts.get("connects"):
        found["connect_seconds"] = opening
        found["connects_per_second"] = counts["connects"] / opening
    publishing = _during(plan, outcome.phases, Publish)
    if publishing:
        found["acknowledged_per_second"] = found["acknowledged"] / publishing
        found["deliveries_per_second"] = delivered / publishing
    requesting = _during(plan, outcome.phases, Request)
    if requesting:
        found["requests"] = counts.get("requests", 0)
        found["requests_failed"] = counts.get("requests_failed", 0)
        found["requests_per_second"] = counts.get("requests_answered", 0) / requesting
    for kind, histogram in outcome.latency.items():
        values = histogram.percentiles()
        found |= {f"{kind}_{name}": getattr(values, name) for name in LATENCY_FACTS}
    if _during(plan, outcome.phases, Cut) and "recovery" in outcome.latency:
        found["recovery_seconds"] = _seconds(outcome.latency["recovery"])
    if any(phase.name == "broadcast" for phase in outcome.phases) and "delivery" in outcome.latency:
        found["broadcast_seconds"] = _seconds(outcome.latency["delivery"])
    found |= _costs(outcome, measured, delivered)
    return {name: round(value, 6) for name, value in found.items()}


def _costs(outcome: Outcome, measured: Measured, delivered: int) -> dict[str, float]:
    found: dict[str, float] = {}
    plan, memory = measured.plan, measured.memory
    if memory.server_after:
        found["server_bytes_per_connection"] = (memory.server_after - memory.server_before) / plan.clients
        found["kernel_bytes_per_connection"] = (memory.kernel_after - memory.kernel_before) / plan.clients
        found["server_bytes_before"] = memory.server_before
        found["server_bytes_after"] = memory.server_after
    if not any(process.side == "server" for process in measured.processes):
        return found
    found["server_cpu_seconds"] = sum(p.cpu_seconds for p in measured.processes if p.side == "server")
    found["harness_cpu_seconds"] = sum(p.cpu_seconds for p in measured.processes if p.side == "harness")
    for what, kind, times in (
        ("connect", Open, outcome.counts.get("connects", 0)),
        ("delivery", Publish, delivered),
        ("message", Publish, outcome.counts.get("acknowledged", 0)),
    ):
        spent = sum(
            _cpu_between(process, phase)
            for process in measured.processes
            if process.side == "server"
            for phase in _phases(plan, outcome.phases, kind)
        )
        if times and spent:
            found[f"server_cpu_us_per_{what}"] = spent / times * 1e6
    return found


def _cpu_between(process: Process, phase: Phase) -> float:
    """CPU seconds of a process during a phase; each sample is of the time since the one before."""
    total, before = 0.0, 0.0
    for sample in process.samples:
        shared = min(sample.at, phase.end) - max(before, phase.start)
        total += sample.cpu * max(0.0, shared)
        before = sample.at
    return total


def _phases(plan: Plan, phases: Sequence[Phase], kind: type) -> list[Phase]:
    names = {phase.name for phase in plan.phases if any(isinstance(each, kind) for each in phase.activities)}
    return [phase for phase in phases if phase.name in names]


def _during(plan: Plan, phases: Sequence[Phase], kind: type) -> float:
    return sum(phase.end - phase.start for phase in _phases(plan, phases, kind))


def _seconds(histogram: Histogram) -> float:
    return histogram.percentiles().max_ms / 1e3
