"""The log writer: one process a host that takes appends from its nodes over a Unix socket and commits them in batches.

One writer, because 54 nodes that write by themselves wait for each other at a busy room's row: p99 495 ms at 1,000
messages/s, 5 ms with one writer.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from zlib import crc32

import structlog
import uvloop

from realtime.namespaces import UNLIMITED
from storage.log.lane import Lane, Request
from storage.log.sweep import Sweep
from storage.log.trim import Trimmer
from storage.log.wire import (
    REJECTED,
    FrameError,
    FrameReader,
    Heads,
    Hello,
    Outcome,
    Outcomes,
    decode_entry,
    decode_request,
    encode,
)

LANES = 2
STATEMENT_TIMEOUT = 2.0  # seconds
MAX_UNREAD = 32 << 20  # bytes of answers; a node that reads no more than that is gone: it reconnects and asks again
DRAIN_WRITES = 2.0  # seconds to hand out the last answers

_log = structlog.get_logger("log_writer")


class SocketTaken(Exception):
    """Another log writer serves this socket."""


class NodeConnection(asyncio.Protocol):
    """A node's connection, on the writer's side."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._frames = FrameReader()
        self._outcomes: list[Outcome] = []
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not registered as one
        self._writer.nodes.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writer.nodes.discard(self)
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                request = decode_request(frame)
                if isinstance(request, Hello):
                    self._writer.sweep.reach_back(request.seen)
                    continue
                for number, raw in zip(request.numbers, request.entries, strict=False):
                    try:
                        entry = decode_entry(raw)
                    except FrameError as error:  # of this entry alone
                        self.answer(Outcome(REJECTED, number, reason=str(error)))
                        continue
                    self._writer.add(Request(entry, len(bytes(raw)), number, self.answer))
        except FrameError as error:
            _log.warning("bad_frame", reason=str(error))
            self.abort()
        self.flush()

    def answer(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._writer.answered.add(self)

    def flush(self) -> None:
        outcomes = self._outcomes
        if not outcomes:
            return
        self._outcomes = []
        self._writer.answered.discard(self)
        self.send(encode(Outcomes(outcomes)))

    def send(self, frame: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size() > MAX_UNREAD:
            _log.warning("node_does_not_read", unread=transport.get_write_buffer_size())
            self.abort()
            return
        transport.write(frame)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def close(self) -> None:
        """Close after what is written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class LogWriter:
    """The writer's server. `serve` returns after `stop`, when everything taken is committed and answered."""

    def __init__(self, database_url: str, socket_path: Path, *, statement_cache_size: int = 100) -> None:
        self._socket_path = socket_path
        self.nodes: set[NodeConnection] = set()
        self.answered: set[NodeConnection] = set()
        self.lanes = [
            Lane(
                database_url,
                self._flush,
                statement_cache_size=statement_cache_size,
                statement_timeout=STATEMENT_TIMEOUT,
            )
            for _ in range(LANES)
        ]
        self.sweep = Sweep(
            database_url,
            lambda: bool(self.nodes),
            self._push,
            statement_cache_size=statement_cache_size,
        )
        self.trimmer = Trimmer(database_url, statement_cache_size=statement_cache_size)
        self._stopped = asyncio.Event()

    def add(self, request: Request) -> None:
        entry = request.entry
        if entry.history_ttl or 0 < entry.history_size < UNLIMITED:
            self.trimmer.touched.add(entry.channel)
        self.lanes[crc32(entry.channel.encode()) % LANES].add(request)

    def stop(self) -> None:
        self._stopped.set()

    async def serve(self, ready_fd: int | None = None) -> None:
        """Raises `SocketTaken`, `OSError`."""
        lock = _lock(self._socket_path)
        try:
            lanes = [asyncio.create_task(lane.run()) for lane in self.lanes]
            await asyncio.gather(*(lane.first_attempt.wait() for lane in self.lanes))
            self._socket_path.unlink(missing_ok=True)  # left by a writer that was killed: the lock says it is gone
            loop = asyncio.get_running_loop()
            server = await loop.create_unix_server(lambda: NodeConnection(self), str(self._socket_path))
            self._socket_path.chmod(0o600)
            upkeep = [asyncio.create_task(self.sweep.run()), asyncio.create_task(self.trimmer.run())]
            if ready_fd is not None:
                os.write(ready_fd, b"\x01")
            await self._stopped.wait()

            # What nodes have sent and this process has not read goes to the next writer: they send it again.
            server.close()
            self._socket_path.unlink(missing_ok=True)
            for task in upkeep:
                task.cancel()
            await asyncio.gather(*upkeep, return_exceptions=True)
            self.sweep.close()
            self.trimmer.close()
            nodes = list(self.nodes)
            for node in nodes:
                node.pause()
            for lane in self.lanes:
                lane.stop()
            await asyncio.gather(*lanes)
            self._flush()
            for node in nodes:
                node.close()
            await _within(DRAIN_WRITES, [node.closed for node in nodes])
        finally:
            os.close(lock)

    def _flush(self) -> None:
        for node in list(self.answered):
            node.flush()

    def _push(self, heads: Heads) -> None:
        frame = encode(heads)
        for node in list(self.nodes):
            node.send(frame)


async def _within(seconds: float, events: Sequence[asyncio.Event]) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    if waits:
        _, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()


def _lock(socket_path: Path) -> int:
    """A lock beside the socket, released by the kernel however its holder dies."""
    lock = os.open(f"{socket_path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise SocketTaken(f"another log writer already serves {socket_path}") from None
    return lock


def run_log_writer(
    database_url: str, socket_path: Path, *, statement_cache_size: int = 100, ready_fd: int | None = None
) -> None:
    """Run the log writer in this process until SIGTERM or SIGINT; then commit what was taken and return.

    `ready_fd` takes one byte when nodes may connect. Raises `SocketTaken`.
    """

    async def main() -> None:
        writer = LogWriter(database_url, socket_path, statement_cache_size=statement_cache_size)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, writer.stop)
        await writer.serve(ready_fd)

    uvloop.run(main())
