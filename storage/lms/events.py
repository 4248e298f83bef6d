"""What happened in courses, read by whoever tells or counts it, each from a place of its own.

A consumer takes events and moves its place in one transaction, so that what it makes of them is made once, whatever
dies in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from decimal import Decimal
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


class LessonNumbers(Struct, frozen=True):
    """How many students have opened and completed a lesson."""

    lesson_id: UUID
    title: str
    opened: int
    completed: int


class Spread(Struct, frozen=True):
    """Grades of an item, or of a course or the school (`item_id` of zeros, `title` "all", no `kind`). `tenths`: how
    many there are from 0 to below 10 % of the points, and so on; the last one counts those with all of them. `mean` in
    per cent."""

    item_id: UUID
    title: str
    kind: str
    grades: int
    mean: float | None
    tenths: Sequence[int]


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

    async def count_messages(self, most: int) -> int:
        """Add up the messages of courses' rooms since the last look; of how many courses there were any."""
        return int(await self._database.fetchval(_SQL["count_messages"], most, SCHOOL))

    async def lessons(self, course_id: UUID) -> Sequence[LessonNumbers]:
        """In the order of the course."""
        return [LessonNumbers(*row) for row in await self._database.fetch(_SQL["lessons"], course_id)]

    async def students(self, course_id: UUID) -> int:
        return int(await self._database.fetchval(_SQL["students"], course_id) or 0)

    async def spreads(self, course_id: UUID) -> Sequence[Spread]:
        """The whole first, then the items."""
        found: dict[UUID, list[Any]] = {}
        for row in await self._database.fetch(_SQL["spreads"], course_id, SCHOOL):
            found.setdefault(row["item_id"], []).append(row)
        return [_spread(rows) for rows in found.values()]

    async def totals(self, course_id: UUID) -> dict[str, int]:
        return {row["kind"]: row["events"] for row in await self._database.fetch(_SQL["totals"], course_id)}


async def count(connection: Connection, events: Sequence[Event]) -> None:
    """Add events up, by course and for the school, by lesson and by grade."""
    counted = Counter((place, each.at.date(), each.kind) for each in events for place in (each.course_id, SCHOOL))
    columns = zip(*((place, day, kind, number) for (place, day, kind), number in counted.items()), strict=True)
    await connection.execute(_SQL["count"], *map(list, columns))
    await _count_lessons(connection, events)
    await _count_grades(connection, events)


async def _count_lessons(connection: Connection, events: Sequence[Event]) -> None:
    opened = Counter((each.course_id, each.subject_id) for each in events if each.kind == "lesson.opened")
    completed = Counter((each.course_id, each.subject_id) for each in events if each.kind == "lesson.completed")
    rows = [
        (course, lesson, opened[course, lesson], completed[course, lesson]) for course, lesson in opened | completed
    ]
    if rows:
        await connection.execute(_SQL["count_lessons"], *map(list, zip(*rows, strict=True)))


async def _count_grades(connection: Connection, events: Sequence[Event]) -> None:
    """A grade that changes leaves one tenth and enters another, or the same."""
    rows = []
    for event in events:
        # Without per cent it is of something that has no points any more.
        if event.kind == "grade.changed" and event.data["percent"] is not None:
            for course, item in ((event.course_id, event.subject_id), (event.course_id, SCHOOL), (SCHOOL, SCHOOL)):
                rows.append((course, item, Decimal(str(event.data["percent"])), 1))
                if event.data["was"] is not None:
                    rows.append((course, item, Decimal(str(event.data["was"])), -1))
    if rows:
        await connection.execute(_SQL["count_grades"], *map(list, zip(*rows, strict=True)))


def _spread(rows: Sequence[Any]) -> Spread:
    tenths = [0] * 11
    for row in rows:
        tenths[row["tenth"]] = row["grades"]
    grades, percent = sum(tenths), float(sum(row["percent"] for row in rows))
    first = rows[0]
    return Spread(first["item_id"], first["title"], first["kind"], grades, percent / grades if grades else None, tenths)
