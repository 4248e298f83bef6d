"""Migrations over the data of a school that was running before them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from storage.database import Database
from storage.lms.events import SCHOOL, EventStore, count
from storage.migrate import migrate, migrations

pytestmark = pytest.mark.integration

BEFORE = "0026"  # the schema that had courses, and no quizzes, deliveries or analytics


class OldSchool:
    """A teacher, three students, a course with two lessons and an assignment, as that schema kept them."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._run = connection.execute
        self._fetchval = connection.fetchval
        self.teacher, self.course, self.room = uuid4(), uuid4(), uuid4()
        self.students = [uuid4() for _ in range(3)]
        self.lessons = [uuid4(), uuid4()]
        self.assignment = uuid4()

    async def fill(self) -> None:
        everybody = [self.teacher, *self.students]
        await self._run(
            "insert into users (id, email, password_hash, name, role) "
            "select id, id || '@example.org', 'hash', 'Somebody', 'student' from unnest($1::uuid[]) id",
            everybody,
        )
        await self._run("insert into rooms (id, kind, title) values ($1, 'course', 'Go')", self.room)
        await self._run(
            "insert into channels (name, last_offset, last_count) values ('room:' || $1::uuid, 9, 7)", self.room
        )
        await self._run(
            "insert into courses (id, title, instructor_id, status, room_id, students) "
            "values ($1, 'Go', $2, 'published', $3, 3)",
            *(self.course, self.teacher, self.room),
        )
        for user, role in ((self.teacher, "teacher"), *((each, "student") for each in self.students)):
            await self._run(
                "insert into enrollments (user_id, course_id, role) values ($1, $2, $3)", user, self.course, role
            )
        module = await self._fetchval(
            "insert into modules (course_id, title, position) values ($1, 'Basics', 0) returning id", self.course
        )
        for position, lesson in enumerate(self.lessons):
            await self._run(
                "insert into lessons (id, course_id, module_id, title, position, status) "
                "values ($1, $2, $3, 'Lesson ' || $4::int, $4, 'published')",
                *(lesson, self.course, module, position),
            )
        # One has done both lessons and with them the course, one has done one, one has opened one.
        ann, ben, cleo = self.students
        for student, lesson in ((ann, 0), (ann, 1), (ben, 0)):
            await self._run("select open_lesson($1, $2, $3, true)", self.course, self.lessons[lesson], student)
        await self._run("update lessons set completion = 'done'")
        await self._run("select open_lesson($1, $2, $3, false)", self.course, self.lessons[1], cleo)
        await self._run(
            "insert into assignments (id, course_id, title, status, points) values ($1, $2, 'Essay', 'published', 50)",
            *(self.assignment, self.course),
        )
        for student, points in ((ann, 50), (ben, 22)):
            await self._run(
                "select put_grade($1, 'assignment', $2, $3, $4)", self.course, self.assignment, student, points
            )
        await self._run("insert into notifications (user_id, key, kind) values ($1, 'old', 'assignment.due')", ann)


async def test_a_school_is_there_after_its_migrations(empty_database_url: str) -> None:
    await migrate(empty_database_url, [each for each in migrations() if each.name < BEFORE])
    connection = await asyncpg.connect(empty_database_url)
    old = OldSchool(connection)
    await old.fill()
    events = await connection.fetchval("select count(*) from course_events")

    assert (await migrate(empty_database_url))[0].startswith(BEFORE)
    assert await connection.fetchval("select count(*) from course_events") == events, "nothing happened anew"
    assert await connection.fetchval("select count(*) from users where email_verified_at is null") == 4
    standing = await connection.fetchrow(
        "select course_role, course_status from standings($1, $2)", [old.students[0]], [old.course]
    )
    assert tuple(standing) == ("student", "published")

    # The reports begin with what was so.
    database = Database(empty_database_url)
    store = EventStore(database)
    async with store.consume("reports", 100) as (transaction, pending):
        await count(transaction, pending)  # what was not read yet is not counted twice
    lessons = [(each.lesson_id, each.opened, each.completed) for each in await store.lessons(old.course)]
    assert lessons == [(old.lessons[0], 2, 2), (old.lessons[1], 2, 1)]
    whole, essay = await store.spreads(old.course)
    assert (whole.item_id, whole.grades, whole.mean) == (SCHOOL, 2, pytest.approx(72))
    assert essay.tenths == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    (school,) = await store.spreads(SCHOOL)
    assert school.tenths == essay.tenths
    for place in (old.course, SCHOOL):
        assert (await store.totals(place))["message.sent"] == 7
        assert (await store.totals(place))["course.completed"] == 1
    assert await store.count_messages(10) == 0

    # And it goes on: a grade, a message, one more who comes.
    ben = old.students[1]
    await connection.execute("select put_grade($1, 'assignment', $2, $3, 50)", old.course, old.assignment, ben)
    await connection.execute("update channels set last_count = 8 where name = 'room:' || $1::uuid", old.room)
    assert await store.count_messages(10) == 1
    assert (await store.totals(old.course))["message.sent"] == 8
    kinds = [row["kind"] for row in await connection.fetch("select kind from course_events order by id desc limit 1")]
    assert kinds == ["grade.changed"]
    newcomer: UUID = await connection.fetchval(
        "insert into users (email, password_hash, role) values ('new@example.org', '', 'student') returning id"
    )
    (admitted,) = await connection.fetch(
        "select result from admit_students($1, $2, $3, $4)", [old.teacher], [newcomer], [old.course], [None]
    )
    assert admitted["result"] == "enrolled"
    await database.close()
    await connection.close()
