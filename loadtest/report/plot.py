"""Plots as SVG: lines, stacked areas, bands and bars, linear or logarithmic, with the phases of a run marked.

Colours are classes (`c0` … `c7`), so that the page decides them, light, dark or printed. There is no script: pointing
at a place shows its values through the browser's own tooltips. Why no library: docs/decisions/0090.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import NamedTuple

from loadtest.report.markup import Element, add, e
from loadtest.report.words import number, round_number

WIDTH, HEIGHT = 520.0, 210.0  # of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52.0, 8.0, 16.0, 20.0
HOVERS = 60  # places that show their values
LETTER = 5.6  # width of a letter of a phase's name

Point = tuple[float, float | None]  # None: nothing was measured, the line has a gap
Format = Callable[[float], str]


class Tick(NamedTuple):
    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    low: float
    high: float
    ticks: Sequence[Tick]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Where a value is: 0 at the low end, 1 at the high end. A value outside is put at the end."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)


def linear(high: float, form: Format = number, *, steps: int = 4, unit: float = 1.0) -> Scale:
    """From 0 to a round number of steps at or above `high`; `unit` is what is counted in (1024 for memory)."""
    raw = max(high, unit * 1e-9) / unit / steps
    power = 10 ** math.floor(math.log10(raw))
    step = unit * power * next(nice for nice in (1, 2, 2.5, 5, 10) if nice * power >= raw * (1 - 1e-9))
    count = max(1, math.ceil(high / step - 1e-9))
    return Scale(0.0, step * count, [Tick(step * n, form(step * n)) for n in range(count + 1)])


def logarithmic(low: float, high: float, form: Format = number) -> Scale:
    """Whole decades around the values; 2 and 5 are marked too where there are few of them."""
    first = math.floor(math.log10(max(low, 1e-9)) + 1e-9)
    last = max(first + 1, math.ceil(math.log10(max(high, 1e-9)) - 1e-9))
    steps = (1, 2, 5) if last - first < 3 else (1,)
    values = [step * 10.0**power for power in range(first, last) for step in steps] + [10.0**last]
    return Scale(10.0**first, 10.0**last, [Tick(value, form(value)) for value in values], logarithmic=True)


def clock(end: float) -> Scale:
    """Seconds of a run."""
    end = max(end, 1.0)
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200) if end / s <= 8), end / 6)
    form: Format = (lambda t: f"{t / 60:g} min") if step >= 60 else (lambda t: f"{t:g} s")
    return Scale(0.0, end, [Tick(n * step, form(n * step) if n else "0") for n in range(int(end / step + 1e-9) + 1)])


@dataclass(frozen=True, slots=True)
class Line:
    """`style` is a further class: thin, dashed."""

    name: str
    points: Sequence[Point]
    colour: int
    style: str = ""


@dataclass(frozen=True, slots=True)
class Area:
    """Between two lines over the same places: a layer of a stack, or a band from the lowest to the highest."""

    name: str
    places: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: int
    style: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    start: float
    end: float
    height: float
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A phase."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    x: Scale
    y: Scale
    lines: Sequence[Line] = ()
    areas: Sequence[Area] = ()
    bars: Sequence[Bar] = ()
    phases: Sequence[Span] = ()
    marks: Sequence[Tick] = ()  # upright lines with a name
    show: Format = number  # a value, in the tooltip
    place: Format = field(default=lambda at: f"{at:.0f} s")  # where it is, in the tooltip

    def figure(self, note: str = "") -> Element:
        """The drawing with its title and legend."""
        named = [(each.name, each.colour, f"area {each.style}") for each in self.areas if each.name]
        named += [(each.name, each.colour, each.style) for each in self.lines if each.name]
        legend = [e("span", e("i", class_=f"c{colour} {style}".strip()), name) for name, colour, style in named]
        caption = e("figcaption", e("h3", self.title), e("p", *legend, class_="legend") if len(named) > 1 else None)
        return e("figure", caption, self.svg(), e("p", note, class_="note") if note else None)

    def svg(self) -> Element:
        drawing = e("svg", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img")
        drawing.set("aria-label", self.title)
        add(drawing, *self._phases(), *self._axes(), *map(self._area, self.areas), *map(self._bar, self.bars))
        add(drawing, *map(self._line, self.lines), *self._marks(), *self._hovers())
        return drawing

    # --- places on the drawing -----------------------------------------------------------------------------------

    def _x(self, value: float) -> float:
        return LEFT + self.x.at(value) * (WIDTH - LEFT - RIGHT)

    def _y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y.at(value) * (HEIGHT - TOP - BOTTOM)

    # --- parts ---------------------------------------------------------------------------------------------------

    def _axes(self) -> Iterable[Element]:
        for tick in self.y.ticks:
            y = _short(self._y(tick.value))
            yield e("path", d=f"M{LEFT:g} {y}H{WIDTH - RIGHT:g}", class_="grid")
            yield e("text", round_number(tick.label), x=LEFT - 5, y=y, dy="0.32em", text_anchor="end")
        for tick in self.x.ticks:
            x = self._x(tick.value)
            anchor = "end" if x > WIDTH - RIGHT - 14 else "middle"
            yield e("path", d=f"M{_short(x)} {HEIGHT - BOTTOM:g}v3", class_="tick")
            yield e("text", round_number(tick.label), x=_short(x), y=HEIGHT - 5, text_anchor=anchor)
        yield e("path", d=f"M{LEFT:g} {HEIGHT - BOTTOM:g}H{WIDTH - RIGHT:g}", class_="tick")

    def _phases(self) -> Iterable[Element]:
        for index, phase in enumerate(self.phases):
            start, end = self._x(phase.start), self._x(phase.end)
            if index % 2 == 0:
                yield e("rect", x=_short(start), y=0, width=_short(end - start), height=HEIGHT - BOTTOM, class_="phase")
            if end - start > len(phase.name) * LETTER + 4:
                yield e("text", phase.name, x=_short(start + 3), y=10, class_="name")

    def _marks(self) -> Iterable[Element]:
        free = 0.0
        for mark in sorted(self.marks):
            x = self._x(mark.value)
            yield e("path", d=f"M{_short(x)} {TOP:g}V{HEIGHT - BOTTOM:g}", class_="mark")
            width = len(mark.label) * LETTER
            if x - width / 2 > free and x + width / 2 < WIDTH:
                yield e("text", mark.label, x=_short(x), y=11, text_anchor="middle", class_="name")
                free = x + width / 2 + 4

    def _line(self, line: Line) -> Element:
        path: list[str] = []
        group = e("g", class_=f"line c{line.colour} {line.style}".strip())
        for there, run in groupby(line.points, key=lambda point: self._has_place(point[1])):
            if not there:
                continue
            places = [f"{_short(self._x(at))} {_short(self._y(value))}" for at, value in run if value is not None]
            path.append("M" + "L".join(places))
            if len(places) == 1:  # between two gaps, where a line would be nothing
                x, y = places[0].split()
                add(group, e("circle", cx=x, cy=y, r=2))
        return add(group, e("path", d="".join(path)) if path else None)

    def _has_place(self, value: float | None) -> bool:
        return value is not None and (value > 0 or not self.y.logarithmic)

    def _area(self, area: Area) -> Element:
        there = [f"{_short(self._x(x))} {_short(self._y(y))}" for x, y in zip(area.places, area.high, strict=True)]
        back = [f"{_short(self._x(x))} {_short(self._y(y))}" for x, y in zip(area.places, area.low, strict=True)]
        drawn = "M" + "L".join([*there, *reversed(back)]) + "Z" if there else "M0 0"
        return e("path", d=drawn, class_=f"area c{area.colour} {area.style}".strip())

    def _bar(self, bar: Bar) -> Element:
        left, right, top = self._x(bar.start), self._x(bar.end), self._y(bar.height)
        shape = e("rect", x=_short(left + 0.4), y=_short(top), width=_short(max(0.8, right - left - 0.8)),
                  height=_short(HEIGHT - BOTTOM - top), class_="bar c0")  # fmt: skip
        return add(shape, e("title", bar.hint) if bar.hint else None)

    def _hovers(self) -> Iterable[Element]:
        shown = [(line.name, line.points) for line in self.lines if line.points]
        shown += [
            (area.name, [*zip(area.places, (high - low for low, high in zip(area.low, area.high, strict=True)),
                              strict=True)])
            for area in self.areas
            if area.name and "band" not in area.style
        ]  # fmt: skip
        if not shown or self.bars:
            return
        places = [[place for place, _ in points] for _, points in shown]
        edges = [LEFT + n * (WIDTH - LEFT - RIGHT) / HOVERS for n in range(HOVERS + 1)]
        for left, right in pairwise(edges):
            share = ((left + right) / 2 - LEFT) / (WIDTH - LEFT - RIGHT)
            at = self.x.low + share * (self.x.high - self.x.low)
            words = []
            for (name, points), known in zip(shown, places, strict=True):
                value = points[min(bisect_left(known, at), len(points) - 1)][1]
                if value is not None:
                    words.append(f"{name} {self.show(value)}")
            hint = e("title", f"{self.place(at)}: {', '.join(words)}")
            yield e("rect", hint, x=_short(left), y=TOP, width=_short(right - left), height=HEIGHT - TOP - BOTTOM,
                    class_="hover")  # fmt: skip


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
