"""Joining channels: subscribe and recover, so that nothing falls between two steps. docs/messaging.md has the order.

Whoever joins owns a hold on the channel from the beginning; `join` reads and asks what is needed, `go_live` writes the
reply and what was held in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from realtime import codec, codes
from realtime.channel import Channel, Hold
from realtime.core import CONNECTED, ENDED, ClientLimits, Core
from realtime.hub import Hub
from realtime.interfaces import Grant, Page
from realtime.protocol import ClientInfo, Publication, Push, SubscribePush, SubscribeRequest, SubscribeResult, raw

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


@dataclass(slots=True)
class Joiner:
    """A subscriber that is held, on its way into a channel. `grant`: `None` where membership decides."""

    channel: Channel
    hold: Hold
    request: SubscribeRequest
    grant: Grant | None = None


async def join(
    connection: ClientConnection, joiner: Joiner, allowance: Allowance, *, since: int | None = None
) -> Joining:
    """As `join_all`, of one channel. Raises what refuses it."""
    result = (await join_all(connection, [joiner], allowance, since=since))[0]
    if isinstance(result, codes.CommandError):
        raise result
    return result


async def join_all(
    connection: ClientConnection, joiners: Sequence[Joiner], allowance: Allowance, *, since: int | None = None
) -> list[Joining | codes.CommandError]:
    """Subscribe at the broker, read, authorise: in this order, each for all channels at once.

    The holds of those that are refused are dropped, and all of them when it fails. Membership of rooms is asked only
    after the heads are read: a removal up to the head is known to the answer, and one beyond it is an event that the
    hold sees. `since`: recover from this offset, whatever the request says.
    """
    core = connection.core
    try:
        await core.hub.join_broker(joiner.channel for joiner in joiners)
        results: dict[int, Joining | codes.CommandError] = {}
        left = list(range(len(joiners)))
        for _ in range(MAX_TRIES):
            tried = await _read_and_ask(connection, [joiners[i] for i in left], allowance, since)
            results.update(zip(left, tried, strict=True))
            left = [i for i in left if _is_ahead(results[i])]
            if not left:
                break
            for i in left:
                # They came in beyond the head: a removal before that, which this node would be told next, is history.
                await core.hub.reach(joiners[i].channel, cast(Joining, results[i]).grant.since)
        for i in left:
            results[i] = codes.INTERNAL.saying("membership changes too fast")
        return [_settled(joiner, results[i], core) for i, joiner in enumerate(joiners)]
    except BaseException:
        for joiner in joiners:
            core.hub.drop_hold(joiner.channel, joiner.hold)
        raise


async def _read_and_ask(
    connection: ClientConnection, joiners: Sequence[Joiner], allowance: Allowance, since: int | None
) -> list[Joining | codes.CommandError]:
    hub, authoriser = connection.core.hub, connection.core.authoriser
    afters = [_recovers_from(joiner, since) for joiner in joiners]
    wanted = [(joiner.channel, after) for joiner, after in zip(joiners, afters, strict=True)]
    durable = [each for each in wanted if each[0].options.durable]
    read = iter(await hub.read_positions(durable, allowance.limit, allowance.max_bytes))
    pages = [next(read) if joiner.channel.options.durable else None for joiner in joiners]
    asked = [joiner for joiner in joiners if joiner.grant is None]
    found = iter(
        await authoriser.subscribe_all(connection.identity, [(each.channel.name, each.request.token) for each in asked])
        if asked
        else ()
    )
    results: list[Joining | codes.CommandError] = []
    for joiner, after, page in zip(joiners, afters, pages, strict=True):
        grant = joiner.grant or next(found)
        if isinstance(grant, codes.CommandError):
            results.append(grant)
            continue
        result = _result(joiner, after, page, allowance, sure=since is not None)
        head = page.head.offset if page is not None else 0
        results.append(Joining(joiner.channel, joiner.hold, result, head, joiner.request, grant, hub))
    return results


def _is_ahead(result: Joining | codes.CommandError) -> bool:
    return isinstance(result, Joining) and result.grant.since > result.head


def _settled(joiner: Joiner, result: Joining | codes.CommandError, core: Core) -> Joining | codes.CommandError:
    """The subscription as it may go live; dropped where it is refused, or the user was removed meanwhile."""
    if isinstance(result, Joining):
        try:
            joiner.hold.check(result.head)
        except codes.PERMISSION_DENIED as error:
            result = error
    if isinstance(result, codes.CommandError):
        core.hub.drop_hold(joiner.channel, joiner.hold)
        return result
    grant = result.grant
    result.result.expires = grant.expires_at > 0
    result.result.ttl = ttl(core, grant.expires_at)
    if grant.pair is not None:
        joiner.channel.pair = grant.pair
    return result


def _recovers_from(joiner: Joiner, since: int | None) -> int | None:
    """The offset after which the subscriber wants what it missed; `None`: it does not recover."""
    request, options = joiner.request, joiner.channel.options
    if since is None and request.recover:
        recoverable = options.force_recovery or (request.recoverable and options.allow_recovery)
        return request.offset if recoverable or options.allow_recovery else None
    return since


def _result(
    joiner: Joiner, after: int | None, page: Page | None, allowance: Allowance, *, sure: bool
) -> SubscribeResult:
    """What the client missed, all or nothing, and the head that the reply names. `sure`: whatever the epoch."""
    request, options = joiner.request, joiner.channel.options
    result = SubscribeResult()
    if page is None:
        return result
    result.recoverable = options.force_recovery or (request.recoverable and options.allow_recovery)
    result.positioned = options.force_positioning or (request.positioned and options.allow_positioning)
    if result.recoverable or result.positioned or after is not None:
        result.epoch = page.head.epoch
        result.offset = page.head.offset
    result.was_recovering = request.recover
    if after is not None:
        complete = page.head.offset - after == len(page.publications)
        result.recovered = complete and (sure or request.epoch == page.head.epoch) and allowance.take(page.publications)
        if result.recovered and page.publications:
            result.publications = [joiner.channel.shown(each) for each in page.publications]
    return result


async def subscribe_by_server(connection: ClientConnection, name: str, *, since: int | None = None) -> None:
    """Subscribe a live connection on the server's decision, and tell it so. `since`: only a member, and with what was
    said since that offset."""
    core = connection.core
    options = core.namespaces.require(name)
    if connection.channel(name) is not None or connection.phase != CONNECTED:
        return
    if options.followed:
        await prepare(core, name)
    channel, hold = core.hub.hold(name, options, connection.user)
    grant = Grant() if since is None else None
    request = SubscribeRequest(channel=name)
    joiner = Joiner(channel, hold, request, grant)
    joining = await join(connection, joiner, Allowance(core.limits), since=since)
    if connection.phase == ENDED or connection.channel(name) is not None:
        joining.abandon()
        return
    result = joining.result
    # Membership was asked for again after reading: they may have been out and in.
    offset = joining.grant.since if since is not None and result.recovered else result.offset
    push = SubscribePush(result.recoverable, result.epoch, offset, result.positioned)
    if channel.follower is not None:
        push.data = raw(channel.follower.greeting(connection.user))
    pushes = [codec.encode_push(Push(name, subscribe=push))]
    pushes += [codec.encode_publication(name, each) for each in result.publications or () if each.offset > offset]
    go_live(connection, [joining], pushes, given=True)


async def prepare(core: Core, name: str) -> None:
    """Have the channel followed, before anybody is held in it: what they are told goes through the follower.

    Raises error 108 where nothing follows it.
    """
    if core.followed is None:
        raise codes.NOT_AVAILABLE
    await core.followed.prepare(name)


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
