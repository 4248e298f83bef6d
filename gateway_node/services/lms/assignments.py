"""Assignments: what is asked, what is handed in and when, and what it is worth.

The clock is PostgreSQL's. Every method raises `CommandError`: 1002 for what is not there, 103 where one may not, 1003
where something is in the way (too late, no attempt left, in use), 107 with a pointer for a value that cannot be, 100
while PostgreSQL is away.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.lms.courses import MAX_TITLE, Check
from gateway_node.services.stores import asked, database
from gateway_node.services.tables import csv_line
from gateway_node.services.text import line, storable
from gateway_node.services.times import zoned
from realtime import codes
from storage.lms.assignments import (
    Assignment,
    AssignmentChange,
    AssignmentStore,
    Criterion,
    Grades,
    Item,
    Late,
    State,
    Submission,
)

MAX_PAGE = 100
MAX_TEXT = 100_000  # characters of a description or an answer
MAX_FILES = 20  # of a submission
MAX_CRITERIA = 50
MAX_FEEDBACK = 20_000  # characters
EXPORT_PAGE = 500  # students read at a time

Points = Annotated[float, Meta(gt=0, le=100_000)]
Weight = Annotated[float, Meta(ge=0, le=1000)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Attempts = Annotated[int, Meta(ge=1, le=100)]


class NewAssignment(Struct, forbid_unknown_fields=True, kw_only=True):
    """`late_policy`: `refuse` after `due_date`, `accept`, or `reduce` by `late_percent` for each day begun; nothing is
    taken after `late_until`. `weight` is its part in the grade of the course."""

    title: str
    description: str = ""
    status: State = "draft"
    due_date: datetime | None = None
    late_policy: Late = "accept"
    late_percent: Percent = 0
    late_until: datetime | None = None
    points: Points = 100
    weight: Weight = 1
    attempts: Attempts = 1
    rubric: list[Criterion] = []


class AssignmentFields(Struct, forbid_unknown_fields=True, kw_only=True):
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    status: State | UnsetType = UNSET
    due_date: datetime | UnsetType | None = UNSET
    late_policy: Late | UnsetType = UNSET
    late_percent: Percent | UnsetType = UNSET
    late_until: datetime | UnsetType | None = UNSET
    points: Points | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    attempts: Attempts | UnsetType = UNSET
    rubric: list[Criterion] | UnsetType = UNSET


class NewSubmission(Struct, forbid_unknown_fields=True):
    """Text, files of one's own that were uploaded to the room of the course, or both."""

    text: str = ""
    files: list[UUID] = []


class NewGrade(Struct, forbid_unknown_fields=True, kw_only=True):
    """A draft: the student sees it when it is returned. `scores`: points by criterion; without `grade` their sum is."""

    grade: float | None = None
    scores: dict[str, float] = {}
    feedback: str = ""


class AssignmentView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`due_for_me`: with one's own extension."""

    id: UUID
    course_id: UUID
    title: str
    description: str
    status: State
    due_date: datetime | None
    due_for_me: datetime | None = None
    late_policy: Late
    late_percent: float
    late_until: datetime | None
    points: float
    weight: float
    attempts: int
    rubric: tuple[Criterion, ...]
    version: int


class AssignmentPage(Struct, frozen=True, omit_defaults=True):
    assignments: list[AssignmentView]
    next: str = ""


class SubmissionView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What was handed in: to its student a receipt, and the grade once it is returned; to the staff the draft as well.

    `worth`: the grade less what being late costs. `file_url`s need a token, like every file.
    """

    id: UUID
    assignment_id: UUID
    student_id: UUID
    student: str
    attempt: int
    text: str
    files: list[str]
    submitted_at: datetime
    late: bool
    days_late: int
    out_of: float
    grade: float | None = None
    worth: float | None = None
    scores: dict[str, float] = {}
    feedback: str = ""
    returned_at: datetime | None = None
    draft: bool = False
    version: int


class SubmissionPage(Struct, frozen=True, omit_defaults=True):
    submissions: list[SubmissionView]
    next: str = ""


class GradeLine(Struct, frozen=True):
    """`total`: per cent of what is graded, by weight; null where nothing is."""

    student_id: UUID
    name: str
    points: dict[UUID, float]
    total: float | None


class Gradebook(Struct, frozen=True, omit_defaults=True):
    items: Sequence[Item]
    students: list[GradeLine]
    next: str = ""


class Assignments:
    def __init__(self, store: AssignmentStore) -> None:
        self._store = store

    # --- assignments -------------------------------------------------------------------------------------------

    async def add(self, user_id: UUID, course_id: UUID, new: NewAssignment, key: str) -> tuple[AssignmentView, bool]:
        """With the `key` of an earlier request it is the assignment of then."""
        id = uuid5(user_id, f"assignment {course_id} {key}") if key else uuid4()
        made = await asked(self._store.add((id, course_id, *_values(new)), user_id))
        if made is not None:
            return _view(made, made.due_date), True
        return await self.get(user_id, course_id, id, teaches=True), False

    async def list(
        self, course_id: UUID, *, teaches: bool, after: str | None = None, limit: int = MAX_PAGE
    ) -> AssignmentPage:
        moment = moment_of(after)
        found = await asked(self._store.list(course_id, drafts=teaches, after=moment, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = bookmark_at(last.created_at, last.id) if last else ""
        return AssignmentPage([_view(each) for each in found[:limit]], following)

    async def get(self, user_id: UUID, course_id: UUID, id: UUID, *, teaches: bool) -> AssignmentView:
        found = await asked(self._store.get(course_id, id, user_id))
        if found is None or not (teaches or found[0].status == "published"):
            raise codes.NOT_FOUND.saying("there is no such assignment")
        return _view(*found)

    async def update(
        self, user_id: UUID, course_id: UUID, id: UUID, fields: AssignmentFields, check: Check
    ) -> AssignmentView:
        async with self._changing(course_id, id) as change:
            present = change.assignment
            check(present.version)
            merged = NewAssignment(
                **{
                    name: getattr(present, name) if (value := getattr(fields, name)) is UNSET else value
                    for name in NewAssignment.__struct_fields__
                }
            )
            if merged.points != present.points and await change.has_submissions():
                raise codes.CONFLICT.saying("what was handed in already is out of other points")
            changed = await change.update(_values(merged))
            if _lateness(changed) != _lateness(present):
                await change.hold_again()
            if present.status == "draft" and changed.status == "published":
                await change.record("assignment.published", user_id, id, title=changed.title, due_date=changed.due_date)
        return _view(changed, changed.due_date)

    async def delete(self, course_id: UUID, id: UUID) -> None:
        async with self._changing(course_id, id) as change:
            if await change.has_submissions():
                raise codes.CONFLICT.saying("something was handed in for it: make it a draft instead")
            await change.delete()

    async def extend(self, user_id: UUID, course_id: UUID, id: UUID, student_id: UUID, due_date: datetime) -> None:
        """More time for one student."""
        due = zoned(due_date, "/due_date")
        assert due is not None
        async with self._changing(course_id, id) as change:
            if not await change.takes_part(student_id):
                raise codes.NOT_FOUND.saying("there is no such student in the course")
            await change.extend(student_id, due, user_id)

    # --- handing in --------------------------------------------------------------------------------------------

    async def submit(
        self, user_id: UUID, course_id: UUID, id: UUID, new: NewSubmission, key: str
    ) -> tuple[SubmissionView, bool]:
        """Hand something in; its receipt. With the `key` of an earlier request it is the submission of then."""
        submission_id = uuid5(user_id, f"submission {id} {key}") if key else uuid4()
        if key and (made := await asked(self._store.submission(course_id, submission_id))) is not None:
            return _submission(made, teaches=False), False
        storable(new.text, "/text", MAX_TEXT)
        if len(new.files) > MAX_FILES or len(set(new.files)) < len(new.files):
            raise codes.BAD_REQUEST.at("/files", f"at most {MAX_FILES} files are wanted, each once")
        if not new.text.strip() and not new.files:
            raise codes.BAD_REQUEST.at("/text", "there is nothing in it")
        with database():
            async with self._store.handing_in(course_id, id, user_id) as found:
                if found is None or found[0].assignment.status != "published":
                    raise codes.NOT_FOUND.saying("there is no such assignment")
                change, due, now = found
                if not await change.takes_part(user_id):
                    raise codes.PERMISSION_DENIED.saying("students of the course hand in")
                days = _days_late(change.assignment, due, now)
                made_before = await change.attempts(user_id)
                if made_before >= change.assignment.attempts:
                    raise codes.CONFLICT.saying(f"{change.assignment.attempts} attempts were made: there is no other")
                if not await change.submit(
                    submission_id, user_id, attempt=made_before + 1, text=new.text, files=new.files, days_late=days
                ):
                    raise codes.BAD_REQUEST.at(
                        "/files", "a file is not there: upload it to the room of the course first, whole"
                    )
                await change.record(
                    "submission.received", user_id, submission_id, title=change.assignment.title, late=days > 0
                )
        made = await asked(self._store.submission(course_id, submission_id))
        assert made is not None, "it was stored"
        return _submission(made, teaches=False), True

    async def mine(self, user_id: UUID, course_id: UUID, id: UUID) -> SubmissionPage:
        """One's own attempts, the first one first."""
        found = await asked(self._store.of_student(course_id, id, user_id))
        return SubmissionPage([_submission(each, teaches=False) for each in found])

    async def handed_in(self, course_id: UUID, id: UUID, *, after: UUID | None, limit: int) -> SubmissionPage:
        """The last attempt of each student, by their id."""
        found = await asked(self._store.of_all(course_id, id, after=after, limit=limit + 1))
        shown = [_submission(each, teaches=True) for each in found[:limit]]
        return SubmissionPage(shown, str(shown[-1].student_id) if len(found) > limit else "")

    async def submission(self, user_id: UUID, course_id: UUID, id: UUID, *, teaches: bool) -> SubmissionView:
        found = await asked(self._store.submission(course_id, id))
        if found is None or not (teaches or found.student_id == user_id):
            raise codes.NOT_FOUND.saying("there is no such submission")
        return _submission(found, teaches=teaches)

    # --- grades ------------------------------------------------------------------------------------------------

    async def grade(self, user_id: UUID, course_id: UUID, id: UUID, new: NewGrade, check: Check) -> None:
        """A draft of a grade, or a new one over a returned one."""
        storable(new.feedback, "/feedback", MAX_FEEDBACK)
        with database():
            async with self._store.grading(course_id, id) as grading:
                if grading is None:
                    raise codes.NOT_FOUND.saying("there is no such submission")
                check(grading.submission.version)
                grade = _grade(grading.change.assignment, new)
                await grading.grade(grade, new.feedback, new.scores, user_id)

    async def give_back(self, user_id: UUID, course_id: UUID, id: UUID) -> None:
        """The student sees the grade from now on, and it counts."""
        with database():
            async with self._store.grading(course_id, id) as grading:
                if grading is None:
                    raise codes.NOT_FOUND.saying("there is no such submission")
                if grading.submission.grade is None:
                    raise codes.CONFLICT.saying("it is not graded yet")
                await grading.give_back(user_id)

    async def gradebook(self, course_id: UUID, *, after: UUID | None = None, limit: int = MAX_PAGE) -> Gradebook:
        items = await asked(self._store.items(course_id))
        found = await asked(self._store.gradebook(course_id, after=after, limit=limit + 1))
        lines = [_line(items, each) for each in found[:limit]]
        return Gradebook(items, lines, str(lines[-1].student_id) if len(found) > limit else "")

    async def my_grades(self, user_id: UUID, course_id: UUID) -> Gradebook:
        """One's own line."""
        items = await asked(self._store.items(course_id))
        found = await asked(self._store.gradebook(course_id, only=user_id))
        return Gradebook(items, [_line(items, each) for each in found])

    async def export(self, course_id: UUID) -> AsyncIterator[bytes]:
        """The gradebook as CSV, a page of students at a time. What begins like a formula is text to a spreadsheet."""
        items = await asked(self._store.items(course_id))
        header = ["student", "email", *(f"{each.title} ({each.points:g})" for each in items), "total %"]
        yield csv_line(header)
        after: UUID | None = None
        while found := await asked(self._store.gradebook(course_id, after=after, limit=EXPORT_PAGE)):
            for each in found:
                total = _line(items, each).total
                points = [f"{each.points[item.id]:g}" if item.id in each.points else "" for item in items]
                yield csv_line([each.name, each.email, *points, "" if total is None else f"{total:.4g}"])
            after = found[-1].student_id

    # --- how ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self, course_id: UUID, id: UUID) -> AsyncIterator[AssignmentChange]:
        with database():
            async with self._store.changing(course_id, id) as change:
                if change is None:
                    raise codes.NOT_FOUND.saying("there is no such assignment")
                yield change


def _values(new: NewAssignment) -> tuple[Any, ...]:
    if len(new.rubric) > MAX_CRITERIA or len({each.id for each in new.rubric}) < len(new.rubric):
        raise codes.BAD_REQUEST.at("/rubric", f"at most {MAX_CRITERIA} criteria are wanted, each with an id of its own")
    for i, each in enumerate(new.rubric):
        line(each.id, f"/rubric/{i}/id", 50, what="an id")
        line(each.title, f"/rubric/{i}/title", MAX_TITLE)
        if not 0 <= each.points <= new.points:
            raise codes.BAD_REQUEST.at(f"/rubric/{i}/points", "points are between 0 and those of the assignment")
    due, until = zoned(new.due_date, "/due_date"), zoned(new.late_until, "/late_until")
    if due and until and until < due:
        raise codes.BAD_REQUEST.at("/late_until", "the end comes after the due date")
    return (
        line(new.title, "/title", MAX_TITLE),
        storable(new.description, "/description", MAX_TEXT),
        new.status,
        due,
        new.late_policy,
        Decimal(str(new.late_percent)),
        until,
        Decimal(str(new.points)),
        Decimal(str(new.weight)),
        new.attempts,
        msgspec.json.encode(new.rubric).decode(),
    )


def _lateness(assignment: Assignment) -> tuple[Any, ...]:
    return assignment.due_date, assignment.late_policy, assignment.late_percent


def _days_late(assignment: Assignment, due: datetime | None, now: datetime) -> int:
    """Days begun after the due date. Raises error 1003 where that is too late. An extension moves the end, too."""
    if due is None or now <= due:
        return 0
    if assignment.late_policy == "refuse":
        raise codes.CONFLICT.saying(f"it was due at {due.isoformat()}")
    if assignment.late_until is not None and now > max(assignment.late_until, due):
        raise codes.CONFLICT.saying(f"nothing was taken after {assignment.late_until.isoformat()}")
    return math.ceil((now - due) / timedelta(days=1))


def _grade(assignment: Assignment, new: NewGrade) -> float:
    most = {each.id: each.points for each in assignment.rubric}
    for name, score in new.scores.items():
        if name not in most or not 0 <= score <= most[name]:  # NaN is neither
            raise codes.BAD_REQUEST.at("/scores", f"{name!r} is no criterion, or has not so many points")
    grade = new.grade if new.grade is not None else sum(new.scores.values()) if new.scores else None
    if grade is None or not 0 <= grade <= assignment.points:
        raise codes.BAD_REQUEST.at("/grade", f"a grade is between 0 and {assignment.points:g}")
    return grade


def _view(assignment: Assignment, due: datetime | None = None) -> AssignmentView:
    fields = set(AssignmentView.__struct_fields__) - {"due_for_me"}
    return AssignmentView(**{name: getattr(assignment, name) for name in fields}, due_for_me=due)


def _submission(submission: Submission, *, teaches: bool) -> SubmissionView:
    returned = submission.returned_at is not None
    grade = submission.grade if teaches else submission.returned_grade
    costs = min(100.0, submission.days_late * submission.late_percent) if submission.late_policy == "reduce" else 0.0
    is_draft = submission.grade is not None and submission.grade != submission.returned_grade
    return SubmissionView(
        id=submission.id,
        assignment_id=submission.assignment_id,
        student_id=submission.student_id,
        student=submission.student,
        attempt=submission.attempt,
        text=submission.text,
        files=[f"/v1/files/{each}" for each in submission.files],
        submitted_at=submission.submitted_at,
        late=submission.days_late > 0,
        days_late=submission.days_late,
        out_of=submission.out_of,
        grade=grade,
        worth=None if grade is None else grade * (100 - costs) / 100,
        scores=submission.scores if teaches or returned else {},
        feedback=submission.feedback if teaches else submission.returned_feedback,
        returned_at=submission.returned_at,
        draft=teaches and is_draft,
        version=submission.version,
    )


def _line(items: Sequence[Item], grades: Grades) -> GradeLine:
    graded = [(item, grades.points[item.id]) for item in items if item.id in grades.points]
    weights = sum(item.weight for item, _ in graded)
    total = sum(100 * points / item.points * item.weight for item, points in graded) / weights if weights else None
    return GradeLine(grades.student_id, grades.name, {item.id: points for item, points in graded}, total)
