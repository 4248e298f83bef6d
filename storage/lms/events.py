"""What happened in courses, read by whoever tells or counts it, each from a place of its own.

A consumer takes events and moves its place in one transaction, so that what it makes of them is made once, whatever
dies in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_events")
SCHOOL = UUID(int=0)
"""The whole school, where activity is counted by course."""

Consumer = Literal["notifications", "reports"]
CONSUMERS: tuple[Consumer, ...] = ("notifications", "reports")


class Event(Struct, frozen=True):
    id: int
    kind: str
    course_id: UUID
    actor_id: UUID | None
    subject_id: UUID | None
    data: dict[str, Any]
    at: datetime


class Day(Struct, frozen=True):
    """How often something happened on a day."""

    day: date
    kind: str
    events: int


class EventStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def consume(self, consumer: Consumer, most: int) -> AsyncIterator[tuple[Connection, Sequence[Event]]]:
        """The next events, oldest first. Two workers of one consumer take turns."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_SQL["next"], consumer, most)
            yield (
                connection,
                [
                    Event(
                        row["id"],
                        row["kind"],
                        row["course_id"],
                        row["actor_id"],
                        row["subject_id"],
                        msgspec.json.decode(row["data"]),
                        row["at"],
                    )
                    for row in rows
                ],
            )
            if rows:
                await connection.execute(_SQL["move"], consumer, rows[-1]["xid"], rows[-1]["id"])

    async def pending(self) -> bool:
        """Whether there is anything to do. Writes nothing, unlike `consume`, which locks: every node asks again and
        again."""
        return bool(await self._database.fetchval(_SQL["pending"], list(CONSUMERS)))

    async def trim(self) -> None:
        """Forget what every consumer has seen."""
        await self._database.execute(_SQL["trim"], list(CONSUMERS))

    async def activity(self, course_id: UUID, since: date) -> Sequence[Day]:
        return [Day(*row) for row in await self._database.fetch(_SQL["activity"], course_id, since)]

    async def totals(self, course_id: UUID) -> dict[str, int]:
        return {row["kind"]: row["events"] for row in await self._database.fetch(_SQL["totals"], course_id)}


async def count(connection: Connection, events: Sequence[Event]) -> None:
    """Add events up, by course and for the school."""
    counted = Counter((place, each.at.date(), each.kind) for each in events for place in (each.course_id, SCHOOL))
    columns = zip(*((place, day, kind, number) for (place, day, kind), number in counted.items()), strict=True)
    await connection.execute(_SQL["count"], *map(list, columns))
