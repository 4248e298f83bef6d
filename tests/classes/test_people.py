"""Who is in a class: the lobby, locks, kicks and bans, those who come late and those who come back."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.classes.room import Room, crowd, lesson, scheduled, write_log
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration

DENIED, UNKNOWN, BAD = 103, 102, 107


async def new_student(server: Server, room: Room, person: Person) -> None:
    await enrol(person, room.course)


async def refusal_to_enter(room: Room, person: Person) -> int:
    with pytest.raises(Refused) as refused:
        await room.enter(person)
    return refused.value.code


async def test_the_lobby_holds_who_comes_until_they_are_admitted(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann), lesson(server, "ben", "cleo", "dan") as (_, _, *waiting):
        ben, cleo, dan = waiting
        for person in waiting:
            await enrol(person, room.course)
        await room.do(teacher, "lobby")
        for person in waiting:
            assert (await room.enter(person))["status"] == "waiting"
            with pytest.raises(Refused) as refused:
                await person.device.subscribe(room.channel)
            assert refused.value.code == DENIED
        await teacher.device.hears(room.channel, type="lobby")
        page = await teacher.rpc("class.people", class_id=room.id, waiting=True)
        assert [each["user"] for each in page["people"]] == [each.id for each in waiting]
        assert await ann.refusal("class.people", class_id=room.id, waiting=True) == DENIED
        await room.do(teacher, "admit", user=ben.id)
        await ben.hears(ben.channel, type="class_admitted")
        assert (await room.enter(ben))["status"] == "in"
        assert (await room.enter(cleo))["status"] == "waiting"
        await room.do(teacher, "admit_all")
        await cleo.hears(cleo.channel, type="class_admitted")
        for person in (cleo, dan):
            assert (await room.enter(person))["status"] == "in"
        people = (await teacher.rpc("class.people", class_id=room.id))["people"]
        assert {each["user"] for each in people} == {each.id for each in (teacher, ann, *waiting)}


async def test_a_lobby_that_is_opened_lets_everybody_in(server: Server) -> None:
    async with lesson(server) as (room, teacher), lesson(server, "ben") as (_, _, ben):
        await enrol(ben, room.course)
        await room.do(teacher, "lobby")
        assert (await room.enter(ben))["status"] == "waiting"
        await room.do(teacher, "lobby", on=False)
        await ben.hears(ben.channel, type="class_admitted")
        assert (await room.enter(ben))["status"] == "in"


async def test_whoever_comes_as_all_are_admitted_is_in_or_hears_of_it(server: Server) -> None:
    """On both nodes, at every moment before and after: nobody is left in a lobby that has been emptied."""
    async with lesson(server, *(f"student {i}" for i in range(10))) as (room, teacher, *students):

        def calls(person: Person) -> int:
            return sum(each.get("type") == "class_admitted" for each in person.device.heard(person.channel))

        async def come(person: Person, turns: int) -> bool:
            for _ in range(turns):
                await asyncio.sleep(0)
            return bool((await person.rpc("class.join", class_id=room.id))["status"] == "in")

        for attempt in range(8):
            await room.do(teacher, "lobby")
            for person in students:
                await room.do(teacher, "kick", user=person.id)
            called = {person.id: calls(person) for person in students}
            coming = [asyncio.create_task(come(person, i * 4)) for i, person in enumerate(students)]
            opened: dict[str, Any] = {"do": "lobby", "on": False} if attempt % 2 else {"do": "admit_all"}
            await room.do(teacher, **opened)
            for person, inside in zip(students, await asyncio.gather(*coming), strict=True):
                if not inside and (await person.rpc("class.join", class_id=room.id))["status"] == "in":
                    await person.device.until(lambda person=person, called=called: calls(person) > called[person.id])  # type: ignore[misc]


async def test_a_locked_class_takes_nobody_new_and_keeps_its_people(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann), lesson(server, "ben") as (_, _, ben):
        await enrol(ben, room.course)
        await room.do(teacher, "lock")
        assert await refusal_to_enter(room, ben) == DENIED
        await ann.device.cut_and_return()
        await room.seen(ann, lambda state: state["locked"])
        assert (await ann.rpc("class.join", class_id=room.id))["status"] == "in"
        await room.do(teacher, "lock", on=False)
        await room.enter(ben)


async def test_two_tabs_that_come_as_a_class_is_locked_have_one_answer(server: Server) -> None:
    """Whoever was told that they are in is in, whatever the other tab was told."""
    async with lesson(server, "ann", "ben", "cal") as (room, teacher, ann, *others):
        tabs = [await ann.another_device(node) for node in (0, 1, 0, 1)]
        assert {each.node for each in others} == {0, 1}
        for attempt in range(30):
            await room.do(teacher, "lock", on=False)
            await room.do(teacher, "kick", user=ann.id)
            await room.do(teacher, "chat_rules", slow=attempt + 1)
            for each in others:  # a node that has not heard of the kick yet would say that she is in still
                await room.seen(each, lambda state, slow=attempt + 1: state["slow"] == slow)  # type: ignore[misc]
            coming = [asyncio.create_task(tab.rpc("class.join", class_id=room.id)) for tab in tabs]
            for _ in range(5 * attempt):
                await asyncio.sleep(0)
            await room.do(teacher, "lock")
            answers = await asyncio.gather(*coming, return_exceptions=True)
            assert {each.code for each in answers if isinstance(each, Refused)} <= {DENIED}
            if any(isinstance(each, dict) for each in answers):
                await ann.rpc("class.react", class_id=room.id, emoji="👍")


async def test_a_kick_ends_every_device_and_a_ban_lasts(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        other = await ann.another_device(node=0)
        await room.enter(ann, other)
        await room.do(teacher, "kick", user=ann.id)
        for device in (ann.device, other):
            await device.is_out(room.channel)
        with pytest.raises(Refused) as refused:
            await other.subscribe(room.channel)
        assert refused.value.code == DENIED
        assert await ann.refusal("class.react", class_id=room.id, emoji="👍") == DENIED
        await room.enter(ann)  # once more, by the door
        await room.do(ann, "raise_hand")
        await room.do(teacher, "ban", user=ann.id)
        await ann.device.is_out(room.channel)
        assert await refusal_to_enter(room, ann) == DENIED
        banned = await teacher.rpc("class.banned", class_id=room.id)
        assert ([each["user"] for each in banned["people"]], banned["count"]) == ([ann.id], 1)
        assert not (await teacher.rpc("class.banned", class_id=room.id, after=ann.id))["people"]
        assert await ben.refusal("class.banned", class_id=room.id) == DENIED
        await room.do(teacher, "unban", user=ann.id)
        assert not (await teacher.rpc("class.banned", class_id=room.id))["people"]
        await room.enter(ann)


async def test_whoever_leaves_the_course_is_out_of_its_class(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        ok(await teacher.http("DELETE", f"/v1/courses/{room.course['id']}/participants/{ann.id}"), 204)
        await ann.device.is_out(room.channel)
        assert await refusal_to_enter(room, ann) == UNKNOWN
        assert await room.refusal(ann, "raise_hand") == UNKNOWN


async def test_who_comes_late_or_comes_back_sees_what_is(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(ben, "raise_hand")
        await room.do(teacher, "mute", user=ann.id)
        await room.seen(ann, lambda state: ann.id in state["muted"])
        ann.device.cut()
        await room.say(teacher, "While Ann is away")
        await room.do(teacher, "call_next")
        await room.do(teacher, "set_lock", lock="screen")
        await ann.device.until(lambda: ann.device.connects == 2)
        await room.seen(ann, lambda state: state["locks"])
        await ann.device.hears(room.channel, content="While Ann is away")
        late = await ben.another_device(node=0)
        await room.enter(ben, late)
        for device in (ann.device, late):
            state = room.state(device)
            assert state["called"]["user"] == ben.id
            assert (list(state["hands"]), list(state["muted"]), list(state["locks"])) == ([], [ann.id], ["screen"])
            assert not device.subscriptions[room.channel].faults


async def test_whoever_comes_in_the_middle_of_everything_misses_nothing(server: Server) -> None:
    """Commands come from both nodes: what a page makes of its snapshot and of what follows is what everybody has."""
    async with lesson(server, "ann", "ben", "cleo") as (room, teacher, ann, ben, cleo):
        devices = [person.device for person in (teacher, ann, ben, cleo)]
        done = asyncio.Event()

        async def fidget(person: Person) -> None:
            while not done.is_set():
                await room.do(person, "raise_hand")
                await room.do(person, "lower_hand")

        async def rule() -> None:
            on = True
            while not done.is_set():
                await room.do(teacher, "mute" if on else "unmute", user=ann.id)
                await room.do(teacher, "set_lock", lock="screen", on=on)
                on = not on

        work = [asyncio.create_task(each) for each in (rule(), fidget(ann), fidget(ben))]
        for _ in range(8):
            for node in (0, 1):
                devices.append(await cleo.another_device(node))
                await room.enter(cleo, devices[-1])
            await devices[-2].cut_and_return()
        done.set()
        await asyncio.gather(*work)
        await room.do(ben, "raise_hand")
        await room.do(ann, "raise_hand")
        await room.do(teacher, "lock")
        states = [await room.seen(device, lambda state: state["locked"]) for device in devices]
        for device, state in zip(devices, states, strict=True):
            assert list(state["hands"]) == [ben.id, ann.id]
            assert state | {"offset": 0} == states[0] | {"offset": 0}
            assert not device.subscriptions[room.channel].faults


async def test_a_role_is_given_and_taken(server: Server) -> None:
    async with lesson(server, "ann", assistant=True) as (room, teacher, ann, helper):
        await room.do(teacher, "set_lock", lock="camera")
        assert await room.refusal(ann, "publish", peer="p", tracks=["camera"]) == DENIED
        assert await room.refusal(helper, "role", user=ann.id, role="assistant") == DENIED
        await room.do(helper, "role", user=ann.id, role="speaker")
        await room.do(ann, "publish", peer="p", tracks=["camera"])
        await room.do(teacher, "role", user=ann.id, role="observer")
        state = await room.seen(teacher, lambda state: state["roles"] == {ann.id: "observer"})
        assert state["sending"] == {}
        with pytest.raises(Refused):
            await room.say(ann, "I only watch")
        assert (await ann.rpc("class.join", class_id=room.id))["role"] == "observer"


async def test_people_are_shown_by_what_they_may_do(server: Server) -> None:
    """An admin of the school teaches everywhere; whoever left the course is in its class no more."""
    async with (
        lesson(server, "ann", "ben", assistant=True) as (room, teacher, ann, ben, helper),
        school(server, "admin") as (admin,),
    ):
        assert (await room.enter(admin))["role"] == "teacher"
        await room.do(admin, "role", user=ann.id, role="speaker")
        await room.seen(ben, lambda state: state["roles"])
        page = await ben.rpc("class.people", class_id=room.id)
        assert {each["user"]: each["role"] for each in page["people"]} == {
            teacher.id: "teacher",
            admin.id: "teacher",
            helper.id: "assistant",
            ann.id: "speaker",
            ben.id: "student",
        }
        ok(await teacher.http("DELETE", f"/v1/courses/{room.course['id']}/participants/{ann.id}"), 204)
        page = await ben.rpc("class.people", class_id=room.id)
        assert ann.id not in {each["user"] for each in page["people"]}


async def test_seats_are_one_a_person_however_many_join_at_once(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, *others):
        devices = [await person.another_device(node) for person in others for node in (0, 1)]
        await asyncio.gather(*(device.rpc("class.join", class_id=room.id) for device in devices for _ in range(5)))
        rows = await execute(server, "select user_id from class_seats where class_id = $1::text::uuid", room.id)
        assert sorted(str(row[0]) for row in rows) == sorted(each.id for each in (teacher, *others))


async def test_pages_of_people_have_everybody_once(server: Server) -> None:
    async with lesson(server, "ann") as (room, _, ann):
        await seat(server, room, 450, 2)
        found: list[str] = []
        after = None
        while True:
            page = await ann.rpc("class.people", class_id=room.id, after=after)
            assert (page["count"], len(page["people"]) <= 200) == (452, True)
            found += [each["user"] for each in page["people"]]
            if not (after := page.get("next")):
                break
        assert (len(found), len(set(found))) == (452, 452)
        assert await ann.refusal("class.people", class_id=room.id, limit=201) == BAD
        assert await ann.refusal("class.people", class_id=str(uuid.uuid4())) == UNKNOWN


async def test_who_is_in_and_who_waits_are_counted_beyond_a_page(server: Server) -> None:
    """Whoever was thrown out, is banned, left the course or may not log in is neither."""
    async with (
        lesson(server, "ann", "ben", "cleo", "dan", assistant=True) as (room, teacher, ann, ben, cleo, dan, helper),
        lesson(server, "eve") as (_, _, eve),
    ):

        async def counts() -> tuple[int, int]:
            pages = [await teacher.rpc("class.people", class_id=room.id, waiting=each) for each in (False, True)]
            return pages[0]["count"], pages[1]["count"]

        assert await counts() == (6, 0)
        await room.do(teacher, "kick", user=ann.id)
        await room.do(teacher, "ban", user=ben.id)
        ok(await teacher.http("DELETE", f"/v1/courses/{room.course['id']}/participants/{cleo.id}"), 204)
        assert await counts() == (3, 0)
        await room.do(teacher, "lobby")
        await room.enter(ann)
        await enrol(eve, room.course)
        assert (await room.enter(eve))["status"] == "waiting"
        assert await counts() == (3, 2)
        await room.do(teacher, "kick", user=dan.id)
        await room.do(teacher, "role", user=ann.id, role="assistant")
        await room.do(teacher, "admit", user=eve.id)
        assert await counts() == (4, 0)
        await seat(server, room, 450, await offset_of(server, room))
        assert await counts() == (4, 450)
        found: list[str] = []
        after = None
        while True:
            page = await teacher.rpc("class.people", class_id=room.id, waiting=True, after=after)
            assert (page["count"], len(page["people"]) <= 200) == (450, True)
            found += [each["user"] for each in page["people"]]
            if not (after := page.get("next")):
                break
        assert (len(found), len(set(found))) == (450, 450)
        await room.do(teacher, "admit_all")
        assert await counts() == (454, 0)
        assert (await helper.rpc("class.people", class_id=room.id))["count"] == 454


async def offset_of(server: Server, room: Room) -> int:
    """Of a seat that somebody takes now."""
    rows = await execute(server, "select last_offset + 1 from channels where name = $1", room.channel)
    return int(rows[0][0])


async def seat(server: Server, room: Room, people: int, offset: int) -> None:
    """Students of the course, with seats from that offset."""
    await execute(
        server,
        "with made as (insert into users (id, email, name, password_hash, role)"
        " select gen_random_uuid(), gen_random_uuid() || '@x', 'p', 'x', 'student'"
        " from generate_series(1, $3) returning id), enrolled as (insert into enrollments (user_id, course_id)"
        ' select id, $2::text::uuid from made) insert into class_seats (class_id, user_id, "offset")'
        " select $1::text::uuid, id, $4 from made",
        room.id,
        room.course["id"],
        people,
        offset,
    )


async def test_the_queue_of_hands_is_read_in_pages(server: Server) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        room = await scheduled(teacher, course)
        await write_log(server, room, *crowd(205))
        assert await ann.refusal("class.hands", class_id=room.id) == DENIED  # not in the class
        for person in (teacher, ann):
            await room.enter(person)
        state = room.state(teacher)
        assert (len(state["hands"]), state["counts"]) == (200, {"hands": 205})
        await room.do(ann, "raise_hand")
        first = await ann.rpc("class.hands", class_id=room.id, limit=150)
        assert (first["count"], first["mine"], len(first["hands"])) == (206, True, 150)
        rest = await teacher.rpc("class.hands", class_id=room.id, after=first["next"])
        assert (rest["count"], "mine" in rest, "next" in rest) == (206, False, False)
        names = [each["name"] for each in first["hands"] + rest["hands"]]
        assert names == [f"hand {i}" for i in range(205)] + ["ann"]
        await room.do(teacher, "call_next")
        page = await teacher.rpc("class.hands", class_id=room.id, limit=1)
        assert (page["count"], page["hands"][0]["name"], page["offset"] > rest["offset"]) == (205, "hand 1", True)
