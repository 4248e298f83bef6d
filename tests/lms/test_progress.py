"""How far students have come, and who is active: over HTTP, by RPC, and told live."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


async def add_lessons(teacher: Person, course: dict[str, Any], *lessons: dict[str, Any]) -> list[str]:
    """Published ones, in a module of their own; their ids."""
    module = ok(await teacher.http("POST", at(course, "modules"), {"title": "Basics"}), 201)
    path = at(course, "modules", module["id"], "lessons")
    made = []
    for number, lesson in enumerate(lessons):
        body = {"title": f"Lesson {number}", "status": "published", **lesson}
        made.append(ok(await teacher.http("POST", path, body), 201)["id"])
    return made


async def step(
    student: Person, course: dict[str, Any], lesson: str, *, node: int | None = None, **said: Any
) -> dict[str, Any]:
    found: dict[str, Any] = ok(await student.http("PUT", at(course, "lessons", lesson, "progress"), said, node=node))
    return found


async def mine(student: Person, course: dict[str, Any], node: int | None = None) -> dict[str, Any]:
    progress: dict[str, Any] = ok(await student.http("GET", at(course, "progress"), node=node))
    return progress


async def events(server: Server, course: dict[str, Any], kind: str) -> int:
    (row,) = await execute(
        server, "select count(*) from course_events where course_id = $1::text::uuid and kind = $2", course["id"], kind
    )
    return int(row["count"])


async def test_a_lesson_is_completed_by_the_rule_of_its_teacher(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        to_open, to_watch, to_do = await add_lessons(
            teacher, course, {}, {"completion": "video", "duration": 100}, {"completion": "done"}
        )
        await enrol(student, course)
        nothing = await mine(student, course)
        assert (nothing["lessons_done"], nothing["lessons"], nothing["percent"], nothing["progress"]) == (0, 3, 0, [])

        for lesson in (to_open, to_watch, to_do, to_do):
            await step(student, course, lesson)
        opened = {
            each["lesson_id"]: each["completed_at"] is not None for each in (await mine(student, course))["progress"]
        }
        assert opened == {to_open: True, to_watch: False, to_do: False}

        await step(student, course, to_watch, position=89)
        assert (await step(student, course, to_watch, done=True))["completed_at"] is None  # it is to be watched
        assert (await mine(student, course))["lessons_done"] == 1
        await step(student, course, to_watch, position=90)
        await step(student, course, to_watch, position=10)  # once more from the beginning
        progress = await mine(student, course)
        assert (progress["lessons_done"], progress["percent"], progress["status"]) == (2, 66.7, "active")

        await student.rpc("lesson.step", course_id=course["id"], lesson_id=to_do, done=True)
        await step(student, course, to_do, done=True)
        progress = await mine(student, course)
        assert (progress["percent"], progress["status"]) == (100, "completed")
        assert await events(server, course, "lesson.opened") == 3
        assert await events(server, course, "lesson.completed") == 3


async def test_one_goes_on_where_one_was_on_whatever_node(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        (lesson,) = await add_lessons(teacher, course, {"completion": "video", "duration": 1000})
        await enrol(student, course)
        await step(student, course, lesson, node=0, position=700)
        await step(student, course, lesson, node=1, position=300)
        for node in (0, 1):
            (opened,) = (await mine(student, course, node))["progress"]
            assert opened["position"] == 300

        async def stored() -> tuple[int, int]:
            (row,) = await execute(
                server,
                "select position, furthest from progress where lesson_id = $1::text::uuid",
                lesson,
            )
            return row["position"], row["furthest"]

        async with asyncio.timeout(20):
            while await stored() != (300, 700):
                await asyncio.sleep(0.1)


async def test_what_a_killed_node_had_not_written_is_in_redis(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        (lesson,) = await add_lessons(teacher, course, {})
        await enrol(student, course)
        await step(student, course, lesson, position=5)
        async with asyncio.timeout(20):
            while not await execute(
                server, "select from progress where lesson_id = $1::text::uuid and position = 5", lesson
            ):
                await asyncio.sleep(0.1)
        # As if that had never been written.
        await execute(
            server,
            "update progress set position = 0, furthest = 0, seen_at = null where lesson_id = $1::text::uuid",
            lesson,
        )
        (opened,) = (await mine(student, course))["progress"]
        assert opened["position"] == 5
        async with asyncio.timeout(20):
            while not await execute(
                server, "select from progress where lesson_id = $1::text::uuid and furthest = 5", lesson
            ):
                await asyncio.sleep(0.1)


async def test_nobody_comes_on_in_a_lesson_that_they_do_not_see(server: Server) -> None:
    async with school(server, "teacher", "student", "stranger") as (teacher, student, stranger):
        course, other = await published_course(teacher), await published_course(teacher)
        draft, later, seen = await add_lessons(
            teacher,
            course,
            {"status": "draft"},
            {"release_at": "2100-01-01T00:00:00Z"},
            {"duration": 60},
        )
        (foreign,) = await add_lessons(teacher, other, {})
        await enrol(student, course)
        for lesson in (draft, later, foreign, str(uuid4())):
            assert (await student.http("PUT", at(course, "lessons", lesson, "progress"), {})).status == 404
            refused = await student.refusal("lesson.step", course_id=course["id"], lesson_id=lesson)
            assert refused == 1002
            assert await student.refusal("course.here", course_id=course["id"], lesson_id=lesson) == 1002
        path = at(course, "lessons", seen, "progress")
        assert (await stranger.http("PUT", path, {})).status == 403
        assert await stranger.refusal("lesson.step", course_id=course["id"], lesson_id=seen) == 103
        assert (await teacher.http("PUT", path, {})).status == 403
        for position in (-1, 61, 10**9, "5", 1.5):
            wrong = await student.http("PUT", path, {"position": position})
            assert (wrong.status, wrong.pointers) == (422, ["/position"]), position
        assert (await student.http("PUT", path, {"percent": 100})).status == 422
        ok(await teacher.http("PUT", at(course, "archive")), 204)
        assert (await student.http("PUT", path, {})).status == 409
        ok(await student.http("GET", at(course, "progress")))


async def test_lessons_that_come_and_go_change_what_is_completed(server: Server) -> None:
    async with school(server, "teacher", "student", "other") as (teacher, student, other):
        course = await published_course(teacher)
        first, second, third = await add_lessons(teacher, course, {}, {}, {"status": "draft"})
        for person in (student, other):
            await enrol(person, course)
            await step(person, course, first)

        async def progress(person: Person = student) -> tuple[int, int, str]:
            found = await mine(person, course)
            return found["lessons_done"], found["lessons"], found["status"]

        await step(student, course, second)
        assert await progress() == (2, 2, "completed")
        ok(await teacher.http("PATCH", at(course, "lessons", third), {"status": "published"}))
        assert await progress() == (2, 3, "completed")  # it stays completed
        ok(await teacher.http("PATCH", at(course, "lessons", second), {"status": "draft"}))
        assert await progress() == (1, 2, "completed")
        ok(await teacher.http("PATCH", at(course, "lessons", second), {"status": "published"}))
        assert await progress() == (2, 3, "completed")
        assert await progress(other) == (1, 3, "active")
        for lesson in (second, third):
            ok(await teacher.http("DELETE", at(course, "lessons", lesson)), 204)
        assert await progress() == (1, 1, "completed")
        assert await progress(other) == (1, 1, "completed")  # what was missing is no more

        ok(await student.http("DELETE", at(course, "enrollments")), 204)
        await enrol(student, course)
        assert await progress() == (1, 1, "completed")  # and is not lost by leaving


async def test_many_at_once_complete_a_lesson_once(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        lessons = await add_lessons(teacher, course, {}, {}, {})
        await enrol(student, course)
        await asyncio.gather(*(step(student, course, each, node=n % 2) for each in lessons for n in range(6)))
        progress = await mine(student, course)
        assert (progress["lessons_done"], progress["status"]) == (3, "completed")
        assert await events(server, course, "lesson.opened") == 3


async def test_teachers_see_the_progress_of_all(server: Server) -> None:
    names = [f"student {n}" for n in range(5)]
    async with school(server, "teacher", *names) as (teacher, *students):
        course = await published_course(teacher)
        first, second = await add_lessons(teacher, course, {}, {})
        for number, student in enumerate(students):
            await enrol(student, course)
            for lesson in (first, second)[:number]:
                await step(student, course, lesson)
        listed: list[dict[str, Any]] = []
        path = at(course, "progress", "students") + "?limit=2"
        while path:
            answer = await teacher.http("GET", path)
            listed += ok(answer)["students"]
            path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert [each["user_id"] for each in listed] == sorted(each.id for each in students)
        assert {each["name"]: each["percent"] for each in listed} == dict(
            zip(names, (0, 50, 100, 100, 100), strict=True)
        )
        one = ok(await teacher.http("GET", at(course, "progress", "students", students[1].id)))
        assert [each["lesson_id"] for each in one["progress"]] == [first]
        for path in (at(course, "progress", "students"), at(course, "progress", "students", students[1].id)):
            assert (await students[0].http("GET", path)).status == 403
        assert (await teacher.http("GET", at(course, "progress", "students", teacher.id))).status == 404


async def test_the_staff_is_told_how_many_are_active_and_where(server: Server) -> None:
    async with school(server, "teacher", "a", "b", "assistant") as (teacher, a, b, assistant):
        course = await published_course(teacher)
        first, second = await add_lessons(teacher, course, {}, {})
        for student in (a, b):
            await enrol(student, course)
        appoint = await teacher.http("PUT", at(course, "participants", assistant.id), {"role": "assistant"})
        ok(appoint, 204)
        id = course["id"]
        for watcher in (teacher, assistant):
            assert await watcher.rpc("course.active", course_id=id) == {"users": 0, "lessons": {}}
        ok(await teacher.http("DELETE", at(course, "participants", assistant.id)), 204)

        await a.rpc("lesson.step", course_id=id, lesson_id=first)
        ok(await b.http("POST", at(course, "active"), {"lesson_id": first}), 204)
        await teacher.hears(teacher.channel, event="course_active", users=2, lessons={first: 2})
        await b.rpc("course.here", course_id=id, lesson_id=second)  # elsewhere, and in one lesson only
        await teacher.hears(teacher.channel, event="course_active", users=2, lessons={first: 1, second: 1})
        await b.rpc("course.here", course_id=id)
        await teacher.hears(teacher.channel, event="course_active", users=2, lessons={first: 1})
        assert ok(await teacher.http("GET", at(course, "active"))) == {"users": 2, "lessons": {first: 1}}
        ok(await a.http("DELETE", at(course, "enrollments")), 204)
        assert ok(await teacher.http("GET", at(course, "active"))) == {"users": 1, "lessons": {}}

        assert not [each for each in assistant.device.heard(assistant.channel) if each["event"] == "course_active"]
        assert await a.refusal("course.here", course_id=id) == 103
        assert await b.refusal("course.active", course_id=id) == 103
        assert (await b.http("GET", at(course, "active"))).status == 403


async def test_a_course_that_nobody_may_know_of_is_none(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher, admission="closed")
        assert await student.refusal("course.here", course_id=course["id"]) == 1002
        assert await student.refusal("course.active", course_id=str(uuid4())) == 1002
