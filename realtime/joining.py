"""Joining channels: subscribe and recover, so that nothing falls between two steps. docs/messaging.md has the order.

Whoever joins owns a hold on the channel from the beginning; `join` reads and asks what is needed, `go_live` writes the
reply and what was held in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from realtime import codec, codes
from realtime.channel import Channel, Hold
from realtime.core import CONNECTED, ENDED, ClientLimits, Core
from realtime.hub import Hub
from realtime.interfaces import Grant
from realtime.messages import stamped
from realtime.protocol import ClientInfo, Publication, Push, SubscribePush, SubscribeRequest, SubscribeResult

if TYPE_CHECKING:
    from realtime.client import ClientConnection

MAX_TRIES = 3  # for somebody who is removed and added again faster than the log is read


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

    @property
    def revoked(self) -> bool:
        """Whether the user was removed since membership was asked for."""
        return self.hold.revoked_at > self.head

    def abandon(self) -> None:
        self.hub.drop_hold(self.channel, self.hold)


class Allowance:
    """What the subscriptions of one command may recover together: a reply is at most half an outbox."""

    def __init__(self, limits: ClientLimits) -> None:
        self.limit = limits.recovery  # publications
        self.max_bytes = limits.outbox // 2

    def take(self, publications: Sequence[Publication]) -> bool:
        """False, and nothing is taken, when they are too many."""
        size = sum(len(bytes(each.data)) for each in publications)
        # A single one is as large as it is: it was sent in a frame, so it fits.
        if len(publications) > self.limit or (size > self.max_bytes and len(publications) > 1):
            return False
        self.limit -= len(publications)
        self.max_bytes -= min(size, self.max_bytes)
        return True


async def join(
    connection: ClientConnection,
    channel: Channel,
    hold: Hold,
    request: SubscribeRequest,
    allowance: Allowance,
    *,
    grant: Grant | None = None,
    since: int | None = None,
) -> Joining:
    """Subscribe at the broker, read, authorise: in this order. The hold is dropped when it fails.

    Membership of rooms is asked only after the head is read (`grant` is `None`): a removal up to the head is known to
    the answer, and one beyond it is an event that the hold sees. `since`: recover from this offset, whatever the
    request says.
    """
    core = connection.core
    try:
        await core.hub.join_broker(channel)
        result, head, grant = await _read_and_ask(connection, channel, request, allowance, grant=grant, since=since)
        hold.check(head)
    except BaseException:
        core.hub.drop_hold(channel, hold)
        raise
    result.expires = grant.expires_at > 0
    result.ttl = ttl(core, grant.expires_at)
    if grant.pair is not None:
        channel.pair = grant.pair
    return Joining(channel, hold, result, head, request, grant, core.hub)


async def _read_and_ask(
    connection: ClientConnection,
    channel: Channel,
    request: SubscribeRequest,
    allowance: Allowance,
    *,
    grant: Grant | None,
    since: int | None,
) -> tuple[SubscribeResult, int, Grant]:
    core = connection.core
    for _ in range(MAX_TRIES):
        result, head = await _recover(connection, channel, request, allowance, since)
        found = grant or await core.authoriser.subscribe(connection.identity, channel.name, request.token)
        if found.since <= head:
            return result, head, found
        # They came in beyond the head: a removal before that, which this node would be told next, is history.
        await core.hub.reach(channel, found.since)
    raise codes.INTERNAL.saying("membership changes too fast")


async def _recover(
    connection: ClientConnection,
    channel: Channel,
    request: SubscribeRequest,
    allowance: Allowance,
    since: int | None,
) -> tuple[SubscribeResult, int]:
    """What the client missed, all or nothing, and the head that the reply names."""
    options = channel.options
    result = SubscribeResult()
    if not options.durable:
        return result, 0
    recoverable = options.force_recovery or (request.recoverable and options.allow_recovery)
    positioned = options.force_positioning or (request.positioned and options.allow_positioning)
    after, epoch = since, ""
    if since is None and request.recover and (recoverable or options.allow_recovery):
        after, epoch = request.offset, request.epoch
    page = await connection.core.hub.read_position(channel, after, allowance.limit, allowance.max_bytes)
    result.recoverable = recoverable
    result.positioned = positioned
    if recoverable or positioned or after is not None:
        result.epoch = page.head.epoch
        result.offset = page.head.offset
    result.was_recovering = request.recover
    if after is not None:
        complete = page.head.offset - after == len(page.publications)
        result.recovered = (
            complete and (since is not None or epoch == page.head.epoch) and allowance.take(page.publications)
        )
        if result.recovered and page.publications:
            result.publications = [stamped(options, each) for each in page.publications]
    return result, page.head.offset


async def subscribe_by_server(connection: ClientConnection, name: str, *, since: int | None = None) -> None:
    """Subscribe a live connection on the server's decision, and tell it so. `since`: only a member, and with what was
    said since that offset."""
    core = connection.core
    options = core.namespaces.require(name)
    if connection.channel(name) is not None or connection.phase != CONNECTED:
        return
    channel, hold = core.hub.hold(name, options, connection.user)
    grant = Grant() if since is None else None
    request = SubscribeRequest(channel=name)
    joining = await join(connection, channel, hold, request, Allowance(core.limits), grant=grant, since=since)
    if connection.phase == ENDED or connection.channel(name) is not None:
        joining.abandon()
        return
    result = joining.result
    # Membership was asked for again after reading: they may have been out and in.
    offset = joining.grant.since if since is not None and result.recovered else result.offset
    push = SubscribePush(result.recoverable, result.epoch, offset, result.positioned)
    pushes = [codec.encode_push(Push(name, subscribe=push))]
    pushes += [codec.encode_publication(name, each) for each in result.publications or () if each.offset > offset]
    go_live(connection, [joining], pushes, given=True)


def go_live(connection: ClientConnection, joinings: Sequence[Joining], first: Sequence[bytes], *, given: bool) -> None:
    """The reply (or pushes) `first`, then what was held: one step, so that nothing comes between.

    `given`: the server subscribes, not the client. What the server gave, a client may take over: presence stays, and
    nobody is told that somebody came.
    """
    core = connection.core
    payloads = list(first)
    fresh = []
    for joining in joinings:
        channel, grant = joining.channel, joining.grant
        if connection.channel(channel.name) is None:
            fresh.append(joining)
        else:
            core.hub.withdraw(connection, channel)
        if grant.info or grant.expires_at:
            connection.grants = connection.grants or {}
            connection.grants[channel.name] = grant
        elif connection.grants:
            connection.grants.pop(channel.name, None)
        payloads += core.hub.release(connection, channel, joining.hold, joining.head)
    connection.add([joining.channel for joining in joinings], given=given)
    connection.send_text(b"\n".join(payloads))
    for joining in fresh:
        channel = joining.channel
        info = connection.info_in(channel.name)
        if channel.options.presence:
            core.presence.join(channel.name, info)
        presence_changed(core, channel, info, joined=True)
    for joining in joinings:
        channel = joining.channel
        if channel.options.force_push_join_leave or joining.request.join_leave:
            core.hub.listen(connection, channel)


def presence_changed(core: Core, channel: Channel, info: ClientInfo, *, joined: bool) -> None:
    """Tell of a join or leave: who it was, or in a crowd how many there are now."""
    if channel.announces:
        core.publisher.presence_changed(channel.name, info, joined=joined)
    elif channel.options.join_leave:
        core.hub.on_crowd(channel.name)


def ttl(core: Core, expires_at: int) -> int:
    """Seconds until then, as a reply tells them; 0: for ever."""
    return max(int(expires_at - core.clock()), 1) if expires_at else 0
