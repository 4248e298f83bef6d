"""How far each has come in a course."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from storage.database import Database
from storage.queries import load

_SQL = load("lms_progress")
_COURSES = load("lms_courses")


class LessonProgress(Struct, frozen=True):
    """`position` in seconds into the video."""

    lesson_id: UUID
    opened_at: datetime
    completed_at: datetime | None
    position: int


class StudentProgress(Struct, frozen=True):
    user_id: UUID
    name: str
    lessons_done: int
    active_at: datetime | None


class ProgressStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def move(
        self, course_id: UUID, user_id: UUID, lesson_id: UUID, *, position: int | None, done: bool, drafts: bool
    ) -> tuple[LessonProgress, bool] | None:
        """Note that somebody is in a lesson; how far they are, and whether that completed it. `None`: there is no such
        lesson for them."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["move"], course_id, user_id, lesson_id, position, done, drafts)
            if row is None:
                return None
            for kind, new in (("lesson.opened", row["opened_now"]), ("lesson.completed", row["completed_now"])):
                if new:
                    await connection.execute(_COURSES["event"], kind, course_id, user_id, lesson_id, json.dumps({}))
            found = LessonProgress(*(row[name] for name in LessonProgress.__struct_fields__))
            return found, row["completed_now"]

    async def complete(self, course_id: UUID, user_id: UUID, lessons: int) -> bool:
        """Note that the course is completed, if that many lessons are done and it was not; whether it is now."""
        return bool(await self._database.fetchval(_SQL["complete"], course_id, user_id, lessons))

    async def mine(self, course_id: UUID, user_id: UUID) -> Sequence[LessonProgress]:
        return [LessonProgress(*row) for row in await self._database.fetch(_SQL["mine"], course_id, user_id)]

    async def of_students(self, course_id: UUID, *, after: UUID | None, limit: int) -> Sequence[StudentProgress]:
        """By id, those that follow `after`."""
        return [
            StudentProgress(*row) for row in await self._database.fetch(_SQL["of_students"], course_id, after, limit)
        ]
