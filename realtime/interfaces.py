"""What the messaging core needs from the outside, as small protocols.

`storage` implements `MessageLog`, `presence` implements `PresenceStore`, `gateway_node` implements `Broker` and
`Authoriser`. Tests of the core implement them in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from realtime.codes import CommandError
from realtime.protocol import ClientInfo, Publication, StreamPosition


class LogUnavailable(Exception):
    """The log cannot answer now; whether an append was stored is unknown. Trying again with the same id is safe."""


class IdTaken(Exception):
    """The channel already has a message of this id, by another sender."""


class Rejected(Exception):
    """The log will never take this entry; the message says why."""


class Refused(Exception):
    """The channel takes no message of this sender now: it is closed, or they are muted. The message says which."""


class BrokerUnavailable(Exception):
    """The broker is away; the log repairs what it misses."""


class PresenceUnavailable(Exception):
    """The presence store is away or full: who is present is unknown."""


class Entry(Struct, array_like=True):
    """A message on its way into a channel's log.

    `id` (16 bytes) is the idempotency key within the channel. `data` is checked JSON. `info` and `tags` are stored
    beside it and come back with it. `history_size` (publications; 0: without limit) and `history_ttl` (seconds;
    0: for ever) say how much of the channel's past is kept.
    """

    channel: str
    id: bytes
    sender: str
    data: bytes
    type: str = ""
    info: bytes = b""  # ClientInfo as JSON
    tags: bytes = b""  # JSON object of strings
    history_size: int = 0
    history_ttl: int = 0
    counted: bool = True  # whether it is a message, which people count as unread, and not an event
    mentions: tuple[str, ...] = ()  # users (UUIDs) whose mention count it raises
    search: str = ""  # the text by which it is found; empty: it is not
    target: bytes = b""  # of an event: the id of the message that it is about


class Appended(Struct, array_like=True):
    """Where an entry stands, after the commit.

    `duplicate` is the stored publication when the id was there before: it is forwarded like a fresh one, because the
    first attempt may have died before anyone was told.
    """

    offset: int
    epoch: str
    time: int  # Unix milliseconds
    duplicate: Publication | None = None


class Span(NamedTuple):
    """A part of a channel's log that is asked for, as `MessageLog.read` describes it."""

    channel: str
    after: int
    limit: int
    max_bytes: int | None = None


class Page(Struct):
    """A part of a channel's log, and its head in the same snapshot.

    `first` is the oldest offset still kept (head offset + 1 when nothing is kept).
    """

    publications: list[Publication]
    head: StreamPosition
    first: int = 1


class MessageLog(Protocol):
    """The truth about durable channels. Every method raises `LogUnavailable` when it cannot answer."""

    def append(self, entry: Entry) -> Awaitable[Appended]:
        """Done after the commit. Appends of one channel are stored in the order of the calls.

        Raises `IdTaken`, `Rejected`, `Refused`, `LogUnavailable`.
        """
        ...

    async def read(self, channel: str, after: int, limit: int, max_bytes: int | None = None) -> Page:
        """Publications with an offset above `after`, oldest first, at most `limit`, and the head.

        `limit` 0 reads the head alone. Reading stops before the publication that would pass `max_bytes`, but not
        before the first.
        """
        ...

    async def read_all(self, spans: Sequence[Span]) -> Sequence[Page]:
        """`read` of several channels, in few round trips."""
        ...

    async def read_back(self, channel: str, before: int | None, limit: int, max_bytes: int | None = None) -> Page:
        """Publications with an offset below `before` (`None`: from the head), newest first, at most `limit`.

        `max_bytes` as in `read`.
        """
        ...

    async def clear(self, channel: str) -> StreamPosition:
        """Forget the channel's past. Positions of before cannot be recovered from; returns the new one."""
        ...

    async def heads(self, channels: Sequence[str]) -> dict[str, StreamPosition]:
        """The heads of several channels in one round trip."""
        ...


class Broker(Protocol):
    """Carries messages between nodes. It may lose them: the log repairs durable channels."""

    async def subscribe(self, *channels: str) -> None:
        """Return when the broker has the subscriptions, so that nothing published later is missed.

        Raises `BrokerUnavailable`; they then take effect when the broker is back.
        """
        ...

    def unsubscribe(self, channel: str) -> None: ...

    def publish(self, channel: str, message: bytes) -> None:
        """Send to the other nodes that have subscribers of the channel. Never raises; drops while away."""
        ...

    def publish_control(self, message: bytes) -> None:
        """Send to every other node. Never raises; drops while away."""
        ...


class PresenceStats(Struct):
    num_clients: int
    num_users: int


class PresenceStore(Protocol):
    """Who is in a channel, and who is online, across nodes. Changes are queued and written in batches."""

    def join(self, channel: str, info: ClientInfo) -> None: ...

    def leave(self, channel: str, info: ClientInfo) -> None: ...

    def connected(self, user: str, client: str) -> None:
        """A connection of the user is up on this node."""
        ...

    def disconnected(self, user: str, client: str) -> None: ...

    async def members(self, channel: str) -> list[ClientInfo]:
        """Raises `PresenceUnavailable`."""
        ...

    async def stats(self, channel: str) -> PresenceStats:
        """Raises `PresenceUnavailable`."""
        ...


class Follower(Protocol):
    """Folds a channel's log on a node, in the log's order."""

    def take(self, publication: Publication) -> Publication:
        """The next publication. Returns it as clients see it."""
        ...

    def act(self, publication: Publication) -> None:
        """What is to be done once the clients have been told of it."""
        ...

    def show(self, publication: Publication) -> Publication:
        """A publication of the past as clients see it."""
        ...

    def greeting(self, user: str) -> bytes:
        """The state, as JSON, for a user who subscribes now."""
        ...

    def left(self, user: str, client: str) -> None:
        """A subscriber has gone from this node."""
        ...

    def lost(self) -> None:
        """The log is another one, or has a hole: what was folded counts no more."""
        ...


class Followed(Protocol):
    """The channels that have followers."""

    async def prepare(self, channel: str) -> None:
        """Return when the channel is followed on this node. Raises `CommandError`, `LogUnavailable`."""
        ...

    async def say(self, identity: Identity, channel: str, data: bytes, info: ClientInfo) -> None:
        """Publish a message; return when the fold has accepted it. Raises `CommandError`."""
        ...


class Roster(Protocol):
    """What a node holds, so that a presence store that lost its data can be told again."""

    def present(self) -> Iterable[tuple[str, ClientInfo]]:
        """Every (channel, connection) of this node in channels with presence."""
        ...

    def online(self) -> Iterable[tuple[str, str]]:
        """Every (user, client) of this node."""
        ...


class Identity(Struct, frozen=True, gc=False):
    """Who a connection is, as its token says. `user` is empty for an anonymous one; `client` names the connection that
    calls a method (empty: it comes another way)."""

    user: str
    info: bytes = b""  # JSON for ClientInfo.conn_info
    expires_at: int = 0  # Unix seconds; 0: never
    channels: tuple[str, ...] = ()  # server-side subscriptions
    session: str = ""  # the login session that the token belongs to, for revocation
    role: str = ""
    client: str = ""


class Grant(Struct, frozen=True, gc=False):
    """A permission to subscribe, as the authoriser gives it."""

    info: bytes = b""  # JSON for ClientInfo.chan_info
    expires_at: int = 0  # Unix seconds; 0: never
    pair: tuple[str, str] | None = None  # the two users of a direct room
    since: int = 0  # the offset at which the user came into the room


class Admission(Struct, frozen=True):
    """A permission to connect, and what the server subscribes the connection to beside its token's channels.

    `heard` is the offset of the personal channel in the snapshot in which the rooms were listed.
    """

    identity: Identity
    rooms: Sequence[str] = ()  # channels
    heard: int | None = None  # `None`: they were not listed


class Authoriser(Protocol):
    """Decides who is who and who may what. Raises `realtime.codes.CommandError` or `DisconnectError` to refuse."""

    async def connect(self, token: str) -> Identity: ...

    async def admit(self, token: str, most_rooms: int) -> Admission:
        """As `connect`, for a connection that stays: with the user's rooms, at most `most_rooms`, those
        with the newest talk."""
        ...

    async def subscribe(self, identity: Identity, channel: str, token: str) -> Grant: ...

    async def subscribe_all(
        self, identity: Identity, asked: Sequence[tuple[str, str]]
    ) -> Sequence[Grant | CommandError]:
        """As `subscribe`, of several channels with a token each. The error that refuses one is its answer."""
        ...

    async def may_publish(self, identity: Identity, channel: str, subscribed: bool) -> bool: ...

    async def may_see_presence(self, identity: Identity, channel: str, subscribed: bool) -> bool: ...

    async def may_read_history(self, identity: Identity, channel: str, subscribed: bool) -> bool: ...


Clock = Callable[[], float]
"""Unix time in seconds."""
