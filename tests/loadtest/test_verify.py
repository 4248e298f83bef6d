"""Each kind of broken report is found, and nothing else is said of it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.latency import Histogram
from loadtest.report.model import Budget, Fault, Ledger, Phase, Report, UnreadableReport, read, write
from loadtest.report.verdict import judged, passed
from loadtest.report.verify import consistent, verify
from tests.loadtest.reports import but, but_channel, made

GOOD = made(seconds=30, readers=5, channels=2)
replace = msgspec.structs.replace


def test_a_good_report_has_no_problems() -> None:
    assert verify(GOOD) == []
    assert passed(GOOD)


def test_a_report_survives_its_file(tmp_path: Any) -> None:
    path = tmp_path / "report.json"
    write(GOOD, path)
    assert read(path) == GOOD
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"format": 1', b"\xff\xfe"])
def test_what_is_no_report_is_refused(tmp_path: Any, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableReport, match=r"report\.json"):
        read(path)


def latency(report: Report, **changes: Any) -> Report:
    changed = replace(report.latency["publish"], **changes)
    return but(report, latency={**report.latency, "publish": changed})


def percentile(report: Report, **changes: float) -> Report:
    return latency(report, percentiles=replace(report.latency["publish"].percentiles, **changes))


def count(report: Report, **counts: int) -> Report:
    return but(report, counts={**report.counts, **counts})


def fact(report: Report, **facts: float) -> Report:
    return but(report, facts={**report.facts, **facts})


def second(report: Report, index: int, **changes: Any) -> Report:
    moments = list(report.moments)
    moments[index] = replace(moments[index], **changes)
    return but(report, moments=moments)


def process(report: Report, **changes: Any) -> Report:
    first, *rest = report.processes
    return but(report, processes=[replace(first, **changes), *rest])


def trimmed(report: Report) -> Report:
    """Only the last 40 of its messages are still in the history."""
    channel = report.ledger.channels[0]
    return but_channel(report, first_offset_stored=channel.head_after - 39, stored=40, stored_digest="other")


EACH = GOOD.ledger.channels[0].acknowledged

# What is done to the report, and a word of each problem that follows, in order.
BROKEN: dict[str, tuple[Callable[[Report], Report], list[str]]] = {
    "an acknowledged message is not stored": (
        lambda r: but_channel(r, stored=EACH - 1, head_after=7 + EACH - 1),
        [f"ledger: chat:room-0: {EACH} acknowledged, but the head", f"{EACH} acknowledged, {EACH - 1} stored"],
    ),
    "a message is stored twice": (
        lambda r: but_channel(r, stored=EACH + 1, head_after=8 + EACH),
        [f"{EACH} acknowledged, {EACH + 1} stored"],
    ),
    "the head grew without a message": (lambda r: but_channel(r, head_after=9 + EACH), ["stored, but the head went"]),
    "readers saw something else": (lambda r: but_channel(r, published_digest="beef"), ["readers saw beef"]),
    "a delivery is missing": (
        lambda r: but_channel(r, delivered=EACH * 5 - 1),
        ["deliveries expected", "counts: ", "facts: deliveries ", "facts: deliveries_per_second"],
    ),
    "a publish is in no account": (
        lambda r: but_channel(r, sent=EACH + 1),
        ["but", "counts: "],
    ),
    "less than nothing": (
        lambda r: but_channel(r, refused=-1),
        ["refused below 0", "sent, but", "counts: "],
    ),
    "a channel without history stores": (
        lambda r: but_channel(r, durable=False),
        ["keeps no history"],
    ),
    "a channel is listed twice": (
        lambda r: but(
            r,
            ledger=replace(
                r.ledger,
                channels=[
                    *r.ledger.channels,
                    replace(
                        r.ledger.channels[0], sent=0, acknowledged=0, stored=0, head_after=7, expected=0, delivered=0
                    ),
                ],
            ),
        ),
        ["chat:room-0 is listed 2 times"],
    ),
    "a fault": (
        lambda r: but(r, ledger=replace(r.ledger, faults=[Fault("lost", "chat:x", "1 of 2")], fault_count=1)),
        ["fault: lost in chat:x: 1 of 2"],
    ),
    "a fault that is not counted": (
        lambda r: but(r, ledger=replace(r.ledger, faults=[Fault("lost", "chat:x", "1 of 2")])),
        ["fault: lost in chat:x: 1 of 2", "0 faults were counted and 1 are listed"],
    ),
    "faults that are not listed": (
        lambda r: but(r, ledger=replace(r.ledger, fault_count=3)),
        ["3 faults were counted and 0 are listed"],
    ),
    "a trimmed history with a hole": (lambda r: but_channel(trimmed(r), stored=39), ["39 stored, but the history"]),
    "more published than sent": (lambda r: count(r, published=1), ["counts: 1 published", "in all, but", "published"]),
    "connects that no second has": (
        lambda r: count(r, reconnects=3),
        ["3 reconnects in all, and in no second"],
    ),
    "seconds that add up to more": (
        lambda r: second(r, 2, counts={"connects": 100}),
        ["connects in all, but the seconds add up to"],
    ),
    "a better percentile": (
        lambda r: percentile(r, p99_ms=1.0),
        ["publish: p99_ms is given as 1, the histogram says", "facts: publish_p99_ms"],
    ),
    "another count": (lambda r: percentile(r, count=7), ["publish: count is given as 7"]),
    "another mean": (lambda r: percentile(r, mean_ms=0.5), ["publish: mean_ms"]),
    "a histogram that is none": (lambda r: latency(r, histogram="HISTFAAA"), ["publish: not an HdrHistogram"]),
    "time goes back": (lambda r: second(r, 4, at=2.5), ["moments: 2.5 s follows 4 s"]),
    "a second after the end": (lambda r: but(r, moments=[*r.moments, replace(r.moments[-1], at=99.0)]), ["99 s in a"]),
    "fewer than no connections": (lambda r: second(r, 0, connections=-1), ["fewer than no connections"]),
    "a phase after the end": (
        lambda r: but(r, phases=[*r.phases, Phase("more", 30.0, 40.0)]),
        ["phases: more from 30 to 40 s in a run of 30 s"],
    ),
    "phases that overlap": (
        lambda r: but(r, phases=[*r.phases, Phase("more", 5.0, 6.0)]),
        ["phases: more begins before drain ends"],
    ),
    "CPU that nobody used": (
        lambda r: process(r, cpu_seconds=500.0),
        ["processes: node-1 used 500 s of CPU", "facts: server_cpu_seconds"],
    ),
    "a rosy rate": (lambda r: fact(r, deliveries_per_second=1e6), ["facts: deliveries_per_second is given as 1e+06"]),
    "a rosy peak": (lambda r: fact(r, connections=1e6), ["facts: connections is given as 1e+06"]),
    "no number": (lambda r: fact(r, something=float("nan")), ["facts: something is no number"]),
    "a budget that is missed": (
        lambda r: but(r, budgets=[Budget("B4", "rate", "least", 1e6, "acknowledged_per_second", "/s")]),
        ["budget: B4 (rate): 20/s, at least 1 M/s"],
    ),
    "a budget without a measurement": (
        lambda r: but(r, budgets=[Budget("B6", "all back", "most", 45, "recovery_seconds", "s")]),
        ["budget: B6 (all back): recovery_seconds was not measured"],
    ),
    "a budget of no known kind": (
        lambda r: but(r, budgets=[Budget("B6", "all back", "about", 45, "connections", "")]),
        ["budget: B6: its kind is 'about'"],
    ),
    "a run that was stopped": (lambda r: but(r, partial="stopped"), ["partial: stopped"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_reports_are_found(name: str) -> None:
    breaking, expected = BROKEN[name]
    report = fact(GOOD, server_cpu_seconds=sum(p.cpu_seconds for p in GOOD.processes if p.side == "server"))
    assert verify(report) == []
    problems = verify(breaking(report))
    assert len(problems) == len(expected), problems
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem


def test_each_loss_counts_once_among_thousands() -> None:
    channels = [replace(GOOD.ledger.channels[0], name=f"chat:{n}", stored=EACH - 1) for n in range(500)]
    problems = verify(but(GOOD, ledger=Ledger(channels, [], 0), counts={}, moments=[], facts={}, budgets=[]))
    assert any("more like these" in problem for problem in problems)
    assert len(problems) < 40


def test_the_other_channels_are_held_against_each_other_too() -> None:
    first, second_one = GOOD.ledger.channels
    summed = but(GOOD, ledger=replace(GOOD.ledger, channels=[first], others=second_one))
    assert verify(summed) == []
    others = replace(second_one, stored=second_one.stored - 1)
    assert verify(but(GOOD, ledger=replace(GOOD.ledger, channels=[first], others=others))) != []


def test_what_is_rightly_less_is_no_problem() -> None:
    fine = [
        trimmed(GOOD),
        but_channel(GOOD, readers=0, published_digest="", expected=0, delivered=0),
        but_channel(GOOD, stored=0, stored_digest="", first_offset_stored=0),  # the history could not be read
        # Publishes without an answer may be stored or not.
        but_channel(GOOD, sent=EACH + 2, unanswered=2, stored=EACH + 1, head_after=8 + EACH),
    ]
    for report in fine:
        ledger_problems = [problem for problem in verify(report) if problem.startswith(("ledger", "fault"))]
        assert ledger_problems == []


def test_a_stopped_run_owes_nobody_the_rest() -> None:
    stopped = but(but_channel(GOOD, delivered=3, published_digest="some", sent=EACH + 4), partial="stopped", facts={})
    problems = [problem for problem in verify(stopped) if problem.startswith(("ledger", "partial"))]
    assert problems == ["partial: stopped"]
    doubled = but_channel(stopped, delivered=EACH * 6)
    assert any("deliveries expected" in problem for problem in verify(doubled))


def test_consistency_is_apart_from_success() -> None:
    late = but(GOOD, partial="stopped", budgets=[Budget("B", "b", "most", 0, "connections", "")])
    assert consistent(late) == []
    assert not passed(late)
    assert [each.met for each in judged(late)] == [False]


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["sent", "acknowledged", "stored", "head_before", "head_after", "expected", "delivered"]),
    st.integers(-50, 50).filter(bool),
)
def test_no_number_of_the_ledger_can_be_changed_alone(name: str, by: int) -> None:
    changed = but_channel(GOOD, **{name: getattr(GOOD.ledger.channels[0], name) + by})
    assert verify(changed) != []


@settings(deadline=None, max_examples=20)
@given(st.dictionaries(st.integers(1, 10**7), st.integers(1, 100), min_size=1, max_size=20))
def test_another_histogram_never_has_the_same_percentiles(counts: dict[int, int]) -> None:
    other = Histogram()
    other.add_counts(counts)
    problems = verify(latency(GOOD, histogram=other.encode()))
    assert any(problem.startswith("latency: publish") for problem in problems)
