"""Quizzes: taken against PostgreSQL's clock, marked by themselves.

Answers are saved as they are given, so what counts when the time is up is what was saved until then: the clock hands
in for whoever does not. Every method raises `CommandError`: 1002 for what is not there, 103 where one may not, 1003
where something is in the way (not open, time up, no attempt left, in use), 107 with a pointer for a value that cannot
be, 100 while PostgreSQL is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway_node.services.bookmarks import bookmark, bookmark_at, moment_of, place_of
from gateway_node.services.lms import questions
from gateway_node.services.lms.assignments import MAX_TEXT, Attempts, Weight
from gateway_node.services.lms.courses import MAX_TITLE, Check
from gateway_node.services.lms.questions import Answer, AnyQuestion, QuestionView
from gateway_node.services.shifts import Shifts
from gateway_node.services.stores import asked, database
from gateway_node.services.text import line, storable
from gateway_node.services.times import zoned
from realtime import codes
from storage.lms.quizzes import Answers, Attempt, Quiz, QuizChange, QuizStore, State

MAX_PAGE = 100
PERIOD = 2.0  # s between two looks of all nodes for attempts whose time is up
BATCH = 50

TimeLimit = Annotated[int, Meta(ge=10, le=7 * 86400)]


class NewQuiz(Struct, forbid_unknown_fields=True, kw_only=True):
    """`time_limit`: seconds of one attempt, which ends at `due_date` in any case. `shuffle`: questions and options in
    another order in each attempt. `answers`: when students see the right ones. `weight`: its part in the grade of the
    course."""

    title: str
    description: str = ""
    status: State = "draft"
    opens_at: datetime | None = None
    due_date: datetime | None = None
    time_limit: TimeLimit | None = None
    attempts: Attempts = 1
    shuffle: bool = True
    answers: Answers = "after"
    questions: list[AnyQuestion]
    weight: Weight = 1


class QuizFields(Struct, forbid_unknown_fields=True, kw_only=True):
    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    status: State | UnsetType = UNSET
    opens_at: datetime | UnsetType | None = UNSET
    due_date: datetime | UnsetType | None = UNSET
    time_limit: TimeLimit | UnsetType | None = UNSET
    attempts: Attempts | UnsetType = UNSET
    shuffle: bool | UnsetType = UNSET
    answers: Answers | UnsetType = UNSET
    questions: list[AnyQuestion] | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET


class QuizView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`questions` with the right answers: for the staff alone. Students get theirs with their attempt."""

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
    number_of_questions: int
    questions: list[AnyQuestion] | None = None
    points: float
    weight: float
    version: int


class QuizPage(Struct, frozen=True, omit_defaults=True):
    quizzes: list[QuizView]
    next: str = ""


class AttemptView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`now`: by the clock that `ends_at` goes by. `marks`: points by question, with the right
    answers."""

    id: UUID
    quiz_id: UUID
    student_id: UUID
    student: str
    attempt: int
    started_at: datetime
    ends_at: datetime | None
    now: datetime | None = None
    saved_at: datetime | None = None
    handed_in_at: datetime | None = None
    questions: Sequence[QuestionView] = ()
    answers: Raw
    points: float | None = None
    out_of: float
    marks: dict[str, float] = {}


class AttemptPage(Struct, frozen=True, omit_defaults=True):
    attempts: list[AttemptView]
    next: str = ""


class Saving(Struct, forbid_unknown_fields=True):
    """Answers by question; null takes one back. Those of other questions stay."""

    answers: dict[str, Answer | None]


class Quizzes:
    """`works`: whether this process hands in for those whose time is up."""

    def __init__(self, store: QuizStore, shifts: Shifts, *, works: bool) -> None:
        self._store = store
        self._shifts = shifts
        self._works = works

    # --- what is asked -----------------------------------------------------------------------------------------

    async def add(self, user_id: UUID, course_id: UUID, new: NewQuiz, key: str) -> tuple[QuizView, bool]:
        """With the `key` of an earlier request it is the quiz of then."""
        id = uuid5(user_id, f"quiz {course_id} {key}") if key else uuid4()
        made = await asked(self._store.add((id, course_id, *_values(new)), user_id))
        if made is not None:
            return _view(made, teaches=True), True
        return await self.get(course_id, id, teaches=True), False

    async def list(
        self, course_id: UUID, *, teaches: bool, after: str | None = None, limit: int = MAX_PAGE
    ) -> QuizPage:
        moment = moment_of(after)
        found = await asked(self._store.list(course_id, drafts=teaches, after=moment, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = bookmark_at(last.created_at, last.id) if last else ""
        return QuizPage([_view(each, teaches=False) for each in found[:limit]], following)

    async def get(self, course_id: UUID, id: UUID, *, teaches: bool) -> QuizView:
        return _view(await self._quiz(course_id, id, teaches=teaches), teaches=teaches)

    async def update(self, user_id: UUID, course_id: UUID, id: UUID, fields: QuizFields, check: Check) -> QuizView:
        async with self._changing(course_id, id) as change:
            present = change.quiz
            check(present.version)
            before = _questions(present)
            kept = {name: getattr(present, name) for name in NewQuiz.__struct_fields__} | {"questions": before}
            given = {name: getattr(fields, name) for name in NewQuiz.__struct_fields__}
            merged = NewQuiz(**{name: kept[name] if given[name] is UNSET else given[name] for name in kept})
            if merged.questions != before and await change.has_attempts():
                raise codes.CONFLICT.saying("somebody has answered these questions: make another quiz")
            changed = await change.update(_values(merged))
            if present.status == "draft" and changed.status == "published":
                published = QuizChange(change.connection, changed)
                await published.record("quiz.published", user_id, title=changed.title, due_date=changed.due_date)
        return _view(changed, teaches=True)

    async def delete(self, course_id: UUID, id: UUID) -> None:
        async with self._changing(course_id, id) as change:
            if await change.has_attempts():
                raise codes.CONFLICT.saying("somebody has taken it: make it a draft instead")
            await change.delete()

    # --- taking it ---------------------------------------------------------------------------------------------

    async def begin(self, user_id: UUID, course_id: UUID, quiz_id: UUID) -> tuple[AttemptView, bool]:
        """The attempt that runs, or the next one: then the time starts."""
        with database():
            async with self._store.taking(course_id, quiz_id) as change:
                if change is None or change.quiz.status != "published":
                    raise _no_quiz()
                if not await change.takes_part(user_id):
                    raise codes.PERMISSION_DENIED.saying("students of the course take quizzes")
                made = await change.attempts(user_id)
                quiz, now = change.quiz, change.now
                assert now is not None, "it comes with the quiz"
                running = next((each for each in made if _runs(each, now)), None)
                if running is None:
                    id = uuid4()
                    _may_begin(quiz, len(made), now)
                    await change.begin(id, user_id, attempt=len(made) + 1, started_at=now, ends_at=_end(quiz, now))
        attempt_id = running.id if running is not None else id
        return await self.attempt(user_id, course_id, quiz_id, attempt_id, teaches=False), running is None

    async def save(self, user_id: UUID, course_id: UUID, quiz_id: UUID, id: UUID, saving: Saving) -> AttemptView:
        """Keep answers; more of them may follow."""
        return await self._go_on(user_id, course_id, quiz_id, id, saving)

    async def hand_in(self, user_id: UUID, course_id: UUID, quiz_id: UUID, id: UUID) -> AttemptView:
        """It is over, and marked. Once more is fine."""
        return await self._go_on(user_id, course_id, quiz_id, id, None)

    async def _go_on(
        self, user_id: UUID, course_id: UUID, quiz_id: UUID, id: UUID, saving: Saving | None
    ) -> AttemptView:
        late = False
        with database():
            async with self._store.taking(course_id, quiz_id) as change:
                found = await change.attempt(id) if change is not None and change.quiz.status == "published" else None
                if change is None or found is None or found[0].student_id != user_id:
                    raise _no_attempt()
                attempt, now = found
                if not _runs(attempt, now):
                    late = saving is not None
                    await _mark_over(change, attempt)
                elif saving is not None:
                    questions.check_answers(_questions(change.quiz), saving.answers)
                    await change.save(id, saving.answers)
                else:
                    await _close(change, attempt, now, by=user_id)
        if late:  # said after the transaction, which has marked it
            raise codes.CONFLICT.saying("the attempt is over: what was saved until then counts")
        return await self.attempt(user_id, course_id, quiz_id, id, teaches=False)

    # --- looking at it -----------------------------------------------------------------------------------------

    async def attempt(self, user_id: UUID, course_id: UUID, quiz_id: UUID, id: UUID, *, teaches: bool) -> AttemptView:
        """One's own, or anybody's to the staff, with the questions."""
        quiz = await self._quiz(course_id, quiz_id, teaches=teaches)
        found = await asked(self._store.attempt(course_id, quiz_id, id))
        if found is None or not (teaches or found[0].student_id == user_id):
            raise _no_attempt()
        attempt, now = found
        if not _runs(attempt, now) and attempt.handed_in_at is None:
            with database():
                async with self._store.taking(course_id, quiz_id) as change:
                    locked = await change.attempt(id) if change is not None else None
                    if change is None or locked is None:
                        raise _no_attempt()
                    await _mark_over(change, locked[0])
            return await self.attempt(user_id, course_id, quiz_id, id, teaches=teaches)
        right = teaches or _shows_right(quiz, attempt, now)
        asked_for = questions.shown(_questions(quiz), id, shuffle=quiz.shuffle, with_right=right)
        return _attempt(quiz, attempt, now=now, questions=asked_for, with_marks=right)

    async def mine(self, user_id: UUID, course_id: UUID, quiz_id: UUID) -> AttemptPage:
        """One's own attempts, the first one first, without the questions."""
        quiz = await self._quiz(course_id, quiz_id, teaches=False)
        return AttemptPage(
            [_attempt(quiz, each) for each in await asked(self._store.of_student(course_id, quiz_id, user_id))]
        )

    async def of_all(
        self, course_id: UUID, quiz_id: UUID, *, after: str | None = None, limit: int = MAX_PAGE
    ) -> AttemptPage:
        """Everybody's attempts by student, without the questions."""
        quiz = await self._quiz(course_id, quiz_id, teaches=True)
        place = place_of(after, tuple[UUID, Annotated[int, Meta(ge=1, le=1000)]], "after")
        found = await asked(self._store.of_all(course_id, quiz_id, after=place, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = bookmark(last.student_id, last.attempt) if last else ""
        return AttemptPage([_attempt(quiz, each) for each in found[:limit]], following)

    # --- when the time is up -----------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._works:
            self._shifts.every(PERIOD, self.work)

    async def stop(self) -> None:
        await self._shifts.stop()

    async def work(self) -> None:
        """Hand in for those whose time is up. Raises `DatabaseUnavailable`."""
        if not await self._store.any_over():
            return
        busy = True
        while busy:
            async with self._store.over(BATCH) as found:
                for change, attempt in found:
                    await _mark_over(change, attempt)
            busy = len(found) == BATCH

    # --- how ---------------------------------------------------------------------------------------------------

    async def _quiz(self, course_id: UUID, id: UUID, *, teaches: bool) -> Quiz:
        quiz = await asked(self._store.get(course_id, id))
        if quiz is None or not (teaches or quiz.status == "published"):
            raise _no_quiz()
        return quiz

    @asynccontextmanager
    async def _changing(self, course_id: UUID, id: UUID) -> AsyncIterator[QuizChange]:
        with database():
            async with self._store.changing(course_id, id) as change:
                if change is None:
                    raise _no_quiz()
                yield change


def _may_begin(quiz: Quiz, made: int, now: datetime) -> None:
    if quiz.opens_at is not None and now < quiz.opens_at:
        raise codes.CONFLICT.saying(f"it opens at {quiz.opens_at.isoformat()}")
    if quiz.due_date is not None and now >= quiz.due_date:
        raise codes.CONFLICT.saying(f"it ended at {quiz.due_date.isoformat()}")
    if made >= quiz.attempts:
        raise codes.CONFLICT.saying(f"{quiz.attempts} attempts were made: there is no other")


def _end(quiz: Quiz, now: datetime) -> datetime | None:
    limit = now + timedelta(seconds=quiz.time_limit) if quiz.time_limit is not None else None
    return min((each for each in (limit, quiz.due_date) if each is not None), default=None)


def _runs(attempt: Attempt, now: datetime) -> bool:
    return attempt.handed_in_at is None and (attempt.ends_at is None or now < attempt.ends_at)


async def _mark_over(change: QuizChange, attempt: Attempt) -> None:
    """Close a locked attempt whose time is up, unless that is done."""
    if attempt.handed_in_at is None:
        assert attempt.ends_at is not None, "its time is up"
        await _close(change, attempt, attempt.ends_at, by=None)


async def _close(change: QuizChange, attempt: Attempt, at: datetime, *, by: UUID | None) -> None:
    answers = msgspec.json.decode(attempt.answers, type=dict[str, Answer | None])
    given = {id: answer for id, answer in answers.items() if answer is not None}
    await change.close(attempt, at, questions.marked(_questions(change.quiz), given), by=by)


def _shows_right(quiz: Quiz, attempt: Attempt, now: datetime) -> bool:
    if attempt.handed_in_at is None:
        return False
    return quiz.answers == "after" or (quiz.answers == "due" and quiz.due_date is not None and now >= quiz.due_date)


def _questions(quiz: Quiz) -> list[AnyQuestion]:
    return msgspec.json.decode(quiz.questions, type=list[AnyQuestion])


def _values(new: NewQuiz) -> tuple[Any, ...]:
    points = questions.checked(new.questions)
    opens, due = zoned(new.opens_at, "/opens_at"), zoned(new.due_date, "/due_date")
    if opens and due and due <= opens:
        raise codes.BAD_REQUEST.at("/due_date", "the end comes after the beginning")
    return (
        line(new.title, "/title", MAX_TITLE),
        storable(new.description, "/description", MAX_TEXT),
        new.status,
        opens,
        due,
        new.time_limit,
        new.attempts,
        new.shuffle,
        new.answers,
        msgspec.json.encode(new.questions).decode(),
        Decimal(str(points)),
        Decimal(str(new.weight)),
    )


def _view(quiz: Quiz, *, teaches: bool) -> QuizView:
    same = set(QuizView.__struct_fields__) - {"questions"}
    return QuizView(**{name: getattr(quiz, name) for name in same}, questions=_questions(quiz) if teaches else None)


def _attempt(
    quiz: Quiz,
    attempt: Attempt,
    *,
    now: datetime | None = None,
    questions: Sequence[QuestionView] = (),
    with_marks: bool = False,
) -> AttemptView:
    same = set(AttemptView.__struct_fields__) - {"now", "questions", "out_of", "marks"}
    return AttemptView(
        **{name: getattr(attempt, name) for name in same},
        now=now,
        questions=questions,
        out_of=quiz.points,
        # With another attempt to come, they would say which answers were right.
        marks=attempt.marks if with_marks else {},
    )


def _no_quiz() -> codes.CommandError:
    return codes.NOT_FOUND.saying("there is no such quiz")


def _no_attempt() -> codes.CommandError:
    return codes.NOT_FOUND.saying("there is no such attempt")
