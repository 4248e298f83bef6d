"""Clicks, from the redirect to a stream in Redis.

A redirect notes a tuple and goes on. Five times a second what has come is put into the stream as one entry. Redis may
be away: then clicks wait here, up to a bound above which they are dropped and counted. A batch has an id of its own,
made here: one that is sent twice, because nobody knows whether the first attempt arrived, is stored once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from uuid import uuid4

import msgspec
import structlog
from msgspec import Struct

from presence import Away, Pipe

STREAM = "links:clicks"
PERIOD = 0.2  # s
BATCH = 1000  # clicks in an entry
MAX_WAITING = 50_000  # clicks, about 25 MB
# With more in the stream PostgreSQL is behind, and clicks wait in the nodes: of what Redis has, this much is theirs.
MAX_STREAM = 20_000  # entries
MAX_BYTES = 256 * 1024 * 1024  # a million clicks and more
PATIENCE = 600.0  # s that a batch is tried again: the ids of stored batches are kept for longer
MAX_AGENT, MAX_REFERRER = 400, 300  # bytes

_log = structlog.get_logger(__name__)


class Click(Struct, array_like=True, gc=False):
    """`at`: Unix time. `referrer` and `agent` are the headers as they came; `early`: fetched before anybody asked."""

    code: str
    at: float
    address: str
    referrer: bytes
    agent: bytes
    early: bool = False


class Batch(Struct, array_like=True):
    id: bytes
    clicks: list[Click]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Batch).decode


class ClickBuffer:
    """`note` is for the hot path; the rest is its background."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._noted: list[Click] = []
        self._batches: deque[tuple[Batch, float]] = deque()  # oldest first, each with when it is given up
        self._waiting = 0  # clicks, in both
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.noted = 0
        self.dropped = 0

    def note(
        self, code: str, now: float, client: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Somebody was let through."""
        self.noted += 1
        if self._waiting >= MAX_WAITING:
            self.dropped += 1
            return
        referrer = agent = b""
        early = False
        for name, value in headers:
            if name == b"user-agent":
                agent = value[:MAX_AGENT]
            elif name == b"referer":
                referrer = value[:MAX_REFERRER]
            elif name in (b"sec-purpose", b"purpose", b"x-moz") and b"pre" in value:  # prefetch, prerender, preview
                early = True
        self._waiting += 1
        self._noted.append(Click(code, now, client[0] if client else "", referrer, agent, early))
        if self._waiting == 1:
            self._wake.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="clicks")

    async def stop(self) -> None:
        """Send what waits, once."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self.flush()
        if self._waiting:
            _log.warning("clicks.lost", clicks=self._waiting)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(PERIOD)
            await self.flush()
            if self._waiting:
                self._wake.set()

    async def flush(self) -> None:
        """Send what waits, as far as Redis takes it."""
        until = time.monotonic() + PATIENCE
        noted, self._noted = self._noted, []
        for start in range(0, len(noted), BATCH):
            self._batches.append((Batch(uuid4().bytes, noted[start : start + BATCH]), until))
        while self._batches:
            batch, until = self._batches[0]
            if time.monotonic() > until:
                self._let_go(batch)
                self.dropped += len(batch.clicks)
                continue
            try:
                length, size = await self._pipe.run([("XLEN", STREAM), ("MEMORY", "USAGE", STREAM, "SAMPLES", 8)])
                if length >= MAX_STREAM or (size or 0) >= MAX_BYTES:
                    return
                await self._pipe.run([("XADD", STREAM, "*", "batch", encode(batch))])
            except Away:
                return
            self._let_go(batch)

    def _let_go(self, batch: Batch) -> None:
        self._batches.popleft()
        self._waiting -= len(batch.clicks)
