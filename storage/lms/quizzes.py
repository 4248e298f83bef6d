"""Quizzes, and who has answered what. What a question is, is for the service to say: here it is JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Raw, Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_quizzes")
_COURSES = load("lms_courses")

State = Literal["draft", "published"]
Answers = Literal["never", "after", "due"]
"""When right answers are shown: never, after handing in, or after the due date."""


class Quiz(Struct, frozen=True, kw_only=True):
    """A row of `quizzes`. `time_limit` in seconds; `questions` with their right answers, none in lists."""

    id: UUID
    course_id: UUID
    title: str
    description: str
    status: State
    opens_at: datetime | None
    due_date: datetime | None
    time_limit: int | None
    attempts: int
    shuffle: bool
    answers: Answers
    questions: Raw
    number_of_questions: int
    points: float
    weight: float
    version: int
    created_at: datetime


class Attempt(Struct, frozen=True, kw_only=True):
    """A row of `quiz_attempts`, with the name of its student. `marks`: points by question."""

    id: UUID
    course_id: UUID
    quiz_id: UUID
    student_id: UUID
    student: str
    attempt: int
    started_at: datetime
    ends_at: datetime | None
    answers: Raw
    saved_at: datetime | None
    handed_in_at: datetime | None
    points: float | None
    marks: dict[str, float]


class QuizChange:
    """A transaction about one quiz; `now` is the time of its clock."""

    def __init__(self, connection: Connection, quiz: Quiz, now: datetime | None = None) -> None:
        self.connection = connection
        self.quiz = quiz
        self.now = now

    async def update(self, values: Sequence[Any]) -> Quiz:
        row = await self.connection.fetchrow(_SQL["update"], self.quiz.course_id, self.quiz.id, *values)
        assert row is not None, "it is locked"
        return quiz_of(row)

    async def has_attempts(self) -> bool:
        return bool(await self.connection.fetchval(_SQL["has_attempts"], self.quiz.id))

    async def delete(self) -> None:
        await self.connection.execute(_SQL["delete"], self.quiz.course_id, self.quiz.id)

    async def takes_part(self, student_id: UUID) -> bool:
        return bool(await self.connection.fetchval(_SQL["takes_part"], self.quiz.course_id, student_id))

    async def attempts(self, student_id: UUID) -> list[Attempt]:
        """What the student has begun; the next is theirs until the end of the transaction."""
        await self.connection.execute(_SQL["turn"], self.quiz.id, student_id)
        rows = await self.connection.fetch(_SQL["of_student"], self.quiz.id, student_id, self.quiz.course_id)
        return [attempt_of(row) for row in rows]

    async def begin(
        self, id: UUID, student_id: UUID, *, attempt: int, started_at: datetime, ends_at: datetime | None
    ) -> None:
        quiz = self.quiz
        await self.connection.execute(
            _SQL["begin"], id, quiz.course_id, quiz.id, student_id, attempt, started_at, ends_at
        )

    async def attempt(self, id: UUID) -> tuple[Attempt, datetime] | None:
        """A locked attempt, and the time now."""
        row = await self.connection.fetchrow(_SQL["lock_attempt"], self.quiz.course_id, self.quiz.id, id)
        return (attempt_of(row), row["now"]) if row else None

    async def save(self, attempt_id: UUID, answers: Mapping[str, Any]) -> Raw:
        """Over those that were saved before; all of them."""
        return Raw(
            (await self.connection.fetchval(_SQL["save"], attempt_id, msgspec.json.encode(answers).decode())).encode()
        )

    async def close(self, attempt: Attempt, at: datetime, marks: dict[str, float], *, by: UUID | None) -> None:
        """The attempt is over, and what it is worth counts if it is the best. `by`: nobody, where its time was up."""
        points = sum(marks.values())
        execute, quiz = self.connection.execute, self.quiz
        await execute(_SQL["close"], attempt.id, at, Decimal(str(points)), json.dumps(marks))
        best = await self.connection.fetchval(_SQL["best"], quiz.id, attempt.student_id)
        await execute(_SQL["put_grade"], quiz.course_id, quiz.id, attempt.student_id, best)
        await self.record(
            "quiz.marked",
            by,
            recipients=[attempt.student_id],
            title=quiz.title,
            attempt_id=attempt.id,
            points=points,
            out_of=quiz.points,
        )

    async def record(self, kind: str, actor: UUID | None, **data: Any) -> None:
        """What happened, for notifications and reports."""
        await self.connection.execute(
            _COURSES["event"], kind, self.quiz.course_id, actor, self.quiz.id, json.dumps(data, default=str)
        )


class QuizStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, values: Sequence[Any], actor: UUID) -> Quiz | None:
        """`values`: id, course and what `update` takes. `None`: an earlier attempt has made it."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["add"], *values)
            if row is None:
                return None
            quiz = quiz_of(row)
            if quiz.status == "published":
                await QuizChange(connection, quiz).record(
                    "quiz.published", actor, title=quiz.title, due_date=quiz.due_date
                )
            return quiz

    async def list(
        self, course_id: UUID, *, drafts: bool, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Quiz]:
        rows = await self._database.fetch(_SQL["list"], course_id, drafts, *(after or (None, None)), limit)
        return [quiz_of(row) for row in rows]

    async def get(self, course_id: UUID, id: UUID) -> Quiz | None:
        row = await self._database.fetchrow(_SQL["get"], course_id, id)
        return quiz_of(row) if row else None

    @asynccontextmanager
    async def changing(self, course_id: UUID, id: UUID) -> AsyncIterator[QuizChange | None]:
        """A locked quiz."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], course_id, id)
            yield QuizChange(connection, quiz_of(row)) if row else None

    @asynccontextmanager
    async def taking(self, course_id: UUID, id: UUID) -> AsyncIterator[QuizChange | None]:
        """A quiz that does not change meanwhile; a class takes it at once."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["share"], course_id, id)
            yield QuizChange(connection, quiz_of(row), row["now"]) if row else None

    async def attempt(self, course_id: UUID, quiz_id: UUID, id: UUID) -> tuple[Attempt, datetime] | None:
        """An attempt, and the time now."""
        row = await self._database.fetchrow(_SQL["attempt"], course_id, quiz_id, id)
        return (attempt_of(row), row["now"]) if row else None

    async def of_student(self, course_id: UUID, quiz_id: UUID, student_id: UUID) -> Sequence[Attempt]:
        rows = await self._database.fetch(_SQL["of_student"], quiz_id, student_id, course_id)
        return [attempt_of(row) for row in rows]

    async def of_all(
        self, course_id: UUID, quiz_id: UUID, *, after: tuple[UUID, int] | None, limit: int
    ) -> Sequence[Attempt]:
        """By student and attempt, those that follow `after`."""
        rows = await self._database.fetch(_SQL["of_all"], quiz_id, course_id, *(after or (None, None)), limit)
        return [attempt_of(row) for row in rows]

    async def any_over(self) -> bool:
        """Whether there are attempts whose time is up. Writes and locks nothing: every node asks again and again."""
        return bool(await self._database.fetchval(_SQL["any_over"]))

    @asynccontextmanager
    async def over(self, most: int) -> AsyncIterator[Sequence[tuple[QuizChange, Attempt]]]:
        """Attempts whose time is up, locked, with their quizzes."""
        async with self._database.transaction() as connection:
            attempts = [attempt_of(row) for row in await connection.fetch(_SQL["over"], most)]
            rows = await connection.fetch(_SQL["quizzes"], [each.quiz_id for each in attempts])
            quizzes = {row["id"]: quiz_of(row) for row in rows}
            yield [(QuizChange(connection, quizzes[each.quiz_id]), each) for each in attempts]


def quiz_of(row: asyncpg.Record) -> Quiz:
    values = {name: row[name] for name in Quiz.__struct_fields__}
    for name in ("points", "weight"):
        values[name] = float(values[name])
    values["questions"] = Raw(row["questions"].encode())
    return Quiz(**values)


def attempt_of(row: asyncpg.Record) -> Attempt:
    values = {name: row[name] for name in Attempt.__struct_fields__}
    values["points"] = None if row["points"] is None else float(row["points"])
    values["answers"] = Raw(row["answers"].encode())
    values["marks"] = msgspec.json.decode(row["marks"], type=dict[str, float])
    return Attempt(**values)
