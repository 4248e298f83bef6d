"""The plots of a report, in sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from statistics import median

from loadtest.latency import BadHistogram, Histogram
from loadtest.report import series
from loadtest.report.markup import Element
from loadtest.report.model import Report
from loadtest.report.plot import Area, Bar, Format, Line, Plot, Scale, Span, Tick, clock, linear, logarithmic
from loadtest.report.words import milliseconds, number, short, size

MANY = 4  # processes of a kind from which on they are shown as a band
NINES = 5.0  # the percentile curve ends at 99.999 %
LAYERS = 7  # of a stack; the smallest others are one more
MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """What every plot over time has in common."""

    x: Scale
    phases: tuple[Span, ...]
    places: tuple[float, ...]


def sections(report: Report) -> list[tuple[str, list[Element]]]:
    """Headings with their figures."""
    end = series.ends_at(report)
    phases = tuple(Span(phase.name, phase.start, phase.end) for phase in report.phases)
    run = Run(clock(end), phases, tuple(series.grid(end)))
    return [
        ("Latency over time and its distribution", _latency(report, run)),
        ("Connections and messages", _traffic(report, run)),
        ("CPU and memory", _processes(report, run)),
    ]


# --- latency ---------------------------------------------------------------------------------------------------------


def _latency(report: Report, run: Run) -> list[Element]:
    histograms: dict[str, Histogram] = {}
    for name, latency in report.latency.items():
        try:
            histograms[name] = Histogram.decode(latency.histogram)
        except BadHistogram:
            continue  # `verify` says so, above on the page
    found = []
    for name, histogram in histograms.items():
        over_time = _waiting(report, run, name)
        if histogram.count and over_time is not None:
            found += [over_time, _spread(name, histogram)]
    curves = _curves({name: each for name, each in histograms.items() if each.count})
    return [*found, curves] if curves is not None else found


def _waiting(report: Report, run: Run, name: str) -> Element | None:
    p50, p99, top = series.waiting(report.moments, name)
    values = [value for points in (p50, p99, top) for _, value in points if value]
    if not values:
        return None
    plot = Plot(
        f"{name}: latency over time",
        run.x,
        logarithmic(min(values), max(values), milliseconds),
        [Line("max", top, 2, "p2 thin"), Line("p99", p99, 1, "p1"), Line("p50", p50, 0, "p0")],
        phases=run.phases,
        show=milliseconds,
    )
    return plot.figure()


def _spread(name: str, histogram: Histogram) -> Element:
    bars = series.bars(histogram)
    shown = histogram.percentiles()
    x = logarithmic(bars[0][0], bars[-1][1], milliseconds)
    y = linear(max(share for _, _, share in bars) * 100, lambda value: f"{value:g} %")
    drawn = [
        Bar(low, high, share * 100, f"{milliseconds(low)} to {milliseconds(high)}: {share:.3%}")
        for low, high, share in bars
    ]
    marks = [Tick(shown.p50_ms, "p50"), Tick(shown.p99_ms, "p99"), Tick(shown.p999_ms, "p99.9")]
    return Plot(f"{name}: distribution of {shown.count:,}", x, y, bars=drawn, marks=marks).figure()


def _curves(histograms: dict[str, Histogram]) -> Element | None:
    if not histograms:
        return None
    curves = {name: series.percentile_curve(histogram) for name, histogram in histograms.items()}
    values = [value for points in curves.values() for _, value in points]
    end = min(NINES, max(1.0, *(points[-1][0] for points in curves.values())))
    ticks = [Tick(0.0, "0"), *(Tick(float(n), _nines(n)) for n in range(1, int(end) + 1))]
    plot = Plot(
        "Latency by percentile",
        Scale(0.0, end, ticks),
        logarithmic(min(values), max(values), milliseconds),
        [
            Line(name, [each for each in points if each[0] <= end], index % 8)
            for index, (name, points) in enumerate(curves.items())
        ],
        show=milliseconds,
        place=lambda nines: f"{100 * (1 - 10**-nines):.{max(0, int(nines))}f} %",
    )
    return plot.figure()


def _up_to(end: float, points: list[tuple[float, float]]) -> list[tuple[float, float | None]]:
    kept: list[tuple[float, float | None]] = [point for point in points if point[0] <= end]
    return [*kept, (end, points[len(kept)][1])] if len(kept) < len(points) else kept


def _nines(count: int) -> str:
    return f"{100 * (1 - 10**-count):.{max(0, count - 2)}f} %"


# --- connections and messages ----------------------------------------------------------------------------------------


def _traffic(report: Report, run: Run) -> list[Element]:
    if not report.moments:
        return []
    up = [(some[-1].at, float(some[-1].connections)) for some in series.thinned(report.moments)]
    connections = Plot(
        "Connections", run.x, linear(max(value for _, value in up), short), [Line("connections", up, 0)],
        phases=run.phases, show=number,
    )  # fmt: skip
    found = [connections.figure()]
    for title, names in (
        ("Connects a second", ("connects", "recoveries", "disconnects")),
        ("Messages a second", ("published", "acknowledged", "refused")),
        ("Deliveries a second", ("delivered",)),
    ):
        lines = [
            Line(name, series.rate(report.moments, name), index)
            for index, name in enumerate(names)
            if any(name in moment.counts for moment in report.moments)
        ]
        if lines:
            top = max(value for line in lines for _, value in line.points if value is not None)
            plot = Plot(title, run.x, linear(top, short), lines, phases=run.phases, show=lambda v: f"{short(v)}/s")
            found.append(plot.figure())
    return found


# --- processes -------------------------------------------------------------------------------------------------------


def _processes(report: Report, run: Run) -> list[Element]:
    """In pairs: CPU and memory of the same processes; then the kernel's share."""
    found = []
    for side in ("server", "harness"):
        kinds = series.by_kind(report.processes, side)
        if not kinds:
            continue
        cpu = {name: [series.cpu(process, run.places) for process in some] for name, some in kinds.items()}
        pss = {name: [series.pss(process, run.places) for process in some] for name, some in kinds.items()}
        name_of = side.capitalize()
        found.append(
            _stack(f"{name_of}: cores in use", {name: _added(parts) for name, parts in cpu.items()}, run, _cores)
        )
        sums = {name: _added(parts) for name, parts in pss.items()}
        found.append(_stack(f"{name_of}: memory (PSS)", sums, run, size, MIB))
        for name, some in kinds.items():
            if len(some) >= MANY:
                each = f"each of {len(some)} {name} processes"
                found.append(_band(f"CPU, {each}", cpu[name], run, _cores))
                found.append(_band(f"Memory, {each}", pss[name], run, size, MIB))
    return [*found, *_kernel(report, run)]


def _kernel(report: Report, run: Run) -> list[Element]:
    if not report.kernel:
        return []
    samples = report.kernel[:: -(-len(report.kernel) // series.POINTS)]
    lines = [
        Line("slab", [(each.at, float(each.slab)) for each in samples], 0),
        Line("TCP buffers", [(each.at, float(each.tcp_memory)) for each in samples], 2),
    ]
    sockets = [(each.at, float(each.sockets)) for each in samples]
    least = min(each.available for each in report.kernel)
    return [
        _lines(
            "Kernel memory of the whole machine",
            lines,
            run,
            size,
            MIB,
            note=f"At the least, {size(least)} were available.",
        ),
        _lines("TCP sockets of the whole machine", [Line("sockets", sockets, 0)], run, short),
    ]


def _cores(value: float) -> str:
    return f"{value:.3g}"


def _added(parts: Sequence[Sequence[float]]) -> list[float]:
    return [sum(values) for values in zip(*parts, strict=True)]


def _lines(title: str, lines: list[Line], run: Run, show: Format, unit: int = 1, *, note: str = "") -> Element:
    top = max(value for line in lines for _, value in line.points if value is not None)
    y = linear(top, show, unit=_unit(top, unit))
    return Plot(title, run.x, y, lines, phases=run.phases, show=show).figure(note)


def _stack(title: str, sums: dict[str, list[float]], run: Run, show: Format, unit: int = 1) -> Element:
    """The largest at the bottom; beyond `LAYERS` the rest in one."""
    order = sorted(sums, key=lambda name: -sum(sums[name]))
    if len(order) > LAYERS + 1:
        sums = {**sums, "others": _added([sums[name] for name in order[LAYERS:]])}
        order = [*order[:LAYERS], "others"]
    areas = []
    low = [0.0] * len(run.places)
    for index, name in enumerate(order):
        high = [under + value for under, value in zip(low, sums[name], strict=True)]
        areas.append(Area(name, run.places, low, high, index))
        low = high
    y = linear(max(low), show, unit=_unit(max(low), unit))
    return Plot(title, run.x, y, areas=areas, phases=run.phases, show=show).figure()


def _band(title: str, parts: Sequence[Sequence[float]], run: Run, show: Format, unit: int = 1) -> Element:
    """From the lowest to the highest, and the median."""
    columns = [sorted(values) for values in zip(*parts, strict=True)]
    top = max(column[-1] for column in columns)
    lowest, highest = [column[0] for column in columns], [column[-1] for column in columns]
    band = Area("lowest to highest", run.places, lowest, highest, 0, "band")
    middle = [(at, median(column)) for at, column in zip(run.places, columns, strict=True)]
    y = linear(top, show, unit=_unit(top, unit))
    return Plot(title, run.x, y, [Line("median", middle, 0)], [band], phases=run.phases, show=show).figure()


def _unit(top: float, unit: int) -> float:
    """Ticks of memory are round in the unit that they are shown in."""
    return 1.0 if unit == 1 else 1024.0 ** int(max(2, log10(max(top, 1)) // log10(1024)))
