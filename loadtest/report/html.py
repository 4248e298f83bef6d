"""`report.html`: one page that needs nothing but itself.

No script, no address, no picture from elsewhere; a content security policy in the page forbids them, too. Every text
of a server or an option is escaped (`markup`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

import msgspec

from loadtest.report import figures
from loadtest.report.markup import Element, add, e, html
from loadtest.report.model import Channel, Report
from loadtest.report.series import by_kind, last_pss, peak_pss
from loadtest.report.verdict import books, clean, judged, limits
from loadtest.report.verify import consistent
from loadtest.report.words import (
    NONE,
    measured,
    milliseconds,
    number,
    plural,
    readable,
    seconds,
    size,
    with_unit,
)

CHANNELS = 20  # rows of the ledger
FAULTS = 50
ERRORS = 50

# What a reader wants to know first, as far as it was measured.
HEADLINES = (
    "connections", "connects_per_second", "acknowledged_per_second", "deliveries_per_second", "publish_p99_ms",
    "delivery_p99_ms", "recovery_seconds", "broadcast_seconds", "server_bytes_per_connection",
    "server_cpu_us_per_delivery",
)  # fmt: skip


def write(report: Report, path: Path) -> None:
    """Write the page in one step. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(page(report), encoding="utf-8")
    fresh.replace(path)


def page(report: Report) -> str:
    title = f"Load test: {report.scenario}"
    head = e(
        "head",
        e("meta", charset="utf-8"),
        e("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _policy(),
        e("title", title),
        e("style", files("loadtest.report").joinpath("report.css").read_text(encoding="utf-8")),
    )
    body = e("body", _header(report, title), *_verdict(report), _tiles(report), *_repeat(report))
    for section in (_budgets, _latency, _plots, _ledger, _faults, _errors, _processes, _surroundings, _facts):
        add(body, *section(report))
    foot = (
        "Check this report: chalkwire loadtest verify report.json. All latency is measured from the intended send time."
    )
    return html(e("html", head, add(body, e("footer", foot)), lang="en"))


def _policy() -> Element:
    meta = e("meta", content="default-src 'none'; style-src 'unsafe-inline'")
    meta.set("http-equiv", "Content-Security-Policy")
    return meta


# --- the first look --------------------------------------------------------------------------------------------------


def _header(report: Report, title: str) -> Element:
    day = report.started.replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC")
    return e("header", e("h1", title), e("p", f"{day} · {seconds(report.seconds)} · {report.target}"))


def _verdict(report: Report) -> Iterable[Element]:
    if report.partial:
        yield _banner("bad partial", "PARTIAL: this run did not come to its end", [report.partial])
    wrong = consistent(report)
    if wrong:
        yield _banner("bad", "This report does not add up", wrong[:10])
    yield _banner("good" if clean(report) else "bad", books(report))
    if judged(report):
        missed = any(each.met is False for each in judged(report))
        style = "bad" if missed else "good" if all(each.met for each in judged(report)) else "warn"
        yield _banner(style, limits(report))
    if report.notes:
        yield e("ul", *(e("li", note) for note in report.notes))


def _banner(style: str, sentence: str, details: Sequence[str] = ()) -> Element:
    items = e("ul", *(e("li", each) for each in details)) if details else None
    return e("div", e("strong", sentence, class_=style), items, class_=f"banner {style}")


def _tiles(report: Report) -> Element | None:
    shown = [name for name in HEADLINES if name in report.facts][:8]
    if not shown:
        return None
    return e(
        "div",
        *(e("div", e("span", readable(name)), e("b", measured(name, report.facts[name]))) for name in shown),
        class_="tiles",
    )


def _repeat(report: Report) -> Iterable[Element]:
    yield e("h2", "To repeat it")
    yield e("pre", report.command)


# --- tables ----------------------------------------------------------------------------------------------------------

Cell = Element | str


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[Cell]], text: Sequence[int] = (0,), first: str = ""
) -> Element:
    """`text` are the columns of words; `first` is a class for the first row."""
    style = ["text" if index in text else None for index in range(len(heads))]
    body = [
        e("tr", *(cell if isinstance(cell, Element) else e("td", cell, class_=style[n]) for n, cell in enumerate(row)))
        for row in rows
    ]
    if first and body:
        body[0].set("class", first)
    head = e("thead", e("tr", *(e("th", name, class_=style[n]) for n, name in enumerate(heads))))
    return e("div", e("table", head, e("tbody", *body)), class_="scroll")


def _pairs(rows: Iterable[tuple[str, str]]) -> Element:
    return e("table", e("tbody", *(e("tr", e("td", name), e("td", value)) for name, value in rows)), class_="pairs")


def _budgets(report: Report) -> Iterable[Element]:
    if not report.budgets:
        return
    words = {True: ("met", "good"), False: ("missed", "bad"), None: ("not measured", "warn")}
    yield e("h2", "Budgets")
    yield _table(
        ("Budget", "What", "Limit", "Measured", "Of the limit", ""),
        [
            (
                each.budget.name,
                each.budget.what,
                f"at {each.budget.kind} {with_unit(each.budget.limit, each.budget.unit)}",
                NONE if each.measured is None else with_unit(each.measured, each.budget.unit),
                NONE if each.measured is None or not each.budget.limit else _percent(each.measured / each.budget.limit),
                e("td", e("b", words[each.met][0], class_=words[each.met][1])),
            )
            for each in judged(report)
        ],
        text=(0, 1),
    )


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.0f} %" if ratio >= 0.1 else f"{ratio * 100:.2g} %"


def _latency(report: Report) -> Iterable[Element]:
    if not report.latency:
        return
    yield e("h2", "Latency")
    names = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms", "mean_ms")
    yield _table(
        ("", "p50", "p90", "p99", "p99.9", "max", "mean", "count"),
        [
            (kind, *(milliseconds(getattr(each.percentiles, name)) for name in names), number(each.percentiles.count))
            for kind, each in report.latency.items()
        ],
    )


def _plots(report: Report) -> Iterable[Element]:
    for heading, drawn in figures.sections(report):
        if drawn:
            yield e("h2", heading)
            yield e("div", *drawn, class_="plots")


def _ledger(report: Report) -> Iterable[Element]:
    ledger = report.ledger
    channels = [*ledger.channels, *([ledger.others] if ledger.others else [])]
    if not channels:
        return
    yield e("h2", "Ledger")
    faulty = {fault.channel for fault in ledger.faults}
    shown = sorted(channels, key=lambda channel: (channel.name not in faulty, -channel.sent))[:CHANNELS]
    heads = ("Channel", "sent", "acknowledged", "refused", "unanswered", "stored", "readers", "expected", "delivered",
             "digests")  # fmt: skip
    rows: list[Sequence[Cell]] = [(*_booked(channel), _digests(channel)) for channel in shown]
    if len(channels) > 1:
        rows.insert(0, (f"all {len(channels):,} channels", *map(number, _sums(channels)), ""))
    yield _table(heads, rows, first="sum" if len(channels) > 1 else "")
    if len(channels) > len(shown):
        rest = len(channels) - len(shown)
        yield e("p", f"{plural(rest, 'more channel')} in report.json; those with faults come first.", class_="note")


def _booked(channel: Channel) -> list[str]:
    stored = number(channel.stored) if channel.durable and channel.stored_digest else NONE
    return [channel.name, *map(number, (channel.sent, channel.acknowledged, channel.refused, channel.unanswered)),
            stored, *map(number, (channel.readers, channel.expected, channel.delivered))]  # fmt: skip


def _sums(channels: Sequence[Channel]) -> list[int]:
    names = ("sent", "acknowledged", "refused", "unanswered", "stored", "readers", "expected", "delivered")
    return [sum(getattr(channel, name) for channel in channels) for name in names]


def _digests(channel: Channel) -> Cell:
    if not channel.durable or not channel.stored_digest or not channel.readers:
        return NONE
    same = channel.published_digest == channel.stored_digest
    return e("td", e("span", "equal" if same else "differ", class_="good" if same else "bad"))


def _faults(report: Report) -> Iterable[Element]:
    faults = report.ledger.faults
    if not faults:
        return
    yield e("h2", "Faults")
    yield _table(("Kind", "Channel", "What"), [(f.kind, f.channel, f.detail) for f in faults[:FAULTS]], text=(0, 1, 2))
    rest = report.ledger.fault_count - min(FAULTS, len(faults))
    if rest > 0:
        yield e("p", f"{rest:,} more.", class_="note")


def _errors(report: Report) -> Iterable[Element]:
    if not report.errors:
        return
    yield e("h2", "Errors")
    found = sorted(report.errors.items(), key=lambda error: -error[1])
    yield _table(("Times", "Error"), [(number(times), text) for text, times in found[:ERRORS]], text=(1,))
    if len(found) > ERRORS:
        yield e("p", f"{plural(len(found) - ERRORS, 'more kind')} of error in report.json.", class_="note")


def _processes(report: Report) -> Iterable[Element]:
    if not report.processes:
        return
    rows = []
    for side in ("server", "harness"):
        for name, some in by_kind(report.processes, side).items():
            last = sorted(map(last_pss, some))
            rows.append((
                name, side, number(len(some)),
                f"{sum(each.cpu_seconds for each in some):,.1f} s",
                f"{max((sample.cpu for each in some for sample in each.samples), default=0):.0%}",
                _size(last[0]), _size(last[len(last) // 2]), _size(last[-1]), _size(sum(last)),
                _size(max(map(peak_pss, some))),
            ))  # fmt: skip
    yield e("h2", "Processes")
    heads = (
        "Kind",
        "side",
        "count",
        "CPU in all",
        "busiest second",
        "memory: least",
        "median",
        "most",
        "sum",
        "peak of one",
    )
    yield _table(heads, rows, text=(0, 1))
    yield e("p", "CPU is a share of one core. Memory is PSS at the end, without the kernel's own.", class_="note")


def _size(value: int) -> str:
    return size(value) if value else NONE


# --- what it ran on --------------------------------------------------------------------------------------------------


def _surroundings(report: Report) -> Iterable[Element]:
    machine = report.machine
    yield e("h2", "Surroundings")
    here = [
        ("processor", f"{machine.processor}, {plural(machine.cpus, 'CPU')}"),
        ("memory", size(machine.memory)),
        ("kernel", machine.kernel),
        ("harness", machine.python),
        ("files a process may open", number(machine.file_limit)),
    ]
    server = [(name.replace("_", " "), _text(value)) for name, value in report.server.items()]
    phases = [(phase.name, f"{phase.start:.1f} s to {phase.end:.1f} s") for phase in report.phases]
    left = e("div", e("h3", "Machine"), _pairs(here), e("h3", "Phases"), _pairs(phases))
    right = e("div", e("h3", "Server"), _pairs(server or [("", "nothing is known of it")]))
    simple = [(name, _text(value)) for name, value in report.options.items() if not isinstance(value, dict | list)]
    if simple:
        add(right, e("h3", "Options"), _pairs(simple))
    yield e("div", left, right, class_="columns")
    for name, value in report.options.items():
        if isinstance(value, dict | list):
            yield e("details", e("summary", f"Option {name}"), e("pre", _json(value)))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _facts(report: Report) -> Iterable[Element]:
    rows = [(readable(name), measured(name, value)) for name, value in report.facts.items()]
    rows += [
        (name.replace("_", " "), number(count)) for name, count in report.counts.items() if name not in report.facts
    ]
    if rows:
        half = -(-len(rows) // 2)
        yield e("h2", "All numbers")
        yield e("div", _pairs(rows[:half]), _pairs(rows[half:]), class_="columns")
