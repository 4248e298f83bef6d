"""A live class, from its place in the course's timetable to its end, over two nodes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from config.embedded import read_urls
from gateway_node.services.classes.registry import LiveClasses
from loadtest.server import Server
from realtime.classroom.commands import Logged, Schedule, Start
from storage.database import Database
from storage.lms.classes import ClassStore
from tests.chat.person import Person
from tests.classes.room import Room, lesson, log_as_server, scheduled, times, write_log
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration

DENIED, LIMITED, BAD, TOO_MANY, NOT_FOUND, CONFLICT = 103, 106, 107, 111, 1002, 1003


async def test_a_class_is_planned_started_held_and_ended(server: Server) -> None:
    async with school(server, "teacher", "ann", "stranger") as (teacher, ann, stranger):
        course = await published_course(teacher)
        await enrol(ann, course)
        room = await scheduled(teacher, course)
        listed = ok(await ann.http("GET", f"/v1/courses/{course['id']}/classes"))["classes"]
        assert [each["id"] for each in listed] == [room.id]
        assert await stranger.refusal("class.join", class_id=room.id) == 102
        assert await ann.refusal("class.join", class_id=room.id) == CONFLICT  # nobody has started it
        assert await room.refusal(ann, "start") == DENIED
        joined = await room.enter(teacher)
        assert (joined["status"], joined["role"]) == ("in", "teacher")
        await room.do(teacher, "start")
        await room.enter(ann)
        assert room.state(ann)["phase"] == "live"
        with pytest.raises(Refused) as refused:
            await stranger.device.subscribe(room.channel)
        assert refused.value.code == DENIED
        await room.do(ann, "raise_hand")
        state = await room.seen(teacher, lambda state: ann.id in state["hands"])
        assert state["hands"][ann.id]["name"] == "ann"
        await room.do(teacher, "call_next")
        state = await room.seen(ann, lambda state: state["called"])
        assert (state["called"]["user"], state["hands"]) == (ann.id, {})
        await room.say(ann, "Thank you")
        assert (await teacher.device.hears(room.channel, content="Thank you"))["from_user_id"] == ann.id
        assert await room.refusal(ann, "end") == DENIED
        await room.do(teacher, "end")
        await room.seen(ann, lambda state: state["phase"] == "ended")
        with pytest.raises(Refused):
            await room.say(ann, "Too late")
        await ended(teacher, room)
        assert await room.refusal(teacher, "start") == CONFLICT


async def ended(teacher: Person, room: Room) -> None:
    """Return when the timetable has the end: every node writes it a moment after the command."""
    async with asyncio.timeout(10):
        while "ended_at" not in ok(await teacher.http("GET", room.path)):
            await asyncio.sleep(0.05)


async def test_only_within_its_time_and_by_the_staff(server: Server) -> None:
    async with school(server, "teacher", "helper", "ann") as (teacher, helper, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        await enrol(helper, course)
        ok(
            await teacher.http("PUT", f"/v1/courses/{course['id']}/participants/{helper.id}", {"role": "assistant"}),
            204,
        )
        early = await scheduled(teacher, course, **times(begins=timedelta(hours=1)))
        late = await scheduled(teacher, course)
        await log_as_server(server, late, Schedule(opens_at=1, closes_at=2))  # its time goes by
        for room in (early, late):
            await room.enter(teacher)
            assert await room.refusal(teacher, "start") == CONFLICT
        ok(await teacher.http("PATCH", early.path, times(begins=timedelta(minutes=10))))
        assert await early.refusal(ann, "start") == DENIED
        await early.do(helper, "start")
        refused = await teacher.http("PATCH", early.path, times())
        assert refused.status in (200, 409)  # by the row, or by the fold a moment later
        made = {"Idempotency-Key": "once"}
        path, body = f"/v1/courses/{course['id']}/classes", {"title": "x", **times()}
        one = ok(await teacher.http("POST", path, body, headers=made), 201)
        assert ok(await teacher.http("POST", path, body, headers=made), 200)["id"] == one["id"]


async def test_a_class_has_times_that_can_be(server: Server) -> None:
    """Both when it is planned and when it is planned anew; one that has just begun can be started now."""
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        path = f"/v1/courses/{course['id']}/classes"
        room = await scheduled(teacher, course, **times(begins=-timedelta(minutes=1)))
        now = times()
        for fields, pointer in (
            ({"title": ""}, "/title"),
            (times(begins=-timedelta(hours=2)), "/ends_at"),  # past
            ({"ends_at": times(begins=-timedelta(hours=2))["ends_at"]}, "/ends_at"),  # past, and before its beginning
            ({"ends_at": now["starts_at"], "starts_at": now["ends_at"]}, "/ends_at"),
            ({"ends_at": now["starts_at"], "starts_at": now["starts_at"]}, "/ends_at"),
            ({"starts_at": "2027-01-01T00:00:00"}, "/starts_at"),
            ({"starts_at": "9999-12-31T22:00:00-12:00", "ends_at": "9999-12-31T23:00:00-12:00"}, "/ends_at"),
            ({"starts_at": "0001-01-01T01:00:00+12:00", "ends_at": "0001-01-01T02:00:00+12:00"}, "/ends_at"),
        ):
            for refused in (
                await teacher.http("POST", path, {"title": "x", **now, **fields}),
                await teacher.http("PATCH", room.path, {**now, **fields}),
            ):
                assert (refused.status, refused.pointers) == (422, [pointer]), fields
        listed = ok(await teacher.http("GET", path))["classes"]
        assert [each["id"] for each in listed] == [room.id]
        await room.enter(teacher)
        await room.do(teacher, "start")


async def test_a_course_is_not_deleted_under_a_class_that_goes_on(server: Server) -> None:
    async with lesson(server, assistant=True) as (room, teacher, _):
        async with asyncio.timeout(10):
            while "started_at" not in ok(await teacher.http("GET", room.path)):
                await asyncio.sleep(0.05)
        course = f"/v1/courses/{room.course['id']}"
        assert (await teacher.http("DELETE", course)).status == 409
        await room.do(teacher, "end")
        await ended(teacher, room)
        ok(await teacher.http("DELETE", course), 204)


async def test_attendance_goes_on_when_a_class_is_gone(server: Server) -> None:
    """Who is in a class that is there no more costs the others on their node nothing."""
    async with (
        lesson(server, assistant=True) as (gone, teacher, helper),
        lesson(server, "ann", "ben") as (room, other, ann, ben),
    ):
        await execute(server, "delete from courses where id = $1::text::uuid", gone.course["id"])
        for person in (teacher, helper):
            await person.device.ask(unsubscribe={"channel": gone.channel})  # is noted, where there is nothing to note
        await execute(server, "delete from class_attendance where class_id = $1::text::uuid", room.id)
        for person in (other, ann, ben):
            await person.device.cut_and_return()
        async with asyncio.timeout(10):
            while len(await execute(server, PRESENT, room.id)) < 3:
                await asyncio.sleep(0.05)


PRESENT = "select from class_attendance where class_id = $1::text::uuid"


async def test_a_class_that_was_started_meanwhile_is_not_planned_anew(server: Server) -> None:
    """The log decides: what a node that has not heard of the start writes into the timetable, it takes back."""
    async with school(server, "teacher") as (teacher,):
        room = await scheduled(teacher, await published_course(teacher))
        before = ok(await teacher.http("GET", room.path))
        await log_as_server(server, room, Start())
        later = {"title": "Later", **times(begins=timedelta(days=1))}
        assert (await teacher.http("PATCH", room.path, later)).status == 409
        after = ok(await teacher.http("GET", room.path))
        assert {name: after[name] for name in before} == before


async def test_no_class_is_started_in_an_archived_course(server: Server) -> None:
    """By neither way; one that goes on then is ended by its people."""
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        live, planned = await scheduled(teacher, course), await scheduled(teacher, course)
        await live.enter(teacher)
        await live.do(teacher, "start")
        ok(await teacher.http("PUT", f"/v1/courses/{course['id']}/archive"), 204)
        assert await planned.refusal(teacher, "start") == CONFLICT
        assert (await teacher.http("POST", f"{planned.path}/commands", {"do": "start"})).status == 409
        await live.do(teacher, "end")


async def test_a_class_that_nobody_ended_is_ended_hours_after_its_time(server: Server) -> None:
    """Of those that go on; by a command of the server, which the fold takes from nobody else outside."""
    async with (
        lesson(server) as (late, teacher),
        lesson(server) as (young, other),
        school(server, "teacher") as (third,),
    ):
        never = await scheduled(third, await published_course(third))
        for room, person in ((late, teacher), (young, other)):
            async with asyncio.timeout(10):
                while "started_at" not in ok(await person.http("GET", room.path)):
                    await asyncio.sleep(0.05)
        back = (
            "update classes set starts_at = starts_at - $2::interval, ends_at = ends_at - $2::interval"
            " where id = $1::text::uuid"
        )
        for room, hours in ((late, 6), (young, 3), (never, 6)):  # of one hour each: over for 5, 2 and 5
            await execute(server, back, room.id, timedelta(hours=hours))
        database = Database(str(read_urls(server.data_dir).database))
        live = LiveClasses(None, None, None, ClassStore(database))  # type: ignore[arg-type]
        logged: dict[str, Logged] = {}

        async def log(id: UUID, command: Logged) -> None:
            logged[str(id)] = command

        live.log_command = log  # type: ignore[assignment,method-assign]
        await live.end_overdue()
        await database.close()
        assert (late.id in logged, young.id in logged, never.id in logged) == (True, False, False)
        await write_log(server, late, logged[late.id])
        await ended(teacher, late)


async def test_of_two_who_call_the_next_at_once_one_does(server: Server) -> None:
    async with lesson(server, "ann", "ben", assistant=True) as (room, teacher, ann, ben, helper):
        await room.do(ann, "raise_hand")
        await room.do(ben, "raise_hand")
        for person in (teacher, helper):
            await room.seen(person, lambda state: len(state["hands"]) == 2)
        assert teacher.node != helper.node
        seen = room.state(teacher)["offset"] + 2
        answers = await asyncio.gather(
            *(room.do(person, "call_next", seen=seen) for person in (teacher, helper)), return_exceptions=True
        )
        assert [each.code for each in answers if isinstance(each, Refused)] == [CONFLICT]
        state = await room.seen(ann, lambda state: state["called"])
        assert (state["called"]["user"], list(state["hands"])) == (ann.id, [ben.id])
        states = [
            await room.seen(each, lambda one: one["called"] == state["called"]) for each in (teacher, ben, helper)
        ]
        assert [list(each["hands"]) for each in states] == [list(state["hands"])] * 3


async def test_what_a_student_may_not(server: Server) -> None:
    """Each command of the teachers, from a raw WebSocket: refused with its code, and the log has none of them."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        before = room.state(ann)["offset"]
        user = {"user": ben.id}
        for do, fields in TEACHERS.items():
            fields = {name: ben.id if value == "user" else value for name, value in fields.items()}
            assert await room.refusal(ann, do, **fields) == DENIED, do
        assert await room.refusal(ann, "lower_hand", **user) == DENIED
        await room.do(ben, "raise_hand")
        assert await room.refusal(ann, "raise_hand", user=ben.id) == BAD  # nobody raises another's hand
        assert await room.refusal(ann, "raise_hand", by=ben.id) == BAD
        assert await room.refusal(ann, "open_poll", poll_id="x", question="x", options=["a", "b"]) == BAD
        assert await room.refusal(ann, "no such command") == BAD
        with pytest.raises(Refused) as refused:
            await ann.device.publish(room.channel, {"id": str(uuid4()), "type": "command", "command": {"do": "end"}})
        assert refused.value.code == BAD
        state = await room.seen(teacher, lambda state: state["hands"])
        assert list(state["hands"]) == [ben.id]
        rows = await execute(
            server,
            "select count(*) from messages m join channels c on c.id = m.channel_id where c.name = $1",
            room.channel,
        )
        assert rows[0][0] == before + 1


TEACHERS: dict[str, dict[str, Any]] = {
    "start": {},
    "end": {},
    "cancel": {},
    "lock": {},
    "lobby": {},
    "admit": {"user": "user"},
    "admit_all": {},
    "kick": {"user": "user"},
    "ban": {"user": "user"},
    "unban": {"user": "user"},
    "role": {"user": "user", "role": "speaker"},
    "lower_all": {},
    "call_next": {},
    "mute": {"user": "user"},
    "unmute": {"user": "user"},
    "mute_all": {},
    "unmute_all": {},
    "set_lock": {"lock": "chat"},
    "chat_rules": {"slow": 5},
    "close_poll": {},
}
