"""Kill and stop what the log stands on, in mid-traffic.

| scenario | invariant |
|---|---|
| log writer killed -9, again and again | every acknowledged message is stored, once, at the acknowledged offset |
| log writer stopped (SIGTERM) | the same, and no append fails: its successor gets what it did not take |
| PostgreSQL killed -9, or stopped | the same; callers are told within the deadline, later ones at once |
| PostgreSQL stops answering (SIGSTOP) | the same |

Not covered: loss of power (fsync is trusted).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from config.embedded import EmbeddedStack
from realtime.interfaces import LogUnavailable
from storage.database import Database
from storage.log import PostgresLog
from storage.migrate import migrate
from tests.storage.conftest import Listener, WriterProcess, entry

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

CHANNELS = 5


class Traffic:
    """Publishers that repeat a message until it is acknowledged, and the ledger of what they were told."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self._going = True
        self._told = asyncio.Event()
        self.ledger: dict[tuple[str, bytes], int] = {}
        self.failures = 0

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for number in range(CHANNELS * 4):
                group.create_task(self._publish(f"channel-{number % CHANNELS}"))
            try:
                yield
            finally:
                self._going = False

    async def more(self, acknowledgements: int) -> None:
        """Return after that many more."""
        enough = len(self.ledger) + acknowledgements
        async with asyncio.timeout(40):
            while len(self.ledger) < enough:
                self._told.clear()
                await self._told.wait()

    async def _publish(self, channel: str) -> None:
        while self._going:
            message = entry(channel)
            while True:
                try:
                    appended = await self._log.append(message)
                except LogUnavailable:
                    self.failures += 1
                    await asyncio.sleep(0.05)
                    continue
                self.ledger[channel, message.id] = appended.offset
                self._told.set()
                break

    async def check(self, url: str) -> None:
        connection = await asyncpg.connect(url)
        rows = await connection.fetch(
            'select c.name, m.id, m."offset" from messages m join channels c on c.id = m.channel_id order by 1, 3'
        )
        await connection.close()
        stored = {(name, message_id.bytes): offset for name, message_id, offset in rows}
        assert len(stored) == len(rows), "an id is stored twice"
        assert stored == self.ledger, "the publishers repeated until told, so both are the same"
        for channel in {name for name, _ in stored}:
            offsets = [offset for (name, _), offset in stored.items() if name == channel]
            assert offsets == list(range(1, len(offsets) + 1))


@pytest.fixture
async def traffic(writer_process: WriterProcess, database: Database, socket_path: Path) -> AsyncIterator[Traffic]:
    await writer_process.start()
    log = PostgresLog(database, socket_path, Listener())
    await log.start()
    yield Traffic(log)
    await log.close()


async def test_the_writer_is_killed_again_and_again(
    traffic: Traffic, writer_process: WriterProcess, database_url: str
) -> None:
    async with traffic.flowing():
        for _ in range(3):
            await traffic.more(200)
            await writer_process.end(signal.SIGKILL)
            await writer_process.start()
        await traffic.more(200)
    await traffic.check(database_url)


async def test_a_writer_that_is_stopped_fails_no_append(
    traffic: Traffic, writer_process: WriterProcess, database_url: str
) -> None:
    async with traffic.flowing():
        for _ in range(3):
            await traffic.more(200)
            assert await writer_process.end(signal.SIGTERM) == 0
            await writer_process.start()
        await traffic.more(200)
    await traffic.check(database_url)
    assert traffic.failures == 0


@contextlib.asynccontextmanager
async def private_traffic(url: str, socket_path: Path) -> AsyncIterator[Traffic]:
    await migrate(url)
    process, database = WriterProcess(url, socket_path), Database(url)
    await process.start()
    log = PostgresLog(database, socket_path, Listener())
    await log.start()
    try:
        yield Traffic(log)
        assert await process.end() == 0
    finally:
        await log.close()
        await database.close()
        process.clean()


async def test_postgresql_is_killed_in_mid_traffic(private_stack: EmbeddedStack, socket_path: Path) -> None:
    url = str(private_stack.urls.database)
    async with private_traffic(url, socket_path) as traffic:
        async with traffic.flowing():
            for _ in range(2):
                await traffic.more(200)
                await asyncio.to_thread(private_stack.kill_one, "postgres")
                await asyncio.to_thread(private_stack.start_one, "postgres")
            await traffic.more(200)
        await traffic.check(url)


async def test_without_postgresql_appends_fail_fast_and_heal(private_stack: EmbeddedStack, socket_path: Path) -> None:
    url = str(private_stack.urls.database)
    async with private_traffic(url, socket_path) as traffic:
        log = traffic._log
        async with traffic.flowing():
            await traffic.more(100)
            await asyncio.to_thread(private_stack.stop_one, "postgres")
            began = time.monotonic()
            with pytest.raises(LogUnavailable):
                for _ in range(1000):  # the first ones may still have been stored
                    await log.append(entry("channel-0"))
            assert time.monotonic() - began < 5.5, "the deadline holds"
            for _ in range(20):
                with pytest.raises(LogUnavailable, match="PostgreSQL is not available"):
                    await asyncio.wait_for(log.append(entry("channel-0")), 1.5)
            with pytest.raises(LogUnavailable):
                await asyncio.wait_for(log.read("channel-0", 0, 1), 5)
            await asyncio.to_thread(private_stack.start_one, "postgres")
            await traffic.more(200)
        assert traffic.failures > 0


async def test_postgresql_that_hangs_is_told_and_survived(private_stack: EmbeddedStack, socket_path: Path) -> None:
    """Statements in hand may be stored when it goes on, after their callers have been told that this is unknown."""
    url = str(private_stack.urls.database)
    async with private_traffic(url, socket_path) as traffic:
        async with traffic.flowing():
            await traffic.more(200)
            pids = await _backends(url)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(20):
                    while not traffic.failures:
                        await asyncio.sleep(0.05)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            await traffic.more(200)
        await traffic.check(url)


async def _backends(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()
