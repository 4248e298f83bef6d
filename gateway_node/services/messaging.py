"""What the server API and other services do with channels and connections, on whichever node they are.

One's own node acts at once; the others are told over the broker's control subject. A control message that is lost
with the broker is repaired where that matters: removal from a room is a row of the room's log (see `rooms`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from msgspec import Struct

from realtime import codes
from realtime.commands import read_history
from realtime.core import VERSION, Core
from realtime.interfaces import Broker, PresenceStats, PresenceUnavailable
from realtime.namespaces import MAX_CHANNEL_LENGTH, ChannelOptions
from realtime.protocol import ClientInfo, HistoryRequest, HistoryResult, StreamPosition

ANNOUNCE_PERIOD = 5.0  # s between two announcements of a node
ANNOUNCE_TTL = 15.0  # s after which a node that says nothing is not listed


class DisconnectUser(Struct, tag="disconnect", array_like=True):
    user: str
    client: str
    code: int
    reason: str


class UnsubscribeUser(Struct, tag="unsubscribe", array_like=True):
    user: str
    channel: str
    client: str


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


Control = DisconnectUser | UnsubscribeUser | NodeInfo

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Control).decode


class Messaging:
    """Channels and connections, as services see them. Every method raises `CommandError` to refuse."""

    def __init__(self, core: Core, broker: Broker, describe: Callable[[], NodeInfo]) -> None:
        self._core = core
        self._broker = broker
        self._describe = describe
        self._nodes: dict[str, tuple[float, NodeInfo]] = {}

    def _options(self, channel: str) -> ChannelOptions:
        if not channel or len(channel.encode()) > MAX_CHANNEL_LENGTH:
            raise codes.BAD_REQUEST.saying(f"a channel name has 1 to {MAX_CHANNEL_LENGTH} bytes")
        options = self._core.namespaces.options(channel)
        if options is None:
            raise codes.UNKNOWN_CHANNEL
        return options

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
        return await read_history(self._core.log, channel, self._options(channel), request, self._core.limits.history)

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

    async def info(self) -> list[NodeInfo]:
        """Every node that has announced itself within 15 s, this one first."""
        now = time.monotonic()
        self._nodes = {uid: seen for uid, seen in self._nodes.items() if now - seen[0] < ANNOUNCE_TTL}
        others = sorted((node for _, node in self._nodes.values()), key=lambda node: node.name)
        return [self._describe(), *others]

    # --- between nodes -----------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Tell the other nodes of this one."""
        self._broker.publish_control(_encode(self._describe()))

    def received(self, message: bytes) -> None:
        """A control message of another node. Raises `msgspec.DecodeError` on what is none."""
        control = _decode(message)
        if isinstance(control, DisconnectUser):
            self._core.hub.disconnect_user(control.user, control.client, codes.Disconnect(control.code, control.reason))
        elif isinstance(control, UnsubscribeUser):
            self._core.hub.unsubscribe_user(control.user, control.channel, control.client, codes.UNSUBSCRIBED_BY_SERVER)
        else:
            self._nodes[control.uid] = (time.monotonic(), control)


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
