"""Whose the files are, and who may have them. The bytes are elsewhere (storage/blobs.py), under the file's id.

A row is there before its object and after it, so that every object is known by a row: whatever dies in between, the
sweep finds the row and removes what there is.

    begin ─ object ─ finish ─ a message names it ─────────────────────────► kept, looked at again every 30 days
      └ never finished   └ nothing names it   └ never stored, or deleted ──► removed: objects first, then the row

A message takes its file in the look-up before it is stored (`refer` in messages.sql), and a deletion gives it up.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.queries import load

SWEEP_PAGE = 500  # rows of one statement of the sweep

_SQL = load("files")


class File(Struct, frozen=True):
    """A row of `files` that is whole. `size` in bytes, `width` and `height` in pixels as a viewer sees the image."""

    id: UUID
    room_id: UUID | None
    owner_id: UUID | None
    name: str
    content_type: str
    size: int
    sha256: bytes
    width: int | None
    height: int | None
    thumbnail: bool
    message_id: UUID | None
    created_at: datetime


class FileStore:
    """Every method raises `DatabaseUnavailable`.

    `orphan_ttl`: seconds that a file may be without a message. An upload has to be over by then.
    """

    def __init__(self, database: Database, orphan_ttl: float) -> None:
        self._database = database
        self.orphan_ttl = orphan_ttl

    async def begin(self, file_id: UUID, room_id: UUID, owner_id: UUID, name: str) -> bool:
        """Announce an upload. False: there is no such room, or the owner is no member."""
        done = await self._database.execute(_SQL["begin"], file_id, room_id, owner_id, name, self.orphan_ttl)
        return done != "INSERT 0 0"

    async def finish(
        self,
        file_id: UUID,
        *,
        content_type: str,
        size: int,
        sha256: bytes,
        width: int | None = None,
        height: int | None = None,
        thumbnail: bool = False,
    ) -> File | None:
        """The object is there: from now on the file can be had. `None`: the sweep has taken it."""
        row = await self._database.fetchrow(
            _SQL["finish"], file_id, content_type, size, sha256, width, height, thumbnail, self.orphan_ttl
        )
        return _file(row) if row else None

    async def visible(self, file_id: UUID, user_id: UUID) -> File | None:
        """The file, if this user may have it: a member of its room, and as long as no message carries it its owner."""
        row = await self._database.fetchrow(_SQL["visible"], file_id, user_id)
        return _file(row) if row else None

    async def avatar(self, user_id: UUID) -> File | None:
        """The picture of somebody, which everybody may see."""
        row = await self._database.fetchrow(_SQL["avatar"], user_id)
        return _file(row) if row else None

    async def due(self, limit: int = SWEEP_PAGE) -> tuple[int, list[UUID]]:
        """The sweep's look at those whose time has come: how many there were (fewer than `limit`: that was all), and
        which are to go: remove their objects, then `forget` them.

        Those come again after 10 minutes until they are forgotten, so a sweep that dies is no loss; those that a
        message carries come again after 30 days.
        """
        rows = await self._database.fetch(_SQL["due"], limit)
        return len(rows), [row["id"] for row in rows if row["removed"]]

    async def forget(self, file_id: UUID) -> None:
        """Delete the row. Its objects are gone already: nothing else knows of them."""
        await self._database.execute(_SQL["forget"], file_id)


def _file(row: asyncpg.Record) -> File:
    return File(**{name: row[name] for name in File.__struct_fields__})
