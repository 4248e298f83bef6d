"""The sweep: which channels changed since the last look.

NATS carries publications and may lose them; the sweep tells the nodes each second where the log stands, and a node that
is behind reads. So a lost publication is a second late.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import asyncpg
import structlog

from storage.database import TROUBLE, explain, settings_of
from storage.log.wire import Head, Heads
from storage.queries import load

PERIOD = 1.0  # seconds
TIMEOUT = 10.0  # seconds for one look
CLOCK_STEP = 250_000  # microseconds that the server's clock may be set back without hiding a row
FIRST_REACH = 10_000_000  # microseconds: what was in flight when the first node came
LONGEST_REACH = 600_000_000  # microseconds: beyond it, what a node missed it finds when it next reads the channel

_HEADS = load("sweep")["heads"]

_log = structlog.get_logger("log_writer")


class Horizon:
    """Up to when the looks so far have seen every row.

    A row's `created_at` is older than its commit, so a look misses what is in flight: transactions with an id of at
    least its snapshot's xmin. Each look takes an id of its own; where that is below xmin, all that is in flight began
    after that look. The time of the latest such look is the horizon: exact, where a fixed overlap would have to be as
    long as the longest transaction. (A snapshot's xmax does not serve: it may be below an id that is in flight.)
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int]] = deque()  # (time, transaction id), oldest first

    def add(self, now: int, xmin: int, own: int) -> int:
        """Take in a look; the horizon after it, in the unit of `now`. 0: there is none yet."""
        looks = self._looks
        looks.append((now, own))
        while len(looks) > 1 and (looks[1][1] < xmin or looks[0][0] < now - LONGEST_REACH):
            looks.popleft()
        return looks[0][0] if looks[0][1] < xmin else 0


class Sweep:
    """Looks every `PERIOD` seconds while `wanted()` and hands what changed to `found`."""

    def __init__(
        self,
        database_url: str,
        wanted: Callable[[], bool],
        found: Callable[[Heads], None],
        *,
        statement_cache_size: int = 100,
    ) -> None:
        self._url = database_url
        self._wanted = wanted
        self._found = found
        self._statement_cache_size = statement_cache_size
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._horizon = Horizon()
        self._complete_to = 0
        self._told: dict[str, Head] = {}

    def reach_back(self, seen: int) -> None:
        """A node that has just connected knows of nothing after `seen` (0: it has nothing to miss)."""
        if seen:
            self._complete_to = min(seen, self._complete_to or seen)
            self._horizon = Horizon()
            self._told = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            if not self._wanted():
                continue
            try:
                await self.look()
            except (asyncpg.PostgresError, *TROUBLE) as error:
                _log.warning("sweep_failed", reason=explain(error))
                self.close()

    async def look(self) -> None:
        """Hand over the channels whose heads the previous look did not tell."""
        if self._connection is None:
            self._connection = await asyncpg.connect(
                self._url,
                timeout=TIMEOUT,
                statement_cache_size=self._statement_cache_size,
                server_settings=settings_of(TIMEOUT, self._statement_cache_size),
            )
        horizon, since = self._horizon, self._complete_to
        rows = await self._connection.fetch(_HEADS, since or None, FIRST_REACH, LONGEST_REACH, CLOCK_STEP)
        now, xmin, own, generation = rows[0][:4]
        told = {
            channel: Head(channel, offset, f"{generation}.{epoch}")
            for *_, channel, epoch, offset in rows
            if channel is not None
        }
        news = [head for channel, head in told.items() if self._told.get(channel) != head]
        if horizon is self._horizon:  # no node has asked to reach further back meanwhile
            self._complete_to = horizon.add(now, xmin, own) or since or now - FIRST_REACH
            self._told = told
        self._found(Heads(self._complete_to, news))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
