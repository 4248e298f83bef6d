"""What three people do in a class at their browsers, whichever carries their video: `p2p` (`test_class.py`) or `janus`
(`class_over_janus.py`)."""

from __future__ import annotations

import asyncio
from typing import Any

from playwright.async_api import expect

from loadtest.server import Server
from tests.chat.person import Person
from tests.classes.room import Room, scheduled
from tests.lms.school import enrol, ok, published_course, school
from tests.page.classroom import Attendee, attend
from tests.page.test_outages import UNREACHABLE
from tests.page.visitor import Visitors

BACK = 10.0  # s: what the issue allows after the death of a node
AT_ONCE = 10.0  # s: whoever is merely gone is kept for 15


async def three(
    visitors: Visitors, server: Server, people: list[Person], *, cheats: str = "", **fields: Any
) -> tuple[Room, list[Attendee]]:
    """A class to come, with its teacher and two students at their pages."""
    room = await planned(people, **fields)
    return room, await attend(visitors, server, room, *people, cheats=cheats)


async def planned(people: list[Person], **fields: Any) -> Room:
    """A class to come, of a teacher and students."""
    teacher, *students = people
    course = await published_course(teacher)
    for student in students:
        await enrol(student, course)
    return await scheduled(teacher, course, **fields)


async def begin(teacher: Attendee, *students: Attendee) -> None:
    await teacher.is_in()
    await teacher.press("Start the class")
    for each in students:
        await each.is_in()


async def _send(teacher: Attendee, ann: Attendee, ben: Attendee) -> None:
    """Pictures, sound and a screen, and who may not send them."""
    await begin(teacher, ann, ben)
    await teacher.press("Camera")
    await teacher.press("Microphone")
    for each in (ann, ben):
        await each.gets(teacher, "camera")
        await each.gets(teacher, "microphone")
    await ann.press("Microphone")
    await ann.press("Camera")
    for each in (teacher, ben):
        await each.gets(ann, "microphone")
        await each.gets(ann, "camera")
    await teacher.press("Mute ann")
    for each in (teacher, ben):
        await each.gets_no(ann, "microphone")
        await each.gets(ann, "camera")
    await ann.hears("You are muted.")
    await ann.hears("Your microphone is not sent any more.")
    await ann.press("Microphone")  # it sticks
    await expect(ann.page.get_by_text("the microphone is not yours to send now")).to_be_visible()
    await teacher.press("Screen")
    for each in (ann, ben):
        await each.gets(teacher, "screen")
        await each.gets(teacher, "camera")


async def hold_a_class(visitors: Visitors, server: Server, media: str) -> None:
    """What the issue asks of a class."""
    async with school(server, "teacher", "ann", "ben") as people:
        room, (teacher, ann, ben) = await three(visitors, server, people, media=media)
        await _send(teacher, ann, ben)
        # hands
        await ann.button("Raise hand").press("Enter")  # without a mouse
        await expect(ann.button("Raise hand")).to_have_attribute("aria-pressed", "true")
        await expect(ann.button("Raise hand")).to_be_focused()
        await teacher.hears("ann has raised a hand.")
        await ben.press("Raise hand")
        await expect(teacher.page.locator(".class-hands li")).to_have_text(["ann", "ben"])
        await teacher.press("Call next")
        await expect(ben.page.get_by_text("Called: ann")).to_be_visible()
        await expect(ben.page.locator(".class-hands li")).to_have_text(["ben"])
        # chat, private words, a lock
        await ben.says("Hello all")
        for each in (teacher, ann):
            await each.reads("ben: Hello all")
        await ann.says("A question", to="The teachers")
        await teacher.reads("ann (to the teachers alone): A question")
        await teacher.press("Lock chat")
        await ben.says("Still there?")
        await expect(ben.page.locator(".toast", has_text="the chat is locked")).to_be_visible()
        await expect(ben.page.locator(".class-lines li", has_text="A question")).to_have_count(0)
        # a poll
        await teacher.page.get_by_label("Question").fill("Clear?")
        await teacher.page.get_by_label("Answers, one a line").fill("yes\nno")
        await teacher.press("Ask")
        await ann.press("yes")
        await ben.press("no")
        await expect(teacher.page.locator(".class-poll li")).to_have_text(["yes 1", "no 1"])
        await teacher.press("Close the poll")
        await ann.hears("The poll is closed.")
        # out and in
        await teacher.press("Kick ben")
        await expect(ben.page.locator(".class-status")).to_have_text("You were removed from this class.")
        await ben.page.reload()
        await ben.is_in()
        await ben.gets(teacher, "camera")
        await ben.gets(teacher, "screen")
        # who was there
        await teacher.press("End the class")
        await teacher.confirms("End it")
        await expect(ann.page.locator(".class-status")).to_have_text("The class has ended.")
        lines = ok(await people[0].http("GET", f"{room.path}/attendance"))["attendance"]
        assert {each["name"] for each in lines} == {"teacher", "ann", "ben"}


async def outlive_the_teachers_node(visitors: Visitors, server: Server, media: str) -> None:
    """The teacher comes by the port that all nodes share: where they are, the server says. Everybody is back with
    hands, roles and mutes as they were, and media flow."""
    async with school(server, "teacher", "ann", "ben") as people:
        await people[0].device.close()  # their page alone is on a node
        people[0].node = None  # type: ignore[assignment]
        _, (teacher, ann, ben) = await three(visitors, server, people, media=media)
        everybody = (teacher, ann, ben)
        for each in everybody:
            each.visitor.excused = UNREACHABLE
        await begin(teacher, ann, ben)
        await teacher.press("Camera")
        await ann.press("Camera")
        for each in (ann, ben):
            await each.gets(teacher, "camera")
        for each in (teacher, ben):
            await each.gets(ann, "camera")
        await ann.press("Raise hand")
        await ben.press("Raise hand")
        await teacher.press("Mute ann")
        await teacher.chooses(ben, "Make speaker")
        await teacher.press("Lock screen")
        expression = "Object.keys(state.locks).length && Object.keys(state.roles).length"
        for each in everybody:
            await each.sees(expression)
        before = await ben.state()
        node = await asyncio.to_thread(server.node_of, people[0].id)
        killed = await asyncio.to_thread(server.kill, node)
        began = asyncio.get_running_loop().time()
        await teacher.page.locator('.class-page:not([data-connection="connected"])').wait_for()
        for each in everybody:
            await each.is_in()
            await each.sees(expression)
        took = asyncio.get_running_loop().time() - began
        assert took < BACK, took
        for each in (ann, ben):
            await each.gets(teacher, "camera")
        for each in (teacher, ben):
            await each.gets(ann, "camera")
        for each in everybody:
            state = await each.state()
            for field in ("hands", "muted", "roles", "locks", "phase"):
                assert state[field] == before[field], field
            assert sent(state) == sent(before)  # by other connections
        await asyncio.to_thread(server.wait_restarted, node, killed)


def sent(state: dict[str, Any]) -> dict[str, Any]:
    """Who sends what, by which page."""
    return {user: (sending["peer"], sending["tracks"]) for user, sending in state["sending"].items()}


async def take_out(visitors: Visitors, server: Server, media: str) -> None:
    """Ann's page goes on sending and watching whatever it is told: the others cut it off."""
    async with school(server, "teacher", "ann", "ben") as people:
        room, (teacher, ann, ben) = await three(visitors, server, people, media=media, cheats="ann")
        await begin(teacher, ann, ben)
        await teacher.press("Camera")
        await ann.press("Camera")
        for each in (ann, ben):
            await each.gets(teacher, "camera")
        for each in (teacher, ben):
            await each.gets(ann, "camera")
        ok(await people[0].http("DELETE", f"/v1/courses/{room.course['id']}/participants/{people[1].id}"), 204)
        async with asyncio.timeout(AT_ONCE):
            await ann.is_cut_off()
        await expect(ann.page.locator(".class-status")).to_have_text("You were removed from this class.")
        for each in (teacher, ben):
            await each.gets_no(ann, "camera")
        await ben.gets(teacher, "camera")


async def wait_in_the_lobby(visitors: Visitors, server: Server, media: str) -> None:
    """An assistant of the class, let by the lobby by nothing else, is a student again."""
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people, media=media, cheats="ben")
        await begin(teacher, ann)
        await ben.is_in()
        await teacher.press("Camera")
        await teacher.press("Kick ben")
        await teacher.press("Lobby")
        await ben.page.reload()
        await ben.page.locator('.class-page[data-status="waiting"]').wait_for()
        await people[0].rpc("class.join", class_id=teacher.room.id)
        await teacher.room.do(people[0], "role", user=people[2].id, role="assistant")
        await ben.page.reload()
        await ben.is_in()
        await ben.gets(teacher, "camera")
        await teacher.room.do(people[0], "role", user=people[2].id, role="student")
        async with asyncio.timeout(AT_ONCE):
            await ben.is_cut_off()
        await ben.page.locator('.class-page[data-status="waiting"]').wait_for()
        await teacher.press("Admit ben")
        await ben.is_in()
        await ben.gets(teacher, "camera")
