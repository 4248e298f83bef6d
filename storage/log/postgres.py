"""The message log on PostgreSQL: appends go through the host's log writer, reads through the node's pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from realtime.interfaces import Appended, Entry, Page, Span
from realtime.protocol import StreamPosition
from storage.database import Database
from storage.log.client import LogClient
from storage.log.reader import LogReader


class PostgresLog:
    """Implements `realtime.interfaces.MessageLog`. `on_heads` hears each second which channels changed."""

    def __init__(
        self, database: Database, socket_path: Path, on_heads: Callable[[Mapping[str, StreamPosition]], None]
    ) -> None:
        self.client = LogClient(socket_path, on_heads)
        self._reader = LogReader(database)

    async def start(self) -> None:
        """Connect to the log writer. Raises `LogUnavailable` when it is not there."""
        await self.client.start()

    async def close(self) -> None:
        """Wait for appends in flight, then disconnect. The database stays open."""
        await self.client.close()
        await self._reader.close()

    def append(self, entry: Entry) -> Awaitable[Appended]:
        return self.client.append(entry)

    async def read(self, channel: str, after: int, limit: int, max_bytes: int | None = None) -> Page:
        return await self._reader.read(channel, after, limit, max_bytes)

    async def read_all(self, spans: Sequence[Span]) -> Sequence[Page]:
        return await self._reader.read_all(spans)

    async def read_back(self, channel: str, before: int | None, limit: int, max_bytes: int | None = None) -> Page:
        return await self._reader.read_back(channel, before, limit, max_bytes)

    async def heads(self, channels: Sequence[str]) -> dict[str, StreamPosition]:
        return await self._reader.heads(channels)

    async def clear(self, channel: str) -> StreamPosition:
        """Remove a channel's history: every position before is unrecoverable. Returns the new one."""
        return await self._reader.clear(channel)
