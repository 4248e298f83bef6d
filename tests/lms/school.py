"""People of a school, and a course to do things in.

async with school(server) as (admin, teacher, student):    # by default in this order
    course = await published_course(teacher)
    await enrol(student, course)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from config.embedded import read_urls
from loadtest.server import Server
from tests.chat.person import Answer, Person, people

ROLES = {"admin": "admin", "teacher": "teacher"}


@asynccontextmanager
async def school(server: Server, *names: str) -> AsyncIterator[list[Person]]:
    """People by name; those that are called `admin…` or `teacher…` have that role in the school."""
    async with people(server, *(names or ("admin", "teacher", "student"))) as everybody:
        for person in everybody:
            for name, role in ROLES.items():
                if person.name.startswith(name):
                    await give_role(server, person.id, role)
        yield everybody


async def give_role(server: Server, user_id: str, role: str) -> None:
    await execute(server, "update users set role = $2 where id = $1::text::uuid", user_id, role)


async def execute(server: Server, statement: str, *values: Any) -> list[asyncpg.Record]:
    """A statement in the server's database: what no request can bring about, or what none would show."""
    connection = await asyncpg.connect(str(read_urls(server.data_dir).database))
    try:
        return await connection.fetch(statement, *values)
    finally:
        await connection.close()


async def new_course(teacher: Person, **fields: Any) -> dict[str, Any]:
    return ok(await teacher.http("POST", "/v1/courses", {"title": "Introduction to Go", **fields}), 201)


async def published_course(teacher: Person, **fields: Any) -> dict[str, Any]:
    course = await new_course(teacher, **fields)
    ok(await teacher.http("PUT", f"/v1/courses/{course['id']}/publication"), 204)
    return ok(await teacher.http("GET", f"/v1/courses/{course['id']}"))


async def enrol(student: Person, course: dict[str, Any]) -> dict[str, Any]:
    return ok(await student.http("POST", f"/v1/courses/{course['id']}/enrollments", {"code": course["code"]}), 201)


def ok(answer: Answer, status: int = 200) -> Any:
    """The body of an answer that must have this status."""
    assert answer.status == status, (answer.status, answer.content)
    return answer.body
