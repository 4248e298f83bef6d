"""The hub: which connection is subscribed to what on this node, and the one pump from a channel to its clients.

PostgreSQL knows the truth, the broker carries it, and whatever the broker loses is read from the log: a gap is held
for 50 ms (publications of two nodes cross), then filled by one read, however many subscribers wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import Future
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from realtime import codec, codes
from realtime.channel import FOR_GOOD, Channel, Hold, Sequence
from realtime.fanout import Fanout
from realtime.interfaces import (
    Broker,
    BrokerUnavailable,
    Follower,
    LogUnavailable,
    MessageLog,
    Page,
    PresenceStore,
    Span,
)
from realtime.messages import stamped
from realtime.namespaces import ChannelOptions
from realtime.protocol import ClientInfo, Publication, StreamPosition

if TYPE_CHECKING:
    from realtime.client import ClientConnection

logger = logging.getLogger("chalkwire.hub")

GAP_PATIENCE = 0.05  # s a publication that is ahead waits for those before it
REPAIR_PAGE = 1000  # publications read at once
REPAIR_BYTES = 256 * 1024  # of data read at once: all readers get it in one go, and none may choke on it
RETRY_FIRST, RETRY_MOST = 0.2, 5.0  # s between attempts while the log is away


@dataclass(slots=True)
class HubCounters:
    """Plain numbers for the metrics: the hot path touches nothing dearer."""

    gaps_repaired: int = 0
    insufficient_states: int = 0


class Hub:
    """Channels with local subscribers, and users with local connections."""

    def __init__(
        self,
        *,
        log: MessageLog,
        broker: Broker,
        presence: PresenceStore,
        compress: bool = False,
        after_slices: Callable[[], None] = lambda: None,
    ) -> None:
        self.log = log
        self.broker = broker
        self.presence = presence
        self.channels: dict[str, Channel] = {}
        self.counters = HubCounters()
        self.fanout = Fanout(compress=compress, after_slices=after_slices)
        # Membership changes ride on tags of the log; what comes and goes in a crowd is counted, not announced.
        self.on_tagged: Callable[[str, Publication], None] = lambda channel, publication: None
        self.on_crowd: Callable[[str], None] = lambda channel: None
        self.num_connections = 0
        self._users: dict[str, ClientConnection | set[ClientConnection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals: tuple[list[Channel], list[Future[None]]] | None = None  # of this turn

    # --- connections -------------------------------------------------------------------------------------------

    def add_connection(self, connection: ClientConnection) -> None:
        self.num_connections += 1
        user = connection.user
        present = self._users.get(user)
        if present is None:
            self._users[user] = connection  # one device is the usual case: a set would cost 216 bytes
        elif isinstance(present, set):
            present.add(connection)
        else:
            self._users[user] = {present, connection}
        self.presence.connected(user, connection.client)

    def remove_connection(self, connection: ClientConnection) -> None:
        self.num_connections -= 1
        user = connection.user
        present = self._users.get(user)
        if isinstance(present, set):
            present.discard(connection)
            if not present:
                del self._users[user]
        elif present is connection:
            del self._users[user]
        self.presence.disconnected(user, connection.client)

    def connections_of(self, user: str, client: str = "") -> list[ClientConnection]:
        """The user's connections on this node; with `client`, that one alone."""
        present = self._users.get(user)
        if present is None:
            return []
        connections = list(present) if isinstance(present, set) else [present]
        return [each for each in connections if each.client == client] if client else connections

    @property
    def num_users(self) -> int:
        return len(self._users)

    # --- the roster, for a presence store that lost its data -----------------------------------------------------

    def present(self) -> Iterator[tuple[str, ClientInfo]]:
        for channel in list(self.channels.values()):
            if channel.options.presence:
                for connection in list(channel.subscribers):
                    yield channel.name, connection.info_in(channel.name)

    def online(self) -> Iterator[tuple[str, str]]:
        for user, present in list(self._users.items()):
            for connection in list(present) if isinstance(present, set) else (present,):
                yield user, connection.client

    # --- subscribing (docs/messaging.md has the order) -----------------------------------------------------------

    def hold(self, name: str, options: ChannelOptions, user: str) -> tuple[Channel, Hold]:
        """Register a subscriber that does not get anything yet, but misses nothing from now on."""
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel(name, options)
        hold = Hold(user)
        if channel.holds is None:
            channel.holds = []
        channel.holds.append(hold)
        return channel, hold

    async def join_broker(self, channels: Iterable[Channel]) -> None:
        """Return when the broker delivers the channels to this node. Without a broker the sweep delivers them."""
        waits: list[Future[None]] = []
        last: list[Future[None]] | None = None
        for channel in channels:
            if channel.on_broker:
                continue
            if channel.joining is None:
                channel.joining = self._join_soon(channel)
            if channel.joining is not last:
                last = channel.joining
                waits.append(asyncio.get_running_loop().create_future())
                last.append(waits[-1])
        for wait in waits:
            await wait

    def _join_soon(self, channel: Channel) -> list[Future[None]]:
        """Subscribe with the other channels of this turn of the loop. Returns where those stand who wait for it."""
        if self._arrivals is None:
            self._arrivals = ([], [])
            asyncio.get_running_loop().call_soon(self._join_arrivals)
        channels, waiters = self._arrivals
        channels.append(channel)
        return waiters

    def _join_arrivals(self) -> None:
        assert self._arrivals is not None
        arrivals, self._arrivals = self._arrivals, None
        self.spawn(self._join_broker(*arrivals))

    async def _join_broker(self, channels: list[Channel], waiters: list[Future[None]]) -> None:
        try:
            wanted = [each for each in channels if self.channels.get(each.name) is each]  # not given up meanwhile
            with contextlib.suppress(BrokerUnavailable):
                await self.broker.subscribe(*[each.name for each in wanted])
            for channel in wanted:
                channel.on_broker = True
        finally:
            for channel in channels:
                channel.joining = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def read_positions(self, wanted: list[tuple[Channel, int | None]], limit: int, max_bytes: int) -> list[Page]:
        """For each channel: what a subscriber missed after an offset, and the head that its reply will name.

        No read where the node is at that position already: a class of 10,000 costs one read, not 10,000.

        Raises:
            LogUnavailable: a head is not known and cannot be read now.
        """
        pages: dict[int, Page] = {}
        while len(pages) < len(wanted):
            missing: list[tuple[int, bool]] = []
            spans: list[Span] = []
            for i, (channel, after) in enumerate(wanted):
                if i in pages:
                    continue
                if channel.position is not None and (after is None or after == channel.position):
                    pages[i] = Page([], StreamPosition(channel.position, channel.epoch))
                else:
                    missing.append((i, channel.position is not None))
                    spans.append(Span(channel.name, after or 0, 0 if after is None else limit, max_bytes))
            read = await self.log.read_all(spans) if spans else ()
            for (i, known), page in zip(missing, read, strict=True):
                if await self._take(wanted[i][0], page, known=known):
                    pages[i] = page
        return [pages[i] for i in range(len(wanted))]

    async def _take(self, channel: Channel, page: Page, *, known: bool) -> bool:
        """Bring the channel to where the page ends. `known`: its position was, when the page was asked for.

        False where the channel began meanwhile with a later snapshot than this one: what lies between went to nobody.
        """
        if not known and channel.position is not None and channel.position > page.head.offset:
            return False
        if channel.position is not None and page.head.epoch != channel.epoch:
            self._lose_position(channel)
        if channel.position is None:
            for publication in channel.start(page.head.offset, page.head.epoch):
                self._deliver(channel, publication)
        for publication in page.publications:
            self._accept(channel, publication, page.head.epoch)
        # The reply covers all up to the head, so the others must have got that before this one goes live.
        while channel.position is not None and channel.position < page.head.offset:
            await self._catch_up(channel)
        return True

    async def reach(self, channel: Channel, offset: int) -> None:
        """Deliver what the log has, where this node has not come as far as `offset` yet.

        Raises:
            LogUnavailable: it cannot be read now.
        """
        if channel.position is not None and channel.position < offset:
            await self._catch_up(channel)

    def release(self, connection: ClientConnection, channel: Channel, hold: Hold, head: int) -> list[bytes]:
        """Make the held subscriber a live one. Returns the pushes that follow its reply."""
        self.drop_hold(channel, hold, close=False)
        self.fanout.flush(channel)  # what is pending was held, too: not twice
        channel.add(connection)
        return hold.above(head)

    def suspend(self, connection: ClientConnection, channel: Channel) -> Hold:
        """Hold back a live subscriber from here on; `release` with head 0 lets it go on as if nothing had been."""
        self.fanout.flush(channel)
        channel.suspend(connection)
        return self.hold(channel.name, channel.options, connection.user)[1]

    def withdraw(self, connection: ClientConnection, channel: Channel) -> None:
        """Take back what is still to be written to a subscriber: a reply says it instead."""
        self.fanout.flush(channel)
        channel.suspend(connection)
        self.fanout.withdraw(channel, connection)

    def drop_hold(self, channel: Channel, hold: Hold, *, close: bool = True) -> None:
        if channel.holds is not None:
            with contextlib.suppress(ValueError):
                channel.holds.remove(hold)
            if not channel.holds:
                channel.holds = None
        if close:
            self._close_if_unused(channel)

    def follow(self, name: str, options: ChannelOptions, follower: Follower) -> Channel:
        """Keep the channel on this node, and let its publications go through the follower."""
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = Channel(name, options)
        channel.follower = follower
        return channel

    def unfollow(self, channel: Channel) -> None:
        channel.follower = None
        self._close_if_unused(channel)

    def unsubscribe(self, connection: ClientConnection, channel: Channel) -> None:
        channel.discard(connection)
        if channel.follower is not None:
            channel.follower.left(connection.user, connection.client)
        self._close_if_unused(channel)

    def listen(self, connection: ClientConnection, channel: Channel) -> None:
        """Send the connection the joins and leaves of the channel."""
        if channel.listeners is None:
            channel.listeners = set()
        channel.listeners.add(connection)

    def _close_if_unused(self, channel: Channel) -> None:
        if channel.unused and self.channels.get(channel.name) is channel:
            del self.channels[channel.name]
            self.broker.unsubscribe(channel.name)

    # --- delivering --------------------------------------------------------------------------------------------

    def publish(self, name: str, publication: Publication, epoch: str = "") -> None:
        """A publication of this node or of another: to the local subscribers, in the order of the log."""
        channel = self.channels.get(name)
        if channel is None:
            return
        if publication.offset == 0 or not channel.options.durable:
            self._push(channel, 0, publication)
        else:
            self._accept(channel, publication, epoch)

    def publish_join(self, name: str, info: ClientInfo, *, joined: bool) -> None:
        """A join or leave, to those local subscribers that asked for them."""
        channel = self.channels.get(name)
        if channel is None:
            return
        if not channel.announces:
            if channel.options.join_leave:
                self.on_crowd(name)
            return
        # In a direct room that is how one sees the other come and go.
        listeners = channel.subscribers if channel.pair else channel.listeners or ()
        readers = [each for each in listeners if each.client != info.client]
        if readers:
            push = codec.encode_join(name, info) if joined else codec.encode_leave(name, info)
            self.fanout.send(channel, [push], readers)

    def _accept(self, channel: Channel, publication: Publication, epoch: str) -> None:
        place = channel.place(publication.offset, epoch)
        if place is Sequence.NEXT:
            channel.position = publication.offset
            self._deliver(channel, publication)
            for following in channel.take_ahead():
                self._deliver(channel, following)
        elif place is Sequence.AHEAD:
            channel.keep(publication)
            self._expect(channel, publication.offset)
        elif place is Sequence.OTHER_EPOCH:
            self._lose_position(channel)

    def _deliver(self, channel: Channel, publication: Publication) -> None:
        follower = channel.follower
        self._push(channel, publication.offset, follower.take(publication) if follower else publication)
        if follower is not None:
            follower.act(publication)
        if publication.tags:
            for hold in channel.holds or ():
                hold.note(publication)
            self.on_tagged(channel.name, publication)

    def _push(self, channel: Channel, offset: int, publication: Publication) -> None:
        push = codec.encode_publication(channel.name, stamped(channel.options, publication))
        if channel.holds:
            for hold in channel.holds:
                hold.add(offset, push)
        if channel.subscribers:
            self.fanout.add(channel, push)

    # --- repairing ---------------------------------------------------------------------------------------------

    def on_heads(self, heads: Mapping[str, StreamPosition]) -> None:
        """The sweep's news: channels that changed lately. Those that are behind here fetch what they miss."""
        for name, head in heads.items():
            channel = self.channels.get(name)
            if channel is None:
                continue
            if channel.position is not None and head.epoch != channel.epoch:
                self._lose_position(channel)
            elif channel.position is None or head.offset > channel.position:
                self._expect(channel, head.offset)

    def _expect(self, channel: Channel, offset: int) -> None:
        """The log has come as far as `offset`: look a little later whether this node has, too.

        Nobody says it a second time (the sweep tells a head once), so it is kept while the head is still being read.
        """
        if not channel.expected:
            self._look_later(channel)
        channel.expected = max(channel.expected, offset)

    def _look_later(self, channel: Channel) -> None:
        asyncio.get_running_loop().call_later(GAP_PATIENCE, self._repair_if_behind, channel)

    def _repair_if_behind(self, channel: Channel) -> None:
        if self.channels.get(channel.name) is not channel:
            return
        if channel.position is None:
            self._look_later(channel)
            return
        expected, channel.expected = channel.expected, 0
        if expected > channel.position:  # else what was missing came by itself
            self.spawn(self._repair(channel))

    async def _repair(self, channel: Channel) -> None:
        delay = RETRY_FIRST
        while self.channels.get(channel.name) is channel:
            try:
                await self._catch_up(channel)
            except LogUnavailable:
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST)
            else:
                return

    async def _catch_up(self, channel: Channel) -> None:
        """Read and deliver what follows the position, up to the head: one read, however many wait for it."""
        if channel.repair is None:
            channel.repair = self.spawn(self._read_missing(channel))
        await asyncio.shield(channel.repair)

    async def _read_missing(self, channel: Channel) -> None:
        try:
            while channel.position is not None:
                page = await self.log.read(channel.name, channel.position, REPAIR_PAGE, REPAIR_BYTES)
                before = channel.position
                if before is None:
                    return
                if page.head.epoch != channel.epoch or page.first > before + 1:
                    self._lose_position(channel)
                    return
                for publication in page.publications:
                    self._accept(channel, publication, page.head.epoch)
                if channel.position is None:
                    return
                self.counters.gaps_repaired += channel.position - before
                if channel.position >= page.head.offset:
                    return
                if channel.position == before:
                    self._lose_position(channel)  # a hole that the log cannot fill: it expired meanwhile
                    return
        finally:
            channel.repair = None

    def _lose_position(self, channel: Channel) -> None:
        """The log cannot say what the subscribers missed: they come back and ask with their own positions."""
        self.counters.insufficient_states += 1
        channel.forget_position()
        if channel.follower is not None:
            channel.follower.lost()
        for hold in channel.holds or ():
            hold.overflown = True
        for connection in list(channel.subscribers):
            connection.lose_position(channel.name)

    # --- tasks -------------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until it ends or the hub is closed; a failure is logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, LogUnavailable):
            logger.error("hub task failed", exc_info=error)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- reactions to server-side acts ----------------------------------------------------------------------------

    def unsubscribe_user(
        self, user: str, name: str, client: str, reason: codes.Unsubscribe, offset: int = FOR_GOOD
    ) -> None:
        """End a user's subscriptions, and those that are under way; `offset` is where the log says so, if it does."""
        for connection in self.connections_of(user, client):
            connection.unsubscribe_by_server(name, reason)
        channel = self.channels.get(name)
        for hold in (channel.holds if channel else None) or ():
            if hold.user == user:
                hold.revoked_at = max(hold.revoked_at, offset)

    def disconnect_user(self, user: str, client: str, disconnect: codes.Disconnect) -> None:
        for connection in self.connections_of(user, client):
            connection.end(disconnect)
