"""Courses over HTTP on two nodes: what teachers make, students read, and nobody else sees."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, new_course, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


async def add_lesson(teacher: Person, course: dict[str, Any], module: str, title: str, **fields: Any) -> dict[str, Any]:
    lesson = {"title": title, "status": "published", **fields}
    return dict(ok(await teacher.http("POST", at(course, "modules", module, "lessons"), lesson), 201))


async def add_module(teacher: Person, course: dict[str, Any], title: str) -> str:
    return str(ok(await teacher.http("POST", at(course, "modules"), {"title": title}), 201)["id"])


async def test_a_course_is_made_filled_published_and_read(server: Server) -> None:
    async with school(server) as (_, teacher, student):
        course = await new_course(
            teacher,
            title="Introduction to Go",
            metadata={"tags": ["programming", "golang"], "difficulty": "beginner"},
        )
        assert (course["status"], course["role"], course["instructor_id"]) == ("draft", "teacher", teacher.id)
        basics = await add_module(teacher, course, "Basics")
        hello = await add_lesson(
            teacher,
            course,
            basics,
            "Hello World",
            content=[
                {"type": "markdown", "text": "# Hello"},
                {"type": "code", "text": "package main", "language": "go"},
            ],
            videoUrl="https://video.example/1.mp4",
            duration=300,
        )
        await add_lesson(teacher, course, basics, "Not yet", status="draft")
        later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        await add_lesson(teacher, course, basics, "Tomorrow", release_at=later)
        ok(await teacher.http("PUT", at(course, "publication")), 204)
        seen = ok(await teacher.http("GET", at(course)))
        assert [lesson["title"] for lesson in seen["modules"][0]["lessons"]] == ["Hello World", "Not yet", "Tomorrow"]
        shown = ok(await student.http("GET", at(course)))["modules"][0]["lessons"][0]  # before they take part
        assert (shown["title"], shown["duration"], shown.get("videoUrl")) == ("Hello World", 300, None)
        await enrol(student, seen)

        seen = ok(await student.http("GET", at(course)))
        assert seen["metadata"] == {"tags": ["programming", "golang"], "difficulty": "beginner"}
        assert [lesson["title"] for lesson in seen["modules"][0]["lessons"]] == ["Hello World"]
        assert seen["modules"][0]["lessons"][0]["videoUrl"] == "https://video.example/1.mp4"
        assert seen["modules"][0]["lessons"][0]["duration"] == 300
        assert "code" not in seen
        lesson = ok(await student.http("GET", at(course, "lessons", hello["id"])))
        assert [block["type"] for block in lesson["content"]] == ["markdown", "code"]


async def test_what_is_not_released_is_not_there_to_students(server: Server) -> None:
    async with school(server) as (admin, teacher, student):
        course = await published_course(teacher)
        module = await add_module(teacher, course, "One")
        draft = await add_lesson(teacher, course, module, "Draft", status="draft")
        await enrol(student, course)
        assert (await student.http("GET", at(course, "lessons", draft["id"]))).status == 404
        ok(await admin.http("GET", at(course, "lessons", draft["id"])))
        ok(await teacher.http("PATCH", at(course, "lessons", draft["id"]), {"status": "published"}))
        ok(await student.http("GET", at(course, "lessons", draft["id"])))


async def test_a_draft_is_for_its_staff(server: Server) -> None:
    async with school(server, "admin", "teacher", "teacher too", "student") as (admin, teacher, other, student):
        course = await new_course(teacher)
        for stranger in (other, student):
            assert (await stranger.http("GET", at(course))).status == 404
            assert (await stranger.http("PATCH", at(course), {"title": "Mine"})).status == 404
        ok(await admin.http("GET", at(course)))
        assert (await student.http("POST", "/v1/courses", {"title": "Mine"})).status == 403
        assert (await student.http("GET", f"/v1/courses/{uuid4()}")).status == 404


async def test_a_change_is_seen_on_every_node_at_once(server: Server) -> None:
    """The teacher is on one node and the student on the other; both have the course in their cache."""
    async with school(server) as (_, teacher, student):
        course = await published_course(teacher, admission="open")
        for round in range(5):
            for person in (teacher, student):
                ok(await person.http("GET", at(course)))
            ok(await teacher.http("PATCH", at(course), {"title": f"Round {round}"}))
            assert ok(await student.http("GET", at(course)))["title"] == f"Round {round}"
            assert ok(await student.http("GET", at(course), node=0))["title"] == f"Round {round}"


async def test_who_edits_what_another_changed_is_told(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        first = await teacher.http("GET", at(course))
        tag = first.headers["etag"]
        changed = await teacher.http("PATCH", at(course), {"title": "Second"}, headers={"If-Match": tag})
        assert ok(changed)["title"] == "Second"
        late = await teacher.http("PATCH", at(course), {"title": "Third"}, headers={"If-Match": tag})
        assert (late.status, late.headers["etag"]) == (412, changed.headers["etag"])
        module = await add_module(teacher, course, "One")
        lesson = await add_lesson(teacher, course, module, "A lesson")
        path = at(course, "lessons", lesson["id"])
        tag = (await teacher.http("GET", path)).headers["etag"]
        ok(await teacher.http("PATCH", path, {"title": "Better"}, headers={"If-Match": tag}))
        assert (await teacher.http("PATCH", path, {"title": "Worse"}, headers={"If-Match": tag})).status == 412


async def test_a_module_is_renamed_by_whoever_knows_the_course_as_it_is(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        module = at(course, "modules", await add_module(teacher, course, "One"))
        tag = {"If-Match": (await teacher.http("GET", at(course))).headers["etag"]}
        ok(await teacher.http("PATCH", module, {"title": "First"}, headers=tag), 204)
        assert (await teacher.http("PATCH", module, {"title": "Former"}, headers=tag)).status == 412
        assert ok(await teacher.http("GET", at(course)))["modules"][0]["title"] == "First"


async def test_lessons_are_put_in_order(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, _):
        course = await published_course(teacher)
        one, two = [await add_module(teacher, course, title) for title in ("One", "Two")]
        a, b, c = [(await add_lesson(teacher, course, one, title))["id"] for title in "abc"]
        order = {"modules": [{"id": two, "lessons": [c, a]}, {"id": one, "lessons": [b]}]}
        ok(await teacher.http("PUT", at(course, "order"), order), 204)
        modules = ok(await teacher.http("GET", at(course)))["modules"]
        assert [[module["title"], *(each["title"] for each in module["lessons"])] for module in modules] == [
            ["Two", "c", "a"],
            ["One", "b"],
        ]
        for wrong in (
            {"modules": [{"id": two, "lessons": [c, a]}]},
            {"modules": [{"id": two, "lessons": [c, a, a]}, {"id": one, "lessons": [b]}]},
            {"modules": [{"id": two, "lessons": [c]}, {"id": one, "lessons": [b]}]},
        ):
            refused = await teacher.http("PUT", at(course, "order"), wrong)
            assert (refused.status, refused.pointers) == (422, ["/modules"])


async def test_what_is_in_use_is_not_deleted(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        module = await add_module(teacher, course, "One")
        lesson = await add_lesson(teacher, course, module, "A lesson")
        assert (await teacher.http("DELETE", at(course, "modules", module))).status == 409
        assert (await teacher.http("DELETE", at(course))).status == 409
        ok(await teacher.http("DELETE", at(course, "lessons", lesson["id"])), 204)
        ok(await teacher.http("DELETE", at(course, "modules", module)), 204)
        await enrol(student, course)
        assert (await teacher.http("DELETE", at(course))).status == 409
        ok(await student.http("DELETE", at(course, "enrollments")), 204)
        refused = await teacher.http("DELETE", at(course))
        assert (refused.status, "students" in refused.body["detail"]) == (409, True)  # what they did stays
        empty = await new_course(teacher)
        work = ok(await teacher.http("POST", at(empty, "assignments"), {"title": "Essay"}), 201)
        thread = ok(await teacher.http("POST", at(empty, "threads"), {"title": "Hello", "content": "Hi"}), 201)
        refused = await teacher.http("DELETE", at(empty))
        assert refused.status == 409
        assert "assignments and threads" in refused.body["detail"]
        ok(await teacher.http("DELETE", at(empty, "assignments", work["id"])), 204)
        assert (await teacher.http("DELETE", at(empty))).status == 409
        await execute(server, "delete from threads where id = $1::text::uuid", thread["id"])
        ok(await teacher.http("DELETE", at(empty)), 204)
        assert (await teacher.http("GET", at(empty))).status == 404


async def test_an_archived_course_is_read_only(server: Server) -> None:
    async with school(server, "teacher", "student", "late") as (teacher, student, late):
        course = await published_course(teacher)
        await enrol(student, course)
        ok(await teacher.http("PUT", at(course, "archive")), 204)
        assert (await late.http("POST", at(course, "enrollments"), {"code": course["code"]})).status == 404
        assert ok(await student.http("GET", at(course)))["status"] == "archived"
        assert (
            await student.refusal("message.send", room_id=course["room_id"], id=str(uuid4()), type="text", content="?")
            == 103
        )
        ok(await teacher.http("PUT", at(course, "publication")), 204)
        await enrol(late, course)


async def test_a_draft_is_published_when_its_time_comes(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await new_course(teacher, admission="open")
        soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        assert ok(await teacher.http("PATCH", at(course), {"publish_at": soon}))["publish_at"]
        await execute(server, "update courses set publish_at = now() where id = $1::text::uuid", course["id"])
        async with asyncio.timeout(20):
            while (await student.http("GET", at(course))).status == 404:
                await asyncio.sleep(0.2)
        told = await execute(
            server, "select kind from course_events where course_id = $1::text::uuid and actor_id is null", course["id"]
        )
        assert [row["kind"] for row in told] == ["course.published"]


async def test_the_catalogue_pages_and_is_searched(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        word = f"w{uuid4().hex}"
        made = [
            (await published_course(teacher, title=f"{word} {i}", admission="open", metadata={"tags": [f"t{i % 2}"]}))[
                "id"
            ]
            for i in range(5)
        ]
        await published_course(teacher, title=f"{word} hidden", admission="closed")
        await new_course(teacher, title=f"{word} draft")
        found: list[str] = []
        path = f"/v1/courses?query={word}&limit=2"
        while path:
            answer = await student.http("GET", path)
            found += [each["id"] for each in ok(answer)["courses"]]
            link = answer.headers.get("link", "")
            path = link[1 : link.index(">")] if link else ""
        assert found == made[::-1]
        tagged = ok(await student.http("GET", f"/v1/courses?query={word}&tag=t1"))["courses"]
        assert [each["id"] for each in tagged] == [made[3], made[1]]
        newest = ok(await student.http("GET", "/v1/courses?limit=1"))["courses"]
        assert newest[0]["id"] == made[-1]
        assert [each["id"] for each in ok(await teacher.http("GET", "/v1/me/courses?limit=100"))["courses"]].count(
            made[0]
        )


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"title": ""}, "/title"),
        ({"title": "x" * 256}, "/title"),
        ({"title": "a\nb"}, "/title"),
        ({"title": "x", "capacity": 0}, "/capacity"),
        ({"title": "x", "admission": "maybe"}, "/admission"),
        ({"title": "x", "description": "\0"}, "/description"),
        ({"title": "x", "metadata": {"tags": ["a"] * 21}}, "/metadata/tags"),
        ({"title": "x", "metadata": {"difficulty": "impossible"}}, "/metadata/difficulty"),
        ({"title": "x", "owner": "me"}, "/owner"),
        ({}, "/title"),
    ],
)
async def test_a_bad_course_is_refused_at_its_place(server: Server, fields: dict[str, Any], pointer: str) -> None:
    async with school(server, "teacher") as (teacher,):
        refused = await teacher.http("POST", "/v1/courses", fields)
        assert (refused.status, refused.pointers) == (422, [pointer])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"content": [{"type": "html", "text": "<b>"}]}, "/content/0/type"),
        ({"content": [{"type": "video"}]}, "/content/0"),
        ({"content": [{"type": "link", "url": "javascript:alert(1)"}]}, "/content/0/url"),
        ({"content": [{"type": "link", "url": "https://me:secret@example.org/"}]}, "/content/0/url"),
        ({"content": [{"type": "markdown", "text": "x" * 100_001}]}, "/content/0/text"),
        ({"content": [{"type": "markdown", "text": ""}] * 201}, "/content"),
        ({"videoUrl": "ftp://example.org/a"}, "/videoUrl"),
        ({"duration": -1}, "/duration"),
        ({"release_at": "2027-01-01T00:00:00"}, "/release_at"),
    ],
)
async def test_a_bad_lesson_is_refused_at_its_place(server: Server, fields: dict[str, Any], pointer: str) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await new_course(teacher)
        module = await add_module(teacher, course, "One")
        refused = await teacher.http("POST", at(course, "modules", module, "lessons"), {"title": "x", **fields})
        assert (refused.status, refused.pointers) == (422, [pointer])


async def test_the_same_key_makes_one_course(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        key = {"Idempotency-Key": "autumn"}
        made = ok(await teacher.http("POST", "/v1/courses", {"title": "Once"}, headers=key), 201)
        again = ok(await teacher.http("POST", "/v1/courses", {"title": "Once"}, headers=key), 200)
        assert again["id"] == made["id"]


async def test_the_same_key_makes_one_module_and_one_lesson(server: Server) -> None:
    """Also on two nodes at once; another module is another place for the key."""
    async with school(server, "teacher") as (teacher,):
        course = await new_course(teacher)
        key = {"Idempotency-Key": "week 1"}

        async def twice(path: str, body: dict[str, Any]) -> str:
            answers = await asyncio.gather(
                *(teacher.http("POST", path, body, headers=key, node=node) for node in (0, 1))
            )
            assert sorted(each.status for each in answers) == [200, 201]
            (id,) = {each.body["id"] for each in answers}
            return str(id)

        one = await twice(at(course, "modules"), {"title": "One"})
        two = await add_module(teacher, course, "Two")
        for module in (one, two):
            await twice(at(course, "modules", module, "lessons"), {"title": "Hello"})
        modules = ok(await teacher.http("GET", at(course)))["modules"]
        assert [[each["title"] for each in module["lessons"]] for module in modules] == [["Hello"]] * 2
