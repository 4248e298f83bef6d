"""How far students have come: lessons opened and completed, and where they are in a video."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.queries import load

MAX_TOGETHER = 500  # positions in one statement

_SQL = load("lms_progress")


class Opened(Struct, frozen=True, kw_only=True):
    """A lesson that a student has opened. `position` and `furthest`: seconds into its video; `seen_at`: when the
    position was said."""

    lesson_id: UUID
    opened_at: datetime
    completed_at: datetime | None
    position: int
    furthest: int
    seen_at: datetime | None


class StudentProgress(Struct, frozen=True):
    """Of the `lessons` that are published the student has completed `lessons_done`; `active_at`: when a lesson was last
    opened or completed."""

    user_id: UUID
    name: str
    status: str
    enrolled_at: datetime
    lessons_done: int
    lessons: int
    completed_at: datetime | None
    active_at: datetime | None


class Place(Struct, frozen=True, gc=False):
    """Where somebody is in a video, and the furthest that they were, in seconds. `at`: Unix milliseconds."""

    position: int
    furthest: int
    at: int


class ProgressStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, course_id: UUID, lesson_id: UUID, user_id: UUID, *, done: bool) -> Opened | None:
        """A student has opened a lesson, and completed it (`done`, or because opening is enough); once more changes
        nothing. `None`: they do not see it."""
        row = await self._database.fetchrow(_SQL["open"], course_id, lesson_id, user_id, done)
        return _lesson(row, lesson_id) if row else None

    async def move(self, places: Sequence[tuple[UUID, UUID, UUID, Place, datetime]]) -> None:
        """New places: user, course, lesson (each three once), the place and its time."""
        users, courses, lessons, where, times = zip(*places, strict=True)
        await self._database.execute(
            _SQL["move"],
            users,
            courses,
            lessons,
            [each.position for each in where],
            [each.furthest for each in where],
            times,
        )

    async def lessons(self, course_id: UUID, user_id: UUID) -> list[Opened]:
        """The lessons that a student has opened, in no order."""
        rows = await self._database.fetch(_SQL["lessons"], course_id, user_id)
        return [_lesson(row, row["lesson_id"]) for row in rows]

    async def student(self, course_id: UUID, user_id: UUID) -> StudentProgress | None:
        """Former students have it too. `None`: never a student of the course."""
        row = await self._database.fetchrow(_SQL["student"], course_id, user_id)
        return StudentProgress(*row) if row else None

    async def students(self, course_id: UUID, *, after: UUID | None, limit: int) -> list[StudentProgress]:
        """Students by id, those that follow `after`."""
        return [StudentProgress(*row) for row in await self._database.fetch(_SQL["students"], course_id, after, limit)]

    async def staff(self, course_id: UUID, people: Sequence[UUID]) -> list[UUID]:
        """Those of them who teach the course, or are admins."""
        return [row["id"] for row in await self._database.fetch(_SQL["staff"], course_id, people)]


def _lesson(row: asyncpg.Record, lesson_id: UUID) -> Opened:
    return Opened(
        lesson_id=lesson_id,
        opened_at=row["opened_at"],
        completed_at=row["completed_at"],
        position=row["position"],
        furthest=row["furthest"],
        seen_at=row["seen_at"],
    )
