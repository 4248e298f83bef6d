"""What the server API and other services do with channels and connections, on whichever node they are.

One's own node acts at once; the others are told over the broker's control subject. A control message that is lost
with the broker is repaired where that matters: removal from a room is a row of the room's log (see `rooms`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from realtime import codes
from realtime.commands import read_history
from realtime.core import VERSION, Core
from realtime.interfaces import Broker, LogUnavailable, PresenceStats, PresenceUnavailable
from realtime.joining import subscribe_by_server
from realtime.namespaces import ChannelOptions
from realtime.protocol import ClientInfo, HistoryRequest, HistoryResult, StreamPosition

logger = logging.getLogger("chalkwire.messaging")

ANNOUNCE_PERIOD = 5.0  # s between two announcements of a node, at least
ANNOUNCE_SHARE = 0.5  # s of it for each node that hears them: all together are told 2 a second, however many they are
ANSWER_TIMEOUT = 0.5  # s for the other nodes to say which channels they have
HISTORY_BYTES = 4 << 20  # of publications in one answer
ANNOUNCE_MISSED = 3  # periods after which a node that says nothing is not listed


class DisconnectUser(Struct, tag="disconnect", array_like=True):
    user: str
    client: str
    code: Annotated[int, Meta(ge=3000, le=4999)]
    reason: str


class EndSession(Struct, tag="session", array_like=True):
    user: str
    session: str


class UnsubscribeUser(Struct, tag="unsubscribe", array_like=True):
    user: str
    channel: str
    client: str


class SubscribeUser(Struct, tag="subscribe", array_like=True):
    user: str
    channel: str
    client: str


class WhichChannels(Struct, tag="channels?", array_like=True):
    """A question to every node; `asker` is the uid of the node that wants to know."""

    asker: str
    number: int
    pattern: str


class TheseChannels(Struct, tag="channels", array_like=True):
    asker: str
    number: int
    counts: dict[str, int]


class LinksChanged(Struct, tag="links", array_like=True):
    codes: list[str]


class NodeInfo(Struct, tag="node", array_like=True):
    """A node as the server API's `info` lists it."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_channels: int
    num_subs: int
    uptime: int  # seconds


Control = (
    DisconnectUser
    | EndSession
    | UnsubscribeUser
    | SubscribeUser
    | WhichChannels
    | TheseChannels
    | LinksChanged
    | NodeInfo
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Control).decode


async def _nothing(user: str) -> None:
    pass


class Messaging:
    """Channels and connections, as services see them. Every method raises `CommandError` to refuse."""

    def __init__(self, core: Core, broker: Broker, describe: Callable[[], NodeInfo]) -> None:
        self._core = core
        self._broker = broker
        self._describe = describe
        self._nodes: dict[str, tuple[float, NodeInfo]] = {}
        self._questions: dict[int, _Question] = {}
        self._last_question = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_links: Callable[[Sequence[str]], None] = lambda changed: None  # on another node
        self.on_disconnected: Callable[[str], Awaitable[None]] = _nothing  # a user, by this node

    def _options(self, channel: str) -> ChannelOptions:
        return self._core.namespaces.require(channel)

    async def publish(
        self,
        channel: str,
        data: bytes,
        *,
        id: bytes | None = None,
        sender: str = "",
        info: ClientInfo | None = None,
        tags: dict[str, str] | None = None,
        skip_history: bool = False,
    ) -> StreamPosition:
        """Publish checked JSON; the position is empty outside the log."""
        options = self._options(channel)
        if len(data) > self._core.limits.message:
            raise codes.LIMIT_EXCEEDED.saying(f"data is longer than {self._core.limits.message} bytes")
        if skip_history and options.messages:
            raise codes.BAD_REQUEST.saying("messages of rooms and classes are in their history")
        return await self._core.publisher.publish(
            channel, options, data, id=id, sender=sender, info=info, tags=tags, skip_history=skip_history
        )

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        if not self._options(channel).presence:
            raise codes.NOT_AVAILABLE
        try:
            members = await self._core.presence.members(channel)
        except PresenceUnavailable:
            raise codes.PRESENCE_UNKNOWN from None
        return {each.client: each for each in members}

    async def presence_stats(self, channel: str) -> PresenceStats:
        if not self._options(channel).presence:
            raise codes.NOT_AVAILABLE
        try:
            return await self._core.presence.stats(channel)
        except PresenceUnavailable:
            raise codes.PRESENCE_UNKNOWN from None

    async def history(
        self, channel: str, limit: int, since: StreamPosition | None = None, reverse: bool = False
    ) -> HistoryResult:
        request = HistoryRequest(channel, limit, since, reverse)
        most = self._core.limits.history
        return await read_history(
            self._core.log, channel, self._options(channel), request, most=most, max_bytes=HISTORY_BYTES
        )

    def end_session(self, user: str, session: str) -> None:
        """Disconnect the connections that a login opened, on every node."""
        self._end_session_here(user, session)
        self._broker.publish_control(_encode(EndSession(user, session)))

    def _end_session_here(self, user: str, session: str) -> None:
        for connection in self._core.hub.connections_of(user):
            if connection.identity.session == session:
                connection.end(codes.FORCE_DISCONNECT)

    def links_changed(self, changed: Sequence[str]) -> None:
        """Tell the other nodes to forget what they know of short links."""
        self._broker.publish_control(_encode(LinksChanged(list(changed))))

    async def history_remove(self, channel: str) -> None:
        """Forget the channel's past. Subscribers notice with the next publication or sweep, and start anew."""
        if not self._options(channel).durable:
            raise codes.NOT_AVAILABLE
        try:
            await self._core.log.clear(channel)
        except LogUnavailable:
            raise codes.INTERNAL.saying("the message log is not available") from None

    async def unsubscribe(self, user: str, channel: str, client: str = "") -> None:
        """End the user's subscriptions to the channel on every node."""
        self._options(channel)
        self._core.hub.unsubscribe_user(user, channel, client, codes.UNSUBSCRIBED_BY_SERVER)
        self._broker.publish_control(_encode(UnsubscribeUser(user, channel, client)))

    async def disconnect(
        self,
        user: str,
        client: str = "",
        code: int = codes.FORCE_DISCONNECT.code,
        reason: str = codes.FORCE_DISCONNECT.reason,
    ) -> None:
        """Disconnect the user's connections on every node, or the one of that client id."""
        if not 3000 <= code <= 4999:
            raise codes.BAD_REQUEST.saying("a disconnect code is between 3000 and 4999")
        if len(reason.encode()) > 123:
            raise codes.BAD_REQUEST.saying("a disconnect reason has at most 123 bytes")
        self._core.hub.disconnect_user(user, client, codes.Disconnect(code, reason))
        self._broker.publish_control(_encode(DisconnectUser(user, client, code, reason)))
        if not client:
            await self.on_disconnected(user)

    async def subscribe(self, user: str, channel: str, client: str = "") -> None:
        """Subscribe the user's connections on every node to the channel."""
        self._options(channel)
        self._broker.publish_control(_encode(SubscribeUser(user, channel, client)))
        await self._subscribe_here(user, channel, client)

    async def _subscribe_here(self, user: str, channel: str, client: str) -> None:
        for connection in self._core.hub.connections_of(user, client):
            await subscribe_by_server(connection, channel)

    async def info(self) -> list[dict[str, Any]]:
        """Every node that has announced itself within three periods of it, this one first."""
        return [msgspec.structs.asdict(node) for node in (self._describe(), *self._other_nodes())]

    @property
    def announce_period(self) -> float:
        """Seconds until this node should announce itself again."""
        return max(ANNOUNCE_PERIOD, ANNOUNCE_SHARE * (1 + len(self._nodes)))

    def count_nodes(self) -> int:
        """How many nodes there are, this one included, as far as it has heard."""
        return 1 + len(self._other_nodes())

    def _other_nodes(self) -> list[NodeInfo]:
        now, patience = time.monotonic(), ANNOUNCE_MISSED * self.announce_period
        self._nodes = {uid: seen for uid, seen in self._nodes.items() if now - seen[0] < patience}
        return sorted((node for _, node in self._nodes.values()), key=lambda node: node.name)

    async def channels(self, pattern: str = "") -> dict[str, int]:
        """Channels with subscribers on any node, by name, with their number; `pattern` is a glob.

        A node that does not answer within half a second is left out.
        """
        self._last_question += 1
        question = _Question(self._channels_here(pattern), len(self._other_nodes()))
        self._questions[self._last_question] = question
        asked = WhichChannels(self._core.incarnation, self._last_question, pattern)
        try:
            if question.missing:
                self._broker.publish_control(_encode(asked))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        await question.complete.wait()
        finally:
            del self._questions[asked.number]
        return dict(question.counts)

    def _channels_here(self, pattern: str) -> Counter[str]:
        channels = self._core.hub.channels.values()
        return Counter(
            {
                channel.name: len(channel.subscribers)
                for channel in channels
                if channel.subscribers and (not pattern or fnmatchcase(channel.name, pattern))
            }
        )

    # --- between nodes -----------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Tell the other nodes of this one."""
        self._broker.publish_control(_encode(self._describe()))

    def received(self, message: bytes) -> None:
        """A control message of another node. Raises `msgspec.DecodeError` on what is none."""
        control = _decode(message)
        if isinstance(control, DisconnectUser):
            self._core.hub.disconnect_user(control.user, control.client, codes.Disconnect(control.code, control.reason))
        elif isinstance(control, EndSession):
            self._end_session_here(control.user, control.session)
        elif isinstance(control, UnsubscribeUser):
            self._core.hub.unsubscribe_user(control.user, control.channel, control.client, codes.UNSUBSCRIBED_BY_SERVER)
        elif isinstance(control, SubscribeUser):
            task = asyncio.get_running_loop().create_task(
                self._subscribe_here(control.user, control.channel, control.client)
            )
            self._tasks.add(task)
            task.add_done_callback(self._subscribed)
        elif isinstance(control, WhichChannels):
            answer = TheseChannels(control.asker, control.number, self._channels_here(control.pattern))
            self._broker.publish_control(_encode(answer))
        elif isinstance(control, TheseChannels):
            question = self._questions.get(control.number)
            if question is not None and control.asker == self._core.incarnation:
                question.answered(control.counts)
        elif isinstance(control, LinksChanged):
            self.on_links(control.codes)
        else:
            self._nodes[control.uid] = (time.monotonic(), control)

    def _subscribed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("a user could not be subscribed: %s", error)


class _Question:
    """Which channels there are: what is known so far, and from how many nodes an answer is missing."""

    def __init__(self, counts: Counter[str], missing: int) -> None:
        self.counts = counts
        self.missing = missing
        self.complete = asyncio.Event()

    def answered(self, counts: dict[str, int]) -> None:
        self.counts.update(counts)
        self.missing -= 1
        if self.missing == 0:
            self.complete.set()


def describe(core: Core, started_at: float) -> NodeInfo:
    """This node, now."""
    hub = core.hub
    subscriptions = sum(len(channel.subscribers) for channel in hub.channels.values())
    return NodeInfo(
        core.incarnation,
        core.node,
        VERSION,
        hub.num_connections,
        hub.num_users,
        len(hub.channels),
        subscriptions,
        int(core.clock() - started_at),
    )
