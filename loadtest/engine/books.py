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

    __slots__ = ("at", "book", "delivered", "entered", "epoch", "held", "live", "recover", "seen", "who")

    def __init__(self, book: Book, who: int, recover: bool = True) -> None:
        self.book = book
        self.who = who
        self.recover = recover
        self.at = -1  # the last offset; -1 before it was ever there
        self.entered = 0
        self.delivered = 0
        self.epoch = ""
        self.live = False
        self.held: list[Delivery] | None = None  # what came live while history is being read
        self.seen: dict[int, int] | None = None  # without offsets: the last sequence by sender


class Delivery(msgspec.Struct, frozen=True):
    """One publication of a frame, decoded for all readers of this process."""

    channel: str
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

    def book(self, name: str) -> Book:
        book = self.books.get(name)
        if book is None:
            book = self.books[name] = Book(name)
        return book

    def decode(self, channel: str, publication: Publication) -> Delivery:
        """A publication, for all its readers in this process. Noted: is it at its offset what others saw there?"""
        mark = mark_of(publication)
        if mark.run != self.run or mark.s < 0:
            made = Delivery(channel, publication.offset, FOREIGN, FOREIGN, 0, 0)
        else:
            message = message_id(mark.s, mark.n)
            made = Delivery(channel, publication.offset, message, mark.s, mark.n, mark.t)
        book = self.book(channel)
        key = made.offset or made.message
        known = book.messages.setdefault(key, made.message)
        if known != made.message:
            self.faults.note("disagreement", channel, f"offset {key} is {name_of(known)} and {name_of(made.message)}")
        return made

    def enter(self, reader: Reader, offset: int, epoch: str, *, durable: bool) -> None:
        """The reader was subscribed, at this offset, without asking for what it missed."""
        book = reader.book
        book.durable = durable
        book.readers.add(reader)
        reader.live = True
        reader.epoch = epoch
        if durable:
            reader.entered = reader.at = offset
            book.entered = offset if book.entered < 0 else min(book.entered, offset)
        elif reader.seen is None:
            reader.seen = {}

    def resume(self, reader: Reader, recovered: bool, offset: int, epoch: str) -> None:
        """The reader came back and asked for what it missed; `offset` is where the reply leaves it."""
        reader.live = True
        if not recovered or epoch != reader.epoch:
            self.faults.note("unrecovered", reader.book.name, f"reader {reader.who} was at {reader.at} of {offset}")
            reader.book.expected_before += reader.at - reader.entered
            reader.entered = reader.at = offset
            reader.epoch = epoch
        elif reader.at != offset:
            name = reader.book.name
            self.faults.note("gap", name, f"reader {reader.who} recovered up to {reader.at}, the reply says {offset}")
            reader.at = offset

    def leave(self, reader: Reader) -> None:
        """The reader is gone, and will not ask for what it misses."""
        book = reader.book
        book.readers.discard(reader)
        book.expected_before += max(0, reader.at - reader.entered) if reader.seen is None else reader.delivered
        reader.live = False
        reader.delivered, reader.at = 0, -1
        if reader.seen is not None:
            reader.seen = {}

    def deliver(self, reader: Reader, delivery: Delivery) -> bool:
        """One publication to one reader. Whether it is a new one."""
        offset = delivery.offset
        if reader.seen is None and offset:
            if reader.held is not None and offset > reader.at + 1:
                reader.held.append(delivery)
                return False
            if offset == reader.at + 1:
                reader.at = offset
                reader.delivered += 1
                reader.book.delivered += 1
                return True
            self._out_of_order(reader, offset)
            return False
        if reader.seen is None:
            reader.seen = {}
        seen = reader.seen
        last = seen.get(delivery.sender)
        if last is not None and delivery.sequence != last + 1:
            kind = "doubled" if delivery.sequence <= last else "gap"
            name = reader.book.name
            self.faults.note(kind, name, f"reader {reader.who} got {name_of(delivery.message)} after #{last}")
        if last is None or delivery.sequence > last:
            seen[delivery.sender] = delivery.sequence
            reader.delivered += 1
            reader.book.delivered += 1
            return True
        return False

    def _out_of_order(self, reader: Reader, offset: int) -> None:
        name = reader.book.name
        if offset <= reader.at:
            self.faults.note("doubled", name, f"reader {reader.who} is at {reader.at} and got {offset}")
        else:
            self.faults.note("gap", name, f"reader {reader.who} is at {reader.at} and got {offset}")
            reader.at = offset
            reader.delivered += 1
            reader.book.delivered += 1
