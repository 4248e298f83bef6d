"""Who takes part in a course. Whoever does is a member of its room: one transaction changes both, and says so in the
room's log, so that a removal reaches every node like one from any other room (docs/messaging.md)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.lms.courses import CourseChange, course_of, insert
from storage.queries import load
from storage.room_changes import NoSuchUser, Party, Room, RoomChange, commit, personal_channel
from storage.rooms import Role

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_enrolments")
_NEVER = datetime.fromtimestamp(0, UTC)
_ROOMS = load("rooms")
_COURSES = load("lms_courses")

CourseRole = Literal["student", "assistant", "teacher"]
Ended = Literal["dropped", "removed"]

ROOM_ROLES: dict[CourseRole, Role] = {"teacher": "owner", "assistant": "moderator", "student": "member"}


class Participant(Struct, frozen=True):
    user_id: UUID
    name: str
    role: CourseRole
    status: str
    enrolled_at: datetime


class CourseRoomChange:
    """A locked course with its room. `subject` is whom the change is about; `role` theirs in the course, `None` where
    they take no part in it."""

    def __init__(self, course: CourseChange, room: RoomChange, role: CourseRole | None) -> None:
        self.course = course
        self.room = room
        self.role = role

    async def admit(self, user_id: UUID, role: CourseRole, offset: int) -> bool:
        """Somebody new, in the course and in its room, from `offset` on; `False`: the course is full. In one statement:
        whoever enrols next waits for it."""
        course = self.course.course
        data = json.dumps({"course": course.title, "role": role})
        return bool(
            await self._run("admit", course.id, self.room.actor.id, user_id, role, ROOM_ROLES[role], offset, data)
        )

    async def take_seat(self) -> bool:
        """`False`: the course is full."""
        return await self._run("take_seat", self.course.course.id) is not None

    async def free_seat(self) -> None:
        await self._run("free_seat", self.course.course.id)

    async def enter(self, user_id: UUID, role: CourseRole) -> None:
        await self._run("enter", user_id, self.course.course.id, role)

    async def end(self, user_id: UUID, how: Ended) -> None:
        await self._run("end", user_id, self.course.course.id, how)

    async def has_other_teacher(self, user_id: UUID) -> bool:
        return bool(await self._run("other_teacher", self.course.course.id, user_id))

    async def _run(self, name: str, *values: object) -> Any:
        return await self.course.connection.fetchval(_SQL[name], *values)


class Ask(Struct, frozen=True):
    """Somebody is to be a student of a course: by themselves, with its code where it has one, or by the staff
    (`actor` is another)."""

    actor: UUID
    person: UUID
    course: UUID
    code: str | None = None


Answer = Literal[
    "enrolled", "there", "full", "missing", "nobody", "unpublished", "archived", "closed", "code"
]  # fmt: skip
"""`missing`: there is no such course; `nobody`: no such user; `code`: it is another one."""


class Admission(Struct, frozen=True):
    """What became of an `Ask`. `change`: of the room, where they are `enrolled`."""

    answer: Answer
    person: UUID
    name: str
    change: RoomChange | None


class EnrolmentStore:
    """Every method raises `DatabaseUnavailable`; whether a change took place is unknown then."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def opening(self, id: UUID, instructor_id: UUID, *values: Any) -> AsyncIterator[CourseRoomChange | None]:
        """A new course with its room, nobody in it yet. `None`: an earlier attempt has made it.

        Raises `CodeTaken`, `NoSuchUser`.
        """
        async with self._database.transaction() as connection:
            names = {each["id"]: each["name"] for each in await connection.fetch(_ROOMS["names"], [instructor_id])}
            if instructor_id not in names:
                raise NoSuchUser([instructor_id])
            course = await insert(connection, id, instructor_id, *values)
            if course is None:
                yield None
                return
            row = await connection.fetchrow(_SQL["add_room"], uuid4(), course.title, instructor_id)
            assert row is not None
            room = Room(row["id"], "course", row["title"], False, None, row["updated_at"], 0)
            await connection.execute(_SQL["give_room"], course.id, room.id)
            channels = [room.channel, personal_channel(instructor_id)]
            await connection.execute(_ROOMS["lock_channels"], channels)
            head = await connection.fetchrow(_ROOMS["head"], room.channel)
            assert head is not None, "it is locked"
            party = Party(instructor_id, names[instructor_id], None)
            change = RoomChange(connection, room, party, party, channel_id=head["id"], last_offset=head["last_offset"])
            yield CourseRoomChange(CourseChange(connection, course), change, None)
            await change.commit()

    @asynccontextmanager
    async def changing(self, course_id: UUID, actor: UUID, subject: UUID) -> AsyncIterator[CourseRoomChange | None]:
        """A change of a course and of who is in it; `None` is given where there is no such course."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], course_id, actor, subject)
            if row is None:
                yield None
                return
            course = await connection.fetchrow(_COURSES["lock"], course_id)
            assert course is not None, "it is locked"
            room = Room(
                *(row[name] for name in ("id", "kind", "title", "open", "archived_at", "updated_at", "members"))
            )
            about = None
            if row["subject_name"] is not None:
                about = Party(subject, row["subject_name"], row["subject_role"])
            change = RoomChange(
                connection,
                room,
                Party(actor, row["actor_name"], row["actor_role"]),
                about,
                channel_id=row["channel_id"],
                last_offset=row["last_offset"],
            )
            role = row["enrolled_role"] if row["enrolled_status"] in ("active", "completed") else None
            yield CourseRoomChange(CourseChange(connection, course_of(course)), change, role)
            await change.commit()

    @asynccontextmanager
    async def admitting(self, asks: Sequence[Ask]) -> AsyncIterator[list[Admission]]:
        """Let students in, all in one transaction. What the changes tell is appended at its end. Nobody comes into a
        course twice in one call."""
        columns = zip(*((each.actor, each.person, each.course, each.code) for each in asks), strict=True)
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_SQL["admit_students"], *map(list, columns))
            admissions = [_admission(connection, row) for row in rows]
            yield admissions
            await commit(connection, [each.change for each in admissions if each.change is not None])

    async def by_code(self, code: str) -> UUID | None:
        """The course that an invitation code opens."""
        found: UUID | None = await self._database.fetchval(_SQL["by_code"], code)
        return found

    async def participants(self, course_id: UUID, *, after: UUID | None, limit: int) -> list[Participant]:
        """By id, those that follow `after`."""
        return [Participant(*row) for row in await self._database.fetch(_SQL["participants"], course_id, after, limit)]

    async def by_emails(self, emails: Sequence[str]) -> dict[str, UUID]:
        """The users of these addresses, which are in lower case."""
        rows: list[asyncpg.Record] = await self._database.fetch(_SQL["by_emails"], list(emails))
        return {row["email"]: row["id"] for row in rows}


def _admission(connection: Connection, row: asyncpg.Record) -> Admission:
    change = None
    if row["result"] == "enrolled":
        room = Room(row["room_id"], "course", row["title"], False, None, _NEVER, 0)
        actor = Party(row["actor"], row["actor_name"], None)
        change = RoomChange(connection, room, actor, channel_id=row["channel_id"], last_offset=row["joined"] - 1)
    return Admission(row["result"], row["person"], row["person_name"] or "", change)
