"""Fixtures of the real servers: PostgreSQL, Valkey and NATS from their wheels.

One stack serves the whole run; `database_url`, `redis_url` and `nats_url` give each test a clean place in it. A test
that stops or kills servers takes `private_stack`, which is its own.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from redis.asyncio import Redis

from config.embedded import EmbeddedStack, read_urls
from config.embedded.binaries import find_postgres
from config.embedded.postgres import NAME as OWNER
from loadtest.server import Server

_TEMPLATE = "migrated"


@contextmanager
def short_folder() -> Iterator[Path]:
    """A private folder whose path is short enough for Unix sockets below it, as pytest's own may not be."""
    folder = Path(tempfile.mkdtemp(prefix="cw-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def redis_of(server: Server) -> AsyncIterator[Redis]:
    """A client of the Valkey that a running server started."""
    urls = read_urls(server.data_dir)
    assert urls is not None
    async with Redis.from_url(str(urls.redis)) as redis:
        yield redis


@pytest.fixture(scope="session")
def stack() -> Iterator[EmbeddedStack]:
    """The servers of the whole run: leave them running."""
    with short_folder() as folder:
        stack = EmbeddedStack(folder / "data", max_connections=200, max_payload=4 * 1024 * 1024)
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


@pytest.fixture
def private_stack() -> Iterator[EmbeddedStack]:
    """Running servers of the test's own, to `stop_one`, `kill_one`, `start_one`."""
    with short_folder() as folder:
        stack = EmbeddedStack(folder / "data")
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


@pytest.fixture
def empty_database_url(stack: EmbeddedStack) -> Iterator[str]:
    """A database without tables, owned by the application's role, gone after the test."""
    yield from _database(stack, "template1")


@pytest.fixture
def database_url(stack: EmbeddedStack, _template: str) -> Iterator[str]:
    """A database at this version's schema, owned by the application's role, gone after the test."""
    yield from _database(stack, _template)


@pytest.fixture(scope="session")
def _template(stack: EmbeddedStack) -> str:
    """Migrated once: a copy takes a tenth of the time."""
    from storage.migrate import migrate

    sql(stack, f"CREATE DATABASE {_TEMPLATE} OWNER {OWNER}")
    with ThreadPoolExecutor(1) as apart:  # an event loop of its own must not meet the test's
        apart.submit(asyncio.run, migrate(_url_of(stack, _TEMPLATE))).result()
    return _TEMPLATE


@pytest.fixture
def redis_url(stack: EmbeddedStack) -> str:
    """Valkey with nothing in it."""
    flush(stack)
    return str(stack.urls.redis)


@pytest.fixture
def nats_url(stack: EmbeddedStack) -> str:
    return str(stack.urls.nats)


def sql(stack: EmbeddedStack, *statements: str, database: str = "postgres") -> str:
    """Run statements as the superuser; returns the values that they gave."""
    argv = [str(find_postgres() / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", stack.admin_url(database)]
    for statement in statements:
        argv += ["-c", statement]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def flush(stack: EmbeddedStack) -> None:
    """Empty Valkey."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(unquote(urlsplit(str(stack.urls.redis)).path))
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64) == b"+OK\r\n"


def _database(stack: EmbeddedStack, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    sql(stack, f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
    try:
        yield _url_of(stack, name)
    finally:
        sql(stack, f"DROP DATABASE {name} WITH (FORCE)")


def _url_of(stack: EmbeddedStack, database: str) -> str:
    return str(stack.urls.database).replace(f"/{OWNER}?", f"/{database}?", 1)
