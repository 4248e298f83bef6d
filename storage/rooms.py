"""Rooms and their members: what can be asked. How they change is in `storage/room_changes.py`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.log.publication import milliseconds
from storage.queries import load

Kind = Literal["direct", "group", "course"]
Role = Literal["owner", "moderator", "member"]

FOR_EVER = datetime.max.replace(tzinfo=UTC)
"""PostgreSQL's `infinity`: a moment like any other to whoever compares it with the clock."""

_SQL = load("rooms")


class Member(Struct, frozen=True, omit_defaults=True):
    """`muted_until` is set while they are muted; in the year 9999: until somebody says otherwise."""

    user_id: UUID
    role: Role
    name: str
    joined_at: datetime
    muted_until: datetime | None = None


class OpenRoom(Struct, frozen=True):
    """A group that anybody may join, as those see it who are not in it."""

    id: UUID
    title: str
    members: int
    created_at: datetime


class Last(Struct, frozen=True):
    """A room's last message. `data` is JSON without offset and time, which is the commit's in Unix milliseconds.

    `author`: id and name.
    """

    offset: int
    time: int
    data: bytes
    author: tuple[UUID, str] | None


class Summary(Struct, frozen=True):
    """A room as one of its members sees it. Offsets are the log's, `epoch` is the wire's.

    `talked_at`: when the last message was said, or the room was made; `cursor`: how far the member has read;
    `peer`: the other one of a direct room (id and name).
    """

    id: UUID
    kind: Kind
    title: str
    open: bool
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None
    role: Role
    muted_until: datetime | None
    members: int
    peer: tuple[UUID, str] | None
    offset: int
    epoch: str
    cursor: int
    unread: int
    mentions: int
    talked_at: datetime
    last: Last | None


class RoomStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, room_id: UUID, user_id: UUID, cursors: Mapping[UUID, int]) -> Summary | None:
        """A room as the user sees it; `None`: not a member. `cursors` as in `summaries`."""
        found = await self._summaries(user_id, room_id, None, None, None, 1, cursors=cursors)
        return found[0] if found else None

    async def summaries(
        self,
        user_id: UUID,
        cursors: Mapping[UUID, int],
        *,
        archived: bool = False,
        after: tuple[datetime, UUID] | None = None,
        limit: int = 100,
    ) -> list[Summary]:
        """At most `limit` of the user's rooms, newest talk first, those that follow `after` (`talked_at` and id).

        `cursors` (by room) may be ahead of the stored ones. One beyond the end of its room's log is of another history
        and is not believed.
        """
        since, last = after or (None, None)
        return await self._summaries(user_id, None, archived, since, last, limit, cursors=cursors)

    async def _summaries(self, user_id: UUID, *which: Any, cursors: Mapping[UUID, int]) -> list[Summary]:
        rows = await self._database.fetch(_SQL["summaries"], user_id, *which, list(cursors), list(cursors.values()))
        return [_summary(row) for row in rows]

    async def find(
        self, beginning: str, *, after: tuple[str, UUID] | None = None, limit: int = 100
    ) -> list[tuple[str, OpenRoom]]:
        """At most `limit` open groups whose title begins so, in whatever case, by title, each with the key by which it
        is sorted; those that follow `after` (key and id)."""
        key, last = after or (None, None)
        rows = await self._database.fetch(_SQL["find"], beginning, key, last, limit)
        return [(row["sort"], OpenRoom(row["id"], row["title"], row["members"], row["created_at"])) for row in rows]

    async def role(self, room_id: UUID, user_id: UUID) -> Role | None:
        """`None`: not a member."""
        role: Role | None = await self._database.fetchval(_SQL["role"], room_id, user_id)
        return role

    async def members(self, room_id: UUID, *, after: UUID | None = None, limit: int = 100) -> list[Member]:
        """At most `limit` members by id, those that follow `after`."""
        rows = await self._database.fetch(_SQL["members"], room_id, after, limit)
        return [
            Member(row["user_id"], row["role"], row["name"], row["joined_at"], moment(row["muted_until"]))
            for row in rows
        ]


def moment(value: datetime | None) -> datetime | None:
    """A time with its zone: asyncpg gives `infinity` without one."""
    return FOR_EVER if value == datetime.max else value


def _summary(row: asyncpg.Record) -> Summary:
    talk = row["talk_offset"]
    author = (row["author_id"], row["author_name"]) if row["author_id"] else None
    return Summary(
        id=row["id"],
        kind=row["kind"],
        title=row["title"],
        open=row["open"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        archived_at=row["archived_at"],
        role=row["role"],
        muted_until=moment(row["muted_until"]),
        members=row["members"],
        peer=(row["peer_id"], row["peer_name"]) if row["peer_id"] else None,
        offset=row["last_offset"] or 0,
        epoch=f"{row['generation']}.{row['epoch'] or 0}",
        cursor=row["place"],
        unread=row["unread"],
        mentions=row["mentions"],
        talked_at=row["sort"],
        last=Last(talk, milliseconds(row["talked_at"]), row["data"], author) if talk else None,
    )
