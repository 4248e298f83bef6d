"""Who takes part in a course: coming by oneself, by code, by a teacher or by a table; going, and being removed.

Whoever takes part is in the course's room, and whoever goes is out of it at once, on every node: both are one change,
told in the room's log. Every method raises `CommandError`: 1002 for what is not there, 103 where one may not, 1003
where something is in the way, 106 when the course is full, 107 for a value that cannot be, 100 while PostgreSQL is
away.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway_node.services import room_events
from gateway_node.services.classes.door import ClassDoor
from gateway_node.services.lms.activity import Activity
from gateway_node.services.lms.courses import forward
from gateway_node.services.stores import asked, database
from gateway_node.services.text import storable
from realtime import codes
from realtime.publisher import Publisher
from storage.batches import Batches
from storage.lms.enrolments import (
    ROOM_ROLES,
    Answer,
    Ask,
    CourseRole,
    CourseRoomChange,
    Ended,
    EnrolmentStore,
    Participant,
)
from storage.room_changes import RoomChange

MAX_PAGE = 100
MAX_LINES = 5000  # of a table
MAX_CODE = 64  # characters

Code = Annotated[str, Meta(min_length=1, max_length=MAX_CODE)]


class ParticipantPage(Struct, frozen=True, omit_defaults=True):
    participants: list[Participant]
    next: str = ""


class Line(Struct, frozen=True, omit_defaults=True):
    """What became of a line of a table: `enrolled`, `there` (they were in it already) or `refused`, with why."""

    line: int
    email: str
    result: str
    detail: str = ""


class Report(Struct, frozen=True):
    enrolled: int
    there: int
    refused: int
    lines: list[Line]


class Enrolments:
    def __init__(self, store: EnrolmentStore, publisher: Publisher, activity: Activity, classes: ClassDoor) -> None:
        self._store = store
        self._classes = classes
        self._publisher = publisher
        self._activity = activity
        # Those who come at once share a transaction: of 1.4 ms of PostgreSQL for one most is locks and the commit.
        self._admissions: Batches[Ask, Answer] = Batches(self._admit)

    async def enrol(self, user_id: UUID, course_id: UUID, code: str | None) -> bool:
        """Come into a course by oneself, with its code where it has one; whether that is new."""
        answer = await asked(self._admissions.ask(Ask(user_id, user_id, course_id, _normal(code or ""))))
        match answer:
            case "enrolled" | "there":
                return answer == "enrolled"
            case "closed":
                raise codes.PERMISSION_DENIED.saying("the teacher decides who comes into this course")
            case "code":
                raise codes.BAD_REQUEST.at("/code", "that is not the code of this course")
            case "full":
                raise _full()
            case "missing" | "nobody":
                raise codes.NOT_FOUND.saying("there is no such course")
            case _:
                raise codes.CONFLICT.saying("the course takes nobody now")

    async def enrol_by_code(self, user_id: UUID, code: str) -> tuple[UUID, bool]:
        """Come into the course that a code opens; its id, and whether that is new."""
        course_id = await asked(self._store.by_code(_normal(code)))
        if course_id is None:
            raise codes.NOT_FOUND.saying("no course has this code")
        return course_id, await self.enrol(user_id, course_id, code)

    async def put(self, actor: UUID, course_id: UUID, user_id: UUID, role: CourseRole, *, may_appoint: bool) -> None:
        """Bring somebody into the course in a role, or give them another. `may_appoint`: roles but `student` too."""
        async with self._changing(course_id, actor, user_id) as change:
            await self._put(change, actor, user_id, role, may_appoint=may_appoint)
        if role == "student" and change.role in ("teacher", "assistant"):
            await self._classes.demoted(user_id, course_id)

    async def _put(
        self, change: CourseRoomChange, actor: UUID, user_id: UUID, role: CourseRole, *, may_appoint: bool
    ) -> bool:
        """Whether anything is new."""
        subject = change.room.subject
        if subject is None:
            raise codes.NOT_FOUND.saying("there is no such user")
        if change.role == role:
            return False
        if not may_appoint and (role != "student" or change.role is not None):
            raise codes.PERMISSION_DENIED.saying("teachers of the course give roles")
        if change.course.course.status == "archived":
            raise codes.CONFLICT.saying("the course is archived")
        if role != "student" or change.role is not None:  # who comes as a student is in the reports
            await change.course.note("course_role.set", actor, user_id, **{"from": change.role, "to": role})
        if change.role is None:
            await self._enter(change, user_id, role, subject.name)
            return True
        if change.role == "teacher" and not await change.has_other_teacher(user_id):
            raise codes.CONFLICT.saying("a course has a teacher: make somebody else one first")
        if role == "student" and not await change.take_seat():
            raise _full()
        if change.role == "student":
            await change.free_seat()
        await change.enter(user_id, role)
        await change.room.set_role(user_id, ROOM_ROLES[role])
        change.room.tell(room_events.member_role(change.room, user_id, subject.name, ROOM_ROLES[role]))
        return True

    async def leave(self, user_id: UUID, course_id: UUID) -> None:
        """Take no part any more; what one has done stays."""
        async with self._changing(course_id, user_id, user_id) as change:
            await self._end(change, user_id, user_id, "dropped")
        await self._ended(change, user_id, course_id)

    async def remove(self, actor: UUID, course_id: UUID, user_id: UUID, *, may_appoint: bool) -> None:
        """End somebody's part in the course. Once more is fine."""
        async with self._changing(course_id, actor, user_id) as change:
            if change.role not in (None, "student") and not may_appoint:
                raise codes.PERMISSION_DENIED.saying("teachers of the course remove assistants and teachers")
            await self._end(change, actor, user_id, "removed")
        await self._ended(change, user_id, course_id)

    async def _ended(self, change: CourseRoomChange, user_id: UUID, course_id: UUID) -> None:
        if change.role is not None:
            await self._classes.left(user_id, course_id)
        await self._activity.ended(user_id, course_id)

    async def participants(self, course_id: UUID, *, after: UUID | None, limit: int = MAX_PAGE) -> ParticipantPage:
        """Everybody who takes part, by id."""
        found = await asked(self._store.participants(course_id, after=after, limit=limit + 1))
        return ParticipantPage(found[:limit], str(found[limit - 1].user_id) if len(found) > limit else "")

    async def from_table(self, actor: UUID, course_id: UUID, table: str) -> Report:
        """Enrol students by a CSV table with a column `email`; each line by itself, and each has its result."""
        emails = _emails(table)
        known = await asked(self._store.by_emails([email for _, email in emails if email and "\0" not in email]))
        lines: list[Line] = []
        asks: dict[UUID, Ask] = {}
        for number, email in emails:
            user_id = known.get(email)
            if not email:
                lines.append(Line(number, email, "refused", "no address"))
            elif user_id is None:
                lines.append(Line(number, email, "refused", "nobody here has this address"))
            elif user_id in asks:
                lines.append(Line(number, email, "refused", "the address was in the table before"))
            else:
                asks[user_id] = Ask(actor, user_id, course_id)
                lines.append(Line(number, email, "asked"))
        answers = dict(zip(asks, await asked(self._admissions.ask_all(asks.values())), strict=True))
        lines = [_answered(each, answers[known[each.email]]) if each.result == "asked" else each for each in lines]
        counts = {result: sum(each.result == result for each in lines) for result in ("enrolled", "there", "refused")}
        return Report(**counts, lines=lines)

    # --- how ---------------------------------------------------------------------------------------------------

    async def _admit(self, asks: Sequence[Ask]) -> list[Answer]:
        """One transaction for all of them, but for whoever comes into a course twice, who comes once."""
        answers: dict[Ask, Answer] = {}
        for some in _apart(asks):
            async with self._store.admitting(some) as admissions:
                for each in admissions:
                    if each.change is not None:
                        each.change.tell(room_events.member_added(each.change, each.person, each.name))
                        each.change.tell(room_events.room_added(each.change, each.person))
            for each in admissions:
                for told in each.change.told if each.change is not None else ():
                    self._publisher.forward(told.channel, told.publication, told.epoch)
            answers |= zip(some, (each.answer for each in admissions), strict=True)
        return [answers[each] for each in asks]

    async def _enter(self, change: CourseRoomChange, user_id: UUID, role: CourseRole, name: str) -> None:
        offset = change.room.tell(room_events.member_added(change.room, user_id, name))
        change.room.tell(room_events.room_added(change.room, user_id))
        if not await change.admit(user_id, role, offset):
            raise _full()

    async def _end(self, change: CourseRoomChange, actor: UUID, user_id: UUID, how: Ended) -> None:
        if change.role is None:
            return
        if change.role == "teacher" and not await change.has_other_teacher(user_id):
            raise codes.CONFLICT.saying("a course has a teacher: make somebody else one first")
        if change.role == "student":
            await change.free_seat()
        await change.end(user_id, how)
        room: RoomChange = change.room
        name = room.subject.name if room.subject else room.actor.name
        room.tell(room_events.member_removed(room, user_id, name))
        room.tell(room_events.room_removed(room, user_id, change.course.course.id))
        await room.remove(user_id)
        await change.course.record("enrollment.ended", actor, user_id)
        if how == "removed":
            await change.course.note("participant.removed", actor, user_id, role=change.role)

    @asynccontextmanager
    async def _changing(self, course_id: UUID, actor: UUID, subject: UUID) -> AsyncIterator[CourseRoomChange]:
        with database():
            async with self._store.changing(course_id, actor, subject) as change:
                if change is None:
                    raise codes.NOT_FOUND.saying("there is no such course")
                yield change
        forward(self._publisher, change)


def _apart(asks: Sequence[Ask]) -> Iterator[list[Ask]]:
    """In lists in which nobody comes into a course twice."""
    rest = list(asks)
    while rest:
        first = {(each.person, each.course): each for each in reversed(rest)}
        some = [each for each in rest if first[each.person, each.course] is each]
        yield some
        rest = [each for each in rest if first[each.person, each.course] is not each]


def _normal(code: str) -> str:
    """As codes are kept. Raises error 107 for what is none: PostgreSQL would refuse it, and with it the statement that
    it shares with others."""
    return storable(code.strip().lower(), "/code", MAX_CODE)


def _answered(line: Line, answer: Answer) -> Line:
    match answer:
        case "enrolled" | "there":
            return replace(line, result=answer)
        case "full":
            return replace(line, result="refused", detail="the course is full")
        case "archived":
            return replace(line, result="refused", detail="the course is archived")
        case _:
            return replace(line, result="refused", detail="nobody here has this address")


def _emails(table: str) -> list[tuple[int, str]]:
    """Line numbers and addresses in lower case. Raises error 107."""
    try:
        rows = list(csv.reader(io.StringIO(table.removeprefix("\ufeff")), strict=True))
    except csv.Error as error:
        raise codes.BAD_REQUEST.saying(f"the table is no CSV: {error}") from None
    if not rows or "email" not in (header := [name.strip().lower() for name in rows[0]]):
        raise codes.BAD_REQUEST.saying("the first line names the columns, and `email` is one of them")
    if len(rows) - 1 > MAX_LINES:
        raise codes.BAD_REQUEST.saying(f"a table has at most {MAX_LINES} lines")
    column = header.index("email")
    return [
        (number, row[column].strip().lower() if len(row) > column else "")
        for number, row in enumerate(rows[1:], start=2)
        if row
    ]


def _full() -> codes.CommandError:
    return codes.LIMIT_EXCEEDED.saying("the course is full")
