"""Who is taken out of a class, or put into its lobby, sends and sees nothing more at once: not when somebody notices
that they are gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.classes.room import Room, lesson, scheduled
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration

DENIED = 103

Way = Callable[[Room, Person, Person], Awaitable[object]]


async def removed(room: Room, teacher: Person, ann: Person) -> None:
    ok(await teacher.http("DELETE", f"/v1/courses/{room.course['id']}/participants/{ann.id}"), 204)


async def leaves(room: Room, teacher: Person, ann: Person) -> None:
    ok(await ann.http("DELETE", f"/v1/courses/{room.course['id']}/enrollments"), 204)


async def kicked(room: Room, teacher: Person, ann: Person) -> None:
    await room.do(teacher, "kick", user=ann.id)


async def banned(room: Room, teacher: Person, ann: Person) -> None:
    await room.do(teacher, "ban", user=ann.id)


async def kept_out(room: Room, teacher: Person, ann: Person) -> None:
    async with school(ann.server, "admin") as (admin,):
        ok(await admin.http("PUT", f"/v1/school/people/{ann.id}/access", {"allowed": False}), 204)


async def disabled(room: Room, teacher: Person, ann: Person) -> None:
    """By `chalkwire user disable`."""
    (account,) = await execute(ann.server, "select email from users where id = $1::text::uuid", ann.id)
    command = [sys.executable, "-m", "gateway_node", "user", "disable", account["email"]]
    await asyncio.to_thread(subprocess.run, command, env=ann.server.environment, check=True)


@pytest.mark.parametrize("way", [removed, leaves, kicked, banned, kept_out, disabled])
async def test_whoever_is_taken_out_sends_nothing_any_more(server: Server, way: Way) -> None:
    """In one line, by which everybody hangs up: nobody waits until somebody who is gone is missed."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(ann, "raise_hand")
        await room.do(ann, "publish", peer="page", tracks=["camera", "microphone"])
        await room.seen(ben, lambda state: ann.id in state["sending"])
        await way(room, teacher, ann)
        for each in (teacher, ben):
            line = await each.hears(room.channel, out=ann.id)
            assert ["remove", "sending", ann.id] in line["changes"]
            assert ann.id not in room.state(each)["hands"]
        await ann.device.is_out(room.channel)
        if way in (kept_out, disabled):
            return  # nor can they ask
        for method, more in (("class.signal", {"to": ben.id, "peer": "page", "data": {}}), ("class.ice", {})):
            assert await ann.refusal(method, class_id=room.id, **more) in (DENIED, 102)


async def test_who_comes_back_into_the_course_comes_in_by_the_door(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        await removed(room, teacher, ann)
        await ann.device.is_out(room.channel)
        await room.do(teacher, "lobby")
        ok(
            await teacher.http("PUT", f"/v1/courses/{room.course['id']}/participants/{ann.id}", {"role": "student"}),
            204,
        )
        assert (await room.enter(ann))["status"] == "waiting"


async def test_whoever_leaves_the_course_leaves_their_role_in_its_classes(server: Server) -> None:
    """Also in one that has not begun, where they have no seat yet."""
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        room = await scheduled(teacher, course)
        await room.do(teacher, "role", user=ann.id, role="assistant")
        await removed(room, teacher, ann)
        path = f"/v1/courses/{course['id']}/participants/{ann.id}"
        ok(await teacher.http("PUT", path, {"role": "student"}), 204)
        await room.enter(teacher)
        await room.do(teacher, "start")
        assert ((await room.enter(ann))["role"], room.state(teacher)["roles"]) == ("student", {})


async def test_an_assistant_of_the_class_who_is_a_student_again_waits_in_the_lobby(server: Server) -> None:
    """Nothing but their role had let them by."""
    async with lesson(server, "ben") as (room, teacher, ben), school(server, "ann") as (ann,):
        await enrol(ann, room.course)
        await room.do(teacher, "lobby")
        await room.do(teacher, "role", user=ann.id, role="assistant")
        assert (await room.enter(ann))["status"] == "in"
        await room.do(ann, "publish", peer="page", tracks=["camera"])
        await room.do(teacher, "role", user=ann.id, role="student")
        line = await ben.hears(room.channel, do="role", out=ann.id)
        assert ["remove", "sending", ann.id] in line["changes"]
        await ann.device.is_out(room.channel)
        with pytest.raises(Refused) as refused:
            await ann.device.subscribe(room.channel)
        assert refused.value.code == DENIED
        assert (await room.enter(ann))["status"] == "waiting"
        await teacher.hears(room.channel, type="lobby")
        await room.do(teacher, "admit", user=ann.id)
        await ann.hears(ann.channel, type="class_admitted")
        assert (await room.enter(ann))["status"] == "in"


async def test_who_was_in_before_the_lobby_stays_in_whatever_their_role_becomes(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        await room.do(teacher, "lobby")
        for role in ("assistant", "student"):
            await room.do(teacher, "role", user=ann.id, role=role)
        await room.do(teacher, "mute_all")
        await room.seen(ann, lambda state: state["all_muted"])
        assert ann.device.subscriptions[room.channel].live
        await room.do(ann, "raise_hand")


async def test_an_assistant_of_the_course_who_is_a_student_now_obeys_its_locks(server: Server) -> None:
    async with lesson(server, assistant=True) as (room, teacher, helper):
        await room.do(teacher, "set_lock", lock="camera")
        await room.do(helper, "publish", peer="page", tracks=["camera", "microphone"])
        await room.seen(teacher, lambda state: helper.id in state["sending"])
        path = f"/v1/courses/{room.course['id']}/participants/{helper.id}"
        ok(await teacher.http("PUT", path, {"role": "student"}), 204)
        line = await teacher.hears(room.channel, do="role")
        sending = line["changes"][-1][3]
        assert (sending["tracks"], sending["role"]) == (["microphone"], "student")
        assert helper.device.subscriptions[room.channel].live


async def test_an_assistant_of_the_course_who_is_a_student_now_waits_in_the_lobby(server: Server) -> None:
    async with lesson(server) as (room, teacher), school(server, "ann") as (ann,):
        await enrol(ann, room.course)
        path = f"/v1/courses/{room.course['id']}/participants/{ann.id}"
        ok(await teacher.http("PUT", path, {"role": "assistant"}), 204)
        await room.do(teacher, "lobby")
        await room.enter(ann)
        ok(await teacher.http("PUT", path, {"role": "student"}), 204)
        await ann.device.is_out(room.channel)
        assert (await room.enter(ann))["status"] == "waiting"


async def test_what_is_in_flight_when_somebody_is_taken_out_is_refused(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        tracks = {"peer": "page", "tracks": ["camera"]}
        work = [room.do(ann, "publish", **tracks) for _ in range(10)]
        await asyncio.gather(removed(room, teacher, ann), *work, return_exceptions=True)
        await teacher.hears(room.channel, out=ann.id)
        await room.do(teacher, "mute_all")
        state = await room.seen(teacher, lambda state: state["all_muted"])
        assert ann.id not in state["sending"]
