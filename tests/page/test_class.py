"""A class in three browsers, over a mesh: what each sees of the others, and what the class lets them do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.chat.person import Person
from tests.classes.room import Room, scheduled
from tests.lms.school import enrol, ok, published_course, school
from tests.page.classroom import Attendee, attend
from tests.page.test_outages import UNREACHABLE
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


async def hold(teacher: Attendee, ann: Attendee, ben: Attendee) -> None:
    """What the issue asks of a class, whatever carries its video."""
    await teacher.is_in()
    await teacher.press("Start the class")
    for each in (ann, ben):
        await each.is_in()
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
    await ann.press("Microphone")  # it sticks
    await expect(ann.page.get_by_text("the microphone is not yours to send now")).to_be_visible()
    await teacher.press("Screen")
    for each in (ann, ben):
        await each.gets(teacher, "screen")
        await each.gets(teacher, "camera")


async def test_three_hold_a_class(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        room, (teacher, ann, ben) = await three(visitors, server, people)
        await hold(teacher, ann, ben)
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
        await expect(ben.page.get_by_text("the chat is locked")).to_be_visible()
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


async def test_everybody_is_back_after_the_death_of_the_teachers_node(
    visitors: Visitors, private_server: Server
) -> None:
    server = private_server
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people)
        for each in (teacher, ann, ben):
            each.visitor.excused = UNREACHABLE
        await teacher.is_in()
        await teacher.press("Start the class")
        for each in (ann, ben):
            await each.is_in()
        await teacher.press("Camera")
        for each in (ann, ben):
            await each.gets(teacher, "camera")
        await ann.press("Raise hand")
        await ben.press("Raise hand")
        await teacher.press("Mute ann")
        await teacher.chooses(ben, "Make speaker")
        await teacher.press("Lock screen")
        expression = "Object.keys(state.locks).length && Object.keys(state.roles).length"
        for each in (teacher, ann, ben):
            await each.sees(expression)
        before = await ben.state()
        killed = await asyncio.to_thread(server.kill, f"node-{people[0].node + 1}")
        began = asyncio.get_running_loop().time()
        await teacher.page.locator('.class-page:not([data-connection="connected"])').wait_for()
        for each in (teacher, ann, ben):
            await each.is_in()
            await each.sees(expression)
        took = asyncio.get_running_loop().time() - began
        assert took < 10, took
        for each in (teacher, ann, ben):
            state = await each.state()
            for field in ("hands", "muted", "roles", "locks", "sending", "phase"):
                assert state[field] == before[field], field
        for each in (ann, ben):
            await each.gets(teacher, "camera")
        await asyncio.to_thread(server.wait_restarted, f"node-{people[0].node + 1}", killed)


async def test_a_page_that_does_not_obey_is_not_shown(visitors: Visitors, server: Server) -> None:
    """Ann's page goes on sending whatever the class says: the others take no more of it than she may send."""
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people, cheats="ann")
        await teacher.is_in()
        await teacher.press("Start the class")
        for each in (ann, ben):
            await each.is_in()
        await ann.press("Microphone")
        await ann.press("Camera")
        for each in (teacher, ben):
            await each.gets(ann, "microphone")
            await each.gets(ann, "camera")
        await teacher.press("Mute ann")
        for each in (teacher, ben):
            await each.gets_no(ann, "microphone")
            await expect(each.tile(ann, "microphone")).to_have_count(0)
            await each.gets(ann, "camera")
        await teacher.press("Lock camera")
        for each in (teacher, ben):
            await each.gets_no(ann, "camera")
