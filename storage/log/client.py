"""A node's end of the log writer's socket: appends in flight, each a future."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import cast

import structlog
from msgspec import Raw

from realtime.interfaces import Appended, Entry, LogUnavailable, Rejected
from realtime.protocol import StreamPosition
from storage.log.append import result_of
from storage.log.wire import (
    FRAME_TARGET,
    Appends,
    FrameError,
    FrameReader,
    Heads,
    Hello,
    decode_report,
    encode,
    encode_entry,
)

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5  # seconds between attempts to connect
MAX_CHANNEL = 255  # bytes, as the table has it
MAX_ENTRY = 16 << 20  # bytes; far above any message limit, far below a frame's

_log = structlog.get_logger("log_client")


class _Pending:
    __slots__ = ("deadline", "future", "raw")

    def __init__(self, raw: Raw, future: asyncio.Future[Appended], deadline: float) -> None:
        self.raw = raw
        self.future = future
        self.deadline = deadline


class LogClient:
    """Sends entries to the log writer of this host and tells what became of them.

    Entries of one turn of the loop travel in one frame. Those in flight when the writer dies are sent to its successor
    in their order, before anything newer; their ids make that safe. `deadline` (seconds) bounds the wait of an
    append; a writer away for longer than `patience` (seconds) fails new appends at once. `on_heads` hears what the
    sweep found.
    """

    def __init__(
        self,
        socket_path: Path,
        on_heads: Callable[[Mapping[str, StreamPosition]], None],
        *,
        deadline: float = 5.0,
        patience: float = 1.0,
        max_pending: int = 20_000,
        max_pending_bytes: int = 64 << 20,
    ) -> None:
        self._socket_path = socket_path
        self._on_heads = on_heads
        self._deadline = deadline
        self._patience = patience
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._pending: dict[int, _Pending] = {}  # by number, oldest first
        self._pending_bytes = 0
        self._unsent: list[int] = []
        self._number = 0
        self._seen = 0
        self._transport: asyncio.Transport | None = None
        self._away_since: float | None = time.monotonic()
        self._connecting: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def pending(self) -> int:
        """Appends that have no answer yet."""
        return len(self._pending)

    async def start(self) -> None:
        """Return when connected. Raises `LogUnavailable` when the writer is not there within the deadline; the
        attempts go on then."""
        self._away_since = time.monotonic()
        self._connecting = asyncio.create_task(self._connect())
        done, _ = await asyncio.wait([self._connecting], timeout=self._deadline)
        if not done:
            raise LogUnavailable(f"no log writer at {self._socket_path}")

    async def close(self, timeout: float = 10.0) -> None:
        """Take nothing more, wait for what is in flight, at most `timeout` seconds, and disconnect."""
        self._closed = True
        if self._pending:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=timeout)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        for number in list(self._pending):
            self._settle(number, LogUnavailable("the node is stopping"))

    def append(self, entry: Entry) -> asyncio.Future[Appended]:
        """Send an entry; the future has its place in the log after the commit, or `IdTaken`, `Refused`,
        `Rejected`, `LogUnavailable`. Futures of one channel end in the order of its offsets."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Appended] = loop.create_future()
        now = time.monotonic()
        if self._closed or (self._away_since is not None and now - self._away_since > self._patience):
            future.set_exception(LogUnavailable("the log writer is away"))
            return future
        if len(self._pending) >= self._max_pending or self._pending_bytes >= self._max_pending_bytes:
            future.set_exception(LogUnavailable("too many appends are waiting for the log writer"))
            return future
        try:
            raw = _checked(entry)
        except Rejected as error:
            future.set_exception(error)
            return future
        self._number += 1
        self._pending[self._number] = _Pending(Raw(raw), future, now + self._deadline)
        self._pending_bytes += len(raw)
        if not self._unsent:
            loop.call_soon(self._send_unsent)
        self._unsent.append(self._number)
        if self._expiry is None:
            self._expiry = loop.call_later(self._deadline, self._expire)
        return future

    # --- sending ---------------------------------------------------------------------------------------------

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:  # else the next connection sends all that is pending
            self._send(unsent)

    def _send(self, numbers: Iterable[int]) -> None:
        assert self._transport is not None
        batch = Appends([], [])
        size = 0
        for number in numbers:
            pending = self._pending.get(number)
            if pending is None:
                continue
            batch.numbers.append(number)
            batch.entries.append(pending.raw)
            size += len(bytes(pending.raw))
            if size >= FRAME_TARGET:
                self._transport.write(encode(batch))
                batch, size = Appends([], []), 0
        if batch.numbers:
            self._transport.write(encode(batch))

    # --- answers ---------------------------------------------------------------------------------------------

    def _received(self, frame: bytes) -> None:
        report = decode_report(frame)
        if isinstance(report, Heads):
            self._seen = report.complete_to
            try:
                self._on_heads({head.channel: StreamPosition(head.offset, head.epoch) for head in report.heads})
            except Exception:  # the listener's fault must not end the connection that appends use
                _log.exception("on_heads_failed")
            return
        for outcome in report.outcomes:
            self._settle(outcome.number, result_of(outcome))

    def _settle(self, number: int, result: Appended | Exception) -> None:
        pending = self._pending.pop(number, None)
        if pending is None:
            return  # it came after the deadline
        self._pending_bytes -= len(bytes(pending.raw))
        if not pending.future.done():  # its caller may have been cancelled
            if isinstance(result, Exception):
                pending.future.set_exception(result)
            else:
                pending.future.set_result(result)
        if not self._pending and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _expire(self) -> None:
        """Deadlines are as old as their numbers, so one timer for the oldest is enough."""
        self._expiry = None
        now = time.monotonic()
        while self._pending:
            number, oldest = next(iter(self._pending.items()))
            if oldest.deadline > now:
                self._expiry = asyncio.get_running_loop().call_later(oldest.deadline - now, self._expire)
                return
            self._settle(number, LogUnavailable(f"the log writer has not answered in {self._deadline:g} s"))

    # --- the connection --------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.create_unix_connection(lambda: _Link(self), str(self._socket_path))
                return
            except OSError:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # 54 nodes must not come back as one
                pause = min(pause * 2, LONGEST_PAUSE)

    def _connected(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._away_since = None
        transport.write(encode(Hello(self._seen)))
        self._unsent = []
        self._send(list(self._pending))

    def _lost(self) -> None:
        self._transport = None
        if not self._closed or self._pending:
            self._away_since = time.monotonic()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())


class _Link(asyncio.Protocol):
    """One connection to the writer."""

    def __init__(self, client: LogClient) -> None:
        self._client = client
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not registered as one
        self._client._connected(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._client._received(frame)
        except FrameError as error:
            _log.error("bad_frame", reason=str(error))
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client._lost()


def _checked(entry: Entry) -> bytes:
    """The entry as it travels. Raises `Rejected` for what the log can never hold."""
    if len(entry.id) != 16:
        raise Rejected("the id has 16 bytes")
    try:
        if not 0 < len(entry.channel.encode()) <= MAX_CHANNEL:
            raise Rejected(f"a channel's name has 1 to {MAX_CHANNEL} bytes")
        raw = encode_entry(entry)
    except (UnicodeEncodeError, OverflowError) as error:  # a lone surrogate, an integer beyond 64 bits
        raise Rejected(str(error)) from None
    if len(raw) > MAX_ENTRY:
        raise Rejected(f"an entry has at most {MAX_ENTRY} bytes")
    return raw
