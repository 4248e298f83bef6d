"""Assignments, what is handed in for them, and grades."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_assignments")
_FILES = load("files")
_COURSES = load("lms_courses")

Late = Literal["refuse", "accept", "reduce"]
State = Literal["draft", "published"]


class Criterion(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a rubric: what is looked at, and how many points it is worth."""

    id: str
    title: str
    points: float


class Assignment(Struct, frozen=True, kw_only=True):
    """A row of `assignments`. `late_percent` is taken off the grade for each day begun, where late work is reduced."""

    id: UUID
    course_id: UUID
    title: str
    description: str
    status: State
    due_date: datetime | None
    late_policy: Late
    late_percent: float
    late_until: datetime | None
    points: float
    weight: float
    attempts: int
    rubric: tuple[Criterion, ...]
    version: int
    created_at: datetime
    updated_at: datetime


class Submission(Struct, frozen=True, kw_only=True):
    """A row of `submissions`, with the name of its student and what it is out of."""

    id: UUID
    assignment_id: UUID
    student_id: UUID
    student: str
    title: str
    attempt: int
    text: str
    files: tuple[UUID, ...]
    submitted_at: datetime
    days_late: int
    grade: float | None
    scores: dict[str, float]
    feedback: str
    graded_by: UUID | None
    returned_at: datetime | None
    returned_grade: float | None
    returned_feedback: str
    out_of: float
    late_policy: Late
    late_percent: float
    version: int


class Item(Struct, frozen=True):
    """What counts in the gradebook."""

    id: UUID
    title: str
    points: float
    weight: float


class Grades(Struct, frozen=True):
    """A student's line of the gradebook: points by item."""

    student_id: UUID
    name: str
    email: str
    points: dict[UUID, float]


class AssignmentChange:
    """A transaction about one assignment."""

    def __init__(self, connection: Connection, assignment: Assignment) -> None:
        self.connection = connection
        self.assignment = assignment

    async def _run(self, name: str, *values: Any) -> Any:
        return await self.connection.fetchval(_SQL[name], *values)

    async def update(self, values: Sequence[Any]) -> Assignment:
        row = await self.connection.fetchrow(_SQL["update"], self.assignment.course_id, self.assignment.id, *values)
        assert row is not None, "it is locked"
        return assignment_of(row)

    async def has_submissions(self) -> bool:
        return bool(await self._run("has_submissions", self.assignment.id))

    async def delete(self) -> None:
        await self.connection.execute(_SQL["delete"], self.assignment.course_id, self.assignment.id)

    async def extend(self, student_id: UUID, due_date: datetime, by: UUID) -> None:
        await self.connection.execute(_SQL["extend"], self.assignment.id, student_id, due_date, by)
        await self.hold_again(student_id)

    async def hold_again(self, student_id: UUID | None = None) -> None:
        """Against the rules as they are now: what one student has handed in, or all have."""
        await self.connection.execute(_SQL["forgive"], self.assignment.id, student_id)
        await self.connection.execute(_SQL["count"], self.assignment.id, student_id)

    async def takes_part(self, student_id: UUID) -> bool:
        return bool(await self._run("takes_part", self.assignment.course_id, student_id))

    async def attempts(self, student_id: UUID) -> int:
        """How many attempts the student has made; the next is theirs until the end of the transaction."""
        await self._run("turn", self.assignment.id, student_id)
        return int(await self._run("attempts", self.assignment.id, student_id))

    async def submit(
        self, id: UUID, student_id: UUID, *, attempt: int, text: str, files: Sequence[UUID], days_late: int
    ) -> bool:
        """`False`: a file is not there, or not the student's."""
        wanted = set(files)
        kept = await self.connection.fetch(
            _FILES["attach"], self.assignment.course_id, list(wanted), student_id, "staff"
        )
        if len(kept) < len(wanted):
            return False
        await self.connection.execute(
            _SQL["submit"],
            *(id, self.assignment.course_id, self.assignment.id, student_id, attempt, text, list(files), days_late),
        )
        return True

    async def record(self, kind: str, actor: UUID | None, subject: UUID, **data: Any) -> None:
        """What happened, for notifications and reports."""
        await self.connection.execute(
            _COURSES["event"], kind, self.assignment.course_id, actor, subject, json.dumps(data, default=str)
        )


class AssignmentStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, values: Sequence[Any], actor: UUID) -> Assignment | None:
        """`values`: id, course and what `update` takes. `None`: an earlier attempt has made it."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["add"], *values)
            if row is None:
                return None
            assignment = assignment_of(row)
            if assignment.status == "published":
                await AssignmentChange(connection, assignment).record(
                    "assignment.published", actor, assignment.id, title=assignment.title, due_date=assignment.due_date
                )
            return assignment

    async def list(
        self, course_id: UUID, *, drafts: bool, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Assignment]:
        rows = await self._database.fetch(_SQL["list"], course_id, drafts, *(after or (None, None)), limit)
        return [assignment_of(row) for row in rows]

    async def get(self, course_id: UUID, id: UUID, user_id: UUID) -> tuple[Assignment, datetime | None] | None:
        """An assignment and when it is due for that person."""
        row = await self._database.fetchrow(_SQL["get"], course_id, id, user_id)
        return (assignment_of(row), row["due_for_me"]) if row else None

    @asynccontextmanager
    async def changing(self, course_id: UUID, id: UUID) -> AsyncIterator[AssignmentChange | None]:
        """A locked assignment."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], course_id, id)
            yield AssignmentChange(connection, assignment_of(row)) if row else None

    @asynccontextmanager
    async def handing_in(
        self, course_id: UUID, id: UUID, student_id: UUID
    ) -> AsyncIterator[tuple[AssignmentChange, datetime | None, datetime] | None]:
        """An assignment, not locked (a class hands in at once), when it is due for the student, and the time now."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["get"], course_id, id, student_id)
            yield (AssignmentChange(connection, assignment_of(row)), row["due_for_me"], row["now"]) if row else None

    async def submission(self, course_id: UUID, id: UUID) -> Submission | None:
        row = await self._database.fetchrow(_SQL["submission"], course_id, id)
        return submission_of(row) if row else None

    async def of_student(self, course_id: UUID, assignment_id: UUID, student_id: UUID) -> Sequence[Submission]:
        """Every attempt, the first one first."""
        rows = await self._database.fetch(_SQL["of_student"], assignment_id, student_id, course_id)
        return [submission_of(row) for row in rows]

    async def of_all(
        self, course_id: UUID, assignment_id: UUID, *, after: UUID | None, limit: int
    ) -> Sequence[Submission]:
        """The last attempt of each student, by their id."""
        rows = await self._database.fetch(_SQL["of_all"], assignment_id, course_id, after, limit)
        return [submission_of(row) for row in rows]

    @asynccontextmanager
    async def grading(self, course_id: UUID, id: UUID) -> AsyncIterator[Grading | None]:
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock_rules"], course_id, id)
            if await connection.fetchrow(_SQL["lock_submission"], course_id, id) is None:
                yield None
                return
            row = await connection.fetchrow(_SQL["submission"], course_id, id)
            assert row is not None, "it is locked"
            rubric = await connection.fetchrow(_SQL["get"], course_id, row["assignment_id"], row["student_id"])
            assert rubric is not None, "it has a submission"
            yield Grading(AssignmentChange(connection, assignment_of(rubric)), submission_of(row))

    async def history(self, course_id: UUID, submission_id: UUID) -> Sequence[dict[str, Any]]:
        """Every grade that was returned, the first one first."""
        rows = await self._database.fetch(_SQL["history"], course_id, submission_id)
        return [{**row, "grade": float(row["grade"])} for row in rows]

    async def items(self, course_id: UUID) -> Sequence[Item]:
        rows = await self._database.fetch(_SQL["items"], course_id)
        return [Item(row["id"], row["title"], float(row["points"]), float(row["weight"])) for row in rows]

    async def gradebook(
        self, course_id: UUID, *, after: UUID | None = None, limit: int = 1, only: UUID | None = None
    ) -> Sequence[Grades]:
        """Students by id, those that follow `after`, or one of them."""
        rows = await self._database.fetch(_SQL["gradebook"], course_id, after, limit, only)
        return [
            Grades(
                row["user_id"], row["name"], row["email"], msgspec.json.decode(row["points"], type=dict[UUID, float])
            )
            for row in rows
        ]


class Grading:
    """A locked submission."""

    def __init__(self, change: AssignmentChange, submission: Submission) -> None:
        self.change = change
        self.submission = submission

    async def grade(self, grade: float, feedback: str, scores: dict[str, float], by: UUID) -> None:
        await self.change.connection.execute(
            _SQL["grade"], self.submission.id, Decimal(str(grade)), feedback, json.dumps(scores), by
        )

    async def give_back(self, by: UUID) -> None:
        """The student sees it from now on, and it counts."""
        assignment, submission, connection = self.change.assignment, self.submission, self.change.connection
        await connection.execute(_SQL["return"], submission.id)
        await connection.execute(_SQL["remember"], submission.id)
        # Of two attempts that are given back at once the second finds the first one's grade.
        await connection.execute(_SQL["turn"], assignment.id, submission.student_id)
        await connection.execute(_SQL["count"], assignment.id, submission.student_id)
        await self.change.record(
            "submission.graded",
            by,
            submission.id,
            recipients=[submission.student_id],
            title=assignment.title,
            grade=submission.grade,
            out_of=assignment.points,
        )


def assignment_of(row: asyncpg.Record) -> Assignment:
    values = {name: row[name] for name in Assignment.__struct_fields__}
    for name in ("late_percent", "points", "weight"):
        values[name] = float(values[name])
    values["rubric"] = msgspec.json.decode(row["rubric"], type=tuple[Criterion, ...])
    return Assignment(**values)


def submission_of(row: asyncpg.Record) -> Submission:
    values = {name: row[name] for name in Submission.__struct_fields__}
    for name in ("grade", "returned_grade", "out_of", "late_percent"):
        values[name] = None if values[name] is None else float(values[name])
    values["scores"] = msgspec.json.decode(row["scores"], type=dict[str, float])
    values["files"] = tuple(values["files"])
    return Submission(**values)
