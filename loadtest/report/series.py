"""A report's series as few points as a plot can show, added up by kind of process."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import floor, log10
from statistics import median

from loadtest.latency import Histogram
from loadtest.report.model import Moment, Process, Report
from loadtest.report.words import kind

POINTS = 300
PER_DECADE = 10  # bars of a histogram

Curve = Callable[[float], float]


def thinned(moments: Sequence[Moment]) -> list[list[Moment]]:
    """The moments in `POINTS` groups at most."""
    step = -(-len(moments) // POINTS) or 1
    return [list(moments[start : start + step]) for start in range(0, len(moments), step)]


def rate(moments: Sequence[Moment], name: str) -> list[tuple[float, float]]:
    """How many a second, over time."""
    points, before = [], 0.0
    for some in thinned(moments):
        count = sum(moment.counts.get(name, 0) for moment in some)
        points.append((some[-1].at, count / max(some[-1].at - before, 1e-3)))
        before = some[-1].at
    return points


def waiting(moments: Sequence[Moment], latency: str) -> tuple[list[tuple[float, float | None]], ...]:
    """p50, p99 and the maximum over time. Of several seconds in a point: the middle p50, the worst p99 and maximum."""
    p50: list[tuple[float, float | None]] = []
    p99: list[tuple[float, float | None]] = []
    top: list[tuple[float, float | None]] = []
    for some in thinned(moments):
        at, found = some[-1].at, [moment.latency[latency] for moment in some if latency in moment.latency]
        p50.append((at, median(each[0] for each in found) if found else None))
        p99.append((at, max(each[1] for each in found) if found else None))
        top.append((at, max(each[2] for each in found) if found else None))
    return p50, p99, top


def grid(end: float) -> list[float]:
    """Places for series that were sampled at times of their own: no denser than once a second."""
    count = max(2, min(POINTS, int(end)))
    return [end * n / count for n in range(count + 1)]


def by_kind(processes: Sequence[Process], side: str) -> dict[str, list[Process]]:
    found: dict[str, list[Process]] = {}
    for process in processes:
        if process.side == side:
            found.setdefault(kind(process.name), []).append(process)
    return found


def cpu(process: Process, places: Sequence[float]) -> list[float]:
    """Cores in use between each place and the one before; exact, however the samples lie."""
    times, used = [0.0], [0.0]
    for sample in process.samples:
        used.append(used[-1] + sample.cpu * max(0.0, sample.at - times[-1]))
        times.append(sample.at)
    total = _between(times, used)
    spent = [(total(after) - total(before)) / (after - before) for before, after in pairwise(places)]
    return [spent[0] if spent else 0.0, *spent]


def pss(process: Process, places: Sequence[float]) -> list[float]:
    """Memory at each place, between the readings; nothing before the first sample and after the last."""
    read = [sample for sample in process.samples if sample.pss]
    if not read:
        return [0.0] * len(places)
    known = _between([sample.at for sample in read], [float(sample.pss) for sample in read])
    first, last = process.samples[0].at, process.samples[-1].at
    margin = 2 * (last - first) / max(1, len(process.samples) - 1)
    return [known(at) if first - margin <= at <= last + margin else 0.0 for at in places]


def _between(times: Sequence[float], values: Sequence[float]) -> Curve:
    """Straight lines between points, level beyond them."""

    def at(time: float) -> float:
        index = bisect_left(times, time)
        if index == 0:
            return values[0]
        if index == len(times):
            return values[-1]
        share = (time - times[index - 1]) / max(times[index] - times[index - 1], 1e-9)
        return values[index - 1] + share * (values[index] - values[index - 1])

    return at


def percentile_curve(histogram: Histogram) -> list[tuple[float, float]]:
    """Nines against milliseconds: 0 is the median's left end, 1 is 90 %, 2 is 99 %, 3 is 99.9 % …"""

    points: list[tuple[float, float]] = []
    seen, total = 0, histogram.count
    for microseconds, count in histogram.recorded():
        nines = -log10(1 - seen / total)
        if not points or nines - points[-1][0] > 1 / 60:
            points.append((nines, microseconds / 1e3))
        seen += count
        if seen == total:
            points.append((max(nines, log10(total)), microseconds / 1e3))
    return points


def bars(histogram: Histogram) -> list[tuple[float, float, float]]:
    """From and to in milliseconds, and the share of all events between; each `PER_DECADE`th of a decade is a bar."""

    found: dict[int, int] = {}
    for microseconds, count in histogram.recorded():
        index = floor(log10(microseconds / 1e3) * PER_DECADE + 1e-9)
        found[index] = found.get(index, 0) + count
    return [
        (10 ** (index / PER_DECADE), 10 ** ((index + 1) / PER_DECADE), count / histogram.count)
        for index, count in sorted(found.items())
    ]


def last_pss(process: Process) -> int:
    return next((sample.pss for sample in reversed(process.samples) if sample.pss), 0)


def peak_pss(process: Process) -> int:
    return max((sample.pss for sample in process.samples), default=0)


def ends_at(report: Report) -> float:
    """The last second of which anything is known."""
    return max(report.seconds, *(moment.at for moment in report.moments[-1:]), 1.0)
