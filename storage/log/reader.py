"""Reads of the log, batched: requests of one turn of the loop, and those that come while a statement runs, share one.

After a restart, thousands of clients of one room ask for the same messages at once: equal requests share one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from realtime.interfaces import LogUnavailable, Page
from realtime.protocol import Publication, StreamPosition
from storage.database import Database, DatabaseUnavailable, explain
from storage.log.publication import milliseconds, publication
from storage.queries import load

IN_FLIGHT = 2  # statements; more would only take the node's connections from others
MAX_REQUESTS = 500  # in a statement
MAX_BYTES = 16 << 20  # in a statement, as the requests' limits let expect; one alone may ask for more
USUAL_BYTES = 256  # of a message
_UNLIMITED = 1 << 62

_READ = load("log")["read"]
_CLEAR = load("trim")["clear"]


class _Request(NamedTuple):
    channel: str
    after: int
    limit: int
    max_bytes: int
    back: bool


def _request(channel: str, offset: int, limit: int, max_bytes: int | None, *, back: bool) -> _Request:
    """Within what PostgreSQL takes, so that a strange request fails alone: an offset comes from a client as 64 bits
    without a sign, and a name that PostgreSQL cannot hold is that of a channel without messages."""
    try:
        known = 0 not in channel.encode()
    except UnicodeEncodeError:
        known = False
    return _Request(
        channel if known else "",
        max(-1, min(offset, _UNLIMITED)),
        max(0, min(limit, 1 << 30)),
        _UNLIMITED if max_bytes is None else max(0, min(max_bytes, _UNLIMITED)),
        back,
    )


class LogReader:
    """Reads channels through the node's pool. A page may be shared between callers: it is not to be changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[_Request, asyncio.Future[Page]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def read(self, channel: str, after: int, limit: int, max_bytes: int | None = None) -> Page:
        """`MessageLog.read`."""
        return await self._ask(_request(channel, after, limit, max_bytes, back=False))

    async def read_back(self, channel: str, before: int | None, limit: int, max_bytes: int | None = None) -> Page:
        """`MessageLog.read_back`."""
        return await self._ask(_request(channel, _UNLIMITED if before is None else before, limit, max_bytes, back=True))

    async def heads(self, channels: Sequence[str]) -> dict[str, StreamPosition]:
        """`MessageLog.heads`."""
        names = list(dict.fromkeys(channels))
        pages = await asyncio.gather(*(self._ask(_request(name, 0, 0, 0, back=False)) for name in names))
        return {name: page.head for name, page in zip(names, pages, strict=True)}

    async def clear(self, channel: str) -> StreamPosition:
        """Remove a channel's history: every position before is unrecoverable. Returns the new one."""
        try:
            row = await self._database.fetchrow(_CLEAR, channel)
        except (DatabaseUnavailable, asyncpg.PostgresError) as error:
            raise LogUnavailable(explain(error)) from error
        assert row is not None, "clear_channel answers always"
        return StreamPosition(row["last_offset"], f"{row['generation']}.{row['epoch']}")

    async def close(self) -> None:
        """Let running statements end."""
        if self._running:
            await asyncio.wait(self._running)

    def _ask(self, request: _Request) -> asyncio.Future[Page]:
        future = self._waiting.get(request)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._waiting[request] = loop.create_future()
            if not self._scheduled:
                self._scheduled = True
                loop.call_soon(self._start)
        # Shielded: a caller that gives up must not take the answer from the others.
        return asyncio.shield(future)

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._running) < IN_FLIGHT:
            task = asyncio.create_task(self._run(self._take()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    def _take(self) -> dict[_Request, asyncio.Future[Page]]:
        batch: dict[_Request, asyncio.Future[Page]] = {}
        size = 0
        for request in list(self._waiting):
            size += min(request.max_bytes, request.limit * USUAL_BYTES)
            if batch and (size > MAX_BYTES or len(batch) >= MAX_REQUESTS):
                break
            batch[request] = self._waiting.pop(request)
        return batch

    async def _run(self, batch: dict[_Request, asyncio.Future[Page]]) -> None:
        try:
            rows = await self._database.fetch(
                _READ,
                [request.channel for request in batch],
                [request.after for request in batch],
                [request.limit for request in batch],
                [request.max_bytes for request in batch],
                [request.back for request in batch],
            )
            pages = _pages(len(batch), rows)
        except (DatabaseUnavailable, asyncpg.PostgresError) as error:
            for future in batch.values():
                future.set_exception(LogUnavailable(explain(error)))
                future.exception()  # each caller has its own; this one may have none left
            return
        for future, page in zip(batch.values(), pages, strict=True):
            future.set_result(page)


def _pages(number: int, rows: Sequence[asyncpg.Record]) -> list[Page]:
    pages: list[Page | None] = [None] * number
    publications: list[Publication] = []
    for i, epoch, head, first, offset, created_at, data, info, tags, generation in rows:
        page = pages[i - 1]
        if page is None:
            publications = []
            position = StreamPosition(head or 0, f"{generation}.{epoch or 0}")
            page = pages[i - 1] = Page(publications, position, first or 1)
        if offset is not None:
            page.publications.append(publication(data, info, tags, offset, milliseconds(created_at)))
    assert None not in pages, "read_channels answers every request"
    return pages  # type: ignore[return-value]
