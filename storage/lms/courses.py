"""Courses, their modules and their lessons.

`courses.version` counts every change of a course and of what is in it, so that one number says whether somebody has the
present one. Lessons have a version of their own besides: two people may edit two lessons at once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from storage.batches import Batches
from storage.database import Database
from storage.lms.school import note
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_courses")
_FILES = load("files")

Status = Literal["draft", "published", "archived"]
Admission = Literal["open", "code", "closed"]
Difficulty = Literal["", "beginner", "intermediate", "advanced"]
LessonStatus = Literal["draft", "published"]
Completion = Literal["open", "video", "done"]


class CodeTaken(Exception):
    """Another course has this invitation code."""


class Metadata(Struct, frozen=True):
    """What a catalogue sorts courses by."""

    tags: tuple[str, ...] = ()
    difficulty: Difficulty = ""


class LessonLine(Struct, frozen=True, rename={"video_url": "videoUrl"}, kw_only=True):
    """A lesson as the outline of its course has it. `duration` in seconds; from `release_at` on students see it."""

    id: UUID
    title: str
    video_url: str | None = None
    duration: int | None = None
    status: LessonStatus = "draft"
    release_at: datetime | None = None
    completion: Completion = "open"


class Module(Struct, frozen=True):
    id: UUID
    title: str
    lessons: tuple[LessonLine, ...] = ()


class Lesson(LessonLine, frozen=True, kw_only=True):
    """`content`: blocks, as JSON."""

    module_id: UUID
    content: msgspec.Raw
    version: int
    updated_at: datetime


class Course(Struct, frozen=True, kw_only=True):
    """A row of `courses`; `modules` where they were asked for."""

    id: UUID
    title: str
    description: str
    instructor_id: UUID | None
    status: Status
    publish_at: datetime | None
    admission: Admission
    code: str | None
    capacity: int | None
    students: int
    metadata: Metadata
    room_id: UUID | None
    version: int
    created_at: datetime
    updated_at: datetime
    modules: tuple[Module, ...] = ()


class Place(Struct, frozen=True):
    """Where a lesson stands in its course."""

    lesson_id: UUID
    module_id: UUID
    position: int


class CourseStanding(NamedTuple):
    """How somebody stands to the school and to a course. `course_status` is missing where there is no such course."""

    school_role: str
    course_role: Literal["student", "assistant", "teacher"] | None
    course_status: str | None
    admission: str | None
    students: int | None
    version: int | None


class CourseChange:
    """A locked course, in a transaction that ends with the block it was given to."""

    def __init__(self, connection: Connection, course: Course) -> None:
        self.connection = connection
        self.course = course

    async def update(
        self,
        *,
        title: str,
        description: str,
        admission: Admission,
        code: str | None,
        capacity: int | None,
        metadata: Metadata,
        publish_at: datetime | None,
    ) -> None:
        """Raises `CodeTaken`."""
        try:
            row = await self.connection.fetchrow(
                _SQL["update"],
                *(self.course.id, title, description, admission, code, capacity, _json(metadata), publish_at),
            )
        except asyncpg.UniqueViolationError:
            raise CodeTaken from None
        assert row is not None, "it is locked"
        self.course = course_of(row)

    async def set_status(self, status: Status) -> None:
        row = await self.connection.fetchrow(_SQL["set_status"], self.course.id, status)
        assert row is not None, "it is locked"
        self.course = course_of(row)

    async def touch(self) -> None:
        await self.connection.execute(_SQL["touch"], self.course.id)

    async def used_by(self) -> dict[str, bool]:
        """What is in the way of deleting the course."""
        row = await self.connection.fetchrow(_SQL["used_by"], self.course.id)
        assert row is not None
        return {name: bool(count) for name, count in row.items()}

    async def delete(self) -> None:
        await self.connection.execute(_SQL["delete"], self.course.id)

    async def record(self, kind: str, actor: UUID | None, subject: UUID | None = None, **data: Any) -> None:
        """What happened, for notifications and reports."""
        await self.connection.execute(
            _SQL["event"], kind, self.course.id, actor, subject, json.dumps({"course": self.course.title, **data})
        )

    async def note(self, act: str, actor: UUID, subject: UUID | None = None, **data: Any) -> None:
        """What somebody in charge did to a person, or to the course itself, for the audit log."""
        data = {"course_id": self.course.id, "course": self.course.title, **data}
        await note(self.connection, actor, act, subject or self.course.id, data)

    async def attach(
        self, files: Sequence[UUID], person: UUID, audience: Literal["course", "staff"]
    ) -> dict[UUID, str]:
        """Keep files of the course's room for its work; their media types. One that is not there, or not that person's
        to give, is not among them."""
        rows = await self.connection.fetch(_FILES["attach"], self.course.id, list(set(files)), person, audience)
        return {row["id"]: row["content_type"] for row in rows}

    async def detach(self, files: Sequence[UUID]) -> None:
        """Give up those that no lesson refers to any more."""
        if files:
            await self.connection.execute(_FILES["detach"], self.course.id, list(files))

    # --- modules and lessons -----------------------------------------------------------------------------------

    async def count(self, what: Literal["modules", "lessons"]) -> int:
        found: int = await self.connection.fetchval(_SQL[f"count_{what}"], self.course.id)
        return found

    async def add_module(self, id: UUID, title: str) -> Module:
        row = await self.connection.fetchrow(_SQL["add_module"], self.course.id, id, title)
        assert row is not None
        return Module(row["id"], row["title"])

    async def rename_module(self, module_id: UUID, title: str) -> bool:
        return await self.connection.fetchrow(_SQL["rename_module"], self.course.id, module_id, title) is not None

    async def module(self, module_id: UUID) -> Module | None:
        row = await self.connection.fetchrow(_SQL["module"], self.course.id, module_id)
        return Module(row["id"], row["title"]) if row else None

    async def delete_module(self, module_id: UUID) -> bool:
        """`False`: there is none without lessons."""
        done: str = await self.connection.execute(_SQL["delete_module"], self.course.id, module_id)
        return done == "DELETE 1"

    async def add_lesson(self, id: UUID, module_id: UUID, values: Sequence[Any]) -> Lesson:
        """`values`: title, content (JSON text), video URL, duration, status, release, completion."""
        row = await self.connection.fetchrow(_SQL["add_lesson"], self.course.id, id, module_id, *values)
        assert row is not None
        return lesson_of(row)

    async def lesson(self, lesson_id: UUID) -> Lesson | None:
        """Locked."""
        row = await self.connection.fetchrow(_SQL["lock_lesson"], self.course.id, lesson_id)
        return lesson_of(row) if row else None

    async def update_lesson(self, lesson_id: UUID, values: Sequence[Any]) -> Lesson:
        row = await self.connection.fetchrow(_SQL["update_lesson"], self.course.id, lesson_id, *values)
        assert row is not None, "it is locked"
        return lesson_of(row)

    async def delete_lesson(self, lesson_id: UUID) -> bool:
        done: str = await self.connection.execute(_SQL["delete_lesson"], self.course.id, lesson_id)
        return done == "DELETE 1"

    async def outline(self) -> dict[UUID, list[UUID]]:
        """The ids of the modules, each with those of its lessons, in no order."""
        found: dict[UUID, list[UUID]] = {}
        for module_id, lesson_id in await self.connection.fetch(_SQL["outline"], self.course.id):
            lessons = found.setdefault(module_id, [])
            if lesson_id is not None:
                lessons.append(lesson_id)
        return found

    async def order(self, modules: Sequence[UUID], places: Sequence[Place]) -> None:
        await self.connection.execute(_SQL["order_modules"], self.course.id, modules)
        await self.connection.execute(
            _SQL["order_lessons"],
            self.course.id,
            [each.lesson_id for each in places],
            [each.module_id for each in places],
            [each.position for each in places],
        )


class CourseStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standings: Batches[tuple[UUID, UUID | None], CourseStanding | None] = Batches(self._fetch_standings)

    async def standing(self, user_id: UUID, course_id: UUID | None) -> CourseStanding | None:
        """Not older than the question. `None`: no such user."""
        return await self._standings.ask((user_id, course_id))

    async def _fetch_standings(self, questions: Sequence[tuple[UUID, UUID | None]]) -> Sequence[CourseStanding | None]:
        answers: list[CourseStanding | None] = [None] * len(questions)
        for i, *standing in await self._database.fetch(_SQL["standings"], *map(list, zip(*questions, strict=True))):
            answers[i - 1] = CourseStanding(*standing)
        return answers

    async def get(self, course_id: UUID) -> Course | None:
        """With its modules, and their lessons without content."""
        row = await self._database.fetchrow(_SQL["get"], course_id)
        return course_of(row) if row else None

    async def lesson(self, course_id: UUID, lesson_id: UUID) -> Lesson | None:
        row = await self._database.fetchrow(_SQL["lesson"], course_id, lesson_id)
        return lesson_of(row) if row else None

    async def catalogue(
        self,
        *,
        words: str | None = None,
        tag: str | None = None,
        difficulty: str | None = None,
        after: tuple[datetime, UUID] | None = None,
        limit: int,
    ) -> list[Course]:
        """Courses that anybody may come into, newest first, those that follow `after`."""
        moment, last = after or (None, None)
        if words is None and tag is None and difficulty is None:
            rows = await self._database.fetch(_SQL["catalogue"], moment, last, limit)
        else:
            rows = await self._database.fetch(_SQL["search"], moment, last, limit, words, tag, difficulty)
        return [course_of(row) for row in rows]

    async def mine(
        self, user_id: UUID, *, after: tuple[datetime, UUID] | None = None, limit: int
    ) -> list[tuple[Course, str, datetime]]:
        """Courses that the user is in, with role and time of enrolment, latest first."""
        rows = await self._database.fetch(_SQL["mine"], user_id, *(after or (None, None)), limit)
        return [(course_of(row), row["my_role"], row["enrolled_at"]) for row in rows]

    @asynccontextmanager
    async def changing(self, course_id: UUID) -> AsyncIterator[CourseChange | None]:
        """A change of a course; `None` is given where there is none."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], course_id)
            yield CourseChange(connection, course_of(row)) if row else None

    @asynccontextmanager
    async def due(self, most: int) -> AsyncIterator[list[CourseChange]]:
        """Drafts whose time of publication has come, locked."""
        async with self._database.transaction() as connection:
            found = [row["id"] for row in await connection.fetch(_SQL["due"], most)]
            rows = [await connection.fetchrow(_SQL["lock"], each) for each in found]
            yield [CourseChange(connection, course_of(row)) for row in rows if row]


async def insert(connection: Connection, id: UUID, instructor_id: UUID, *values: Any) -> Course | None:
    """A new draft. `values`: title, description, admission, code, capacity. `None`: the id is taken, by an earlier
    attempt. Raises `CodeTaken`."""
    title, description, admission, code, capacity, metadata = values
    try:
        row = await connection.fetchrow(
            _SQL["create"], id, title, description, instructor_id, admission, code, capacity, _json(metadata)
        )
    except asyncpg.UniqueViolationError:
        raise CodeTaken from None
    return course_of(row) if row else None


def course_of(row: asyncpg.Record) -> Course:
    return Course(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        instructor_id=row["instructor_id"],
        status=row["status"],
        publish_at=row["publish_at"],
        admission=row["admission"],
        code=row["code"],
        capacity=row["capacity"],
        students=row["students"],
        metadata=msgspec.json.decode(row["metadata"], type=Metadata),
        room_id=row["room_id"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        modules=msgspec.json.decode(row["modules"], type=tuple[Module, ...]) if "modules" in row else (),
    )


def lesson_of(row: asyncpg.Record) -> Lesson:
    return Lesson(
        id=row["id"],
        module_id=row["module_id"],
        title=row["title"],
        content=msgspec.Raw(row["content"].encode()),
        video_url=row["video_url"],
        duration=row["duration"],
        status=row["status"],
        release_at=row["release_at"],
        completion=row["completion"],
        version=row["version"],
        updated_at=row["updated_at"],
    )


def _json(metadata: Metadata) -> str:
    return msgspec.json.encode(metadata).decode()
