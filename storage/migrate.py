"""Bring a database to this version's schema: plain SQL files, each in a transaction of its own.

An applied migration is recorded with its name and SHA-256. Files are never changed once released: a later migration
corrects an earlier one.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from storage.database import TROUBLE, explain, without_password

OLDEST_POSTGRESQL = 15
ADVISORY_LOCK = 0x6368616C6B  # "chalk": one migration at a time, whoever starts it

_TABLE = """
create table if not exists schema_migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
)
"""


class MigrationError(Exception):
    """The schema cannot be used or brought up to date. The message says why and what to do."""


class SchemaTooNew(MigrationError):
    """A later version of the program has already migrated this database."""


class SchemaTooOld(MigrationError):
    """Migrations are waiting."""


class Migration(NamedTuple):
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Every migration of this version, in order."""
    folder = files("storage").joinpath("migrations")
    found = [
        Migration(file.name.removesuffix(".sql"), file.read_text("utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found)


async def migrate(database_url: str, known: list[Migration] | None = None) -> list[str]:
    """Apply what is missing and return the names. Concurrent calls are safe: each migration is applied once.

    Raises `SchemaTooNew`, `MigrationError`.
    """
    known = migrations() if known is None else known
    applied = []
    async with _connected(database_url) as connection:
        for migration in known:
            # A lock of the transaction, not of the session, so that it works through PgBouncer.
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock($1)", ADVISORY_LOCK)
                await connection.execute(_TABLE)
                if migration.name in await _compare(connection, known):
                    continue
                try:
                    await connection.execute(migration.sql)
                except asyncpg.PostgresError as error:
                    raise MigrationError(f"migration {migration.name} failed: {explain(error)}") from error
                await connection.execute(
                    "insert into schema_migrations (name, checksum) values ($1, $2)", migration.name, migration.checksum
                )
                applied.append(migration.name)
    return applied


async def check(database_url: str, known: list[Migration] | None = None) -> None:
    """Return when the schema is exactly this version's. Raises `SchemaTooNew`, `SchemaTooOld`, `MigrationError`."""
    known = migrations() if known is None else known
    async with _connected(database_url) as connection:
        present = set()
        if await connection.fetchval("select to_regclass('schema_migrations')") is not None:
            present = await _compare(connection, known)
        missing = [migration.name for migration in known if migration.name not in present]
        if missing:
            raise SchemaTooOld(f"the database lacks {', '.join(missing)}: run `chalkwire migrate`")
        try:
            await connection.fetchval("select log_generation()")
        except asyncpg.InsufficientPrivilegeError as error:
            raise MigrationError(
                "the database role may not read the server's identity: as a superuser, run "
                "`grant execute on function pg_control_system(), pg_control_checkpoint() to <role>`"
            ) from error


async def _compare(connection: asyncpg.Connection[asyncpg.Record], known: list[Migration]) -> set[str]:
    """The names applied so far, after a check that they are ours."""
    rows = await connection.fetch("select name, checksum from schema_migrations")
    expected = {migration.name: migration.checksum for migration in known}
    unknown = sorted(row["name"] for row in rows if row["name"] not in expected)
    if unknown:
        raise SchemaTooNew(
            f"the database has {', '.join(unknown)}, which this version does not know: "
            "it belongs to a later version of Chalkwire; run that one, or restore a backup from before the upgrade"
        )
    for row in rows:
        if row["checksum"] != expected[row["name"]]:
            raise MigrationError(
                f"migration {row['name']} was applied with other contents than this version has: "
                "the installation is damaged or changed by hand; install the released files again"
            )
    return {row["name"] for row in rows}


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    try:
        connection = await asyncpg.connect(url, timeout=10, statement_cache_size=0)
    except (*TROUBLE, asyncpg.PostgresError, ValueError) as error:
        raise MigrationError(f"cannot connect to PostgreSQL at {without_password(url)}: {explain(error)}") from error
    try:
        version = connection.get_server_version()
        if version.major < OLDEST_POSTGRESQL:
            raise MigrationError(
                f"PostgreSQL {version.major} is too old: version {OLDEST_POSTGRESQL} or later is needed"
            )
        yield connection
    except TROUBLE as error:
        raise MigrationError(f"PostgreSQL at {without_password(url)} failed: {explain(error)}") from error
    finally:
        await connection.close(timeout=2)
