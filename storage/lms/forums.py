"""Forums: threads of a course and the posts in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
from msgspec import Struct

from realtime.interfaces import Entry
from storage.database import Database
from storage.lms.school import note
from storage.log.append import append_batch, result_of
from storage.log.publication import publication
from storage.queries import load
from storage.room_changes import Told

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_forums")
_COURSES = load("lms_courses")
_encode = msgspec.json.Encoder().encode


class Thread(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`posts`: how many were ever made. `channel` is where they arrive live."""

    id: UUID
    course_id: UUID
    channel: str
    title: str
    author_id: UUID | None
    author: str | None = None
    pinned: bool = False
    locked: bool = False
    posts: int
    accepted_id: UUID | None = None
    following: bool = False
    created_at: datetime
    active_at: datetime


class Post(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`number` counts a thread's posts: 1, 2, 3 … A deleted one has no content."""

    id: UUID
    number: int
    author_id: UUID | None
    author: str | None = None
    parent_id: UUID | None = None
    content: str
    created_at: datetime
    edited_at: datetime | None = None
    deleted_at: datetime | None = None


class ThreadChange:
    """A locked thread. What is told is in the log, and `told`, after the commit."""

    def __init__(self, connection: Connection, thread: Thread) -> None:
        self.thread = thread
        self.told: list[Told] = []
        self._connection = connection
        self._entries: list[Entry] = []

    def tell(self, event: str, actor: UUID, **fields: Any) -> None:
        """An event of the thread's channel."""
        data = {"type": "event", "event": event, "thread_id": self.thread.id, "by": actor, **fields}
        self._entries.append(Entry(self.thread.channel, uuid4().bytes, str(actor), _encode(data)))

    async def add(self, id: UUID, author: UUID, content: str, parent: UUID | None) -> Post:
        row = await self._connection.fetchrow(_SQL["add_post"], self.thread.id, id, author, parent, content)
        assert row is not None, "the thread is locked"
        await self.follow(author)
        return _post({**row, "author": None})

    async def post(self, id: UUID) -> Post | None:
        row = await self._connection.fetchrow(_SQL["post"], self.thread.id, id)
        return _post(row) if row else None

    async def edit(self, id: UUID, content: str) -> None:
        await self._connection.execute(_SQL["edit"], self.thread.id, id, content)

    async def delete(self, id: UUID) -> None:
        await self._connection.execute(_SQL["delete"], self.thread.id, id)

    async def mark(self, *, pinned: bool, locked: bool, accepted_id: UUID | None) -> None:
        await self._connection.execute(_SQL["mark"], self.thread.id, pinned, locked, accepted_id)

    async def rename(self, title: str) -> None:
        await self._connection.execute(_SQL["rename"], self.thread.id, title)

    async def follow(self, user_id: UUID) -> None:
        await self._connection.execute(_SQL["follow"], self.thread.id, user_id)

    async def taking_part(self, people: Sequence[UUID]) -> list[UUID]:
        """Those of the people who take part in the course."""
        rows = await self._connection.fetch(_SQL["participants"], self.thread.course_id, list(people))
        return [row["user_id"] for row in rows]

    async def record(self, kind: str, actor: UUID, subject: UUID, **data: Any) -> None:
        """What happened, for notifications and reports."""
        course = self.thread.course_id
        await self._connection.execute(_COURSES["event"], kind, course, actor, subject, json.dumps(data, default=str))

    async def note(self, act: str, actor: UUID, subject: UUID | None, **data: Any) -> None:
        """What somebody in charge did to a person, for the audit log."""
        data = {"course_id": self.thread.course_id, "thread_id": self.thread.id, "title": self.thread.title, **data}
        await note(self._connection, actor, act, subject, data)

    async def commit(self) -> None:
        """Append what was told. The transaction's last statement."""
        if not self._entries:
            return
        outcomes = await append_batch(self._connection, self._entries)
        for entry, outcome in zip(self._entries, outcomes, strict=True):
            result = result_of(outcome)
            if isinstance(result, Exception):
                raise result
            told = publication(entry.data, entry.info, entry.tags, result.offset, result.time)
            self.told.append(Told(entry.channel, told, result.epoch))


class ForumStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def opening(self, course_id: UUID, id: UUID, author: UUID, title: str) -> AsyncIterator[ThreadChange | None]:
        """A new thread; `None`: an earlier attempt has made it."""
        async with self._database.transaction() as connection:
            if await connection.execute(_SQL["add_thread"], id, course_id, author, title) != "INSERT 0 1":
                yield None
                return
            row = await connection.fetchrow(_SQL["lock_thread"], course_id, id)
            assert row is not None, "it was made"
            change = ThreadChange(connection, _thread(row))
            yield change
            await change.commit()

    @asynccontextmanager
    async def changing(self, course_id: UUID, id: UUID) -> AsyncIterator[ThreadChange | None]:
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock_thread"], course_id, id)
            if row is None:
                yield None
                return
            change = ThreadChange(connection, _thread(row))
            yield change
            await change.commit()

    async def threads(
        self, course_id: UUID, *, after: tuple[bool, datetime, UUID] | None, limit: int
    ) -> Sequence[Thread]:
        """Pinned ones first, then those with the newest posts."""
        rows = await self._database.fetch(_SQL["threads"], course_id, *(after or (None, None, None)), limit)
        return [_thread(row) for row in rows]

    async def thread(self, course_id: UUID, id: UUID, user_id: UUID) -> Thread | None:
        row = await self._database.fetchrow(_SQL["thread"], course_id, id, user_id)
        return _thread(row) if row else None

    async def posts(self, thread_id: UUID, *, after: int, limit: int) -> Sequence[Post]:
        """By number, those that follow `after`."""
        return [_post(row) for row in await self._database.fetch(_SQL["posts"], thread_id, after, limit)]

    async def unfollow(self, thread_id: UUID, user_id: UUID) -> None:
        await self._database.execute(_SQL["unfollow"], thread_id, user_id)


def channel_of(course_id: UUID, thread_id: UUID) -> str:
    return f"thread:{course_id}:{thread_id}"


def _thread(row: asyncpg.Record) -> Thread:
    values: dict[str, Any] = {name: row.get(name) for name in Thread.__struct_fields__}
    values["following"] = bool(values["following"])
    values["channel"] = channel_of(row["course_id"], row["id"])
    return Thread(**values)


def _post(row: Any) -> Post:
    return Post(**{name: row[name] for name in Post.__struct_fields__})
