"""Fixtures of the log: a database, a writer, a node's end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest

from realtime.interfaces import Entry
from realtime.protocol import StreamPosition
from storage.database import Database
from storage.log import PostgresLog
from storage.log.writer import LogWriter
from tests.stack import short_folder

_WRITER = """
import sys
from pathlib import Path
from storage.log.writer import run_log_writer
run_log_writer(sys.argv[1], Path(sys.argv[2]), ready_fd=int(sys.argv[3]))
"""


class WriterProcess:
    """The log writer as a process of its own, to be killed."""

    def __init__(self, database_url: str, socket_path: Path) -> None:
        self._url = database_url
        self._socket_path = socket_path
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        ready, told = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, self._url, str(self._socket_path), str(told)], pass_fds=(told,)
        )
        os.close(told)
        try:
            assert await asyncio.to_thread(os.read, ready, 1) == b"\x01", "the log writer did not start"
        finally:
            os.close(ready)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return await asyncio.to_thread(self._process.wait, 30)

    def clean(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


class Listener:
    """What the sweep told a node: the latest position of each channel."""

    def __init__(self) -> None:
        self.heads: dict[str, StreamPosition] = {}
        self.reports = 0
        self._changed = asyncio.Event()

    def __call__(self, heads: Mapping[str, StreamPosition]) -> None:
        self.heads.update(heads)
        self.reports += 1
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(15):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def entry(channel: str, *, sender: str = "ada", data: bytes = b'{"content":"hi"}', **more: object) -> Entry:
    """An entry with an id of its own, unless one is given."""
    more.setdefault("id", uuid.uuid4().bytes)
    return Entry(channel=channel, sender=sender, data=data, **more)  # type: ignore[arg-type]


@pytest.fixture
def socket_path() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder / "log.sock"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def writer(database_url: str, socket_path: Path) -> AsyncIterator[LogWriter]:
    """A log writer in the test's own process."""
    writer = LogWriter(database_url, socket_path)
    async with serving(writer):
        yield writer


@contextlib.asynccontextmanager
async def serving(writer: LogWriter) -> AsyncIterator[None]:
    ready, told = os.pipe()
    task = asyncio.create_task(writer.serve(told))
    try:
        await asyncio.wait(
            {task, asyncio.create_task(asyncio.to_thread(os.read, ready, 1))}, return_when="FIRST_COMPLETED"
        )
        if task.done():
            os.close(told)
            await task
        yield
    finally:
        writer.stop()
        await task
        os.close(ready)
        with contextlib.suppress(OSError):
            os.close(told)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def log(
    writer: LogWriter, database: Database, socket_path: Path, listener: Listener
) -> AsyncIterator[PostgresLog]:
    log = PostgresLog(database, socket_path, listener)
    await log.start()
    yield log
    await log.close()


@pytest.fixture
def writer_process(database_url: str, socket_path: Path) -> Iterator[WriterProcess]:
    process = WriterProcess(database_url, socket_path)
    yield process
    process.clean()
