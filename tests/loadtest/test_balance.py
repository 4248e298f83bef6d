"""Clean books balance; each kind of fault is found from what two workers and the history say."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import pytest

from loadtest.balance import CHANNELS_NAMED, FAULTS_NAMED, NOBODY, balance, digest
from loadtest.coordinator import Outcome
from loadtest.engine.protocol import message_id
from loadtest.engine.wire import BookEntry
from loadtest.report.model import Channel, Fault

A = [message_id(1, n) for n in range(6)]
B = [message_id(2, n) for n in range(3)]
STORED = {11: A[0], 12: B[0], 13: A[1], 14: A[2], 15: B[1]}  # the readers entered at 10


def packed(numbers: object) -> bytes:
    return array("Q", numbers).tobytes()  # type: ignore[call-overload]


def entry(
    seen: Mapping[int, int],
    acknowledged: list[int],
    *,
    name: str = "c",
    sent: int | None = None,
    refused: int = 0,
    readers: int = 2,
    delivered: int | None = None,
    durable: bool = True,
) -> BookEntry:
    sent = len(acknowledged) if sent is None else sent
    delivered = readers * len(seen) if delivered is None else delivered
    return BookEntry(
        name=name, durable=durable, sent=sent, refused=refused, unanswered=sent - refused - len(acknowledged),
        acknowledged=packed(acknowledged), offsets=packed(seen), messages=packed(seen.values()), readers=readers,
        entered=10 if durable and readers else -1, delivered=delivered, expected=delivered, last=max(seen, default=0),
    )  # fmt: skip


def outcome(
    *entries: BookEntry,
    stored: Mapping[int, int] | None = STORED,
    head: int | None = 15,
    partial: str = "",
    steady: bool = True,
    faults: tuple[Fault, ...] = (),
    fault_count: int | None = None,
) -> Outcome:
    return Outcome(
        run="r", seconds=1, partial=partial, steady=steady, phases=[], moments=[], counts={}, errors={}, latency={},
        entries=[[each] for each in entries], faults=list(faults),
        fault_count=len(faults) if fault_count is None else fault_count,
        heads={} if head is None else {"c": head},
        histories={} if stored is None else {"c": (packed(stored), packed(stored.values()))}, refused={},
    )  # fmt: skip


def two(first: Mapping[int, int] = STORED, second: Mapping[int, int] = STORED, **more: int) -> list[BookEntry]:
    """One worker has the sender 1, the other the sender 2."""
    return [entry(first, A[:3], **more), entry(second, B[:2])]  # type: ignore[arg-type]


def named(of: Outcome) -> list[str]:
    ledger = balance(of)
    assert ledger.fault_count == len(ledger.faults)
    return sorted({fault.kind for fault in ledger.faults})


def test_clean_books() -> None:
    ledger = balance(outcome(*two()))
    assert (ledger.faults, ledger.clean) == ([], True)
    assert ledger.channels == [
        Channel(
            name="c",
            durable=True,
            sent=5,
            acknowledged=5,
            refused=0,
            unanswered=0,
            head_before=10,
            head_after=15,
            stored=5,
            stored_digest=digest(STORED),
            published_digest=digest(STORED),
            readers=4,
            expected=20,
            delivered=20,
            first_offset_stored=11,
        )
    ]


def without(*offsets: int) -> dict[int, int]:
    return {offset: message for offset, message in STORED.items() if offset not in offsets}


@pytest.mark.parametrize(
    ("of", "kinds", "said"),
    [
        pytest.param(outcome(*two(without(14), without(14)), stored=without(14) | {14: NOBODY}), ["lost"],
                     "1 acknowledged but not stored: 1#2", id="lost: somebody else has its place"),
        pytest.param(outcome(*two(), stored={}), ["lost"], "5 acknowledged but not stored", id="lost: all"),
        pytest.param(outcome(*two(without(15), without(15)), stored=None), ["lost"],
                     "1 acknowledged but seen by nobody: 2#1", id="lost, where no history can be read"),
        pytest.param(outcome(*two(), stored=without(13)), ["gap", "lost"], "missing in the history: 13", id="gap"),
        pytest.param(outcome(*two(), stored=without(15)), ["gap", "lost"], "missing in the history: 15",
                     id="gap at the end"),
        pytest.param(outcome(*two(STORED | {16: A[1]}, STORED), stored=STORED | {16: A[1]}, head=16), ["doubled"],
                     "1 at more than one offset: 1#1", id="doubled"),
        pytest.param(outcome(*two(STORED | {13: A[2], 14: A[1]}, STORED | {13: A[2], 14: A[1]}),
                             stored=STORED | {13: A[2], 14: A[1]}), ["reordered"],
                     "1 after a later one of the same sender: 1#1", id="reordered"),
        pytest.param(outcome(*two(STORED | {16: A[5]}), stored=STORED | {16: A[5]}, head=16), ["invented"],
                     "1 there, but only 0 of them could have been sent: 1#5", id="invented: never sent"),
        pytest.param(outcome(*two(sent=4, refused=1)), [], "", id="refused"),
        pytest.param(outcome(*two(STORED | {16: A[3]}, sent=4, refused=1), stored=STORED | {16: A[3]}, head=16),
                     ["invented"], "1#3", id="invented: refused, and stored nevertheless"),
        pytest.param(outcome(*two(STORED | {16: NOBODY})), ["invented"], "beyond 15, where the history ends: 16",
                     id="invented: not in the history"),
        pytest.param(outcome(*two(STORED | {12: B[1]})), ["disagreement"], "offset 12 is 2#1 for one worker and 2#0",
                     id="disagreement of two workers"),
        pytest.param(outcome(*two(STORED | {12: NOBODY}, STORED | {12: NOBODY})), ["disagreement"],
                     "saw another message than is stored: 12", id="disagreement with the history"),
        pytest.param(outcome(*two(), faults=(Fault("unrecovered", "c", "x"),)), ["unrecovered"], "x",
                     id="unrecovered, as a worker found it"),
        pytest.param(outcome(*two(), faults=(Fault("undelivered", "c", "x"),)), ["undelivered"], "x",
                     id="undelivered, as a worker found it"),
    ],
)  # fmt: skip
def test_each_fault_has_its_name(of: Outcome, kinds: list[str], said: str) -> None:
    assert named(of) == kinds
    assert any(said in fault.detail for fault in balance(of).faults) or not kinds


def test_what_has_no_answer_may_be_stored_or_not_and_late() -> None:
    stored = STORED | {16: A[4], 17: A[3]}
    assert named(outcome(*two(stored, stored, sent=5), stored=stored, head=17)) == []
    assert named(outcome(*two(sent=5))) == []


def test_others_may_publish_too() -> None:
    stored = STORED | {16: NOBODY, 17: NOBODY}
    assert named(outcome(*two(stored, stored), stored=stored, head=16)) == []


def test_of_a_trimmed_history_only_its_end_is_held_against_the_readers() -> None:
    ledger = balance(outcome(*two(), stored=without(11, 12)))
    assert ledger.faults == []
    (channel,) = ledger.channels
    assert (channel.first_offset_stored, channel.stored) == (13, 3)
    assert channel.stored_digest == channel.published_digest == digest(without(11, 12))
    assert named(outcome(*two(), stored=without(11, 12, 14))) == ["gap", "lost"]


def test_a_history_that_cannot_be_read_leaves_what_readers_saw() -> None:
    ledger = balance(outcome(*two(), stored=None, head=None))
    assert ledger.faults == []
    assert (ledger.channels[0].stored_digest, ledger.channels[0].published_digest) == ("", digest(STORED))
    assert (ledger.channels[0].head_before, ledger.channels[0].head_after) == (10, 15)  # as far as readers saw


# --- without offsets ---------------------------------------------------------------------------------------------


def ephemeral(first: list[int], second: list[int], *, missing: int = 0, **more: object) -> Outcome:
    entries = [
        entry({each: each for each in first}, A[:3], durable=False, delivered=2 * len(first) - missing),
        entry({each: each for each in second}, B[:2], durable=False, delivered=2 * len(second)),
    ]
    return outcome(*entries, stored=None, head=0, **more)  # type: ignore[arg-type]


ALL = [*A[:3], *B[:2]]


def test_a_channel_without_history_balances() -> None:
    (channel,) = balance(ephemeral(ALL, ALL)).channels
    assert (channel.durable, channel.expected, channel.delivered, channel.stored_digest) == (False, 20, 20, "")
    assert named(ephemeral(ALL, ALL)) == []


def test_without_history_faults_have_the_same_names() -> None:
    assert named(ephemeral(ALL, ALL, missing=1)) == ["undelivered"]
    assert named(ephemeral(ALL[1:], ALL[1:])) == ["lost", "undelivered"]
    assert named(ephemeral([*ALL, A[5]], [*ALL, A[5]])) == ["invented"]


def test_without_history_who_came_and_went_is_owed_nothing() -> None:
    assert named(ephemeral(ALL, ALL[1:], missing=3, steady=False)) == []


# --- the whole run -----------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_owes_nobody_the_rest_and_may_not_lose() -> None:
    undelivered = [Fault("undelivered", "c", str(n)) for n in range(3)]
    lost = Fault("lost", "c", "x")
    ledger = balance(outcome(*two(), partial="stopped", faults=(*undelivered, lost)))
    assert (ledger.faults, ledger.fault_count) == ([lost], 1)


def test_faults_that_no_worker_named_are_counted() -> None:
    ledger = balance(outcome(*two(), partial="stopped", faults=(Fault("gap", "c", "x"),), fault_count=5000))
    assert (len(ledger.faults), ledger.fault_count) == (1, 5000)
    many = tuple(Fault("gap", "c", str(n)) for n in range(FAULTS_NAMED + 7))
    ledger = balance(outcome(*two(), faults=many))
    assert (len(ledger.faults), ledger.fault_count) == (FAULTS_NAMED, FAULTS_NAMED + 7)


def test_a_worker_without_readers_says_nothing_about_the_channel() -> None:
    assert named(outcome(*two(), entry({}, [], readers=0))) == []
    silent = entry({}, [], readers=0)
    (channel,) = balance(outcome(*two(), silent)).channels
    assert (channel.durable, channel.head_before, channel.readers) == (True, 10, 4)


def test_many_channels_are_added_up() -> None:
    entries = [entry(STORED, [*A[:3], *B[:2]], name=f"c{n}") for n in range(CHANNELS_NAMED + 3)]
    ledger = balance(outcome(*entries, stored=None, head=None))
    assert (len(ledger.channels), ledger.faults) == (CHANNELS_NAMED, [])
    assert ledger.others is not None
    assert (ledger.others.name, ledger.others.sent, ledger.others.delivered) == ("3 more channels", 15, 30)
