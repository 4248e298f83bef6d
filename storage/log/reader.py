"""Reads of the log, in batches (`storage.batches`).

After a restart, thousands of clients of one room ask for the same messages at once: equal requests share one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from realtime.interfaces import LogUnavailable, Page, Span
from realtime.protocol import Publication, StreamPosition
from storage.batches import Batches
from storage.database import Database, DatabaseUnavailable, explain
from storage.log.publication import milliseconds, publication
from storage.queries import load

IN_FLIGHT = 2  # statements; more would only take the node's connections from others
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


def _request(channel: str, offset: int, limit: int, max_bytes: int | None = None, *, back: bool) -> _Request:
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
        self._pages: Batches[_Request, Page] = Batches(
            self._fetch,
            in_flight=IN_FLIGHT,
            weigh=lambda request: min(request.max_bytes, request.limit * USUAL_BYTES),
            most=MAX_BYTES,
        )

    async def read(self, channel: str, after: int, limit: int, max_bytes: int | None = None) -> Page:
        """`MessageLog.read`."""
        return (await self._ask([_request(channel, after, limit, max_bytes, back=False)]))[0]

    async def read_all(self, spans: Sequence[Span]) -> Sequence[Page]:
        """`MessageLog.read_all`."""
        return await self._ask([_request(*span, back=False) for span in spans])

    async def read_back(self, channel: str, before: int | None, limit: int, max_bytes: int | None = None) -> Page:
        """`MessageLog.read_back`."""
        offset = _UNLIMITED if before is None else before
        return (await self._ask([_request(channel, offset, limit, max_bytes, back=True)]))[0]

    async def heads(self, channels: Sequence[str]) -> dict[str, StreamPosition]:
        """`MessageLog.heads`."""
        names = list(dict.fromkeys(channels))
        pages = await self._ask([_request(name, 0, 0, 0, back=False) for name in names])
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
        await self._pages.close()

    async def _ask(self, requests: Sequence[_Request]) -> list[Page]:
        try:
            return await self._pages.ask_all(requests)
        except DatabaseUnavailable as error:
            raise LogUnavailable(explain(error)) from error

    async def _fetch(self, requests: Sequence[_Request]) -> list[Page]:
        return _pages(len(requests), await self._database.fetch(_READ, *map(list, zip(*requests, strict=True))))


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
