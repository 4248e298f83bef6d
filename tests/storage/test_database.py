from __future__ import annotations

import asyncio

import asyncpg
import pytest

from storage.database import Database, DatabaseUnavailable, without_password
from storage.queries import load


@pytest.mark.integration
async def test_the_pool_opens_at_the_first_use(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    database = Database(database_url, pool_size=2)
    count = (
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'chalkwire'"
    )
    assert await connection.fetchval(count) == 0
    assert await asyncio.gather(*(database.fetchval("select $1::integer", n) for n in range(10))) == list(range(10))
    assert await connection.fetchval(count) <= 2
    await database.close()
    assert await connection.fetchval(count) == 0
    await database.close()


@pytest.mark.integration
async def test_a_statement_that_takes_too_long_is_ended(database_url: str) -> None:
    database = Database(database_url, statement_timeout=0.2)
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL is not available: "):
        await database.execute("select pg_sleep(30)")
    assert await database.fetchval("select 1") == 1
    await database.close()


@pytest.mark.integration
async def test_a_wait_for_a_connection_is_bounded(database_url: str) -> None:
    database = Database(database_url, pool_size=1, acquire_timeout=1)
    async with database.acquire():
        with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            await database.fetchval("select 1")
    assert await database.fetchval("select 1") == 1
    await database.close()


@pytest.mark.integration
async def test_a_connection_goes_back_without_a_statement_of_its_own(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """`RESET ALL` and so on after each statement would be a second round trip."""
    database = Database(database_url, pool_size=1)
    pid = await database.fetchval("select pg_backend_pid()")
    last = await connection.fetchval("select query from pg_stat_activity where pid = $1", pid)
    assert last == "select pg_backend_pid()"
    await database.close()


@pytest.mark.integration
async def test_a_transaction_that_was_left_open_ends(database_url: str) -> None:
    database = Database(database_url, pool_size=1)
    async with database.acquire() as connection:
        await connection.execute("begin; create table left_open (id integer)")
    assert await database.fetchval("select to_regclass('left_open') is null")
    await database.close()


@pytest.mark.integration
async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    await database.execute("create table t (id integer)")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await connection.execute("insert into t values (1)")
            raise ZeroDivisionError
    assert await database.fetchval("select count(*) from t") == 0


@pytest.mark.integration
async def test_a_bad_argument_is_not_an_outage(database: Database) -> None:
    with pytest.raises(asyncpg.DataError, match="invalid input"):
        await database.fetchval("select $1::integer", "one")
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("select * from nothing")
    assert await database.fetchval("select 1") == 1


async def test_a_server_that_is_not_there() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable, match="Connect call failed"):
        await database.fetchval("select 1")
    await database.close()


@pytest.mark.integration
@pytest.mark.parametrize("statement_cache_size", [0, 100])
async def test_times_are_utc_whatever_the_server_was_set_up_with(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record], statement_cache_size: int
) -> None:
    await connection.execute("alter role current_user set timezone = 'Asia/Tokyo'")
    try:
        database = Database(database_url, statement_cache_size=statement_cache_size)
        assert await database.fetchval("select timestamptz '2026-01-01 00:00Z'::text") == "2026-01-01 00:00:00+00"
        await database.close()
    finally:
        await connection.execute("alter role current_user reset timezone")


@pytest.mark.integration
async def test_without_a_statement_cache_the_server_is_asked_for_little(database_url: str) -> None:
    """As PgBouncer in transaction mode wants it."""
    database = Database(database_url, statement_cache_size=0)
    assert await database.fetchval("show application_name") == ""
    assert await database.fetchval("select count(*) from pg_prepared_statements") == 0
    await database.close()


def test_a_password_does_not_reach_a_message() -> None:
    assert without_password("postgresql://app:s3cret@host/db") == "postgresql://app:***@host/db"
    assert without_password("postgresql://app@host/db") == "postgresql://app@host/db"


def test_statements_are_found_by_name() -> None:
    for file in ("log", "rooms", "sessions", "sweep", "trim", "users"):
        assert all(sql and not sql.endswith(";") for sql in load(file).values())
    assert load("users")["by_id"] == "select * from users where id = $1"
