"""Presence in Redis: one task that writes, one that reads, one that cleans up after nodes that died.

A node owns a lease, and writes only while it holds it. Whatever goes wrong (Redis away, full, restarted, emptied; this
node stalled until others took it for dead), there is one remedy: take the lease, then compare the roster with Redis.
Until that is done, who is present is unknown, and callers are told so at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from asyncio import Future, Task
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from math import ceil

from presence import keys, scripts
from presence.changes import Changes
from presence.comparison import compare
from presence.link import BATCH, Away, Link, Patience, call, online
from presence.reader import Reader
from presence.reaper import reap, withdraw
from realtime.interfaces import PresenceStats, PresenceUnavailable, Roster
from realtime.protocol import ClientInfo

log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
RENEWALS = 4  # in the time of a lease: a dead node is found at most a quarter of it after the lease ended
TTL_SECONDS = 300  # of a channel's hash and a user's mark
REFRESHES = 3  # of each key in its time to live
NODE_TTL_SECONDS = 900  # of the node's sets: they outlive what they list
NODES_TTL_SECONDS = 3600
TICK_SECONDS = 0.01  # after a change until it is written: what changes meanwhile goes along
PERIOD_SECONDS = 0.1  # between two writes: 54 nodes that each wrote a hundred times a second would take a core
COMPARED_A_SECOND = 4000  # connections, so that 54 nodes do not fill a new Redis in one burst
TIMEOUT_SECONDS = 1.0  # for an answer to a question
# Writes wait for this share of the lease: on a machine that is out of CPU for seconds (one message to a million
# readers) a timeout would not say that Redis is away, and what follows it, a comparison by every node, would take the
# CPU that is missing. Less than half, see `_steady_since`.
WRITE_PATIENCE = 0.4
RETRY_SECONDS = (0.05, 1.0)  # first and longest pause after a failure: shorter than half a lease, see `_steady_since`
STOP_SECONDS = 5.0
DEAD_AT_ONCE = 64

_NODE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class RedisPresence:
    """Implements `realtime.interfaces.PresenceStore`.

    `node` is the incarnation of this process: client ids are `<node>.<anything>`. `roster` is asked what this node
    holds whenever Redis may not know it. `on_leave(channel, info)` is called for each connection of a dead node, once
    among all nodes. `on_offline(user)` is called for each user whose last device went, by the node that took the mark
    away: once among all nodes, and for the users of dead nodes as well. `lease` in seconds: after it, a silent node is
    dead. `timeout` in seconds bounds every question; a write may take 0.4 of the lease.
    """

    def __init__(
        self,
        url: str,
        node: str,
        roster: Roster,
        on_leave: Callable[[str, ClientInfo], None],
        *,
        on_offline: Callable[[str], None] = lambda user: None,
        lease: float = LEASE_SECONDS,
        ttl: int = TTL_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        if not _NODE.fullmatch(node):
            raise ValueError(f"{node!r} is no name of a node: letters, digits, _ and - are")
        self._node = node
        self._roster = roster
        self._on_leave = on_leave
        self._lease = lease
        self._timeout = timeout
        self._ttl = ttl
        patience = max(timeout, WRITE_PATIENCE * lease)
        self._writing = Link(url, patience, on_offline)
        self._reading = Link(url, timeout)
        self._reaping = Link(url, patience, on_offline)
        self._changes = Changes(node, ttl)
        self._reader = Reader(self._reading, self._flushed_soon, self._look)

        self._tasks: list[Task[None]] = []
        self._reaper: Task[None] | None = None
        self._wake = asyncio.Event()
        self._asked = asyncio.Event()  # somebody waits for what was changed to be written
        self._flushed_at = 0.0
        self._waiters: list[Future[None]] = []
        self._flushing = False
        self._trouble = "not connected yet"
        self._registered = False  # once
        self._server = ""  # the run of the Redis server that we wrote to
        self._renew_at = 0.0
        self._steady_since = 0.0  # whoever lives has renewed its lease half a lease later
        self._comparison: AsyncGenerator[int, None] | None = None
        self._compare_at = 0.0
        self._due_channels: list[str] = []  # to be kept alive, the last one next
        self._due_users: list[str] = []

    # --- changes -----------------------------------------------------------------------------------------------

    def join(self, channel: str, info: ClientInfo) -> None:
        self._changes.join(channel, info)
        self._wake.set()

    def leave(self, channel: str, info: ClientInfo) -> None:
        self._changes.leave(channel, info.client)
        self._wake.set()

    def connected(self, user: str, client: str) -> None:
        """A user without an id is nobody in particular and never online."""
        if user:
            self._changes.connected(user)
            self._wake.set()

    def disconnected(self, user: str, client: str) -> None:
        if user:
            self._changes.disconnected(user)
            self._wake.set()

    # --- questions ---------------------------------------------------------------------------------------------

    @property
    def available(self) -> bool:
        return not self._trouble

    async def members(self, channel: str) -> list[ClientInfo]:
        """Who is in the channel on all nodes, in no order. Raises `PresenceUnavailable`."""
        if self._trouble:
            raise PresenceUnavailable(self._trouble)
        return await self._reader.members(channel)

    async def stats(self, channel: str) -> PresenceStats:
        """How many connections, and how many users behind them. Raises `PresenceUnavailable`."""
        members = await self.members(channel)
        return PresenceStats(len(members), len({info.user for info in members}))

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when this node is registered, or after the first attempt failed; further ones go on for ever."""
        settled = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._write(settled), name="presence writer"),
            asyncio.create_task(self._reader.run(), name="presence reader"),
        ]
        await settled.wait()

    async def stop(self) -> None:
        """Write what is pending, remove this node's entries, disconnect; at most five seconds, and never raises.

        Where Redis is away, the other nodes do it when the lease ends.
        """
        answers = self.available or self._comparison is not None  # it can be written to while it is put together again
        try:
            async with asyncio.timeout(STOP_SECONDS):
                if answers:
                    with suppress(Away):
                        await self._flushed()
                await self._end_tasks()
                if answers:
                    await withdraw(self._writing, self._node, self._on_leave)
        except (Away, TimeoutError) as error:
            log.warning("presence: left to the other nodes: %s", error)
        await self._end_tasks()
        self._trouble = "stopped"
        self._give_up_waiters()
        self._reader.refuse_all(self._trouble)
        for link in (self._writing, self._reading, self._reaping):
            await link.close()

    async def _end_tasks(self) -> None:
        """Stop working, as at the end of the process."""
        tasks = [*self._tasks, *([self._reaper] if self._reaper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._comparison is not None:
            await self._comparison.aclose()
            self._comparison = None

    # --- writing -----------------------------------------------------------------------------------------------

    async def _write(self, settled: asyncio.Event) -> None:
        first, longest = RETRY_SECONDS
        longest = min(longest, self._lease / RENEWALS)
        pause = first
        while True:
            try:
                await self._writing.load_scripts()
                await self._renew()
                await self._steadily(settled)
            except Away as away:
                if not self._trouble:
                    pause = first
                self._fail(str(away))
            except Exception:
                log.exception("presence: starting over")
                self._fail("internal error")
            settled.set()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, longest)

    async def _steadily(self, settled: asyncio.Event) -> None:
        """Write changes, renew the lease, keep keys alive, until something fails."""
        loop = asyncio.get_running_loop()
        while True:
            if loop.time() >= self._renew_at:
                await self._renew()
            await self._flush()
            if self._comparison is not None and loop.time() >= self._compare_at:
                await self._compare_on()
            if self._comparison is None:
                settled.set()
            wake_at = self._renew_at if self._comparison is None else min(self._renew_at, self._compare_at)
            if not self._changes and not self._waiters:
                self._wake.clear()
                try:
                    async with asyncio.timeout_at(wake_at):
                        await self._wake.wait()
                except TimeoutError:
                    continue
            await self._gather(max(TICK_SECONDS, self._flushed_at + PERIOD_SECONDS - loop.time()))

    async def _gather(self, seconds: float) -> None:
        """Let changes come together, until somebody waits for them."""
        self._asked.clear()
        if not self._waiters:
            try:
                async with asyncio.timeout(seconds):
                    await self._asked.wait()
            except TimeoutError:
                pass

    async def _flush(self) -> None:
        """Write all changes of now. The lease is looked after in between, because a storm takes seconds."""
        waiters, self._waiters = self._waiters, []
        loop = asyncio.get_running_loop()
        self._flushing = True
        try:
            while self._changes:
                if loop.time() >= self._renew_at:
                    await self._renew()
                await self._writing.run(self._changes.take(BATCH, int(time.time())))
                self._flushed_at = loop.time()
        finally:
            self._flushing = False
            # After a failure they find `_trouble` when they wake.
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def _flushed(self) -> None:
        """Return when the changes of before are written. Raises `Away`."""
        if not self._changes and not self._flushing:
            return
        waiter: Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._asked.set()
        self._wake.set()
        await waiter
        if self._trouble:
            raise Away(self._trouble)

    async def _flushed_soon(self) -> None:
        """The same for a question, which has less time than a write. Raises `Away`."""
        try:
            async with Patience(self._timeout):
                await self._flushed()
        except TimeoutError:
            raise Away(f"no answer within {self._timeout:g} s") from None

    def _look(self) -> None:
        """A read failed: see at once whether Redis is there."""
        self._renew_at = 0.0
        self._wake.set()

    def _fail(self, reason: str) -> None:
        if not self._trouble:
            log.warning("presence: unknown from now on: %s", reason)
        self._trouble = reason
        self._changes.pause()
        self._comparison = None
        self._renew_at = 0.0
        self._give_up_waiters()

    def _give_up_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    # --- the lease ---------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Extend the lease, keep keys alive, see who died. Raises `Away`, also while we are taken for dead."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        lease_ms = int(self._lease * 1000)
        names = (keys.NODES, keys.reaper(self._node))
        renewed, server, _, _ = await self._writing.run(
            [
                call(scripts.RENEW, names, self._node, lease_ms, NODES_TTL_SECONDS, DEAD_AT_ONCE),
                ("INFO", "server"),
                ("EXPIRE", keys.node_channels(self._node), NODE_TTL_SECONDS),
                ("EXPIRE", keys.node_users(self._node), NODE_TTL_SECONDS),
            ]
        )
        state = renewed[0].decode()
        if state == "held":
            raise Away("other nodes remove what they found of this one")
        self._renew_at = now + self._lease / RENEWALS
        missed_something = state != "kept" or server["run_id"] != self._server
        self._server = server["run_id"]
        if missed_something or (self._trouble and self._comparison is None):
            self._steady_since = now
            self._begin_comparison(quiet=state == "new" and self._registered)
        self._registered = True
        if self._comparison is None:
            await self._refresh()
        dead = [name.decode() for name in renewed[1]]
        if dead and now - self._steady_since >= self._lease / 2 and (self._reaper is None or self._reaper.done()):
            self._reaper = asyncio.create_task(self._reap(dead, lease_ms), name="presence reaper")

    async def _reap(self, dead: list[str], lease_ms: int) -> None:
        try:
            await reap(self._reaping, self._node, dead, lease_ms, self._on_leave)
        except Away as away:
            log.warning("presence: cleaning up stopped: %s", away)

    async def _refresh(self) -> None:
        """Extend a part of this node's keys, so that each has its turn three times in its time to live."""
        share = self._lease / RENEWALS * REFRESHES / self._ttl
        if not self._due_channels:
            self._due_channels = list(self._changes.channels)
        if not self._due_users:
            self._due_users = list(self._changes.users)
        channels = _pop(self._due_channels, ceil(len(self._changes.channels) * share))
        users = _pop(self._due_users, ceil(len(self._changes.users) * share))
        channels = [channel for channel in channels if self._changes.is_settled(channel)]
        users = [user for user in users if self._changes.is_user_settled(user)]
        replies = await self._writing.run(
            [("EXPIRE", keys.members(channel), self._ttl) for channel in channels]
            + [online(user, self._node, self._ttl, quiet=True) for user in users]
        )
        if any(
            not there and self._changes.is_settled(channel) for channel, there in zip(channels, replies, strict=False)
        ):
            self._begin_comparison(quiet=True)  # somebody deleted a channel's key

    # --- the comparison ----------------------------------------------------------------------------------------

    def _begin_comparison(self, *, quiet: bool) -> None:
        self._trouble = self._trouble or "being put together again"
        self._comparison = compare(self._writing, self._node, self._ttl, self._changes, self._roster, quiet=quiet)
        self._compare_at = 0.0

    async def _compare_on(self) -> None:
        assert self._comparison is not None
        loop = asyncio.get_running_loop()
        try:
            size = await anext(self._comparison)
        except StopAsyncIteration:
            self._comparison = None
            if self._trouble:
                log.info("presence: known")
            self._trouble = ""
        else:
            self._compare_at = loop.time() + size / COMPARED_A_SECOND


def _pop(names: list[str], count: int) -> list[str]:
    start = max(len(names) - count, 0)
    popped = names[start:]
    del names[start:]
    return popped
