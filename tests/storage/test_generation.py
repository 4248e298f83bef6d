"""Which history is this? The first half of the wire epoch answers: nobody recovers across a restore."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedStack
from storage.database import Database
from storage.log import LogReader
from storage.log.append import append_batch
from storage.migrate import migrate
from tests.stack import sql
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration


async def epoch(url: str) -> str:
    database = Database(url)
    try:
        return (await LogReader(database).heads(["a"]))["a"].epoch
    finally:
        await database.close()


async def test_the_same_database_keeps_its_generation(database_url: str) -> None:
    first = await epoch(database_url)
    generation, _, channel = first.partition(".")
    assert (len(generation), channel) == (8, "0")
    assert await epoch(database_url) == first


async def test_a_dump_restored_into_another_database_is_another_history(
    database_url: str, empty_database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """As when the database is dropped and made again from last night's dump, in the same cluster."""
    await append_batch(connection, [entry("a")])
    before = await epoch(database_url)
    _copy(database_url, empty_database_url)
    after = await epoch(empty_database_url)
    assert after != before
    restored = await asyncpg.connect(empty_database_url)
    outcome = (await append_batch(restored, [entry("a")]))[0]
    await restored.close()
    assert (outcome.offset, outcome.epoch) == (2, after)


async def test_tables_made_again_in_place_are_another_history(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """As `pg_restore --clean` does."""
    before = await epoch(database_url)
    await connection.execute("drop schema public cascade; create schema public")
    await migrate(database_url)
    assert await epoch(database_url) != before


async def test_a_restore_that_leaves_no_trace_can_be_declared(
    database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await epoch(database_url)
    await connection.execute("insert into log_histories default values")
    assert await epoch(database_url) != before


async def test_another_cluster_is_another_history(database_url: str, private_stack: EmbeddedStack) -> None:
    url = str(private_stack.urls.database)
    await migrate(url)
    assert await epoch(url) != await epoch(database_url)


async def test_a_restart_is_the_same_history(private_stack: EmbeddedStack) -> None:
    url = str(private_stack.urls.database)
    await migrate(url)
    before = await epoch(url)
    private_stack.kill_one("postgres")
    private_stack.start_one("postgres")
    assert await epoch(url) == before


async def test_the_role_needs_no_more_than_its_database(stack: EmbeddedStack, database_url: str) -> None:
    assert sql(stack, "select rolsuper from pg_roles where rolname = 'chalkwire'") == "f"
    assert await epoch(database_url)


def _copy(source: str, target: str) -> None:
    from config.embedded.binaries import find_postgres

    programs: Path = find_postgres()
    dump = subprocess.run([str(programs / "pg_dump"), source], check=True, capture_output=True, timeout=60)
    subprocess.run(
        [str(programs / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", target],
        check=True,
        input=dump.stdout,
        capture_output=True,
        timeout=60,
    )
