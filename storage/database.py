"""PostgreSQL as the rest of the server sees it: a lazily opened pool whose trouble has one name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached or does not answer in time. Whether a write took place is unknown."""


TROUBLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement timeout
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a failover
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What says that the database, not the statement, is at fault."""


def without_password(url: str) -> str:
    return re.sub(r"(?<=://)([^:/@]*):[^@/]*@", r"\1:***@", url)


def explain(error: BaseException) -> str:
    """One line for a log or a reader, also for exceptions without a text (`TimeoutError`)."""
    return str(error).partition("\n")[0] or type(error).__name__


def settings_of(statement_timeout: float, statement_cache_size: int) -> dict[str, str]:
    """What a connection asks of the server, as asyncpg's `server_settings`.

    Behind PgBouncer (`statement_cache_size` 0) the time zone alone: it refuses start-up parameters that it does not
    know. There the client's timeout works alone, or `ALTER ROLE … SET statement_timeout`.
    """
    utc = {"TimeZone": "UTC"}  # days of reports and times in mails are UTC's, whatever the server was set up with
    if statement_cache_size == 0:
        return utc
    milliseconds = str(round(statement_timeout * 1000))
    return utc | {
        "application_name": "chalkwire",
        "statement_timeout": milliseconds,
        # A row's lock goes with its transaction: one that its client forgot must not hold a channel.
        "idle_in_transaction_session_timeout": milliseconds,
    }


async def _keep_session(connection: Connection) -> None:
    """When a connection goes back to the pool. asyncpg's `RESET ALL` and so on would be one more statement after each
    of ours, none of which leaves anything in its session (`set local` and `pg_advisory_xact_lock` end with their
    transaction, which asyncpg rolls back before this)."""


class Database:
    """A pool of connections, opened when it is first needed. One per process (not across a fork).

    `statement_cache_size` 0 is for PgBouncer in transaction mode. Times are in seconds: `statement_timeout` ends a
    statement, `acquire_timeout` the wait for a free connection (a queue that long means overload or an outage),
    `connect_timeout` an attempt to connect.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 2,
        statement_cache_size: int = 100,
        statement_timeout: float = 5.0,
        acquire_timeout: float = 2.0,
        connect_timeout: float = 5.0,
    ) -> None:
        self.url = url
        self.pool_size = pool_size
        self._statement_cache_size = statement_cache_size
        self._statement_timeout = statement_timeout
        self._acquire_timeout = acquire_timeout
        self._connect_timeout = connect_timeout
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self.url,
                    min_size=0,
                    max_size=self.pool_size,
                    timeout=self._connect_timeout,
                    command_timeout=self._statement_timeout,
                    statement_cache_size=self._statement_cache_size,
                    server_settings=settings_of(self._statement_timeout, self._statement_cache_size),
                    reset=_keep_session,
                )
            return self._pool

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """A connection for the block. Raises `DatabaseUnavailable`, also for trouble inside the block."""
        try:
            pool = self._pool or await self._opened()
            async with asyncio.timeout(self._acquire_timeout):  # asyncpg's own makes a task of each wait
                connection = await pool.acquire()
            try:
                yield connection
            except TimeoutError:
                # The server stopped answering: asking it to cancel, or to reset the session, would wait as well.
                connection.terminate()
                raise
            finally:
                await pool.release(connection)
        except TROUBLE as error:
            raise DatabaseUnavailable(f"PostgreSQL is not available: {explain(error)}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, committed at the end of the block."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self.acquire() as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        async with self.acquire() as connection:
            return await connection.execute(query, *args)

    async def close(self) -> None:
        """Close the connections, at once where they do not end by themselves."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), 2.0)
        except TROUBLE:
            pool.terminate()
