"""The commands of the protocol, one function each.

Functions that must wait are coroutines; they write their own reply, because a subscribe reply and the publications
that follow it must reach the connection in one step. They raise `CommandError` to refuse.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from realtime import codec, codes, membership
from realtime.channel import Channel, Hold
from realtime.core import CONNECTED, ENDED, VERSION, Core
from realtime.interfaces import Grant, Identity, MessageLog
from realtime.joining import Allowance, Joiner, Joining, go_live, join, join_all, prepare, ttl
from realtime.membership import personal_channel
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
    RefreshRequest,
    RefreshResult,
    Reply,
    RPCRequest,
    RPCResult,
    StreamPosition,
    SubRefreshRequest,
    SubRefreshResult,
    SubscribeRequest,
    raw,
)

if TYPE_CHECKING:
    from realtime.client import ClientConnection

MOST_CHANNELS = 1000  # that the server subscribes a connection to, where nothing else limits them


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


async def connect(connection: ClientConnection, number: int, request: ConnectRequest) -> None:
    """Who is it, and what does the server subscribe it to: the token's channels, the personal one, the rooms."""
    core = connection.core
    _check(core)
    most = core.limits.channels or MOST_CHANNELS
    admission = await core.authoriser.admit(request.token, most)
    identity = admission.identity
    personal = personal_channel(identity.user) if identity.user else ""
    if len(personal.encode()) > MAX_CHANNEL_LENGTH:
        raise codes.DisconnectError(codes.INVALID_TOKEN)
    _check(core, identity.user)
    connection.identity = identity
    names = dict.fromkeys(filter(None, (*identity.channels, personal)))
    for room in admission.rooms:
        if len(names) < most:
            names[room] = None
    joinings = await _join_all(connection, names, request.subs or {})
    try:
        changes = await _said_since(core, joinings, personal, admission.heard)
        _check(core, identity.user, joinings)
    except BaseException:
        for joining in joinings:
            joining.abandon()
        raise
    for joining in joinings:
        if joining.revoked or connection.phase == ENDED:
            joining.abandon()
    if connection.phase == ENDED:
        return
    joinings = [joining for joining in joinings if not joining.revoked]
    connection.client = core.new_client_id()
    connection.phase = CONNECTED
    core.hub.add_connection(connection)
    expires = identity.expires_at
    result = ConnectResult(
        client=connection.client,
        version=VERSION,
        expires=expires > 0,
        ttl=ttl(core, expires),
        subs={joining.channel.name: joining.result for joining in joinings} or None,
        ping=core.limits.ping_interval,
        pong=True,
        node=core.node,
    )
    go_live(connection, joinings, [codec.encode_reply(Reply(number, connect=result))], given=True)
    for joining in joinings:
        if joining.channel.name == personal:
            changes += [each for each in joining.hold.tagged or () if each.offset > joining.head]
    for change in changes:
        membership.changed(connection, change)


def _check(core: Core, user: str = "", joinings: Iterable[Joining] = ()) -> None:
    """What may change while a client waits: others come, or the node goes."""
    if core.draining:
        raise codes.DisconnectError(codes.SHUTDOWN)
    most = core.limits.connections_per_user
    if most and user and len(core.hub.connections_of(user)) >= most:
        raise codes.DisconnectError(codes.CONNECTION_LIMIT)
    if any(joining.hold.overflown for joining in joinings):
        raise codes.INTERNAL.saying("too much was published meanwhile")


async def _join_all(
    connection: ClientConnection, names: Iterable[str], asked: Mapping[str, SubscribeRequest]
) -> list[Joining]:
    """All but the rooms that the user was removed from meanwhile; none at all when one fails for another reason."""
    core = connection.core
    joiners = []
    for name in names:
        options = core.namespaces.options(name)
        if options is not None:
            channel, hold = core.hub.hold(name, options, connection.user)
            request = asked.get(name) or SubscribeRequest(channel=name)
            joiners.append(Joiner(channel, hold, request, None if options.messages else Grant()))
    results = await join_all(connection, joiners, Allowance(core.limits))
    joined = [result for result in results if isinstance(result, Joining)]
    for result in results:
        if isinstance(result, codes.CommandError) and not isinstance(result, codes.PERMISSION_DENIED):
            for joining in joined:
                joining.abandon()
            raise result
    return joined


async def _said_since(core: Core, joinings: Iterable[Joining], personal: str, heard: int | None) -> list[Publication]:
    """What the personal channel said after the rooms were listed and up to the head of the subscription: nobody was
    there to act on it."""
    head = next((joining.head for joining in joinings if joining.channel.name == personal), 0)
    if heard is None or head <= heard:
        return []
    page = await core.log.read(personal, heard, head - heard)
    if len(page.publications) < head - heard:
        raise codes.INTERNAL.saying("too much was published meanwhile")
    return list(page.publications)


# --- subscribing -----------------------------------------------------------------------------------------------


async def subscribe(connection: ClientConnection, number: int, request: SubscribeRequest) -> None:
    """Join a channel, or take over what the server subscribed: pushes stop until the reply, which covers them."""
    core, name = connection.core, request.channel
    options = core.namespaces.require(name)
    given = connection.is_given(name)
    if not given and connection.channel(name) is not None:
        raise codes.ALREADY_SUBSCRIBED
    if not given and core.limits.channels and len(connection.channels) >= core.limits.channels:
        raise codes.LIMIT_EXCEEDED.saying(f"more than {core.limits.channels} channels")
    grant = None
    if not options.messages:
        grant = await core.authoriser.subscribe(connection.identity, name, request.token)
    if options.followed:
        await prepare(core, name)
    channel, hold = core.hub.hold(name, options, connection.user)
    rest = core.hub.suspend(connection, channel) if connection.channel(name) is not None else None
    try:
        joining = await join(connection, Joiner(channel, hold, request, grant), Allowance(core.limits))
    except BaseException as error:
        if rest is not None:
            _give_back(connection, channel, rest, error)
        raise
    if rest is not None:
        core.hub.drop_hold(channel, rest, close=False)
    if connection.phase == ENDED:
        joining.abandon()
        return
    if channel.follower is not None:
        joining.result.data = raw(channel.follower.greeting(connection.user))
    go_live(connection, [joining], [codec.encode_reply(Reply(number, subscribe=joining.result))], given=False)


def _give_back(connection: ClientConnection, channel: Channel, rest: Hold, error: BaseException) -> None:
    """After a takeover that failed: the server's subscription goes on as if nobody had asked, unless it is over."""
    hub, name = connection.core.hub, channel.name
    if connection.channel(name) is None:  # it ended meanwhile
        hub.drop_hold(channel, rest)
    elif isinstance(error, codes.PERMISSION_DENIED):
        hub.drop_hold(channel, rest, close=False)
        connection.unsubscribe_by_server(name, codes.UNSUBSCRIBED_BY_SERVER)
    elif rest.overflown:
        hub.drop_hold(channel, rest, close=False)
        connection.lose_position(name)
    else:
        pushes = hub.release(connection, channel, rest, 0)
        if pushes:
            connection.send_text(b"\n".join(pushes))


async def sub_refresh(connection: ClientConnection, number: int, request: SubRefreshRequest) -> None:
    if connection.channel(request.channel) is None:
        raise codes.PERMISSION_DENIED
    grant = await connection.core.authoriser.subscribe(connection.identity, request.channel, request.token)
    if connection.channel(request.channel) is not None:
        connection.grants = connection.grants or {}
        connection.grants[request.channel] = grant
    expires = grant.expires_at
    connection.reply(
        Reply(number, sub_refresh=SubRefreshResult(expires=expires > 0, ttl=ttl(connection.core, expires)))
    )


async def refresh(connection: ClientConnection, number: int, request: RefreshRequest) -> None:
    """A new token for the same user: never another user, never an anonymous one."""
    identity: Identity = await connection.core.authoriser.connect(request.token)
    if identity.user != connection.user:
        raise codes.DisconnectError(codes.INVALID_TOKEN)
    connection.identity = identity
    expires = identity.expires_at
    result = RefreshResult(connection.client, VERSION, expires > 0, ttl(connection.core, expires))
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
    channel = connection.channel(name)
    if not await core.authoriser.may_publish(connection.identity, name, channel is not None):
        raise codes.PERMISSION_DENIED
    began = time.perf_counter()
    if options.followed and core.followed is not None:
        await core.followed.say(connection.identity, name, data, connection.info_in(name))
        connection.acknowledge(number)
        core.counters.publishes += 1
        core.observe_publish(time.perf_counter() - began)
        return
    await core.publisher.publish(
        name,
        options,
        data,
        sender=connection.user,
        to=channel.other(connection.user) if channel is not None else "",
        info=connection.info_in(name),
        acknowledge=lambda: connection.acknowledge(number),
    )
    core.counters.publishes += 1
    core.observe_publish(time.perf_counter() - began)


async def history(connection: ClientConnection, number: int, request: HistoryRequest) -> None:
    core, name = connection.core, request.channel
    options = connection.core.namespaces.require(name)
    channel = connection.channel(name)
    if not await core.authoriser.may_read_history(connection.identity, name, channel is not None):
        raise codes.PERMISSION_DENIED
    limits = core.limits
    page = await read_history(core.log, name, options, request, most=limits.history, max_bytes=limits.outbox // 2)
    if channel is not None and channel.follower is not None and page.publications:
        # What the follower has not come to, it would show as it was sent, accepted or not.
        await core.hub.reach(channel, max(each.offset for each in page.publications))
        page.publications = [channel.follower.show(each) for each in page.publications]
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
    members = await connection.core.crowds.members(name)
    connection.reply(Reply(number, presence=PresenceResult({each.client: each for each in members})))


async def presence_stats(connection: ClientConnection, number: int, name: str) -> None:
    await _check_presence(connection, name)
    stats = await connection.core.crowds.stats(name)
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
    caller = replace(connection.identity, client=connection.client)
    answer = await method(caller, bytes(request.data) or b"{}")
    connection.reply(Reply(number, rpc=RPCResult(raw(answer))))
