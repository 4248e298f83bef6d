"""What the terminal shows at the end, of two runs, and while a run goes on."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from loadtest.live import Live, State, drawing, line, work_of
from loadtest.plan import Activities, Churn, Cut, Hold, Open, Phase, Publish
from loadtest.report import compare, terminal
from loadtest.report.model import Budget, Fault, Ledger, Moment
from loadtest.sampling import Now
from tests.loadtest.reports import but, made

GOOD = made(seconds=30, readers=5, channels=2)


def console(*, screen: bool = False) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=120, force_terminal=screen, color_system=None), out


def shown(*things: object) -> str:
    printer, out = console()
    printer.print(*things)
    return out.getvalue()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_good_run() -> None:
    printer, out = console()
    terminal.summary(GOOD, Path("results"), printer)
    text = out.getvalue()
    for words in ("rooms: passed", "Ledger clean: 380", "p99.9", "at most 4.00 KiB", "met", "results/report.html"):
        assert words in text, words


def test_a_bad_run() -> None:
    bad = but(
        GOOD,
        partial="stopped",
        errors={"connect: [/bold] [red]refused": 4},
        ledger=Ledger(GOOD.ledger.channels, [Fault("lost", "chat:[x]", "load-3#17")] * 12, 20),
        budgets=[Budget("B4", "rate", "least", 1e6, "acknowledged_per_second", "/s")],
    )
    printer, out = console()
    terminal.summary(bad, Path("results"), printer)
    text = out.getvalue()
    for words in (
        "rooms: failed", "PARTIAL, stopped.", "Ledger broken: 20 faults.", "lost in chat:[x]: load-3#17",
        "and 10 more faults", "missed: B4", "connect: [/bold] [red]refused",
    ):  # fmt: skip
        assert words in text, words


def test_a_run_that_was_too_slow_is_still_correct() -> None:
    printer, out = console()
    slow = but(GOOD, budgets=[Budget("B4", "rate", "least", 1e6, "acknowledged_per_second", "/s")])
    terminal.summary(slow, Path("results"), printer)
    assert "rooms: correct, but not within its budgets" in out.getvalue()


# --- two runs --------------------------------------------------------------------------------------------------------


def test_a_run_compared_with_itself_has_no_change() -> None:
    found = compare.compared(GOOD, GOOD)
    assert found.warnings == []
    assert {row.change for row in found.rows} == {0.0}
    assert {row.verdict for row in found.rows} == {""}


def test_only_clear_changes_are_good_or_bad() -> None:
    other = but(GOOD, facts={**GOOD.facts, "acknowledged_per_second": 20 * 1.2, "connect_seconds": 10 * 1.05,
                             "server_bytes_per_connection": 6200.0, "clients": 20.0})  # fmt: skip
    rows = {row.name: row for row in compare.compared(GOOD, other).rows}
    assert rows["acknowledged per second"].verdict == "better"
    assert rows["connect"].verdict == ""  # 5 %
    assert rows["server memory per connection"].verdict == "worse"
    assert rows["clients"].change == 1.0 and rows["clients"].verdict == ""
    printer, out = console()
    compare.compare(GOOD, other, printer)
    text = out.getvalue()
    assert "+100.0 %" in text and "Memory at the end, server" in text


def test_what_one_run_has_and_the_other_not() -> None:
    other = but(GOOD, facts={"new_ms": 3.0}, latency={}, processes=[])
    rows = compare.compared(GOOD, other).rows
    assert all(row.change is None and row.verdict == "" for row in rows)
    assert {row.shown[1] for row in rows} == {"-", "3.00 ms"}


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"scenario": "storm"}, "different scenarios: rooms and storm"),
        ({"options": {**GOOD.options, "rooms": 9}}, "different option: rooms is 2 and 9"),
        ({"options": {**GOOD.options, "plan": {}}}, "different option: plan"),
        ({"server": {**GOOD.server, "fsync": "off"}}, "different server: fsync is on and off"),
        ({"server": {}}, "different server: nodes is 2 and not given"),
        ({"machine": msgspec.structs.replace(GOOD.machine, cpus=64)}, "different machines: cpus is 2 and 64"),
        ({"partial": "stopped"}, "B is partial: stopped"),
        ({"ledger": Ledger([], [Fault("lost", "c", "d")], 1)}, "B has a broken ledger"),
        ({"seconds": 60.0}, "the runs took 30 and 60 s"),
    ],
)
def test_what_may_not_be_compared_is_said(changes: dict[str, object], warning: str) -> None:
    assert any(warning in each for each in compare.compared(GOOD, but(GOOD, **changes)).warnings)


# --- while it runs ---------------------------------------------------------------------------------------------------


def running() -> State:
    state = State("rooms", "ws://127.0.0.1:8000", clients=200)
    state.enter("connect", total=200)
    state.phase_began -= 10
    state.take(Moment(2.0, 50, {"connects": 50, "published": 4_000_000}, {"connect": (12.0, 30.0, 55.0)}))
    state.system = Now(1.25, 3 << 30, 0.4, 1 << 30, 20 << 30, 1 << 30)
    return state


def test_progress_and_what_is_left() -> None:
    state = running()
    assert state.share == 0.25
    eta = state.eta()
    assert eta is not None and 29 < eta < 40
    state.enter("hold")
    assert state.share is None and state.eta() is None
    state.enter("burst", 8_000_000, "published")
    assert state.share == 0
    state.take(Moment(3.0, 50, {"published": 2_000_000}))
    assert state.share == 0.25
    state.enter("talk", 100, "seconds")
    state.phase_began -= 50
    assert state.share is not None and 0.5 <= state.share < 0.9


@pytest.mark.parametrize(
    ("activities", "expected"),
    [
        ([Open()], (70, "")),
        ([Hold(seconds=9)], (9, "seconds")),
        ([Publish(rate=10, seconds=20), Churn(seconds=30)], (30, "seconds")),
        ([Publish(rate=10, count=500, seconds=0)], (500, "published")),
        ([Cut()], (0, "seconds")),
    ],
)
def test_what_completes_a_phase(activities: list[Activities], expected: tuple[float, str]) -> None:
    assert work_of(Phase(name="x", activities=activities), 70) == expected
    assert work_of(None, 70) == (0, "")


def test_the_screen_and_the_line_say_the_same() -> None:
    state = running()
    state.faults = 2
    text = shown(drawing(state))
    for words in ("connect", "25%", "to go", "of 200", "25/s", "2 M/s", "p50 12.0 ms", "1.25 cores", "3.00 GiB"):
        assert words in text, words
    for words in ("connect 25%", "50 connections", "25/s connects", "p99 30.0 ms", "server 1.25 cores", "2 FAULTS"):
        assert words in line(state), words


def test_names_are_not_markup() -> None:
    state = State("[red]x", "[bold]")
    state.take(Moment(1.0, 1, {}, {"[blink]": (1.0, 1.0, 1.0)}))
    assert "[blink] latency" in shown(drawing(state))


def test_plain_lines_every_few_seconds_and_at_each_phase() -> None:
    printer, out = console()
    state = State("rooms")
    with Live(state, printer) as view:
        for at in range(1, 13):
            if at == 9:
                state.enter("hold")
            view.update(Moment(float(at), at, {"connects": 1}))
    lines = out.getvalue().splitlines()
    assert [each.split()[0] for each in lines] == ["1.0", "6.0", "9.0"]
    assert "\x1b" not in out.getvalue()
    assert state.sums == {"connects": 12}


def test_a_terminal_is_drawn_over_and_left_clean() -> None:
    printer, out = console(screen=True)
    state = running()
    with Live(state, printer) as view:
        view.update(Moment(3.0, 77, {"connects": 27}))
    assert "77" in out.getvalue()
    assert "\x1b[2K" in out.getvalue()  # lines are erased, not left behind
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h")  # the cursor is back
