"""A lane of the log writer: one connection, one transaction in flight, batches of what waits.

An idle lane commits a message at once; a busy one takes with it what arrived during the previous commit, so a batch
grows with the load and there is no timer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import asyncpg
import structlog

from realtime.interfaces import Entry
from storage.database import TROUBLE, explain, settings_of
from storage.log.append import append_batch
from storage.log.wire import REJECTED, UNAVAILABLE, Outcome

MAX_ROWS = 500  # a batch: throughput no longer grows beyond it, and the wait of the last row does
MAX_BYTES = 1 << 20
RETRY_FOR = 2.0  # seconds that a batch of unknown outcome is tried again before its callers are told
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0  # seconds between attempts to reach PostgreSQL

DATA_ERRORS = (
    asyncpg.DataError,  # a NUL in a text; also what asyncpg cannot encode
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,  # an id that is none
)
"""The fault of a row: without that row, the rest of the batch can be stored."""

_log = structlog.get_logger("log_writer")


class Request:
    """An entry on its way, its size in bytes, and who hears of it: `told(outcome)`, with the node's own number."""

    __slots__ = ("_number", "_told", "entry", "size")

    def __init__(self, entry: Entry, size: int, number: int, told: Callable[[Outcome], None]) -> None:
        self.entry = entry
        self.size = size
        self._number = number
        self._told = told

    def reply(self, outcome: Outcome) -> None:
        outcome.number = self._number
        self._told(outcome)


class Lane:
    """Appends in the order of `add`. `flushed` is called after each batch, when its outcomes are all given."""

    def __init__(
        self,
        database_url: str,
        flushed: Callable[[], None],
        *,
        statement_cache_size: int = 100,
        statement_timeout: float = 2.0,
        max_queue_rows: int = 20_000,
        max_queue_bytes: int = 64 << 20,
    ) -> None:
        self._url = database_url
        self._flushed = flushed
        self._statement_cache_size = statement_cache_size
        self._statement_timeout = statement_timeout
        self._max_rows = max_queue_rows
        self._max_bytes = max_queue_bytes
        self._queue: deque[Request] = deque()
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._down: str = ""  # why PostgreSQL is known to be away; empty: it is not
        self._full = False  # whether the last batch found no room
        self._stopping = False
        self.first_attempt = asyncio.Event()  # set when the first connection is made or has failed

    def add(self, request: Request) -> None:
        """Queue the request, or answer at once where it has no chance."""
        if self._down:
            request.reply(Outcome(UNAVAILABLE, reason=self._down))
        elif len(self._queue) >= self._max_rows or self._queued_bytes >= self._max_bytes:
            request.reply(Outcome(UNAVAILABLE, reason="the log writer's queue is full"))
        else:
            self._queue.append(request)
            self._queued_bytes += request.size
            self._arrived.set()

    async def run(self) -> None:
        """Serve until `stop`, then return when nothing waits any more."""
        await self._connect_first()
        while True:
            if not self._queue:
                if self._stopping:
                    break
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = self._take()
            try:
                await self._store(batch)
            except Exception as error:  # nothing that a batch does may end the lane
                _log.exception("append_failed", rows=len(batch))
                self._fail(batch, explain(error))
            self._flushed()
            if self._down and not self._stopping:
                await self._wait_for_postgresql()
        self._disconnect()

    def stop(self) -> None:
        self._stopping = True
        self._arrived.set()

    # --- batches ---------------------------------------------------------------------------------------------

    def _take(self) -> list[Request]:
        rows, size = 0, 0
        for request in islice(self._queue, MAX_ROWS):
            size += request.size
            if rows and size > MAX_BYTES:
                break
            rows += 1
        batch = [self._queue.popleft() for _ in range(rows)]
        self._queued_bytes -= sum(request.size for request in batch)
        return batch

    async def _store(self, batch: Sequence[Request]) -> None:
        """Store the batch and answer each request, in order.

        A batch whose outcome is unknown is tried again before anything newer: its ids make that safe.
        """
        deadline = time.monotonic() + RETRY_FOR
        pause = FIRST_PAUSE
        while True:
            if self._down:  # the other half of a batch found out
                self._fail(batch, self._down)
                return
            try:
                outcomes = await self._call(batch)
            except DATA_ERRORS as error:
                await self._bisect(batch, error)
                return
            except asyncpg.InsufficientResourcesError as error:
                # Disk full: it was rolled back, and another attempt now ends the same way.
                if not self._full:
                    self._full = True
                    _log.error("postgresql_full", reason=explain(error))
                self._fail(batch, f"PostgreSQL: {explain(error)}")
                return
            except (asyncpg.TransactionRollbackError, *TROUBLE) as error:
                reason = f"PostgreSQL is not available: {explain(error)}"
            else:
                self._full = False
                for request, outcome in zip(batch, outcomes, strict=True):
                    request.reply(outcome)
                return
            if time.monotonic() + pause > deadline:
                self._down = reason
                _log.warning("postgresql_down", reason=reason, rows=len(batch), waiting=len(self._queue))
                self._fail(batch, reason)
                waiting, self._queue, self._queued_bytes = self._queue, deque(), 0
                self._fail(waiting, reason)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)

    async def _bisect(self, batch: Sequence[Request], error: Exception) -> None:
        """The transaction was rolled back: halve until only the culprit fails."""
        if len(batch) == 1:
            batch[0].reply(Outcome(REJECTED, reason=explain(error)))
            return
        middle = len(batch) // 2
        await self._store(batch[:middle])
        await self._store(batch[middle:])

    async def _call(self, batch: Sequence[Request]) -> list[Outcome]:
        connection = self._connection or await self._connect()
        try:
            # Above the server's own limit, so that it speaks first; alone when the server hangs.
            return await append_batch(
                connection, [request.entry for request in batch], timeout=self._statement_timeout + 0.5
            )
        except DATA_ERRORS:
            raise
        except TROUBLE:
            self._disconnect()  # a standby, a hung server and a broken connection look alike from here
            raise

    def _fail(self, batch: Sequence[Request] | deque[Request], reason: str) -> None:
        for request in batch:
            request.reply(Outcome(UNAVAILABLE, reason=reason))

    # --- the connection --------------------------------------------------------------------------------------

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        self._connection = await asyncpg.connect(
            self._url,
            timeout=RETRY_FOR,
            statement_cache_size=self._statement_cache_size,
            server_settings=settings_of(self._statement_timeout, self._statement_cache_size),
        )
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connect_first(self) -> None:
        try:
            await self._connect()
        except TROUBLE as error:
            _log.warning("postgresql_unreachable", reason=explain(error))
        self.first_attempt.set()

    async def _wait_for_postgresql(self) -> None:
        """New appends fail at once meanwhile."""
        pause = FIRST_PAUSE
        while not self._stopping:
            try:
                await self._connect()
            except TROUBLE as error:
                self._down = f"PostgreSQL is not available: {explain(error)}"
            else:
                self._down = ""
                _log.info("postgresql_back")
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)
