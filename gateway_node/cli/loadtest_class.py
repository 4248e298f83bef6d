"""The class of `chalkwire loadtest class`: a course with so many students, a class that goes on, and an open poll.

10,000 registrations would take minutes of argon2, and are not what is measured: people and course are rows.
What is said in the class's log is said as everywhere else.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from realtime.classroom.commands import AnyCommand, Logged, OpenPoll, Schedule, Start
from realtime.classroom.wire import encode_logged
from realtime.interfaces import Entry
from storage.database import Database
from storage.lms.classes import class_channel
from storage.log.append import append_batch

if TYPE_CHECKING:
    from loadtest.plan import Plan

HOURS = 4 * 3_600_000  # ms


class PreparedClass:
    """The class that the plan's channel names; its poll has the same id."""

    def __init__(self, database_url: str, plan: Plan) -> None:
        self._url = database_url
        self._plan = plan
        self._id = UUID(next(each.prefix for each in plan.channels if each.enter).partition(":")[2])

    async def make(self) -> None:
        database = Database(self._url, statement_timeout=60.0)
        course, teacher = uuid4(), uuid4()
        people = [UUID(self._plan.user(client)) for client in range(self._plan.clients)]
        async with database.transaction() as connection:
            await connection.execute(
                "insert into users (id, email, password_hash, name, role)"
                " select id, id || '@example.org', '', 'Load', 'student' from unnest($1::uuid[]) id"
                " on conflict do nothing",
                [*people, teacher],
            )
            await connection.execute(
                "insert into courses (id, title, instructor_id, status) values ($1, 'Load', $2, 'published')",
                course,
                teacher,
            )
            await connection.execute(
                "insert into enrollments (user_id, course_id) select id, $2 from unnest($1::uuid[]) id", people, course
            )
            await connection.execute(
                "insert into classes (id, course_id, title, starts_at, ends_at, created_by)"
                " values ($1, $2, 'Load', now(), now() + interval '4 hours', $3)",
                self._id,
                course,
                teacher,
            )
            await connection.execute(
                "insert into class_polls (id, class_id, question, options, anonymous) values ($1, $1, '?', $2, true)",
                self._id,
                ["yes", "no"],
            )
            await connection.execute("analyze users, enrollments, classes")
            now = round(time.time() * 1000)
            await append_batch(
                connection,
                [
                    self._entry(Schedule(opens_at=now - HOURS, closes_at=now + HOURS)),
                    self._entry(Start()),
                    self._entry(OpenPoll(poll_id=str(self._id), question="?", options=("yes", "no"))),
                ],
            )
        await database.close()

    def _entry(self, command: AnyCommand) -> Entry:
        id = uuid4()
        data = encode_logged(Logged(id=str(id), by="", role="server", command=command))
        return Entry(class_channel(self._id), id.bytes, "", data, type="command", counted=False)

    async def rows(self) -> dict[str, int]:
        """What is there at the end: seats, votes and lines of attendance are one a person."""
        database = Database(self._url)
        found = await database.fetchrow(
            "select (select count(*) from class_seats where class_id = $1) as seats,"
            " (select count(*) from class_votes where poll_id = $1) as votes,"
            " (select count(distinct user_id) from class_votes where poll_id = $1) as voters,"
            " (select count(*) from class_attendance where class_id = $1) as attended",
            self._id,
        )
        await database.close()
        assert found is not None
        return dict(found)
