from __future__ import annotations

import asyncio

import asyncpg
import pytest

from storage.migrate import Migration, MigrationError, SchemaTooNew, SchemaTooOld, check, migrate, migrations

pytestmark = pytest.mark.integration

ONE = Migration("0001_one", "create table one (id integer)")
TWO = Migration("0002_two", "create table two (id integer)")


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {row[0] for row in await connection.fetch("select tablename from pg_tables where schemaname = 'public'")}
    finally:
        await connection.close()


async def test_a_fresh_database_gets_every_migration_once(empty_database_url: str) -> None:
    names = [migration.name for migration in migrations()]
    assert names == sorted(names)
    assert await migrate(empty_database_url) == names
    assert await migrate(empty_database_url) == []
    await check(empty_database_url)
    assert {"users", "sessions", "rooms", "room_members", "channels", "messages"} <= await tables(empty_database_url)


async def test_concurrent_starts_apply_each_migration_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(5)))
    assert sorted(name for names in applied for name in names) == [migration.name for migration in migrations()]


async def test_a_failed_migration_leaves_nothing_of_itself(empty_database_url: str) -> None:
    bad = Migration("0002_bad", "create table half (id integer); select 1 / 0")
    with pytest.raises(MigrationError, match="0002_bad failed: division by zero"):
        await migrate(empty_database_url, [ONE, bad])
    assert await tables(empty_database_url) == {"schema_migrations", "one"}
    assert await migrate(empty_database_url, [ONE, TWO]) == ["0002_two"]


async def test_the_schema_of_a_later_version_is_left_alone(empty_database_url: str) -> None:
    await migrate(empty_database_url, [ONE, TWO])
    for call in (migrate, check):
        with pytest.raises(SchemaTooNew, match="0002_two, which this version does not know"):
            await call(empty_database_url, [ONE])
    assert await tables(empty_database_url) == {"schema_migrations", "one", "two"}


async def test_check_names_what_is_missing(empty_database_url: str) -> None:
    with pytest.raises(SchemaTooOld, match="lacks 0001_one, 0002_two: run `chalkwire migrate`"):
        await check(empty_database_url, [ONE, TWO])
    await migrate(empty_database_url, [ONE])
    with pytest.raises(SchemaTooOld, match="lacks 0002_two:"):
        await check(empty_database_url, [ONE, TWO])


async def test_a_changed_migration_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, [ONE])
    with pytest.raises(MigrationError, match="0001_one was applied with other contents"):
        await migrate(empty_database_url, [ONE._replace(sql="create table other (id integer)"), TWO])
    assert await tables(empty_database_url) == {"schema_migrations", "one"}


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(MigrationError, match=r"cannot connect to PostgreSQL at postgresql://app:\*\*\*@127.0.0.1:1/x"):
        await migrate("postgresql://app:secret@127.0.0.1:1/x")
