"""The ledger finds each kind of fault, and none where there is none."""

from __future__ import annotations

import pytest

from loadtest.ledger import Ledger, Message, Place

A = [Message("a", sequence) for sequence in range(4)]
B = [Message("b", sequence) for sequence in range(2)]
STORED = [Place(1, A[0]), Place(2, B[0]), Place(3, A[1]), Place(4, A[2]), Place(5, B[1])]


def book(stored: list[Place] = STORED, delivered: list[Place] = STORED, second: list[Place] | None = None) -> Ledger:
    ledger = Ledger()
    channel = ledger.channel("c")
    channel.sent = {*A[:3], *B}
    channel.acknowledged = {*A[:3], *B}
    channel.stored = {"node-1": list(stored), "node-2": list(stored if second is None else second)}
    channel.delivered["reader"] = list(delivered)
    return ledger


def kinds(ledger: Ledger) -> set[str]:
    return {fault.kind for fault in ledger.faults()}


def test_clean_books_have_no_fault() -> None:
    ledger = book()
    assert ledger.faults() == []
    assert (ledger.sent, ledger.acknowledged, ledger.delivered) == (5, 5, 5)
    assert ledger.stored_by_node() == {"node-1": 5, "node-2": 5}


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        (book(stored=STORED[:-1], delivered=STORED[:-1]), {"lost"}),
        (book(delivered=STORED[:-1]), {"undelivered"}),
        (book(delivered=[*STORED, Place(5, B[1])]), {"doubled"}),
        (book(delivered=[STORED[0], *STORED[2:]]), {"gap", "undelivered"}),
        (book(delivered=[STORED[0], STORED[2], STORED[1], *STORED[3:]]), {"reordered"}),
        (book(second=STORED[:-1]), {"lost", "disagreement"}),
        (book(delivered=[*STORED[:-1], Place(5, A[3])]), {"undelivered", "disagreement"}),
    ],
)
def test_each_fault_is_named(ledger: Ledger, expected: set[str]) -> None:
    assert kinds(ledger) == expected


def test_a_message_stored_twice_under_two_offsets_is_doubled() -> None:
    stored = [*STORED, Place(6, A[1])]
    assert "doubled" in kinds(book(stored=stored, delivered=stored))


def test_a_sender_s_messages_in_another_order_are_reordered() -> None:
    stored = [Place(1, A[1]), Place(2, A[0]), Place(3, A[2]), Place(4, B[0]), Place(5, B[1])]
    assert kinds(book(stored=stored, delivered=stored)) == {"reordered"}


def test_a_message_that_nobody_sent_is_invented() -> None:
    stored = [*STORED, Place(6, A[3])]
    assert kinds(book(stored=stored, delivered=stored)) == {"invented"}


def test_a_reader_that_could_not_recover_is_a_fault() -> None:
    ledger = book()
    ledger.channel("c").unrecovered.append("reader")
    assert kinds(ledger) == {"unrecovered"}


def test_an_unacknowledged_message_may_be_stored_or_not() -> None:
    ledger = book()
    ledger.channel("c").sent.add(A[3])
    assert ledger.faults() == []


def test_rows_of_the_server_have_offsets_but_no_sender() -> None:
    moved = [Place(place.offset + 2, place.message) for place in STORED]
    ledger = book(stored=[Place(1, Message("", 1)), Place(2, Message("", 2)), *moved], delivered=moved)
    assert kinds(ledger) == {"gap", "undelivered"}, "a reader who was there from the start must be told of them"
    ledger.channel("c").entered_at["reader"] = 2
    assert ledger.faults() == []


def test_faults_name_examples_and_count_all() -> None:
    ledger = book(stored=[], delivered=[])
    assert "5 acknowledged" in str(ledger.faults()[0])
    assert "a#0" in str(ledger.faults()[0])
