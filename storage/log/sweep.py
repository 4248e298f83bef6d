"""The sweep: which channels changed since the last look.

NATS carries publications and may lose them; the sweep tells the nodes each second where the log stands, and a node that
is behind reads. So a lost publication is a second late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import structlog

from storage.database import TROUBLE, explain, settings_of
from storage.log.wire import Head, Heads
from storage.queries import load

PERIOD = 1.0  # seconds
TIMEOUT = 10.0  # seconds for one look
LONGEST_REACH = 600 * 1_000_000  # microseconds: what a node missed before that it finds when it reads

_QUERIES = load("sweep")

_log = structlog.get_logger("log_writer")


class Sweep:
    """Looks every `PERIOD` seconds while `wanted()` and hands what changed to `found`.

    A look goes back behind the previous one by `overlap` seconds, the longest that an append may take between its
    `created_at` and its commit (the statement timeout).
    """

    def __init__(
        self,
        database_url: str,
        wanted: Callable[[], bool],
        found: Callable[[Heads], None],
        *,
        overlap: float,
        statement_cache_size: int = 100,
    ) -> None:
        self._url = database_url
        self._wanted = wanted
        self._found = found
        self._overlap = round(overlap * 1_000_000)
        self._statement_cache_size = statement_cache_size
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._until = 0
        self._told: dict[str, tuple[int, str]] = {}

    def reach_back(self, seen: int) -> None:
        """A node that has just connected knows nothing after `seen` (0: it has nothing to miss)."""
        if 0 < seen < self._until or (seen and not self._until):
            self._until = seen
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
        """Hand over the channels whose heads are not known from the previous look."""
        if self._connection is None:
            self._connection = await asyncpg.connect(
                self._url,
                timeout=TIMEOUT,
                statement_cache_size=self._statement_cache_size,
                server_settings=settings_of(TIMEOUT, self._statement_cache_size),
            )
        before = self._until
        rows = await self._connection.fetch(
            _QUERIES["heads"], before - self._overlap if before else None, LONGEST_REACH, timeout=TIMEOUT
        )
        heads, told = [], {}
        until = before
        for now, generation, channel, epoch, offset in rows:
            until = now
            if channel is None:
                continue
            place = (offset, f"{generation}.{epoch}")
            told[channel] = place
            if self._told.get(channel) != place:
                heads.append(Head(channel, *place))
        if self._until == before:  # no node has asked to reach further back meanwhile
            self._until, self._told = until, told
        self._found(Heads(until, heads))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
