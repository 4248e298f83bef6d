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


async def test_a_log_from_before_0008_gets_its_running_counts(empty_database_url: str) -> None:
    """Counts were given to counted rows alone; a trimmed channel begins anywhere."""
    before = [migration for migration in migrations() if migration.name < "0008"]
    await migrate(empty_database_url, before)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        """
        insert into channels (name, last_offset, last_count) values ('a', 5, 2), ('trimmed', 9, 7), ('events', 9, 4);
        insert into messages (channel_id, "offset", count_no, id, sender_id, type, data, created_at)
        select c.id, r.o, r.n, gen_random_uuid(), '', '', '', now() from (values
            ('a', 1, null), ('a', 2, 1), ('a', 3, null), ('a', 4, null), ('a', 5, 2),
            ('trimmed', 7, null), ('trimmed', 8, 6), ('trimmed', 9, 7),
            ('events', 9, null)) r(name, o, n) join channels c on c.name = r.name
        """
    )
    await migrate(empty_database_url)
    rows = await connection.fetch(
        "select c.name, array_agg(m.count_no order by m.offset), array_agg(m.counted order by m.offset) "
        "from messages m join channels c on c.id = m.channel_id group by 1"
    )
    await connection.close()
    assert {name: list(zip(counts, counted, strict=True)) for name, counts, counted in rows} == {
        "a": [(0, False), (1, True), (1, False), (1, False), (2, True)],
        "trimmed": [(5, False), (6, True), (7, True)],
        "events": [(4, False)],
    }
