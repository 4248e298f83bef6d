"""A channel as one node sees it: its local subscribers and its place in the log.

Sans-I/O: nothing here awaits, reads a clock or writes to a socket. `realtime.hub` feeds it and acts on what it says.
"""

from __future__ import annotations

import enum
from contextlib import suppress
from sys import intern
from typing import TYPE_CHECKING

from realtime import codes
from realtime.messages import stamped
from realtime.namespaces import ChannelOptions
from realtime.protocol import Publication

if TYPE_CHECKING:
    from asyncio import Future

    from realtime.client import ClientConnection
    from realtime.fanout import Batch
    from realtime.interfaces import Follower
    from realtime.websocket import Transport

MAX_AHEAD = 1000  # publications kept beyond a gap; more are read from the log instead
FEW = 8  # subscribers up to which a list is kept
MAX_HELD = 1000  # publications kept for one subscriber while its recovery is read
FOR_GOOD = 1 << 63  # beyond every offset


class Sequence(enum.Enum):
    """What a channel makes of a publication's offset."""

    NEXT = enum.auto()  # deliver it, and what waited behind it
    SEEN = enum.auto()  # drop it
    AHEAD = enum.auto()  # wait for those before it
    OTHER_EPOCH = enum.auto()  # the log is another one: nothing that is known here counts any more


class Hold:
    """A subscriber whose history is being read: live publications wait here, so that it sees each once, in order."""

    __slots__ = ("overflown", "pushes", "revoked_at", "tagged", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.revoked_at = 0  # the offset of the user's removal, if there was one meanwhile
        self.pushes: list[tuple[int, bytes]] = []  # (offset, encoded push); offset 0 outside the log
        self.tagged: list[Publication] | None = None  # those of them on which the node acts
        self.overflown = False

    def add(self, offset: int, push: bytes) -> None:
        if len(self.pushes) >= MAX_HELD:
            self.overflown = True
        else:
            self.pushes.append((offset, push))

    def note(self, publication: Publication) -> None:
        """Keep a publication with tags for whoever acts on it once the subscriber is live."""
        if self.tagged is None:
            self.tagged = []
        self.tagged.append(publication)

    def check(self, head: int) -> None:
        """Raises error 103 when the user was removed beyond `head`, 100 (temporary) when too much was published."""
        if self.revoked_at > head:
            raise codes.PERMISSION_DENIED
        if self.overflown:
            raise codes.INTERNAL.saying("too much was published meanwhile")

    def above(self, offset: int) -> list[bytes]:
        """What the subscriber has not got with its reply, which covers all up to `offset`."""
        return [push for at, push in self.pushes if at == 0 or at > offset]


class Channel:
    """One channel on one node.

    `position` is the last offset handed to local subscribers, `None` until the log's head was read (and always
    `None` outside the log). `pending` holds encoded pushes of this tick, `batches` those being written.
    """

    __slots__ = (
        "_transports",
        "ahead",
        "batches",
        "epoch",
        "expected",
        "flushed_at",
        "follower",
        "holds",
        "joining",
        "listeners",
        "name",
        "on_broker",
        "options",
        "pair",
        "pending",
        "position",
        "repair",
        "subscribers",
    )

    def __init__(self, name: str, options: ChannelOptions) -> None:
        self.name = name
        self.options = options
        self.pair: tuple[str, str] | None = None  # the two users of a direct room, once somebody is in it
        self.subscribers: list[ClientConnection] | dict[ClientConnection, None] = []
        self._transports: list[Transport] | None = None
        self.listeners: set[ClientConnection] | None = None  # those who asked for join and leave
        self.holds: list[Hold] | None = None
        self.position: int | None = None
        self.epoch = ""
        self.ahead: dict[int, Publication] | None = None
        self.pending: list[bytes] | None = None
        self.batches: list[Batch] | None = None
        self.flushed_at = 0.0
        self.follower: Follower | None = None  # what folds the channel's log on this node
        self.on_broker = False
        self.joining: list[Future[None]] | None = None  # who waits for the broker's subscription that is under way
        self.expected = 0  # the log has come as far as this; not 0 while a timer looks whether it comes by itself
        self.repair: Future[None] | None = None  # set while missing publications are read

    @property
    def unused(self) -> bool:
        return not self.subscribers and not self.holds and self.follower is None

    @property
    def announces(self) -> bool:
        """Whether joins and leaves are pushed: in big rooms they would cost the square of their size."""
        most = self.options.join_leave_limit
        return self.options.join_leave and not (most and len(self.subscribers) > most)

    def shown(self, publication: Publication) -> Publication:
        """A publication of the past as clients see it."""
        return stamped(self.options, self.follower.show(publication) if self.follower is not None else publication)

    def other(self, user: str) -> str:
        """The other one of a direct room; empty elsewhere."""
        return next((each for each in self.pair or () if each != user), "")

    def add(self, connection: ClientConnection) -> None:
        """Make the connection a subscriber. Few are in a list: a set of one, as in a million personal channels, would
        take 216 bytes instead of 88. Many are in a dict: in the order in which they came, and in half a set's memory.
        """
        self._transports = None
        subscribers = self.subscribers
        if isinstance(subscribers, dict):
            subscribers[connection] = None
        else:
            subscribers.append(connection)
            if len(subscribers) > FEW:
                self.subscribers = dict.fromkeys(subscribers)

    def suspend(self, connection: ClientConnection) -> None:
        """Take the connection out of the subscribers, if it is there."""
        self._transports = None
        if isinstance(self.subscribers, dict):
            self.subscribers.pop(connection, None)
        else:
            with suppress(ValueError):
                self.subscribers.remove(connection)

    def transports(self) -> list[Transport]:
        """Where the subscribers are written to. The list is kept until somebody comes or goes, and never changed."""
        transports = self._transports
        if transports is None:
            transports = [subscriber.transport for subscriber in self.subscribers]
            if len(transports) > FEW:
                self._transports = transports
        return transports

    def discard(self, connection: ClientConnection) -> None:
        """Take the connection out of the subscribers and listeners, if it is there."""
        self.suspend(connection)
        if self.listeners is not None:
            self.listeners.discard(connection)
            if not self.listeners:
                self.listeners = None

    def place(self, offset: int, epoch: str) -> Sequence:
        """Where a publication stands relative to what was delivered. Changes nothing."""
        if self.position is None:
            return Sequence.AHEAD
        if epoch != self.epoch:
            return Sequence.OTHER_EPOCH
        if offset <= self.position:
            return Sequence.SEEN
        return Sequence.NEXT if offset == self.position + 1 else Sequence.AHEAD

    def keep(self, publication: Publication) -> None:
        """Keep a publication that is ahead of the next one."""
        if self.ahead is None:
            self.ahead = {}
        if len(self.ahead) < MAX_AHEAD:
            self.ahead[publication.offset] = publication

    def start(self, offset: int, epoch: str) -> list[Publication]:
        """Begin at the log's head. Returns what arrived meanwhile and comes next."""
        self.position = offset
        self.epoch = intern(epoch)  # one and the same for nearly all channels
        return self.take_ahead()

    def take_ahead(self) -> list[Publication]:
        """Publications that were ahead and are next now; `position` moves over them."""
        if not self.ahead:
            return []
        assert self.position is not None
        ready = []
        while (publication := self.ahead.pop(self.position + 1, None)) is not None:
            self.position += 1
            ready.append(publication)
        for offset in [offset for offset in self.ahead if offset <= self.position]:
            del self.ahead[offset]
        if not self.ahead:
            self.ahead = None
        return ready

    def forget_position(self) -> None:
        """Start anew: the next subscriber reads the head again."""
        self.position = None
        self.epoch = ""
        self.ahead = None
