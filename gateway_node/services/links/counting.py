"""Clicks from the stream into PostgreSQL, each once.

A worker reads entries of the stream as a member of the group `workers`, stores them in one transaction with the ids of
their batches, and acknowledges them. One that dies leaves its entries unacknowledged; another takes them over after
`IDLE`. If they were stored already, the transaction finds their ids and adds nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway_node.services.links.clicks import STREAM, Batch, decode
from gateway_node.services.links.visitors import Visitors, agent_of
from storage.database import DatabaseUnavailable
from storage.links.clicks import ClickStore, Counted, Visit, VisitBatch

GROUP = "workers"
ENTRIES = 8  # in a transaction, each of at most 1,000 clicks
BLOCK = 2.0  # s that a worker waits for entries before it looks after the rest
IDLE = 5.0  # s without acknowledgement after which an entry is another worker's to take
LOOK = 5.0  # s between two looks for such entries
FORGET = 600.0  # s between two removals of ids of batches
PAUSE = 0.5  # s after a failure
TELL = 1.0  # s between two tellings of the owners
ANSWER = 5.0  # s that Redis has for an answer, beyond `BLOCK`

Entry = tuple[bytes, dict[bytes, bytes]]
_log = structlog.get_logger(__name__)


class Counting:
    """`me`: different from that of every other worker, and from this one's of an earlier life. `tell`: is given what
    was counted, at most once a second."""

    def __init__(
        self,
        url: str,
        store: ClickStore,
        visitors: Visitors,
        me: str,
        tell: Callable[[Sequence[Counted]], None] = lambda counted: None,
    ) -> None:
        self._redis = Redis.from_url(
            url, max_connections=2, retry=Retry(NoBackoff(), 0), socket_timeout=BLOCK + ANSWER, protocol=2
        )
        self._store = store
        self._visitors = visitors
        self._me = me
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._is_prepared = self._ended = False
        self._look_at = self._forget_at = self._tell_at = 0.0
        self._news: dict[str, Counted] = {}
        self.stored = 0  # clicks
        self.lost = 0  # entries that could not be read or stored
        self.backlog = 0  # entries that are not stored
        self.age = 0.0  # s, of the oldest of them

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="counting of clicks")

    async def stop(self) -> None:
        self._ended = True  # a cancellation can be lost: in the same turn as a timeout of the Redis client's it is one
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    async def _run(self) -> None:
        ready = False
        while not self._ended:
            try:
                if not ready:
                    await self._join()
                    ready = True
                await self.round()
            except ResponseError as error:
                ready = False  # NOGROUP: Redis has lost its data
                if "NOGROUP" not in str(error):
                    _log.warning("clicks.not_counted", error=str(error))
                    await asyncio.sleep(PAUSE)
            except (RedisError, OSError, TimeoutError, DatabaseUnavailable) as error:
                _log.warning("clicks.not_counted", error=str(error) or type(error).__name__)
                await asyncio.sleep(PAUSE)
            except Exception:
                _log.exception("clicks.counting_failed")
                await asyncio.sleep(PAUSE)

    async def _join(self) -> None:
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def round(self) -> None:
        """Take over what others left, store what is new. Raises what can go wrong."""
        now = time.monotonic()
        if now >= self._look_at:
            await self._look()
            self._look_at = now + LOOK
        block = max(1, round((TELL if self._news else BLOCK) * 1000))
        found: Any = await self._redis.xreadgroup(GROUP, self._me, {STREAM: ">"}, count=ENTRIES, block=block)
        for _, entries in found:
            await self._take(entries)
        if self._news and time.monotonic() >= self._tell_at:
            news, self._news = self._news, {}
            self._tell(list(news.values()))
            self._tell_at = time.monotonic() + TELL

    async def _look(self) -> None:
        """After what is not acknowledged: of the dead, and of oneself when PostgreSQL was away."""
        start = "0-0"
        while True:
            start, entries, *_ = await self._redis.xautoclaim(
                STREAM, GROUP, self._me, round(IDLE * 1000), start_id=start, count=ENTRIES
            )
            if entries:
                await self._take(entries)
            if start in ("0-0", b"0-0"):
                break
        self.backlog = await self._redis.xlen(STREAM)
        oldest: Any = await self._redis.xrange(STREAM, count=1) if self.backlog else []
        moment = _moment(oldest[0][0]) if oldest else datetime.now(UTC)
        self.age = max(0.0, (datetime.now(UTC) - moment).total_seconds()) if oldest else 0.0
        if time.monotonic() >= self._forget_at:
            await self._store.forget_batches(moment)
            self._forget_at = time.monotonic() + FORGET
            for name in [each["name"] for each in await self._redis.xinfo_consumers(STREAM, GROUP) if _is_gone(each)]:
                await self._redis.xgroup_delconsumer(STREAM, GROUP, name)

    async def _take(self, entries: Sequence[Entry]) -> None:
        if not self._is_prepared:
            await asyncio.to_thread(self._visitors.prepare)
            self._is_prepared = True
        batches, ids = [], [id for id, _ in entries]
        for id, fields in entries:
            try:
                batches.append(await self._described(id, decode(fields[b"batch"])))
            except (msgspec.DecodeError, KeyError, TypeError, ValueError, OverflowError, OSError):
                self.lost += 1
                _log.error("clicks.unreadable", entry=id.decode())
        try:
            counted = await self._store.store(batches)
        except (asyncpg.PostgresError, ValueError, OverflowError):
            if len(entries) > 1:  # one of them: it must not hold up the others
                for entry in entries:
                    await self._take([entry])
                return
            self.lost += 1
            _log.exception("clicks.not_storable", entry=ids[0].decode())
            counted = []
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.xack(STREAM, GROUP, *ids)
            pipeline.xdel(STREAM, *ids)
            await pipeline.execute()
        for each in counted:
            self.stored += each.new_clicks + each.new_bots
            before = self._news.get(each.code)
            self._news[each.code] = each if before is None else each.after(before)

    async def _described(self, id: bytes, batch: Batch) -> VisitBatch:
        visits = []
        for number, click in enumerate(batch.clicks):
            if number % 100 == 99:
                await asyncio.sleep(0)  # a node has connections to look after: 100 take 1 ms
            text = click.agent.decode("utf-8", "replace").replace("\0", "")
            visitor = self._visitors.describe(click.address, click.referrer, text, click.early)
            agent = visitor.agent
            visits.append(
                Visit(
                    *(click.code, datetime.fromtimestamp(click.at, UTC), visitor.address, text, visitor.country),
                    *(visitor.referrer, agent.browser, agent.system, agent.device, agent.bot),
                )
            )
        return VisitBatch(UUID(bytes=batch.id), _moment(id), visits)


def judge(agent: str, early: bool) -> tuple[str, str, str, str | None]:
    """For `ClickStore.recount`."""
    found = agent_of(agent)
    return found._replace(bot="prefetch") if early else found


def _moment(id: bytes) -> datetime:
    """The time in the id of an entry."""
    return datetime.fromtimestamp(int(id.partition(b"-")[0]) / 1000, UTC)


def _is_gone(consumer: dict[str, Any]) -> bool:
    """Of a worker that ended an hour ago and owes nothing."""
    return not consumer["pending"] and consumer["idle"] > 3_600_000
