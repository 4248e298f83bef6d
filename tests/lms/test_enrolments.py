"""Coming into a course and going, over HTTP and on live connections of two nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from config.embedded import read_urls
from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, new_course, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


def room(course: dict[str, Any]) -> str:
    return f"room:{course['room_id']}"


async def email_of(server: Server, person: Person) -> str:
    (row,) = await execute(server, "select email from users where id = $1::text::uuid", person.id)
    return str(row["email"])


async def test_whoever_comes_into_a_course_is_in_its_room_live(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await teacher.device.is_in(room(course))
        assert (await enrol(student, course))["role"] == "student"
        await student.device.is_in(room(course))
        await student.say(course["room_id"], "Good morning")
        await teacher.hears(course["room_id"], content="Good morning")
        again = await student.http("POST", at(course, "enrollments"), {})
        assert ok(again, 200)["students"] == 1
        listed = ok(await student.http("GET", at(course, "participants")))["participants"]
        assert {(each["name"], each["role"]) for each in listed} == {("teacher", "teacher"), ("student", "student")}


async def test_unenrolment_ends_live_access_on_every_node(server: Server) -> None:
    async with school(server, "teacher", "student", "other") as (teacher, student, other):
        course = await published_course(teacher)
        for person in (student, other):
            await enrol(person, course)
        tablet = await student.another_device(0)
        for device in (student.device, tablet):
            await device.is_in(room(course))
        ok(await teacher.http("DELETE", at(course, "participants", student.id)), 204)
        for device in (student.device, tablet):
            await device.is_out(room(course))
        await other.say(course["room_id"], "They are gone")
        await teacher.hears(course["room_id"], content="They are gone")
        assert not [each for each in student.device.heard(room(course)) if each.get("content") == "They are gone"]
        assert await student.refusal("message.list", room_id=course["room_id"]) == 102
        assert ok(await teacher.http("GET", at(course)))["students"] == 1
        ok(await teacher.http("DELETE", at(course, "participants", student.id)), 204)  # once more is fine
        await enrol(student, course)  # and they may come again
        await tablet.is_in(room(course))


async def test_a_code_opens_a_course(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        wrong = await student.http("POST", at(course, "enrollments"), {"code": "aaaaaaaa"})
        assert (wrong.status, wrong.pointers) == (422, ["/code"])
        assert (await student.http("POST", at(course, "enrollments"), {})).status == 422
        assert (await student.http("POST", "/v1/enrollments", {"code": "aaaaaaaa"})).status == 404
        assert (await student.http("POST", "/v1/enrollments", {"code": ""})).status == 422
        found = ok(await student.http("POST", "/v1/enrollments", {"code": course["code"].upper()}), 201)
        assert found["id"] == course["id"]
        ok(await student.http("POST", "/v1/enrollments", {"code": course["code"]}), 200)
        ok(await teacher.http("PATCH", at(course), {"new_code": True}))
        assert ok(await teacher.http("GET", at(course)))["code"] != course["code"]


async def test_a_closed_course_and_a_draft_take_nobody(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        closed = await published_course(teacher, admission="closed")
        draft = await new_course(teacher, admission="open")
        for course in (closed, draft):
            refused = await student.http("POST", at(course, "enrollments"), {"code": course["code"]})
            assert refused.status == 404
        ok(await teacher.http("PUT", at(closed, "participants", student.id), {}), 204)
        ok(await student.http("GET", at(closed)))


async def test_fifty_come_at_once_and_ten_have_seats(server: Server) -> None:
    async with school(server, "teacher", *(f"student {i}" for i in range(50))) as (teacher, *students):
        course = await published_course(teacher, capacity=10, admission="open")
        answers = await asyncio.gather(*(each.http("POST", at(course, "enrollments"), {}) for each in students))
        assert sorted(each.status for each in answers) == [201] * 10 + [409] * 40
        assert ok(await teacher.http("GET", at(course)))["students"] == 10
        (row,) = await execute(
            server,
            "select count(*) from enrollments where course_id = $1::text::uuid and role = 'student'",
            course["id"],
        )
        assert row["count"] == 10
        gone = students[[each.status for each in answers].index(201)]
        ok(await gone.http("DELETE", at(course, "enrollments")), 204)
        late = students[[each.status for each in answers].index(409)]
        ok(await late.http("POST", at(course, "enrollments"), {}), 201)
        small = await teacher.http("PATCH", at(course), {"capacity": 9})
        assert (small.status, small.pointers) == (422, ["/capacity"])


async def test_the_same_person_twice_at_once_takes_one_seat(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher, admission="open")
        answers = await asyncio.gather(
            *(student.http("POST", at(course, "enrollments"), {}, node=i % 2) for i in range(10))
        )
        assert sorted(each.status for each in answers) == [200] * 9 + [201]
        assert ok(await teacher.http("GET", at(course)))["students"] == 1


async def test_teachers_give_roles_and_assistants_do_not(server: Server) -> None:
    async with school(server, "teacher", "helper", "student") as (teacher, helper, student):
        course = await published_course(teacher)
        ok(await teacher.http("PUT", at(course, "participants", helper.id), {"role": "assistant"}), 204)
        ok(await helper.http("PUT", at(course, "participants", student.id), {}), 204)
        refused = await helper.http("PUT", at(course, "participants", student.id), {"role": "teacher"})
        assert refused.status == 403
        assert (await helper.http("DELETE", at(course, "participants", teacher.id))).status == 403
        assert (await helper.http("PATCH", at(course), {"title": "Mine"})).status == 403
        ok(await helper.http("POST", at(course, "modules"), {"title": "By the assistant"}), 201)
        assert (await teacher.http("DELETE", at(course, "enrollments"))).status == 409  # the last teacher
        ok(await teacher.http("PUT", at(course, "participants", helper.id), {"role": "teacher"}), 204)
        ok(await teacher.http("DELETE", at(course, "enrollments")), 204)
        assert (await teacher.http("PATCH", at(course), {"title": "Mine"})).status == 403


async def test_the_course_decides_who_is_in_its_room(server: Server) -> None:
    async with school(server, "teacher", "student", "friend") as (teacher, student, friend):
        course = await published_course(teacher)
        await enrol(student, course)
        room_id = course["room_id"]
        assert await friend.refusal("room.join", room_id=room_id) == 102
        assert await student.refusal("room.leave", room_id=room_id) == 103
        for method, params in (
            ("room.invite", {"user_id": friend.id}),
            ("room.remove", {"user_id": student.id}),
            ("room.role", {"user_id": student.id, "role": "owner"}),
            ("room.update", {"title": "Mine"}),
            ("room.archive", {}),
        ):
            assert await teacher.refusal(method, room_id=room_id, **params) == 103, method
        await teacher.rpc("room.mute", room_id=room_id, user_id=student.id)
        await teacher.rpc("room.unmute", room_id=room_id, user_id=student.id)
        ok(await teacher.http("PATCH", at(course), {"title": "Another name"}))
        assert (await student.rpc("room.get", room_id=room_id))["title"] == "Another name"


async def test_a_table_enrols_and_says_what_became_of_each_line(server: Server) -> None:
    async with school(server, "teacher", "a", "b", "c", "d") as (teacher, a, b, c, d):
        course = await published_course(teacher, capacity=3)
        await enrol(a, course)
        emails = [await email_of(server, each) for each in (a, b, c, d)]
        lines = [f"{n},{email}" for n, email in zip("abcd", emails, strict=True)]
        table = "\n".join(
            ["Name, Email", lines[0], lines[1].upper(), "x,nobody@example.org", "y,", lines[1], *lines[2:]]
        )
        report = ok(await teacher.http("POST", at(course, "participants"), {"csv": table}))
        assert (report["enrolled"], report["there"], report["refused"]) == (2, 1, 4)
        results = [(each["line"], each["result"]) for each in report["lines"]]
        expected = ["there", "enrolled", "refused", "refused", "refused", "enrolled", "refused"]
        assert results == list(enumerate(expected, start=2))
        assert report["lines"][-1]["detail"] == "the course is full"
        await c.device.is_in(room(course))
        # The same as a file: everybody is there, or refused as before.
        path = at(course, "participants.csv")
        report = ok(await teacher.http("POST", path, content=f"\ufeff{table}".encode()))
        assert (report["enrolled"], report["there"], report["refused"]) == (0, 3, 4)
        assert (await teacher.http("POST", path, content=b"email\n\xff")).status == 400
        assert (await a.http("POST", path, content=table.encode())).status == 403


async def test_a_code_that_cannot_be_is_refused_and_nobody_else(server: Server) -> None:
    """PostgreSQL takes no null character; those who enrol at the same moment share the statement."""
    async with school(server, "teacher", "mallory", "a", "b", "c") as (teacher, mallory, *honest):
        course = await published_course(teacher)
        codes = [(mallory, "\0"), *((each, course["code"]) for each in honest), (mallory, "a\0")]
        came = await asyncio.gather(
            *(each.http("POST", at(course, "enrollments"), {"code": code}, node=0) for each, code in codes)
        )
        assert [each.status for each in came] == [422, 201, 201, 201, 422]
        assert (await mallory.http("POST", "/v1/enrollments", {"code": "a\0"})).status == 422
        table = {"csv": f"email\na\0@example.org\n{await email_of(server, mallory)}\n"}
        report = ok(await teacher.http("POST", at(course, "participants"), table))
        assert [each["result"] for each in report["lines"]] == ["refused", "enrolled"]


@pytest.mark.parametrize("table", ["", "name\nAnn", 'email\n"open', "email\n" + "a@example.org\n" * 5001])
async def test_a_table_that_is_none_is_refused(server: Server, table: str) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        assert (await teacher.http("POST", at(course, "participants"), {"csv": table})).status == 400


async def test_whoever_enrols_leaves_the_course_in_the_cache(server: Server) -> None:
    """A rush would send every reader of the course to PostgreSQL; the number of students is right all the same."""
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher, admission="open")
        redis = Redis.from_url(str(read_urls(server.data_dir).redis))
        key = f"course:{course['id']}"
        await redis.delete(key)  # the mark of the publication
        ok(await teacher.http("GET", at(course), node=1 - teacher.node))  # theirs remembers the course
        before = await redis.get(key)
        assert before
        assert (await enrol(student, course))["students"] == 1
        assert await redis.get(key) == before
        for person in (teacher, student):
            assert ok(await person.http("GET", at(course)))["students"] == 1
        await redis.aclose()
