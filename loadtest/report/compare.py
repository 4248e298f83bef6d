"""Two reports beside each other: what changed, by how many percent, and whether the two may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from loadtest.report.model import Report
from loadtest.report.series import by_kind, last_pss
from loadtest.report.verdict import clean
from loadtest.report.words import NONE, measured, milliseconds, readable, size

CLEAR = 0.10  # a smaller change may be chance: it is not coloured
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
# What a machine is told by; the limit of open files and Python's version alone do not make another machine.
MACHINE = ("cpus", "memory", "kernel", "processor", "python")


@dataclass(frozen=True, slots=True)
class Row:
    """One number in both. `lower_is_better` is None where neither is."""

    section: str
    name: str
    first: float | None
    second: float | None
    shown: tuple[str, str]
    lower_is_better: bool | None

    @property
    def change(self) -> float | None:
        """Of the first, 0.1 for a tenth more; None where that cannot be said."""
        if self.first is None or self.second is None or (not self.first and self.second):
            return None
        return (self.second - self.first) / abs(self.first) if self.first else 0.0

    @property
    def verdict(self) -> str:
        """better, worse, or empty where the change is small or neither good nor bad."""
        if self.change is None or self.lower_is_better is None or abs(self.change) <= CLEAR:
            return ""
        return "better" if (self.change < 0) == self.lower_is_better else "worse"


@dataclass(frozen=True, slots=True)
class Comparison:
    rows: list[Row]
    warnings: list[str]


def compare(first: Report, second: Report, console: Console | None = None) -> None:
    """Print what changed from one run to the other."""
    show(compared(first, second), console or Console())


def compared(first: Report, second: Report) -> Comparison:
    return Comparison([*_latency(first, second), *_facts(first, second), *_processes(first, second)],
                      list(_warnings(first, second)))  # fmt: skip


def show(comparison: Comparison, console: Console, names: tuple[str, str] = ("A", "B")) -> None:
    for warning in comparison.warnings:
        console.print(Text(f"! {warning}", "yellow"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in (*names, "change"):
        table.add_column(escape(name), justify="right")
    section = ""
    for row in comparison.rows:
        if row.section != section:
            section = row.section
            table.add_row(f"[bold]{escape(section)}[/]")
        style = {"better": "green", "worse": "red"}.get(row.verdict, "")
        change = NONE if row.change is None else f"{row.change * 100:+.1f} %"
        table.add_row(f"  {escape(row.name)}", *row.shown, Text(change, style))
    console.print(table)


# --- rows ------------------------------------------------------------------------------------------------------------


def _latency(first: Report, second: Report) -> Iterator[Row]:
    for kind in dict.fromkeys([*first.latency, *second.latency]):
        for name in PERCENTILES:
            both = [
                getattr(report.latency[kind].percentiles, name) if kind in report.latency else None
                for report in (first, second)
            ]
            yield _row("Latency", f"{kind} {readable(name)}", both, milliseconds, lower_is_better=True)


def _facts(first: Report, second: Report) -> Iterator[Row]:
    known = {f"{kind}_{name}" for report in (first, second) for kind in report.latency for name in PERCENTILES}
    for name in dict.fromkeys([*first.facts, *second.facts]):
        if name not in known:
            both = [first.facts.get(name), second.facts.get(name)]
            yield _row("Facts", readable(name), both, lambda value, name=name: measured(name, value),
                       lower_is_better=_better(name, first, second))  # fmt: skip


def _better(name: str, first: Report, second: Report) -> bool | None:
    for budget in (*first.budgets, *second.budgets):
        if budget.fact == name:
            return budget.kind == "most"
    if name.endswith(("_per_second", "_per_core")):
        return False
    if name.endswith(("_ms", "_seconds")) or "bytes" in name or "_us_per_" in name or "memory" in name:
        return True
    return None


def _processes(first: Report, second: Report) -> Iterator[Row]:
    less = True if _as_long(first, second) else None  # a longer run uses more CPU, which says nothing
    for side in ("server", "harness"):
        kinds = [by_kind(report.processes, side) for report in (first, second)]
        for kind in dict.fromkeys([*kinds[0], *kinds[1]]):
            found = [each.get(kind, []) for each in kinds]
            cpu = [sum(process.cpu_seconds for process in some) if some else None for some in found]
            yield _row(f"CPU, {side}", kind, cpu, lambda value: f"{value:,.1f} s", lower_is_better=less)
        for kind in dict.fromkeys([*kinds[0], *kinds[1]]):
            found = [each.get(kind, []) for each in kinds]
            memory = [sum(map(last_pss, some)) or None for some in found]
            yield _row(f"Memory at the end, {side}", kind, memory, size, lower_is_better=True)


def _row(section: str, name: str, both: list[Any], form: Any, *, lower_is_better: bool | None) -> Row:
    shown = tuple(NONE if value is None else form(value) for value in both)
    return Row(section, name, both[0], both[1], (shown[0], shown[1]), lower_is_better)


# --- warnings --------------------------------------------------------------------------------------------------------


def _warnings(first: Report, second: Report) -> Iterator[str]:
    if first.scenario != second.scenario:
        yield f"different scenarios: {first.scenario} and {second.scenario}"
    yield from _differences("option", first.options, second.options)
    yield from _differences("server", first.server, second.server)
    here, there = first.machine, second.machine
    for name in MACHINE:
        if getattr(here, name) != getattr(there, name):
            form = size if name == "memory" else str
            yield f"different machines: {name} is {form(getattr(here, name))} and {form(getattr(there, name))}"
    for name, report in (("A", first), ("B", second)):
        if report.partial:
            yield f"{name} is partial: {report.partial}"
        if not clean(report):
            yield f"{name} has a broken ledger: its other numbers mean little"
    if not _as_long(first, second):
        yield f"the runs took {first.seconds:.0f} and {second.seconds:.0f} s: CPU seconds are not comparable"


def _as_long(first: Report, second: Report) -> bool:
    return math.isclose(first.seconds, second.seconds, rel_tol=0.1)


def _differences(what: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*first, *second]):
        here, there = first.get(name), second.get(name)
        if here == there:
            continue
        if isinstance(here, dict | list) or isinstance(there, dict | list):
            yield f"different {what}: {name}"
        else:
            yield f"different {what}: {name} is {_said(here)} and {_said(there)}"


def _said(value: object) -> str:
    return "not given" if value is None else str(value)
