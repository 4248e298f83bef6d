"""How far students come, over HTTP and over the open connection."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


async def lessons(teacher: Person, course: dict[str, Any], *all_fields: dict[str, Any]) -> list[str]:
    module = ok(await teacher.http("POST", at(course, "modules"), {"title": "One"}), 201)["id"]
    made = []
    for fields in all_fields:
        lesson = {"title": "A lesson", "status": "published", **fields}
        made.append(ok(await teacher.http("POST", at(course, "modules", module, "lessons"), lesson), 201)["id"])
    return made


async def test_each_lesson_is_completed_by_its_rule(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        opened, video, by_hand, draft = await lessons(
            teacher,
            course,
            {"completion": "open"},
            {"completion": "video", "duration": 300},
            {"completion": "done"},
            {"status": "draft"},
        )

        async def step(lesson: str, **fields: Any) -> bool:
            found = ok(await student.http("PUT", at(course, "lessons", lesson, "progress"), fields))
            return found["completed_at"] is not None

        assert await step(opened)
        assert not await step(video, done=True)
        assert not await step(video, position=200)
        assert ok(await student.http("GET", at(course, "progress")))["percent"] == 33.3
        assert not await step(by_hand)
        assert await step(by_hand, done=True)
        assert await step(video, position=270)
        assert await step(video, position=10)  # watched again: done stays done
        mine = ok(await student.http("GET", at(course, "progress")))
        assert (mine["lessons_done"], mine["lessons"], mine["percent"]) == (3, 3, 100)
        assert {each["lesson_id"]: each["position"] for each in mine["progress"]}[video] == 10
        (row,) = await execute(
            server,
            "select status from enrollments where course_id = $1::text::uuid and user_id = $2::text::uuid",
            course["id"],
            student.id,
        )
        assert row["status"] == "completed"
        assert (await student.http("PUT", at(course, "lessons", draft, "progress"), {})).status == 404
        assert (await student.http("PUT", at(course, "lessons", str(uuid4()), "progress"), {})).status == 404
        for position in (-1, 10**9, "far"):
            refused = await student.http("PUT", at(course, "lessons", video, "progress"), {"position": position})
            assert (refused.status, refused.pointers) == (422, ["/position"])


async def test_a_teacher_sees_how_far_the_class_is(server: Server) -> None:
    async with school(server, "teacher", "fast", "slow") as (teacher, fast, slow):
        course = await published_course(teacher)
        for person in (fast, slow):
            await enrol(person, course)
        one, two = await lessons(teacher, course, {}, {})
        for lesson in (one, two):
            await fast.rpc("lesson.step", course_id=course["id"], lesson_id=lesson)
        await slow.rpc("lesson.step", course_id=course["id"], lesson_id=one)
        page = ok(await teacher.http("GET", at(course, "progress", "students")))
        assert {each["name"]: each["percent"] for each in page["students"]} == {"fast": 100, "slow": 50}
        first = await teacher.http("GET", at(course, "progress", "students?limit=1"))
        assert len(ok(first)["students"]) == 1 and "next" in first.body and "link" in first.headers
        ok(await teacher.http("DELETE", at(course, "lessons", two)), 204)
        page = ok(await teacher.http("GET", at(course, "progress", "students")))
        assert {each["name"]: each["lessons_done"] for each in page["students"]} == {"fast": 1, "slow": 1}
        assert (await fast.http("GET", at(course, "progress", "students"))).status == 403


async def test_who_is_there_now(server: Server) -> None:
    async with school(server, "teacher", "one", "two", "stranger") as (teacher, one, two, stranger):
        course = await published_course(teacher, admission="closed")
        for person in (one, two):
            ok(await teacher.http("PUT", at(course, "participants", person.id), {}), 204)
        (lesson,) = await lessons(teacher, course, {})
        await one.rpc("lesson.step", course_id=course["id"], lesson_id=lesson)
        await two.rpc("course.here", course_id=course["id"])
        await two.rpc("course.here", course_id=course["id"])
        expected = {"users": 2, "lessons": {lesson: 1}}
        assert await teacher.rpc("course.active", course_id=course["id"]) == expected
        assert ok(await teacher.http("GET", at(course, "active"))) == expected
        assert await one.refusal("course.active", course_id=course["id"]) == 103
        for method in ("course.here", "course.active"):
            assert await stranger.refusal(method, course_id=course["id"]) == 1002
        assert await stranger.refusal("lesson.step", course_id=course["id"], lesson_id=lesson) == 1002
