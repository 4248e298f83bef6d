"""The books against a naive model that keeps everything a reader ever got."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loadtest.engine.books import FAULTS_KEPT, FOREIGN, Delivery, Faults, Ledger, Reader
from loadtest.engine.protocol import Publication, message_id

RUN = "r"
READERS = st.integers(0, 2)


def publication(sender: int, sequence: int, offset: int = 0, run: str = RUN) -> Publication:
    return Publication(json.dumps({"run": run, "s": sender, "n": sequence, "t": 5}).encode(), offset)


@dataclass
class Naive:
    """One reader: what it got since it came, and the faults that this makes."""

    entered: int = 0
    there: bool = False  # subscribed, or gone for a moment and to be back
    live: bool = False
    told: int = 0  # to be there, by the reply to a recovery
    got: list[int] = field(default_factory=list)  # offsets
    heard: list[tuple[int, int]] = field(default_factory=list)  # without offsets: sender and sequence

    @property
    def top(self) -> int:
        return max(self.entered, self.told, *self.got)


class Books(RuleBasedStateMachine):
    """A server that may deliver anything that was published, to anybody, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(RUN)
        self.book = self.ledger.book("c")
        self.readers = [Reader(self.book, n) for n in range(3)]
        self.naive = [Naive() for _ in range(3)]
        self.history: list[tuple[int, int]] = []  # sender, sequence
        self.epoch = 1
        self.known_epoch = 0
        self.owed_before = self.delivered = 0
        self.faults: list[str] = []

    @rule(sender=st.integers(0, 1))
    def publish(self, sender: int) -> None:
        self.history.append((sender, sum(each == sender for each, _ in self.history)))

    def end(self, n: int) -> None:
        """Of what a reader is owed in one go."""
        naive = self.naive[n]
        self.owed_before += naive.top - naive.entered
        self.naive[n] = Naive()

    @rule(n=READERS)
    def leave(self, n: int) -> None:
        self.ledger.leave(self.readers[n])
        self.end(n)

    @rule(n=READERS)
    def cut(self, n: int) -> None:
        self.readers[n].live = self.naive[n].live = False

    @invariant()
    def faults_are_those_of_the_model(self) -> None:
        assert [fault.kind for fault in self.ledger.faults.kept] == self.faults
        assert self.book.delivered == self.delivered
        assert [reader.live for reader in self.readers] == [naive.live for naive in self.naive]


class Durable(Books):
    def decoded(self, place: int) -> Delivery:
        return self.ledger.decode("c", publication(*self.history[place], offset=place + 1))

    def is_told(self, epoch: int) -> None:
        if self.known_epoch not in (0, epoch):
            self.faults.append("disagreement")
        self.known_epoch = epoch

    @rule(n=READERS)
    def enter(self, n: int) -> None:
        top = len(self.history)
        self.ledger.enter(self.readers[n], top, f"e{self.epoch}", durable=True)
        self.end(n)
        self.is_told(self.epoch)
        self.naive[n] = Naive(entered=top, there=True, live=True)

    def one(self, n: int, offset: int) -> None:
        naive = self.naive[n]
        if self.known_epoch != self.epoch or (naive.there and self.readers[n].epoch != f"e{self.epoch}"):
            return  # nobody was told yet
        new = self.ledger.deliver(self.readers[n], self.decoded(offset - 1))
        is_new = naive.there and offset > naive.entered and offset not in naive.got
        if naive.there and not is_new:
            self.faults.append("doubled")
        elif is_new and offset != naive.top + 1:
            self.faults.append("gap" if offset > naive.top else "reordered")
        assert new == is_new
        if is_new:
            naive.got.append(offset)
            self.delivered += 1

    @precondition(lambda self: self.history)
    @rule(n=READERS, data=st.data())
    def deliver_any(self, n: int, data: st.DataObject) -> None:
        self.one(n, data.draw(st.integers(1, len(self.history))))

    @rule(n=READERS, missing=st.integers(0, 2))
    def deliver_the_rest(self, n: int, missing: int) -> None:
        for offset in range(self.naive[n].top + 1, len(self.history) + 1 - missing):
            self.one(n, offset)

    @precondition(lambda self: any(naive.there for naive in self.naive))
    @rule(data=st.data(), missing=st.integers(0, 2), recovered=st.booleans())
    def resume(self, data: st.DataObject, missing: int, recovered: bool) -> None:
        n = data.draw(st.sampled_from([n for n in range(3) if self.naive[n].there]))
        naive, top, same = self.naive[n], len(self.history), self.readers[n].epoch == f"e{self.epoch}"
        if recovered and same:
            self.deliver_the_rest(n, missing)
        self.ledger.resume(self.readers[n], recovered, top, f"e{self.epoch}")
        if not recovered or not same:
            self.faults.append("unrecovered")
            self.end(n)
            self.is_told(self.epoch)
            self.naive[n] = Naive(entered=top, there=True, live=True)
            return
        naive.live = True
        if naive.top < top:
            self.faults.append("gap")
            naive.told = top

    @rule()
    def new_epoch(self) -> None:
        """The server has lost everything, and everybody."""
        self.epoch += 1
        self.history.clear()
        for n in range(3):
            self.cut(n)

    @invariant()
    def what_is_owed_is_what_went_by(self) -> None:
        now = sum(reader.at - reader.entered for reader in self.readers if reader.at >= 0)
        assert self.book.expected_before + now == self.owed_before + sum(
            naive.top - naive.entered for naive in self.naive
        )


class Ephemeral(Books):
    """Without offsets: by the sender's count, from the first message on that a reader gets of him."""

    @rule(n=READERS)
    def enter(self, n: int) -> None:
        self.ledger.enter(self.readers[n], 0, "", durable=False)
        self.naive[n] = Naive(there=True, live=True)

    @precondition(lambda self: self.history)
    @rule(n=READERS, data=st.data())
    def deliver_any(self, n: int, data: st.DataObject) -> None:
        sender, sequence = data.draw(st.sampled_from(self.history))
        naive = self.naive[n]
        before = [each for who, each in naive.heard if who == sender]
        new = self.ledger.deliver(self.readers[n], self.ledger.decode("c", publication(sender, sequence)))
        if not naive.there:
            assert not new
            return
        if before and sequence != max(before) + 1:
            late = min(before) < sequence and sequence not in before
            self.faults.append("gap" if sequence > max(before) else "reordered" if late else "doubled")
        if new:
            naive.heard.append((sender, sequence))
            self.delivered += 1
        assert new == (not before or self.faults[-1:] != ["doubled"] or sequence == max(before) + 1)

    @precondition(lambda self: any(naive.there for naive in self.naive))
    @rule(n=READERS)
    def somebody_else_publishes(self, n: int) -> None:
        assert not self.ledger.deliver(self.readers[n], self.ledger.decode("c", publication(0, 0, run="other")))


TestDurable = Durable.TestCase
TestDurable.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestEphemeral = Ephemeral.TestCase
TestEphemeral.settings = TestDurable.settings


def entered(recover: bool = True) -> tuple[Ledger, Reader]:
    ledger = Ledger(RUN)
    reader = Reader(ledger.book("c"), 0, recover)
    ledger.enter(reader, 0, "e", durable=True)
    return ledger, reader


def kinds(ledger: Ledger) -> list[str]:
    return [fault.kind for fault in ledger.faults.kept]


def test_two_messages_at_one_offset_are_a_disagreement() -> None:
    ledger, _ = entered()
    ledger.decode("c", publication(1, 1, 1))
    ledger.decode("c", publication(1, 1, 1))
    assert kinds(ledger) == []
    ledger.decode("c", publication(1, 2, 1))
    ledger.decode("c", publication(1, 1, 1, run="other"))
    assert kinds(ledger) == ["disagreement"] * 2


def test_others_may_publish_in_between() -> None:
    ledger, reader = entered()
    for offset, run in enumerate((RUN, "other", RUN), 1):
        assert ledger.deliver(reader, ledger.decode("c", publication(1, offset, offset, run)))
    assert kinds(ledger) == []
    assert reader.book.messages == {1: message_id(1, 1), 2: FOREIGN, 3: message_id(1, 3)}


@pytest.mark.parametrize(
    "data", ["[]", "7", '"text"', '{"run":"r"}', '{"run":"r","s":-1,"n":1}', '{"run":"r","s":1,"n":4294967296}',
             '{"run":"r","s":1,"n":1,"t":1e99}', '{"run":"r","s":99999999999999999999,"n":1}', '{"run":7}'],
)  # fmt: skip
def test_what_none_of_ours_could_have_sent_is_somebody_else_s(data: str) -> None:
    ledger, _ = entered()
    assert ledger.decode("c", Publication(data.encode(), 1)).message == FOREIGN


def test_ours_must_have_an_offset_where_there_is_history_and_others_need_not() -> None:
    ledger, reader = entered()
    assert not ledger.deliver(reader, ledger.decode("c", publication(1, 0, run="other")))
    assert kinds(ledger) == []
    assert not ledger.deliver(reader, ledger.decode("c", publication(1, 0)))
    assert kinds(ledger) == ["gap"]
    assert ledger.deliver(reader, ledger.decode("c", publication(1, 1, 1)))


def test_a_channel_that_nobody_asked_for_has_no_book() -> None:
    ledger = Ledger(RUN)
    assert ledger.decode("personal", publication(1, 1, 1)).book is None
    assert ledger.books == {}


def test_a_head_that_went_back_has_lost_something() -> None:
    ledger, reader = entered()
    for offset in (1, 2):
        ledger.deliver(reader, ledger.decode("c", publication(1, offset, offset)))
    ledger.resume(reader, True, 1, "e")
    assert kinds(ledger) == ["lost"]


def test_what_was_missed_before_one_left_is_not_late_afterwards() -> None:
    ledger, reader = entered()
    ledger.deliver(reader, ledger.decode("c", publication(1, 2, 2)))
    ledger.leave(reader)
    ledger.enter(reader, 2, "e", durable=True)
    assert not ledger.deliver(reader, ledger.decode("c", publication(1, 1, 1)))
    assert kinds(ledger) == ["gap", "doubled"]


def test_what_comes_while_history_is_read_is_held_back_and_is_no_gap() -> None:
    ledger, reader = entered()
    reader.held = []
    third = ledger.decode("c", publication(1, 3, 3))
    assert not ledger.deliver(reader, third)
    assert (reader.held, kinds(ledger)) == ([third], [])
    assert ledger.deliver(reader, ledger.decode("c", publication(1, 1, 1)))


def test_faults_are_counted_beyond_those_that_are_kept() -> None:
    faults = Faults()
    for _ in range(FAULTS_KEPT + 5):
        faults.note("gap", "c", "")
    assert (len(faults.kept), faults.count) == (FAULTS_KEPT, FAULTS_KEPT + 5)
