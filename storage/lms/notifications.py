"""What people are told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import Raw, Struct

from storage.database import Database
from storage.deliveries import Way, deliver
from storage.lms.events import Event
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_notifications")


class Notification(Struct, frozen=True, omit_defaults=True):
    id: UUID
    kind: str
    course_id: UUID | None
    data: Raw
    created_at: datetime
    read_at: datetime | None = None


class Untold(Struct, frozen=True):
    user_id: UUID
    notification: Notification


class NotificationStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def untold(self, most: int, ways: Sequence[Way]) -> AsyncIterator[Sequence[Untold]]:
        """Those that are not in their personal channel yet, locked; at the end of the block they are, and what of them
        goes other `ways` is in the outbox."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_SQL["untold"], most)
            yield [Untold(row["user_id"], _notification(row)) for row in rows]
            if rows:
                ids = [row["id"] for row in rows]
                await connection.execute(_SQL["told"], ids)
                if ways:
                    await deliver(connection, ids, ways)

    async def remind(self) -> int:
        """Tell whoever has work that is due within a day, or a class that is about to begin; how many."""
        done = [await self._database.execute(_SQL[name]) for name in ("tell_due", "tell_quizzes", "tell_classes")]
        return sum(int(each.rpartition(" ")[2]) for each in done)

    async def list(
        self, user_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
    ) -> tuple[Sequence[Notification], int]:
        """Newest first, those that follow `after`, and how many are unread in all."""
        rows = await self._database.fetch(_SQL["list"], user_id, *(after or (None, None)), limit)
        return [_notification(row) for row in rows], await self._database.fetchval(_SQL["unread"], user_id)

    async def read(self, user_id: UUID, id: UUID | None) -> int:
        """One is read, or all; how many are not."""
        return await self._database.fetchval(_SQL["read"], user_id, id) or 0

    async def mutes(self, user_id: UUID) -> Sequence[str]:
        """The kinds that somebody does not want to be told."""
        return [row["kind"] for row in await self._database.fetch(_SQL["mutes"], user_id)]

    async def set_mutes(self, user_id: UUID, kinds: Sequence[str]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["unmute"], user_id)
            await connection.execute(_SQL["mute"], user_id, list(kinds))


async def tell(connection: Connection, people: Sequence[UUID], event: Event, data: dict[str, Any]) -> None:
    """Of one event, once: with the same people again it does nothing."""
    key = f"event {event.id}"
    await connection.execute(_SQL["tell_people"], list(people), key, event.kind, event.course_id, json.dumps(data))


async def tell_followers(
    connection: Connection, thread_id: UUID, event: Event, data: dict[str, Any], *, but: Sequence[UUID | None]
) -> None:
    """Whoever follows a thread, `but` some."""
    values = (thread_id, event.course_id, f"event {event.id}", event.kind, json.dumps(data), list(but))
    await connection.execute(_SQL["tell_followers"], *values)


async def tell_students(connection: Connection, event: Event, data: dict[str, Any]) -> None:
    """Every student of the course."""
    key = f"event {event.id}"
    await connection.execute(_SQL["tell_students"], event.course_id, key, event.kind, json.dumps(data))


def _notification(row: Any) -> Notification:
    return Notification(
        row["id"], row["kind"], row["course_id"], Raw(row["data"].encode()), row["created_at"], row.get("read_at")
    )
