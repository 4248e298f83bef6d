"""Removes what the channels' history rules no longer keep.

Reads already leave it out, so this is about disk space and has no hurry: what this writer appended to is trimmed every
few seconds, and a slow walk over all such channels finds what has expired in silence.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from storage.database import TROUBLE, explain, settings_of
from storage.queries import load

PERIOD = 5.0  # seconds
STEP = 50  # channels in a transaction: appends to them wait for it
WALK = 500  # channels that the walk looks at in a period: a million in three hours
TIMEOUT = 30.0  # seconds

_SQL = load("trim")

_log = structlog.get_logger("log_writer")


class Trimmer:
    """`touched` takes the names of channels that keep a part of their history and have just grown."""

    def __init__(self, database_url: str, *, statement_cache_size: int = 100) -> None:
        self._url = database_url
        self._statement_cache_size = statement_cache_size
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._walked = 0
        self.touched: set[str] = set()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.trim()
            except (asyncpg.PostgresError, *TROUBLE) as error:
                _log.warning("trim_failed", reason=explain(error))
                self.close()

    async def trim(self) -> int:
        """One period's work; returns the number of messages removed."""
        if self._connection is None:
            self._connection = await asyncpg.connect(
                self._url,
                timeout=TIMEOUT,
                statement_cache_size=self._statement_cache_size,
                server_settings=settings_of(TIMEOUT, self._statement_cache_size),
            )
        removed = 0
        touched, self.touched = sorted(self.touched), set()
        for start in range(0, len(touched), STEP):
            removed += await self._connection.fetchval(_SQL["some"], touched[start : start + STEP])
        for _ in range(0, WALK, STEP):
            last, some = await self._connection.fetchrow(_SQL["next"], self._walked, STEP) or (None, 0)
            removed += some
            self._walked = last or 0
            if last is None:
                break
        return removed

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
