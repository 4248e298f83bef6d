"""Live classes: when they are, and what is one row a person in them. The state of a class is a fold of its log
(`realtime/classroom`); here are its rows, seats, votes and attendance, in batches: a class begins for 10,000 at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

import asyncpg
from msgspec import Struct

from realtime.classroom.commands import Backend, Role
from realtime.interfaces import Entry
from storage.batches import Batches
from storage.database import Database
from storage.log.append import append_batch, result_of
from storage.log.publication import publication
from storage.queries import load
from storage.room_changes import Told

if TYPE_CHECKING:
    from storage.database import Connection

MERGE = 60.0  # s; who is back within them has not been away

_SQL = load("lms_classes")
_COURSES = load("lms_courses")


class LiveClass(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A row of `classes`. What is said and done in it is in `channel`."""

    id: UUID
    course_id: UUID
    channel: str
    title: str
    starts_at: datetime
    ends_at: datetime
    media: Backend
    created_by: UUID | None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancelled_at: datetime | None = None


class ClassStanding(NamedTuple):
    """How somebody stands to a class. `role`: in its course, `None`: in none; `seat`: its offset; `archived`: the
    course is."""

    course_id: UUID
    role: Role | None
    name: str
    seat: int | None
    archived: bool


class Seat(NamedTuple):
    """`head`: the offset of the log in the snapshot in which the seat was taken."""

    offset: int
    head: int


class Inside(NamedTuple):
    """Whose seats are in a class: up to the offset `through` everybody's (`None`: there is no lobby), beyond it the
    staff's and those of `admitted`. `lost`: user and offset up to which theirs are none."""

    through: int | None
    admitted: frozenset[str]
    lost: frozenset[tuple[str, int]]


class SeatCounts(NamedTuple):
    inside: int
    waiting: int


class Vote(NamedTuple):
    """`counts` is the answer that counts, `fresh` whether it is this one."""

    counts: int
    fresh: bool
    head: int


class Seated(Struct, frozen=True):
    """`role`: in the course, `None`: they take part in it no more."""

    user_id: UUID
    name: str
    role: Role | None
    seat: int
    taken_at: datetime


class StoredPoll(Struct, frozen=True, kw_only=True):
    """`correct` counts from 0; `None`: there is no right answer. `closed`: the offset of its end; `None`: it has
    not been closed."""

    id: UUID
    class_id: UUID
    question: str
    options: tuple[str, ...]
    correct: int | None
    anonymous: bool
    points: float
    asked_at: datetime
    closed: int | None


class Attendance(Struct, frozen=True):
    user_id: UUID
    name: str
    email: str
    first_at: datetime
    last_at: datetime
    seconds: float
    joins: int


class CourseAttendance(Struct, frozen=True):
    user_id: UUID
    name: str
    classes: int
    of_classes: int
    seconds: float


class ClassChange:
    """A locked row. What is told is in the log, and `told`, after the commit."""

    def __init__(self, connection: Connection, row: LiveClass) -> None:
        self.row = row
        self.told: list[Told] = []
        self._connection = connection
        self._entries: list[Entry] = []

    def tell(self, entry: Entry) -> None:
        self._entries.append(entry)

    async def update(self, title: str, starts_at: datetime, ends_at: datetime, media: Backend) -> None:
        await self._connection.execute(_SQL["update"], self.row.id, title, starts_at, ends_at, media)

    async def record(self, kind: str, actor: UUID, data: str) -> None:
        """What happened, for notifications and reports."""
        await self._connection.execute(_COURSES["event"], kind, self.row.course_id, actor, self.row.id, data)

    async def commit(self) -> None:
        """Append what was told. The transaction's last statement."""
        if not self._entries:
            return
        outcomes = await append_batch(self._connection, self._entries)
        for entry, outcome in zip(self._entries, outcomes, strict=True):
            result = result_of(outcome)
            if isinstance(result, Exception):
                raise result
            told = publication(entry.data, entry.info, entry.tags, result.offset, result.time)
            self.told.append(Told(entry.channel, told, result.epoch))


class ClassStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standings: Batches[tuple[UUID, UUID], ClassStanding | None] = Batches(self._fetch_standings)
        self._seats: Batches[tuple[UUID, UUID, int], Seat] = Batches(self._take_seats)
        self._votes: Batches[tuple[UUID, UUID, int], Vote | None] = Batches(self._cast)
        self._polls: Batches[UUID, StoredPoll | None] = Batches(self._fetch_polls)
        self._tallies: Batches[UUID, dict[int, int]] = Batches(self._fetch_tallies)
        self._own: Batches[tuple[UUID, UUID], int | None] = Batches(self._fetch_own)
        self._counts: Batches[tuple[UUID, Inside], SeatCounts] = Batches(self._count_seats)

    # --- the class ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opening(self, course_id: UUID, id: UUID, *values: Any) -> AsyncIterator[ClassChange | None]:
        """A new class. `values`: title, beginning, end, media, by whom. `None`: an earlier attempt has made it."""
        async with self._database.transaction() as connection:
            if await connection.execute(_SQL["add"], id, course_id, *values) != "INSERT 0 1":
                yield None
                return
            row = await connection.fetchrow(_SQL["lock"], course_id, id)
            assert row is not None, "it was made"
            change = ClassChange(connection, _class(row))
            yield change
            await change.commit()

    @asynccontextmanager
    async def changing(self, course_id: UUID, id: UUID) -> AsyncIterator[ClassChange | None]:
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], course_id, id)
            if row is None:
                yield None
                return
            change = ClassChange(connection, _class(row))
            yield change
            await change.commit()

    async def get(self, course_id: UUID, id: UUID) -> LiveClass | None:
        row = await self._database.fetchrow(_SQL["get"], course_id, id)
        return _class(row) if row else None

    async def of_course(
        self, course_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
    ) -> Sequence[LiveClass]:
        """The latest first."""
        rows = await self._database.fetch(_SQL["list"], course_id, *(after or (None, None)), limit)
        return [_class(row) for row in rows]

    async def note(
        self, id: UUID, started_at: datetime | None, ended_at: datetime | None, cancelled_at: datetime | None
    ) -> None:
        """What the fold says of the class's life. Saying it again changes nothing."""
        await self._database.execute(_SQL["note"], id, started_at, ended_at, cancelled_at)

    async def state(self, id: UUID) -> bytes | None:
        """The fold as it was kept last."""
        found: bytes | None = await self._database.fetchval(_SQL["state"], id)
        return found

    async def keep(self, id: UUID, offset: int, state: bytes, late: Sequence[int]) -> None:
        """Keep the fold at an offset, unless a later one is kept. What the messages at `late` said is forgotten: the
        fold has refused them, and will not remember that for ever."""
        await self._database.execute(_SQL["keep"], id, offset, state, late)

    async def has_said(self, channel: str, id: UUID, user: str) -> bool:
        """Whether the log has that message by that sender."""
        found: bool = await self._database.fetchval(_SQL["has_said"], channel, id, user)
        return found

    async def overdue(self, before: datetime, most: int) -> Sequence[UUID]:
        """Classes that go on and should have ended before."""
        return [row["id"] for row in await self._database.fetch(_SQL["overdue"], before, most)]

    # --- people ------------------------------------------------------------------------------------------------

    async def standing(self, id: UUID, user_id: UUID) -> ClassStanding | None:
        """Not older than the question. `None`: there is no such class."""
        return await self._standings.ask((id, user_id))

    async def standings(self, questions: Sequence[tuple[UUID, UUID]]) -> Sequence[ClassStanding | None]:
        return await self._standings.ask_all(questions)

    async def take_seat(self, id: UUID, user_id: UUID, *, lost: int = 0) -> Seat:
        """The user's seat, new where they have none, or where it is lost, as those up to the offset `lost` are."""
        return await self._seats.ask((id, user_id, lost))

    async def give_up_seat(self, id: UUID, user_id: UUID, offset: int) -> None:
        await self._database.execute(_SQL["give_up_seat"], id, user_id, offset)

    async def seats(
        self, id: UUID, *, since: int = 0, after: tuple[datetime, UUID] | None = None, limit: int
    ) -> Sequence[Seated]:
        """In the order in which they came, from the offset `since` on."""
        rows = await self._database.fetch(_SQL["seats"], id, since, *(after or (None, None)), limit)
        return [Seated(*row) for row in rows]

    async def open_seats(self, course_id: UUID, user_id: UUID) -> Sequence[tuple[UUID, int]]:
        """Somebody's seats in those classes of a course that are not over: class and offset; 0: they have none, and may
        have a role."""
        return [tuple(row) for row in await self._database.fetch(_SQL["open_seats"], course_id, user_id)]

    async def seats_of_disabled(self, user_id: UUID) -> Sequence[tuple[UUID, int]]:
        """Somebody's seats in all classes that are not over, if their account is disabled."""
        return [tuple(row) for row in await self._database.fetch(_SQL["seats_of_disabled"], user_id)]

    async def staff(self, id: UUID, course_id: UUID) -> Sequence[UUID]:
        return [row["user_id"] for row in await self._database.fetch(_SQL["staff"], id, course_id)]

    async def count_seats(self, id: UUID, inside: Inside) -> SeatCounts:
        """How many are in the class, and how many wait."""
        return await self._counts.ask((id, inside))

    # --- polls -------------------------------------------------------------------------------------------------

    async def add_poll(self, id: UUID, *values: Any) -> bool:
        """`values`: class, question, options, the right one, whether anonymous, points, by whom. False where another
        poll has that id, in whichever class; the same again is fine."""
        if await self._database.execute(_SQL["add_poll"], id, *values) == "INSERT 0 1":
            return True
        same: bool = await self._database.fetchval(_SQL["same_poll"], id, *values[:-1])
        return same

    async def poll(self, class_id: UUID, id: UUID) -> StoredPoll | None:
        poll = await self._polls.ask(id)
        return poll if poll is not None and poll.class_id == class_id else None

    async def vote(self, poll_id: UUID, user_id: UUID, option: int) -> Vote | None:
        """`None`: there is no such poll."""
        return await self._votes.ask((poll_id, user_id, option))

    async def counts(self, class_id: UUID, poll_id: UUID, user_id: UUID, option: int, closed: int) -> bool:
        """Whether that is the user's answer that counts. `closed`: the offset of the poll's end, where its row does not
        have it yet (0: nobody knows)."""
        found: bool = await self._database.fetchval(_SQL["counts"], class_id, poll_id, user_id, option, closed)
        return found

    async def take_back(self, poll_id: UUID, user_id: UUID) -> None:
        await self._database.execute(_SQL["take_back"], poll_id, user_id)

    async def close_poll(self, poll_id: UUID, offset: int) -> None:
        """What stands at or beyond the offset counts no more. Again is fine."""
        await self._database.execute(_SQL["close_poll"], poll_id, offset)

    async def tally(self, poll_id: UUID, options: int) -> list[int]:
        """Votes by option."""
        votes = await self._tallies.ask(poll_id)
        return [votes.get(option, 0) for option in range(options)]

    async def own_vote(self, poll_id: UUID, user_id: UUID) -> int | None:
        """The answer of somebody that counts."""
        return await self._own.ask((poll_id, user_id))

    async def votes(self, poll_id: UUID, *, after: UUID | None, limit: int) -> Sequence[tuple[UUID, str, int]]:
        return [tuple(row) for row in await self._database.fetch(_SQL["votes"], poll_id, after, limit)]

    async def grade(self, poll_id: UUID) -> None:
        """What a quiz that is closed earned, into the gradebook. Again is fine."""
        await self._database.execute(_SQL["grade"], poll_id)

    async def grade_all(self, id: UUID) -> None:
        """The same for each quiz of a class."""
        await self._database.execute(_SQL["grade_all"], id)

    # --- attendance --------------------------------------------------------------------------------------------

    async def attend(self, present: Sequence[tuple[UUID, UUID]]) -> None:
        """These people are in these classes now (class, user)."""
        await self._database.execute(_SQL["attend"], *map(list, zip(*present, strict=True)), MERGE)

    async def attendance(self, id: UUID, *, after: UUID | None, limit: int) -> Sequence[Attendance]:
        return [Attendance(*row) for row in await self._database.fetch(_SQL["attendance"], id, after, limit)]

    async def course_attendance(self, course_id: UUID, *, after: UUID | None, limit: int) -> Sequence[CourseAttendance]:
        """Of the students, in all classes of the course that were held."""
        rows = await self._database.fetch(_SQL["course_attendance"], course_id, after, limit)
        return [
            CourseAttendance(row["user_id"], row["name"], row["classes"], row["of_classes"], row["seconds"])
            for row in rows
        ]

    # --- in batches --------------------------------------------------------------------------------------------

    async def _fetch_standings(self, questions: Sequence[tuple[UUID, UUID]]) -> Sequence[ClassStanding | None]:
        answers: list[ClassStanding | None] = [None] * len(questions)
        for i, course, role, name, seat, archived in await self._run("standings", questions):
            answers[i - 1] = ClassStanding(course, role, name or "", seat, archived)
        return answers

    async def _take_seats(self, questions: Sequence[tuple[UUID, UUID, int]]) -> Sequence[Seat]:
        answers: dict[tuple[UUID, UUID], Seat] = {}
        wanted: dict[tuple[UUID, UUID], int] = {}
        for class_id, user_id, lost in questions:  # a statement cannot touch a row twice
            wanted[class_id, user_id] = max(wanted.get((class_id, user_id), 0), lost)
        people = [(*key, lost) for key, lost in wanted.items()]
        for i, seat, head in await self._run("take_seats", people):
            answers[people[i - 1][:2]] = Seat(seat, head)
        return [answers[question[:2]] for question in questions]

    async def _cast(self, questions: Sequence[tuple[UUID, UUID, int]]) -> Sequence[Vote | None]:
        answers: list[Vote | None] = [None] * len(questions)
        for i, counts, fresh, head in await self._run("cast", questions):
            if counts is not None:
                answers[i - 1] = Vote(counts, fresh and counts == questions[i - 1][2], head)
        return answers

    async def _fetch_polls(self, ids: Sequence[UUID]) -> Sequence[StoredPoll | None]:
        found = {row["id"]: _poll(row) for row in await self._database.fetch(_SQL["polls"], ids)}
        return [found.get(id) for id in ids]

    async def _fetch_tallies(self, ids: Sequence[UUID]) -> Sequence[dict[int, int]]:
        counts: dict[UUID, dict[int, int]] = {id: {} for id in ids}
        for poll_id, option, votes in await self._database.fetch(_SQL["tallies"], ids):
            counts[poll_id][option] = votes
        return [counts[id] for id in ids]

    async def _fetch_own(self, questions: Sequence[tuple[UUID, UUID]]) -> Sequence[int | None]:
        answers: list[int | None] = [None] * len(questions)
        for i, option in await self._run("own_votes", questions):
            answers[i - 1] = option
        return answers

    async def _count_seats(self, questions: Sequence[tuple[UUID, Inside]]) -> Sequence[SeatCounts]:
        counts = []
        for id, (through, admitted, lost) in questions:  # one, or few: those who come to a class ask the same
            users, offsets = [user for user, _ in lost], [offset for _, offset in lost]
            row = await self._database.fetchrow(_SQL["count_seats"], id, through, list(admitted), users, offsets)
            assert row is not None, "it counts"
            counts.append(SeatCounts(row["inside"], row["waiting"]))
        return counts

    async def _run(self, name: str, questions: Sequence[tuple[Any, ...]]) -> list[asyncpg.Record]:
        return await self._database.fetch(_SQL[name], *map(list, zip(*questions, strict=True)))


def class_channel(id: UUID) -> str:
    return f"class:{id}"


def _class(row: asyncpg.Record) -> LiveClass:
    values = {name: row[name] for name in LiveClass.__struct_fields__ if name != "channel"}
    return LiveClass(channel=class_channel(row["id"]), **values)


def _poll(row: asyncpg.Record) -> StoredPoll:
    values = {name: row[name] for name in StoredPoll.__struct_fields__}
    return StoredPoll(
        **cast("dict[str, Any]", {**values, "options": tuple(row["options"]), "points": float(row["points"])})
    )
