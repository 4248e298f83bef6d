"""Holds a report against itself: the ledger, the percentiles, the counts, the facts and the budgets are taken again.

Nothing of the run is needed, only the file. What it says must follow from what it holds: an equality that does not hold
is named with both its sides.

A run that was stopped owes nobody the rest: there, deliveries and digests are not held against the history.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from loadtest.latency import BadHistogram, Histogram
from loadtest.report.model import Channel, Phase, Process, Report
from loadtest.report.verdict import judged
from loadtest.report.words import with_unit

CLOSE = 1e-4  # relative: facts are rounded
SLACK = 0.01  # s between two clocks of one run
FAULTS_KEPT = 1000
SHOWN = 20  # channels with the same kind of problem; the rest is counted

# Counts of the run that the ledger has too.
BOOKED = ("published", "acknowledged", "refused", "unanswered", "delivered")
# What each kind of latency is recorded for, at most once each.
RECORDED_FOR = {"connect": "connects", "recovery": "recoveries", "publish": "acknowledged"}


def verify(report: Report) -> list[str]:
    """The problems, worst first; none when the run was whole, clean and within its budgets, and the report adds up."""
    problems = [f"partial: {report.partial}"] if report.partial else []
    problems += _short(_faults(report))
    for channel in _channels(report):
        problems += _channel(channel, whole_run=not report.partial)
    problems = _short(problems)
    problems += [*_counts(report), *_latency(report), *_times(report), *_processes(report), *_facts(report)]
    return problems + _budgets(report)


def consistent(report: Report) -> list[str]:
    """Only what does not add up: not that the run was stopped, lost a message or missed a budget."""
    return [problem for problem in verify(report) if not problem.startswith(("partial:", "fault:", "budget:"))]


# --- the ledger ------------------------------------------------------------------------------------------------------


def _channels(report: Report) -> list[Channel]:
    return [*report.ledger.channels, *([report.ledger.others] if report.ledger.others else [])]


def _faults(report: Report) -> Iterator[str]:
    ledger = report.ledger
    for fault in ledger.faults:
        yield f"fault: {fault.kind} in {fault.channel}: {fault.detail}"
    if len(ledger.faults) != min(ledger.fault_count, FAULTS_KEPT):
        yield f"ledger: {ledger.fault_count} faults were counted and {len(ledger.faults)} are listed"
    names = Counter(channel.name for channel in ledger.channels)
    for name, times in names.items():
        if times > 1:
            yield f"ledger: {name} is listed {times} times"


def _channel(channel: Channel, *, whole_run: bool) -> Iterator[str]:
    where = f"ledger: {channel.name}: "
    amounts = ("sent", "acknowledged", "refused", "unanswered", "head_before", "head_after", "stored", "readers",
               "expected", "delivered", "first_offset_stored")  # fmt: skip
    negative = [name for name in amounts if getattr(channel, name) < 0]
    if negative:
        yield f"{where}{', '.join(negative)} below 0"
    answered = channel.acknowledged + channel.refused + channel.unanswered
    if channel.sent != answered if whole_run else channel.sent < answered:
        yield (f"{where}{channel.sent} sent, but {channel.acknowledged} acknowledged, {channel.refused} refused "
               f"and {channel.unanswered} unanswered")  # fmt: skip
    if channel.delivered != channel.expected and (whole_run or channel.delivered > channel.expected):
        yield f"{where}{channel.expected} deliveries expected, {channel.delivered} made"
    if not channel.durable:
        if channel.stored or channel.head_before or channel.head_after:
            yield f"{where}keeps no history, and yet has {channel.stored} stored"
        return
    grown = channel.head_after - channel.head_before
    span = f"from {channel.head_before} to {channel.head_after}"
    if grown < channel.acknowledged:
        yield f"{where}{channel.acknowledged} acknowledged, but the head went {span}"
    if not channel.stored_digest:  # its history could not be read; the report says so in a note
        return
    if channel.first_offset_stored > channel.head_before + 1:  # trimmed: only its end could be read
        kept = channel.head_after - channel.first_offset_stored + 1
        if channel.stored != kept:
            yield (f"{where}{channel.stored} stored, but the history holds {kept} offsets "
                   f"({channel.first_offset_stored} to {channel.head_after})")  # fmt: skip
        return
    if not channel.acknowledged <= channel.stored <= channel.acknowledged + channel.unanswered:
        unanswered = f" and {channel.unanswered} unanswered" if channel.unanswered else ""
        yield f"{where}{channel.acknowledged} acknowledged{unanswered}, {channel.stored} stored"
    if channel.stored != grown:
        yield f"{where}{channel.stored} stored, but the head went {span}"
    if whole_run and channel.readers and channel.published_digest != channel.stored_digest:
        yield f"{where}readers saw {channel.published_digest or 'nothing'}, stored is {channel.stored_digest} (digests)"


def _short(problems: Any) -> list[str]:
    """Thousands of channels with the same problem are told by a few of them."""
    found = list(problems)
    return found if len(found) <= SHOWN else [*found[:SHOWN], f"ledger: and {len(found) - SHOWN} more like these"]


# --- counts and latency ----------------------------------------------------------------------------------------------


def _counts(report: Report) -> Iterator[str]:
    counts, channels = report.counts, _channels(report)
    for name in BOOKED:
        booked = sum(getattr(channel, "sent" if name == "published" else name) for channel in channels)
        counted = counts.get(name, booked if name == "delivered" else 0)
        if counted != booked and not (report.partial and name in ("unanswered", "published")):
            yield f"counts: {counted} {name}, but {booked} in the ledger"
    seen: Counter[str] = Counter()
    for moment in report.moments:
        seen.update(moment.counts)
    for name, count in seen.items():
        if counts.get(name, 0) != count:
            yield f"counts: {counts.get(name, 0)} {name} in all, but the seconds add up to {count}"
    for name in counts.keys() - seen.keys():
        if counts[name] and report.moments:
            yield f"counts: {counts[name]} {name} in all, and in no second of the run"


def _latency(report: Report) -> Iterator[str]:
    for kind, latency in report.latency.items():
        try:
            found = Histogram.decode(latency.histogram).percentiles()
        except BadHistogram as error:
            yield f"latency: {kind}: {error}"
            continue
        for name in found.__struct_fields__:
            said, is_so = getattr(latency.percentiles, name), getattr(found, name)
            if not math.isclose(said, is_so, rel_tol=1e-6, abs_tol=1e-9):
                yield f"latency: {kind}: {name} is given as {said:g}, the histogram says {is_so:g}"
        most = report.counts.get(RECORDED_FOR.get(kind, ""))
        if most is not None and found.count > most:
            yield f"latency: {kind}: {found.count} recorded for {most} {RECORDED_FOR[kind]}"


# --- times, processes ------------------------------------------------------------------------------------------------


def _times(report: Report) -> Iterator[str]:
    end = report.seconds + SLACK
    for before, after in pairwise(report.moments):
        if after.at <= before.at:
            yield f"moments: {after.at:g} s follows {before.at:g} s"
    if report.moments and not 0 <= report.moments[0].at <= report.moments[-1].at <= end:
        yield f"moments: up to {report.moments[-1].at:g} s in a run of {report.seconds:g} s"
    if any(moment.connections < 0 for moment in report.moments):
        yield "moments: fewer than no connections"
    for phase in report.phases:
        if not 0 <= phase.start <= phase.end <= end:
            yield f"phases: {phase.name} from {phase.start:g} to {phase.end:g} s in a run of {report.seconds:g} s"
    for first, second in pairwise(report.phases):
        if second.start < first.end - SLACK:
            yield f"phases: {second.name} begins before {first.name} ends"


def _processes(report: Report) -> Iterator[str]:
    for process in report.processes:
        if any(sample.cpu < 0 or sample.pss < 0 for sample in process.samples):
            yield f"processes: {process.name} has a sample below 0"
        if any(after.at < before.at for before, after in pairwise(process.samples)):
            yield f"processes: the samples of {process.name} are not in order"
        sampled = _cpu_between(process, Phase("", 0.0, math.inf))
        if not math.isclose(sampled, process.cpu_seconds, rel_tol=0.05, abs_tol=0.5):
            yield f"processes: {process.name} used {process.cpu_seconds:g} s of CPU, its samples say {sampled:.4g} s"


def _cpu_between(process: Process, phase: Phase) -> float:
    """CPU seconds during a phase; each sample is of the time since the one before."""
    total = before = 0.0
    for sample in process.samples:
        total += sample.cpu * max(0.0, min(sample.at, phase.end) - max(before, phase.start))
        before = sample.at
    return total


# --- facts and budgets -----------------------------------------------------------------------------------------------


def derived(report: Report) -> dict[str, float]:
    """The facts that follow from the rest of the report, by name."""
    counts, facts = report.counts, {}
    deliveries = sum(channel.delivered for channel in _channels(report))
    facts["connections"] = float(max((moment.connections for moment in report.moments), default=0))
    facts["published"] = float(counts.get("published", 0))
    facts["acknowledged"] = float(counts.get("acknowledged", 0))
    facts["deliveries"] = float(deliveries)
    opening, publishing = _length(report, "open"), _length(report, "publish")
    if opening:
        facts["connect_seconds"] = opening
        facts["connects_per_second"] = counts.get("connects", 0) / opening
    if publishing:
        facts["acknowledged_per_second"] = counts.get("acknowledged", 0) / publishing
        facts["deliveries_per_second"] = deliveries / publishing
    for kind, latency in report.latency.items():
        for name in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"):
            facts[f"{kind}_{name}"] = getattr(latency.percentiles, name)
    for fact, kind in (("recovery_seconds", "recovery"), ("broadcast_seconds", "delivery")):
        if kind in report.latency:
            facts[fact] = report.latency[kind].percentiles.max_ms / 1e3
    facts |= _costs(report, deliveries)
    return facts


def _costs(report: Report, deliveries: int) -> dict[str, float]:
    facts: dict[str, float] = {}
    clients = report.facts.get("clients", 0)
    before, after = (report.facts.get(f"server_bytes_{when}") for when in ("before", "after"))
    if clients and before is not None and after is not None:
        facts["server_bytes_per_connection"] = (after - before) / clients
    servers = [process for process in report.processes if process.side == "server"]
    facts["server_cpu_seconds"] = sum(process.cpu_seconds for process in servers)
    facts["harness_cpu_seconds"] = sum(p.cpu_seconds for p in report.processes if p.side == "harness")
    for what, did, times in (
        ("connect", "open", report.counts.get("connects", 0)),
        ("delivery", "publish", deliveries),
        ("message", "publish", report.counts.get("acknowledged", 0)),
    ):
        spent = sum(_cpu_between(process, phase) for process in servers for phase in _phases(report, did))
        if times and spent:
            facts[f"server_cpu_us_per_{what}"] = spent / times * 1e6
    return facts


def _phases(report: Report, did: str) -> list[Phase]:
    """The phases in which an activity took place, as the plan among the options says."""
    names: set[str] = set()
    plan = report.options.get("plan")
    if isinstance(plan, dict):
        names = {
            phase["name"]
            for phase in plan.get("phases", ())
            if any(activity.get("do") == did for activity in phase.get("activities", ()))
        }
    return [phase for phase in report.phases if phase.name in names]


def _length(report: Report, did: str) -> float:
    return sum(phase.end - phase.start for phase in _phases(report, did))


def _facts(report: Report) -> Iterator[str]:
    for name, is_so in derived(report).items():
        said = report.facts.get(name)
        if said is not None and not math.isclose(said, is_so, rel_tol=CLOSE, abs_tol=1e-6):
            yield f"facts: {name} is given as {said:g}, the report makes it {is_so:g}"
    for name, said in report.facts.items():
        if not math.isfinite(said):
            yield f"facts: {name} is no number"


def _budgets(report: Report) -> list[str]:
    problems = []
    for each in judged(report):
        budget, value = each.budget, each.measured
        if budget.kind not in ("most", "least"):
            problems.append(f"budget: {budget.name}: its kind is {budget.kind!r}, not most or least")
        elif value is None:
            problems.append(f"budget: {budget.name} ({budget.what}): {budget.fact} was not measured")
        elif not each.met:
            limit = f"at {budget.kind} {with_unit(budget.limit, budget.unit)}"
            problems.append(f"budget: {budget.name} ({budget.what}): {with_unit(value, budget.unit)}, {limit}")
    return problems
