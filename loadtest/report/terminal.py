"""The end of a run in the terminal: verdict, latency, budgets, books, and where the files are."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from loadtest.report.model import Report
from loadtest.report.verdict import books, clean, judged, limits, passed
from loadtest.report.words import NONE, milliseconds, number, plural, seconds, with_unit

FAULTS = 10
ERRORS = 5
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")


def summary(report: Report, folder: Path, console: Console | None = None) -> None:
    """Print what came of a run whose files are in `folder`.

    Texts of the server are printed as they are, never read as rich's markup.
    """
    console = console or Console()
    console.print()
    outcome, style = ("passed", "green") if passed(report) else ("failed", "red")
    if outcome == "failed" and clean(report) and not report.partial:
        outcome, style = "correct, but not within its budgets", "yellow"
    console.print(Text(f"{report.scenario}: {outcome}", f"bold {style}"))
    if report.partial:
        console.print(Text(f"PARTIAL, {report.partial}.", "bold yellow"))
    console.print(Text(books(report), "green" if clean(report) else "red"))
    for fault in report.ledger.faults[:FAULTS]:
        console.print(Text(f"  {fault.kind} in {fault.channel}: {fault.detail}", "red"))
    more = report.ledger.fault_count - min(FAULTS, len(report.ledger.faults))
    if more > 0:
        console.print(Text(f"  and {plural(more, 'more fault')}", "red"))
    for table in (_latency(report), _budgets(report), _errors(report)):
        if table.row_count:
            console.print()
            console.print(table)
    if limits(report):
        console.print(Text(limits(report), "green" if all(each.met for each in judged(report)) else "yellow"))
    for note in report.notes:
        console.print(Text(note, "dim"))
    console.print()
    console.print(Text(f"{seconds(report.seconds)} against {report.target}", "dim"))
    for name in ("report.html", "report.json"):
        console.print(Text(str(folder / name)), soft_wrap=True)


def _plain(title: str, *heads: str, right_from: int = 1) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index >= right_from else "left")
    return table


def _latency(report: Report) -> Table:
    table = _plain("Latency", "", "p50", "p90", "p99", "p99.9", "max", "count")
    for kind, latency in report.latency.items():
        values = (milliseconds(getattr(latency.percentiles, name)) for name in PERCENTILES)
        table.add_row(escape(kind), *values, number(latency.percentiles.count))
    return table


def _budgets(report: Report) -> Table:
    table = _plain("Budgets", "", "", "limit", "measured", "", right_from=2)
    words = {True: "[green]met[/]", False: "[red]missed[/]", None: "[yellow]not measured[/]"}
    for each in judged(report):
        budget = each.budget
        value = NONE if each.measured is None else with_unit(each.measured, budget.unit)
        limit = f"at {budget.kind} {with_unit(budget.limit, budget.unit)}"
        table.add_row(escape(budget.name), escape(budget.what), limit, value, words[each.met])
    return table


def _errors(report: Report) -> Table:
    table = _plain("Errors", "times", "error", right_from=2)
    for text, times in sorted(report.errors.items(), key=lambda error: -error[1])[:ERRORS]:
        table.add_row(number(times), escape(text))
    return table
