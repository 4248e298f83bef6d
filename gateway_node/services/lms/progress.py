"""Progress: which lessons a student has opened and completed, and where in a video they are.

A lesson is completed by opening it, by watching its video to 90 %, or when the student says so, as its teacher chose.
Who has completed every published lesson has completed the course: also those that are to be released later.

Who may is decided before (`gateway_node/rights.py`). Every method raises `CommandError`: 1002 for what is not there or
that students do not see, 107 for a value that cannot be, 100 while PostgreSQL is away.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.services.lms.course_cache import CourseCache
from gateway_node.services.lms.courses import is_released
from gateway_node.services.lms.places import Key, Places, TooMany
from gateway_node.services.stores import asked
from realtime import codes
from storage.lms.courses import Course, LessonLine
from storage.lms.progress import Opened, ProgressStore, StudentProgress

MAX_PAGE = 100
WATCHED = 0.9  # of a video: credits are not watched
MAX_KNOWN = 100_000  # lessons of students that a node remembers; about 40 MB
KNOWN_SECONDS = 60.0  # that a lesson counts as not completed without asking again: it may be, on another node

Position = Annotated[int, Meta(ge=0, le=7 * 86400)]
"""Seconds into a video."""


class Step(Struct, forbid_unknown_fields=True):
    """Being in a lesson: `position` in seconds into its video, `done` where it is completed by hand. Neither: it is
    open."""

    position: Position | None = None
    done: bool = False


class LessonProgress(Struct, frozen=True):
    """`position` in seconds into the video: where to go on."""

    lesson_id: UUID
    opened_at: datetime
    completed_at: datetime | None
    position: int


class CourseProgress(Struct, frozen=True, omit_defaults=True):
    """`lessons_done` of the `lessons` that are published, those that are to be released too; `status`: of the
    enrolment, `completed` from `completed_at` on. `progress`: the lessons opened, in the order of the course."""

    lessons_done: int
    lessons: int
    percent: float
    status: str
    progress: list[LessonProgress]
    completed_at: datetime | None = None


class StudentLine(Struct, frozen=True):
    """`active_at`: when they last opened or completed a lesson."""

    user_id: UUID
    name: str
    status: str
    lessons_done: int
    percent: float
    active_at: datetime | None


class StudentPage(Struct, frozen=True, omit_defaults=True):
    lessons: int
    students: list[StudentLine]
    next: str = ""


class Progress:
    def __init__(self, store: ProgressStore, cache: CourseCache, places: Places) -> None:
        self._store = store
        self._cache = cache
        self._places = places
        # What PostgreSQL knows, and when it was asked: of a lesson that is opened only the position is news.
        self._known: OrderedDict[Key, tuple[Opened, float]] = OrderedDict()

    async def step(self, user_id: UUID, course_id: UUID, lesson_id: UUID, step: Step) -> LessonProgress:
        """Note where a student is. Once more is fine."""
        course = await asked(self._cache.get(course_id))
        lesson = visible_lesson(course, lesson_id, teaches=False)
        if course is None or lesson is None:
            raise no_lesson()
        position = step.position
        if position is not None and lesson.duration is not None and position > lesson.duration:
            raise codes.BAD_REQUEST.at("/position", f"the lesson is {lesson.duration} seconds long")
        done = _completes(lesson, step)
        key = (user_id, course_id, lesson_id)
        opened = self._recall(key)
        if opened is None or (done and opened.completed_at is None):
            opened = await asked(self._store.open(course_id, lesson_id, user_id, done=done))
            if opened is None:
                raise no_lesson()
            self._remember(key, opened)
        if position is None:
            place = (await self._places.overlaid(course_id, user_id, [opened])).get(lesson_id)
            return _line(opened, place.position if place is not None else 0)
        try:
            await self._places.move(key, position)
        except TooMany:
            raise codes.INTERNAL.saying("too many places wait for PostgreSQL") from None
        return _line(opened, position)

    async def mine(self, user_id: UUID, course_id: UUID) -> CourseProgress:
        """One's own, with where to go on in each lesson that one sees."""
        return await self._of(user_id, course_id, teaches=False)

    async def of_student(self, user_id: UUID, course_id: UUID) -> CourseProgress:
        """A student's as their teacher sees it; of former students, too."""
        return await self._of(user_id, course_id, teaches=True)

    async def of_students(self, course_id: UUID, *, after: UUID | None, limit: int = MAX_PAGE) -> StudentPage:
        """Each student's, by their id."""
        found = await asked(self._store.students(course_id, after=after, limit=limit + 1))
        lines = [
            StudentLine(each.user_id, each.name, each.status, each.lessons_done, _percent(each), each.active_at)
            for each in found[:limit]
        ]
        lessons = found[0].lessons if found else 0
        return StudentPage(lessons, lines, str(lines[-1].user_id) if len(found) > limit else "")

    async def _of(self, user_id: UUID, course_id: UUID, *, teaches: bool) -> CourseProgress:
        course = await asked(self._cache.get(course_id))
        student = await asked(self._store.student(course_id, user_id))
        if course is None or student is None:
            raise codes.NOT_FOUND.saying("there is no such student")
        stored = await asked(self._store.lessons(course_id, user_id))
        places = await self._places.overlaid(course_id, user_id, stored)
        by_id = {each.lesson_id: each for each in stored}
        now = datetime.now(UTC)
        lines = [
            _line(opened, places[lesson.id].position if lesson.id in places else 0)
            for module in course.modules
            for lesson in module.lessons
            if (opened := by_id.get(lesson.id)) is not None and (teaches or is_released(lesson, now))
        ]
        return CourseProgress(
            student.lessons_done, student.lessons, _percent(student), student.status, lines, student.completed_at
        )

    def _recall(self, key: Key) -> Opened | None:
        opened, at = self._known.get(key, (None, 0.0))
        if opened is not None and opened.completed_at is None and time.monotonic() - at > KNOWN_SECONDS:
            return None
        return opened

    def _remember(self, key: Key, opened: Opened) -> None:
        self._known[key] = (opened, time.monotonic())
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    async def start(self) -> None:
        await self._places.start()

    async def stop(self) -> None:
        await self._places.stop()


def visible_lesson(course: Course | None, lesson_id: UUID, *, teaches: bool) -> LessonLine | None:
    """`None`: there is no such lesson in the course, or students do not see it."""
    if course is None:
        return None
    for module in course.modules:
        for lesson in module.lessons:
            if lesson.id == lesson_id:
                return lesson if teaches or is_released(lesson, datetime.now(UTC)) else None
    return None


def _completes(lesson: LessonLine, step: Step) -> bool:
    """Of a video whose length nobody has said only the student can know whether they have seen it."""
    if lesson.completion == "video" and lesson.duration is not None:
        return step.position is not None and step.position >= lesson.duration * WATCHED
    return step.done


def _line(opened: Opened, position: int) -> LessonProgress:
    return LessonProgress(opened.lesson_id, opened.opened_at, opened.completed_at, position)


def _percent(student: StudentProgress) -> float:
    return round(100 * student.lessons_done / student.lessons, 1) if student.lessons else 0.0


def no_lesson() -> codes.CommandError:
    return codes.NOT_FOUND.saying("there is no such lesson")
