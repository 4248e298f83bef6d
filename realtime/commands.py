"""The commands of the protocol, one function each.

Functions that must wait are coroutines; they write their own reply, because a subscribe reply and the publications
that follow it must reach the connection in one step. They raise `CommandError` to refuse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from realtime import codec, codes
from realtime.channel import Channel, Hold
from realtime.core import CONNECTED, ENDED, VERSION, Core
from realtime.hub import Hub
from realtime.interfaces import Grant, Identity, MessageLog
from realtime.messages import names_something, stamped
from realtime.namespaces import MAX_CHANNEL_LENGTH, ChannelOptions
from realtime.protocol import (
    EMPTY,
    Command,
    ConnectRequest,
    ConnectResult,
    HistoryRequest,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    Publication,
    PublishRequest,
    Push,
    RefreshRequest,
    RefreshResult,
    Reply,
    RPCRequest,
    RPCResult,
    StreamPosition,
    SubRefreshRequest,
    SubRefreshResult,
    SubscribePush,
    SubscribeRequest,
    SubscribeResult,
    raw,
)

if TYPE_CHECKING:
    from realtime.client import ClientConnection


def start(connection: ClientConnection, command: Command) -> Coroutine[Any, Any, None] | None:
    """Begin a command that a connected client sent; `None` when it is answered already."""
    number = command.id
    if command.publish is not None:
        return publish(connection, number, command.publish)
    if command.subscribe is not None:
        return subscribe(connection, number, command.subscribe)
    if command.unsubscribe is not None:
        connection.remove(command.unsubscribe.channel)
        connection.reply(Reply(number, unsubscribe=EMPTY))
        return None
    if command.history is not None:
        return history(connection, number, command.history)
    if command.rpc is not None:
        return rpc(connection, number, command.rpc)
    if command.presence is not None:
        return presence(connection, number, command.presence.channel)
    if command.presence_stats is not None:
        return presence_stats(connection, number, command.presence_stats.channel)
    if command.refresh is not None:
        return refresh(connection, number, command.refresh)
    if command.sub_refresh is not None:
        return sub_refresh(connection, number, command.sub_refresh)
    if command.ping is not None:
        connection.reply(Reply(number, ping=EMPTY))
        return None
    connection.refuse(number, codes.METHOD_NOT_FOUND())
    return None


# --- connecting ------------------------------------------------------------------------------------------------


def personal_channel(user: str) -> str:
    return f"user:{user}"


def is_server_side(connection: ClientConnection, channel: str) -> bool:
    """Whether the server subscribed the connection, not the client."""
    identity = connection.identity
    return channel in identity.channels or (identity.user != "" and channel == personal_channel(identity.user))


async def connect(connection: ClientConnection, number: int, request: ConnectRequest) -> None:
    """Who is it, and what is it subscribed to by the server: the personal channel and the token's channels."""
    core = connection.core
    if core.draining:
        raise codes.DisconnectError(codes.SHUTDOWN)
    identity = await core.authoriser.connect(request.token)
    if len(personal_channel(identity.user).encode()) > MAX_CHANNEL_LENGTH:
        raise codes.DisconnectError(codes.INVALID_TOKEN)
    if _too_many_connections(core, identity.user):
        raise codes.DisconnectError(codes.CONNECTION_LIMIT)
    connection.identity = identity
    names = dict.fromkeys(identity.channels)
    if identity.user:
        names[personal_channel(identity.user)] = None
    asked = request.subs or {}
    wanted = []
    for name in names:
        options = core.namespaces.options(name)
        if options is not None:
            wanted.append((name, options, asked.get(name) or SubscribeRequest(channel=name)))
    joinings = await _all_that_may(
        [
            _join(connection, name, options, each, None if options.messages else Grant())
            for name, options, each in wanted
        ]
    )
    too_many = _too_many_connections(core, identity.user)  # others may have come while this one waited
    if connection.phase == ENDED or core.draining or too_many:
        for joining in joinings:
            joining.abandon()
        if core.draining or too_many:
            raise codes.DisconnectError(codes.SHUTDOWN if core.draining else codes.CONNECTION_LIMIT)
        return
    connection.client = core.new_client_id()
    connection.phase = CONNECTED
    core.hub.add_connection(connection)
    expires = identity.expires_at
    result = ConnectResult(
        client=connection.client,
        version=VERSION,
        expires=expires > 0,
        ttl=_ttl(connection, expires),
        subs={joining.channel.name: joining.result for joining in joinings} or None,
        ping=core.limits.ping_interval,
        pong=True,
        node=core.node,
    )
    _go_live(connection, joinings, codec.encode_reply(Reply(number, connect=result)))


def _too_many_connections(core: Core, user: str) -> bool:
    most = core.limits.connections_per_user
    return bool(most and user) and len(core.hub.connections_of(user)) >= most


async def _all_that_may(joinings: list[Coroutine[Any, Any, Joining]]) -> list[Joining]:
    """All but the rooms that the user was removed from meanwhile; none at all when one fails for another reason."""
    results = await asyncio.gather(*joinings, return_exceptions=True)
    joined = [result for result in results if isinstance(result, Joining)]
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, codes.PERMISSION_DENIED):
            for joining in joined:
                joining.abandon()
            raise result
    for joining in joined:
        if joining.hold.revoked:  # while the others were read
            joining.abandon()
    return [joining for joining in joined if not joining.hold.revoked]


def _ttl(connection: ClientConnection, expires_at: int) -> int:
    return max(int(expires_at - connection.core.clock()), 1) if expires_at else 0


# --- subscribing -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Joining:
    """A subscription that is ready to go live: everything up to `head` is in `result`, the rest is held."""

    channel: Channel
    hold: Hold
    result: SubscribeResult
    head: int
    request: SubscribeRequest
    grant: Grant
    hub: Hub

    def abandon(self) -> None:
        self.hub.drop_hold(self.channel, self.hold)


async def subscribe(connection: ClientConnection, number: int, request: SubscribeRequest) -> None:
    core, name = connection.core, request.channel
    options = connection.core.namespaces.require(name)
    if connection.channel(name) is not None:
        raise codes.ALREADY_SUBSCRIBED
    if core.limits.channels and len(connection.channels) >= core.limits.channels:
        raise codes.LIMIT_EXCEEDED.saying(f"more than {core.limits.channels} channels")
    grant = None
    if not options.messages:
        grant = await core.authoriser.subscribe(connection.identity, name, request.token)
    joining = await _join(connection, name, options, request, grant)
    if connection.phase == ENDED:
        joining.abandon()
        return
    if connection.channel(name) is not None:  # the server was faster
        joining.abandon()
        raise codes.ALREADY_SUBSCRIBED
    _go_live(connection, [joining], codec.encode_reply(Reply(number, subscribe=joining.result)))


async def subscribe_by_server(connection: ClientConnection, name: str) -> None:
    """Subscribe a live connection on the server's decision, and tell it so."""
    if connection.channel(name) is not None or connection.phase != CONNECTED:
        return
    joining = await _join(
        connection, name, connection.core.namespaces.require(name), SubscribeRequest(channel=name), Grant()
    )
    if connection.phase == ENDED or connection.channel(name) is not None:
        joining.abandon()
        return
    connection.identity = replace(connection.identity, channels=(*connection.identity.channels, name))
    result = joining.result
    push = SubscribePush(result.recoverable, result.epoch, result.offset, result.positioned)
    _go_live(connection, [joining], codec.encode_push(Push(name, subscribe=push)))


async def _join(
    connection: ClientConnection,
    name: str,
    options: ChannelOptions,
    request: SubscribeRequest,
    grant: Grant | None,
) -> Joining:
    """Hold, subscribe at the broker, read, authorise: in this order nothing falls between two of them.

    Membership of rooms is asked only after the head is read (`grant` is `None`): a removal up to the head is known to
    the answer, and one beyond it is an event that the hold sees.
    """
    core = connection.core
    hub = core.hub
    channel, hold = hub.hold(name, options, connection.user)
    try:
        await hub.join_broker(channel)
        result = SubscribeResult()
        head = 0
        if options.durable:
            head = await _recover(connection, channel, options, request, result)
        if grant is None:
            grant = await core.authoriser.subscribe(connection.identity, name, request.token)
        result.expires = grant.expires_at > 0
        result.ttl = _ttl(connection, grant.expires_at)
        hold.check()
    except BaseException:
        hub.drop_hold(channel, hold)
        raise
    return Joining(channel, hold, result, head, request, grant, hub)


async def _recover(
    connection: ClientConnection,
    channel: Channel,
    options: ChannelOptions,
    request: SubscribeRequest,
    result: SubscribeResult,
) -> int:
    """Fill in what the client missed, all or nothing. Returns the head that the reply names."""
    limits = connection.core.limits
    recoverable = options.force_recovery or (request.recoverable and options.allow_recovery)
    positioned = options.force_positioning or (request.positioned and options.allow_positioning)
    recover = request.recover and (recoverable or options.allow_recovery)
    page = await connection.core.hub.read_position(
        channel, request.offset if recover else None, limits.recovery, limits.outbox // 2
    )
    result.recoverable = recoverable
    result.positioned = positioned
    if recoverable or positioned or recover:
        result.epoch = page.head.epoch
        result.offset = page.head.offset
    if request.recover:
        result.was_recovering = True
        missed = page.head.offset - request.offset
        result.recovered = recover and request.epoch == page.head.epoch and missed == len(page.publications)
        if result.recovered and page.publications:
            result.publications = [stamped(options, each) for each in page.publications]
    return page.head.offset


def _go_live(connection: ClientConnection, joinings: list[Joining], first: bytes) -> None:
    """The reply (or push) `first`, then what was held: one step, so that nothing comes between."""
    core = connection.core
    payloads = [first]
    for joining in joinings:
        channel, grant = joining.channel, joining.grant
        connection.channels += (channel,)
        if grant.info or grant.expires_at:
            connection.grants = connection.grants or {}
            connection.grants[channel.name] = grant
        payloads += core.hub.release(connection, channel, joining.hold, joining.head)
    connection.send_text(b"\n".join(payloads))
    for joining in joinings:
        channel = joining.channel
        info = connection.info_in(channel.name)
        if channel.options.presence:
            core.presence.join(channel.name, info)
        if announces(channel):
            core.publisher.presence_changed(channel.name, info, joined=True)
            if channel.options.force_push_join_leave or joining.request.join_leave:
                core.hub.listen(connection, channel)


def announces(channel: Channel) -> bool:
    """Whether joins and leaves are pushed: in big rooms they would cost the square of their size."""
    options = channel.options
    most = options.join_leave_limit
    return options.join_leave and not (most and len(channel.subscribers) > most)


async def sub_refresh(connection: ClientConnection, number: int, request: SubRefreshRequest) -> None:
    if connection.channel(request.channel) is None:
        raise codes.PERMISSION_DENIED
    grant = await connection.core.authoriser.subscribe(connection.identity, request.channel, request.token)
    if connection.channel(request.channel) is not None:
        connection.grants = connection.grants or {}
        connection.grants[request.channel] = grant
    expires = grant.expires_at
    connection.reply(Reply(number, sub_refresh=SubRefreshResult(expires=expires > 0, ttl=_ttl(connection, expires))))


async def refresh(connection: ClientConnection, number: int, request: RefreshRequest) -> None:
    """A new token for the same user: never another user, never an anonymous one."""
    identity: Identity = await connection.core.authoriser.connect(request.token)
    if identity.user != connection.user:
        raise codes.DisconnectError(codes.INVALID_TOKEN)
    # What the server subscribed at the connect, or since, stays the server's.
    connection.identity = replace(identity, channels=connection.identity.channels)
    expires = identity.expires_at
    result = RefreshResult(connection.client, VERSION, expires > 0, _ttl(connection, expires))
    connection.reply(Reply(number, refresh=result))


# --- publishing and reading ------------------------------------------------------------------------------------


def is_looked_up(request: PublishRequest) -> bool:
    """Whether the message names something that is looked up before it is stored: nothing behind it may overtake it."""
    return request.channel.startswith(("room:", "class:")) and names_something(bytes(request.data))


async def publish(connection: ClientConnection, number: int, request: PublishRequest) -> None:
    core, name = connection.core, request.channel
    options = connection.core.namespaces.require(name)
    data = bytes(request.data)
    if not data:
        raise codes.BAD_REQUEST.saying("a publication needs data")
    if not await core.authoriser.may_publish(connection.identity, name, connection.channel(name) is not None):
        raise codes.PERMISSION_DENIED
    began = time.perf_counter()
    await core.publisher.publish(
        name,
        options,
        data,
        sender=connection.user,
        info=connection.info_in(name),
        acknowledge=lambda: connection.reply(Reply(number, publish=EMPTY)),
    )
    core.counters.publishes += 1
    core.observe_publish(time.perf_counter() - began)


async def history(connection: ClientConnection, number: int, request: HistoryRequest) -> None:
    core, name = connection.core, request.channel
    options = connection.core.namespaces.require(name)
    if not await core.authoriser.may_read_history(connection.identity, name, connection.channel(name) is not None):
        raise codes.PERMISSION_DENIED
    limits = core.limits
    page = await read_history(core.log, name, options, request, most=limits.history, max_bytes=limits.outbox // 2)
    connection.reply(Reply(number, history=page))


async def read_history(
    log: MessageLog, name: str, options: ChannelOptions, request: HistoryRequest, *, most: int, max_bytes: int
) -> HistoryResult:
    """A page of a channel's history: at most `most` publications in about `max_bytes`, but one at least.

    Raises error 108 without history, 112 for a position of another epoch.
    """
    if not options.durable:
        raise codes.NOT_AVAILABLE
    limit = most if request.limit < 0 else min(request.limit, most)
    since: StreamPosition | None = request.since
    if request.reverse:
        page = await log.read_back(name, since.offset if since else None, limit, max_bytes)
    else:
        page = await log.read(name, since.offset if since else 0, limit, max_bytes)
    if since is not None and since.epoch and since.epoch != page.head.epoch:
        raise codes.UNRECOVERABLE_POSITION
    publications: list[Publication] = [stamped(options, each) for each in page.publications]
    return HistoryResult(publications, page.head.epoch, page.head.offset)


async def presence(connection: ClientConnection, number: int, name: str) -> None:
    await _check_presence(connection, name)
    members = await connection.core.presence.members(name)
    connection.reply(Reply(number, presence=PresenceResult({each.client: each for each in members})))


async def presence_stats(connection: ClientConnection, number: int, name: str) -> None:
    await _check_presence(connection, name)
    stats = await connection.core.presence.stats(name)
    result = PresenceStatsResult(stats.num_clients, stats.num_users)
    connection.reply(Reply(number, presence_stats=result))


async def _check_presence(connection: ClientConnection, name: str) -> None:
    options = connection.core.namespaces.require(name)
    subscribed = connection.channel(name) is not None
    if not await connection.core.authoriser.may_see_presence(connection.identity, name, subscribed):
        raise codes.PERMISSION_DENIED
    if not options.presence:
        raise codes.NOT_AVAILABLE


async def rpc(connection: ClientConnection, number: int, request: RPCRequest) -> None:
    method = connection.core.rpc.get(request.method)
    if method is None:
        raise codes.METHOD_NOT_FOUND
    answer = await method(connection.identity, bytes(request.data) or b"{}")
    connection.reply(Reply(number, rpc=RPCResult(raw(answer))))
