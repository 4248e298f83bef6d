"""The books that a worker keeps: what each channel carried, and how far each of its readers has come.

Checked at every delivery, in the reader's own time: an offset that is not the next one is a fault at once, whatever the
end of the run says. Frames are decoded once for all readers (they get the same bytes), so a check costs a reader one
comparison.
"""

from __future__ import annotations

import msgspec

from loadtest.engine.protocol import Publication, mark_of, message_id, name_of
from loadtest.report.model import Fault

FAULTS_KEPT = 1000
MISSED_KEPT = 1000  # of one gap: whatever of it still comes is told from a double
FOREIGN = -1  # a publication that is not of this run: it has an offset, and no sender


class Faults:
    """The first thousand, and how many there were."""

    def __init__(self) -> None:
        self.kept: list[Fault] = []
        self.count = 0

    def note(self, kind: str, channel: str, detail: str) -> None:
        self.count += 1
        if len(self.kept) < FAULTS_KEPT:
            self.kept.append(Fault(kind, channel, detail))


class Book:
    """One channel, as this process sees it."""

    __slots__ = (
        "acknowledged",
        "delivered",
        "durable",
        "entered",
        "epoch",
        "expected_before",
        "messages",
        "name",
        "readers",
        "refused",
        "sent",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.durable = True
        self.epoch = ""
        self.entered = -1  # the lowest offset at which a reader ever entered
        self.messages: dict[int, int] = {}  # offset -> message id; without offsets: message id -> message id
        self.sent = 0
        self.acknowledged: list[int] = []
        self.refused = 0
        self.delivered = 0
        self.expected_before = 0  # deliveries to readers that have left: what they were owed until then
        self.readers: set[Reader] = set()


class Reader:
    """One client's subscription, over all its connections."""

    __slots__ = ("at", "book", "entered", "epoch", "held", "live", "recover", "seen", "who")

    def __init__(self, book: Book, who: int, recover: bool = True) -> None:
        self.book = book
        self.who = who
        self.recover = recover
        self.at = -1  # the last offset; -1 where it is not subscribed, and where there are none
        self.entered = 0
        self.epoch = ""
        self.live = False
        self.held: list[Delivery] | None = None  # what came live while history is being read
        self.seen: dict[int, int] | None = None  # without offsets: the last sequence by sender


class Delivery(msgspec.Struct, frozen=True):
    """One publication of a frame, decoded for all readers of this process."""

    book: Book | None  # None: of a channel that nobody here subscribed to, a personal one for example
    offset: int
    message: int
    sender: int
    sequence: int
    intended: int  # ns of the run's clock


class Ledger:
    """All books of a process."""

    def __init__(self, run: str) -> None:
        self.run = run  # messages of other runs in the same channels are deliveries, but nobody's here
        self.books: dict[str, Book] = {}
        self.faults = Faults()
        # What a reader should have got before what it did get: it may be late, and else is lost. Offsets, or messages.
        self._missed: dict[Reader, set[int]] = {}

    def book(self, name: str) -> Book:
        book = self.books.get(name)
        if book is None:
            book = self.books[name] = Book(name)
        return book

    def decode(self, channel: str, publication: Publication) -> Delivery:
        """A publication, for all its readers in this process. Noted: is it at its offset what others saw there?"""
        mark = mark_of(publication)
        book, offset = self.books.get(channel), publication.offset
        if mark.run != self.run or mark.s < 0 or mark.n < 0:
            made = Delivery(book, offset, FOREIGN, FOREIGN, 0, 0)
        else:
            made = Delivery(book, offset, message_id(mark.s, mark.n), mark.s, mark.n, mark.t)
        if book is not None and (offset or (not book.durable and made.message != FOREIGN)):
            key = offset or made.message
            known = book.messages.setdefault(key, made.message)
            if known != made.message:
                detail = f"offset {key} is {shown(known)} and {shown(made.message)}"
                self.faults.note("disagreement", channel, detail)
        return made

    def enter(self, reader: Reader, offset: int, epoch: str, *, durable: bool) -> None:
        """The reader was subscribed, at this offset, without asking for what it missed."""
        self._break(reader)
        book = reader.book
        book.durable = durable
        book.readers.add(reader)
        reader.live = True
        if durable:
            self._compare_epochs(reader, epoch)
            reader.entered = reader.at = offset
            book.entered = offset if book.entered < 0 else min(book.entered, offset)
        else:
            reader.seen = {}

    def resume(self, reader: Reader, recovered: bool, offset: int, epoch: str) -> None:
        """The reader came back and asked for what it missed; `offset` is where the reply leaves it."""
        name, at = reader.book.name, reader.at
        if not recovered or epoch != reader.epoch:
            self.faults.note("unrecovered", name, f"reader {reader.who} was at {at} of {offset}")
            self.enter(reader, offset, epoch, durable=True)
            return
        reader.live = True
        if at < offset:
            self.faults.note("gap", name, f"reader {reader.who} recovered up to {at}, the reply says {offset}")
            self._miss(reader, at + 1, offset + 1)
        elif at > offset:
            self.faults.note("lost", name, f"reader {reader.who} had {at}, the reply to its recovery says {offset}")
        reader.at = offset

    def leave(self, reader: Reader) -> None:
        """The reader is gone, and will not ask for what it misses."""
        reader.book.readers.discard(reader)
        reader.live = False
        self._break(reader)

    def _break(self, reader: Reader) -> None:
        """Whatever the reader gets from now on does not go on from where it was."""
        if reader.at >= 0:
            reader.book.expected_before += reader.at - reader.entered
        reader.at = -1
        reader.seen = reader.held = None
        self._missed.pop(reader, None)

    def _compare_epochs(self, reader: Reader, epoch: str) -> None:
        book = reader.book
        reader.epoch = epoch
        if book.epoch == epoch:
            return
        if book.epoch:
            detail = f"reader {reader.who} is in epoch {epoch}, the channel was in {book.epoch}"
            self.faults.note("disagreement", book.name, detail)
            book.messages.clear()  # other offsets
            book.entered = -1
        book.epoch = epoch

    def deliver(self, reader: Reader, delivery: Delivery) -> bool:
        """One publication to one reader. Whether it is a new one."""
        offset = delivery.offset
        if offset == reader.at + 1 and offset and reader.seen is None:
            reader.at = offset
            reader.book.delivered += 1
            return True
        if reader.seen is None:
            return self._out_of_turn(reader, delivery)
        sender, sequence, seen = delivery.sender, delivery.sequence, reader.seen
        if sender == FOREIGN:
            return False  # nothing tells it from another one
        last = seen.get(sender, sequence - 1)
        if sequence == last + 1 or self._out_of_sequence(reader, delivery, last):
            seen[sender] = max(sequence, last)
            reader.book.delivered += 1
            return True
        return False

    def _out_of_turn(self, reader: Reader, delivery: Delivery) -> bool:
        offset, at = delivery.offset, reader.at
        if at < 0:
            return False  # on its way while the reader left
        note, name, who = self.faults.note, reader.book.name, reader.who
        if not offset:
            if delivery.sender != FOREIGN:  # somebody else may have published past the history, through an API
                note("gap", name, f"reader {who} is at {at} and got {name_of(delivery.message)} without an offset")
            return False
        if offset > at and reader.held is not None:
            reader.held.append(delivery)
            return False
        if offset > at:
            note("gap", name, f"reader {who} is at {at} and got {offset}")
            self._miss(reader, at + 1, offset)
            reader.at = offset
        elif self._was_missed(reader, offset):
            note("reordered", name, f"reader {who} is at {at} and got {offset} only now")
        else:
            note("doubled", name, f"reader {who} is at {at} and got {offset}")
            return False
        reader.book.delivered += 1
        return True

    def _out_of_sequence(self, reader: Reader, delivery: Delivery, last: int) -> bool:
        message, sequence = delivery.message, delivery.sequence
        detail = f"reader {reader.who} got {name_of(message)} after #{last}"
        new = True
        if sequence > last:
            kind = "gap"
            self._miss(reader, message - (sequence - last) + 1, message)
        elif self._was_missed(reader, message):
            kind = "reordered"
        else:
            kind, new = "doubled", False
        self.faults.note(kind, reader.book.name, detail)
        return new

    def _miss(self, reader: Reader, first: int, end: int) -> None:
        self._missed.setdefault(reader, set()).update(range(max(first, end - MISSED_KEPT), end))

    def _was_missed(self, reader: Reader, what: int) -> bool:
        missed = self._missed.get(reader, set())
        if what not in missed:
            return False
        missed.remove(what)
        return True


def shown(message: int) -> str:
    return "somebody else's" if message == FOREIGN else name_of(message)
