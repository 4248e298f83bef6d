"""How far each has come in a course, and who is in it right now.

Every method raises `CommandError`: 1002 for a lesson that is not there for them, 107 for a value that cannot be, 100
while PostgreSQL is away.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.services.lms.course_cache import CourseCache
from gateway_node.services.lms.courses import is_released
from gateway_node.services.stores import asked
from presence.active import ActiveUnknown, ActiveUsers
from realtime import codes
from storage.lms.progress import LessonProgress, ProgressStore

MAX_PAGE = 100
Position = Annotated[int, Meta(ge=0, le=7 * 86400)]


class Step(Struct, forbid_unknown_fields=True):
    """Being in a lesson: `position` in seconds into its video, `done` where it is completed by hand. Neither: it is
    open."""

    position: Position | None = None
    done: bool = False


class CourseProgress(Struct, frozen=True, omit_defaults=True):
    """`percent` of the lessons that there are for students now."""

    lessons_done: int
    lessons: int
    percent: float
    progress: list[LessonProgress]


class StudentLine(Struct, frozen=True):
    user_id: UUID
    name: str
    lessons_done: int
    percent: float
    active_at: datetime | None


class StudentPage(Struct, frozen=True, omit_defaults=True):
    lessons: int
    students: list[StudentLine]
    next: str = ""


class Active(Struct, frozen=True):
    """People in the last five minutes; lessons in which nobody was are left out."""

    users: int
    lessons: dict[UUID, int]


class Progress:
    def __init__(self, store: ProgressStore, cache: CourseCache, active: ActiveUsers) -> None:
        self._store = store
        self._cache = cache
        self._active = active

    async def step(
        self, user_id: UUID, course_id: UUID, lesson_id: UUID, step: Step, *, teaches: bool
    ) -> LessonProgress:
        """Note where somebody is."""
        found = await asked(
            self._store.move(course_id, user_id, lesson_id, position=step.position, done=step.done, drafts=teaches)
        )
        if found is None:
            raise codes.NOT_FOUND.saying("there is no such lesson")
        await self._active.mark(str(user_id), str(course_id), str(lesson_id))
        progress, completed = found
        if completed and (lessons := len(await self._lessons(course_id))):
            await asked(self._store.complete(course_id, user_id, lessons))
        return progress

    async def mark(self, user_id: UUID, course_id: UUID) -> None:
        """Somebody is in the course, in no lesson."""
        await self._active.mark(str(user_id), str(course_id))

    async def mine(self, user_id: UUID, course_id: UUID) -> CourseProgress:
        """One's own, with where to go on in each lesson."""
        found = await asked(self._store.mine(course_id, user_id))
        lessons = await self._lessons(course_id)
        done = sum(each.completed_at is not None and each.lesson_id in lessons for each in found)
        return CourseProgress(done, len(lessons), _percent(done, len(lessons)), list(found))

    async def of_students(self, course_id: UUID, *, after: UUID | None, limit: int = MAX_PAGE) -> StudentPage:
        """Each student's, by their id."""
        lessons = len(await self._lessons(course_id))
        found = await asked(self._store.of_students(course_id, after=after, limit=limit + 1))
        lines = [
            StudentLine(
                each.user_id, each.name, each.lessons_done, _percent(each.lessons_done, lessons), each.active_at
            )
            for each in found[:limit]
        ]
        return StudentPage(lessons, lines, str(lines[-1].user_id) if len(found) > limit else "")

    async def active(self, course_id: UUID) -> Active:
        """Who is there now. Raises error 100 while Redis is away, too."""
        lessons = sorted(await self._lessons(course_id))
        try:
            users, *counts = await self._active.count(str(course_id), [str(each) for each in lessons])
        except ActiveUnknown:
            raise codes.INTERNAL from None
        return Active(users, {lesson: count for lesson, count in zip(lessons, counts, strict=True) if count})

    async def _lessons(self, course_id: UUID) -> set[UUID]:
        """Those that there are for students now, from the cache."""
        course = await asked(self._cache.get(course_id))
        if course is None:
            return set()
        now = datetime.now(UTC)
        return {each.id for module in course.modules for each in module.lessons if is_released(each, now)}


def _percent(done: int, lessons: int) -> float:
    return round(100 * min(done, lessons) / lessons, 1) if lessons else 0.0
