"""The places among those who send: each is held by a page, as long as that is there, and the staff always gets one."""

from __future__ import annotations

import pytest

from loadtest.server import Server
from realtime.classroom.commands import PUBLISHERS
from tests.classes.room import lesson, scheduled
from tests.lms.school import ok, published_course, school

pytestmark = pytest.mark.integration

LIMITED, CONFLICT = 106, 1003
GIVEN_UP = 40.0  # s; what is sent by a page that is gone ends after 15


async def test_a_page_that_is_gone_sends_nothing_though_another_of_theirs_is_there(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        tab = await ann.another_device()
        await room.enter(ann, tab)
        command = {"do": "publish", "peer": "tab", "tracks": ["camera"]}
        await tab.rpc("class.do", class_id=room.id, command=command)
        await room.seen(teacher, lambda state: ann.id in state["sending"])
        await tab.close()
        await room.seen_within(teacher, lambda state: ann.id not in state["sending"], GIVEN_UP)
        line = await teacher.hears(room.channel, do="unpublish")
        assert (line["by"], ann.device.subscriptions[room.channel].live) == ("", True)


async def test_a_page_takes_its_place_over_to_a_new_connection_or_another_page_does(server: Server) -> None:
    """What another one of the two sends is not ended with the first."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        command = {"do": "publish", "peer": "tab", "tracks": ["camera"]}
        tabs = [await person.another_device() for person in (ann, ben, teacher)]
        for person, tab in zip((ann, ben, teacher), tabs, strict=True):
            await room.enter(person, tab)
            await tab.rpc("class.do", class_id=room.id, command=command)
        await ann.rpc("class.do", class_id=room.id, command=command)  # the same page, by its next connection
        await ben.rpc("class.do", class_id=room.id, command={**command, "peer": "another"})
        state = await room.seen(teacher, lambda state: state["sending"].get(ben.id, {}).get("peer") == "another")
        del state["sending"][teacher.id]
        for tab in tabs:
            await tab.close()
        await room.seen_within(teacher, lambda state: teacher.id not in state["sending"], GIVEN_UP)
        assert room.state(teacher)["sending"] == state["sending"]


async def test_what_is_sent_over_rest_ends_with_the_last_of_their_pages(server: Server) -> None:
    """No connection says it, so it goes with none of them."""
    async with lesson(server, "ann") as (room, teacher, ann):
        command = {"do": "publish", "peer": "page", "tracks": ["camera"]}
        ok(await ann.http("POST", f"{room.path}/commands", command))
        await room.seen(teacher, lambda state: ann.id in state["sending"])
        await ann.device.close()
        await room.seen_within(teacher, lambda state: ann.id not in state["sending"], GIVEN_UP)


async def test_the_last_student_who_came_gives_way_to_a_teacher(server: Server) -> None:
    names = [f"student {i}" for i in range(PUBLISHERS["p2p"] + 1)]
    async with lesson(server, *names) as (room, teacher, *students):
        *senders, late = students
        for person in senders:
            await room.do(person, "publish", peer="page", tracks=["camera"])
        assert await room.refusal(late, "publish", peer="page", tracks=["camera"]) == LIMITED
        await room.do(teacher, "publish", peer="page", tracks=["camera"])
        state = await room.seen(late, lambda state: teacher.id in state["sending"])
        assert list(state["sending"]) == [*(each.id for each in senders[:-1]), teacher.id]


async def test_nobody_gets_to_a_relay_by_a_class_that_is_over(server: Server) -> None:
    """Its page asks before the class begins, and once."""
    async with school(server, "teacher") as (teacher,):
        room = await scheduled(teacher, await published_course(teacher))
        await room.enter(teacher)
        for do in ("start", "end"):
            assert await teacher.rpc("class.ice", class_id=room.id) == {"servers": []}
            await room.do(teacher, do)
        assert await teacher.refusal("class.ice", class_id=room.id) == CONFLICT
