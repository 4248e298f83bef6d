"""A class page whose connection was away: everything is as it is for the others, and nothing is there twice."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.chat.person import Person
from tests.classes.room import Room
from tests.lms.school import school
from tests.page.class_scenarios import planned
from tests.page.classroom import Attendee, attend
from tests.page.test_outages import UNREACHABLE, Line
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


async def on_a_line(visitors: Visitors, server: Server, room: Room, person: Person) -> tuple[Attendee, Line]:
    """Somebody at the page of the class, by way of a line that can be cut."""
    line = Line()
    visitor = await visitors.one(person.name, node=person.node, server=server, permissions=["camera", "microphone"])
    visitor.excused = UNREACHABLE
    await visitor.page.route_web_socket(re.compile("/connection/websocket"), line.connect)
    attendee = Attendee(visitor, person, room)
    await attendee.come()
    return attendee, line


async def cut(attendee: Attendee, line: Line) -> None:
    await line.cut()
    await attendee.hears("The connection is lost.")
    await expect(attendee.page.locator(".class-status")).to_have_text("The connection is lost. Coming back…")


async def mend(attendee: Attendee, line: Line) -> None:
    line.up = True
    await attendee.page.evaluate("window.classroom.room.connection.hurry()")
    await attendee.is_in()
    await attendee.hears("The connection is back.")


async def test_hands_chat_and_media_are_back_once(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        room = await planned(people)
        teacher, ann = await attend(visitors, server, room, *people[:2])
        ben, line = await on_a_line(visitors, server, room, people[2])
        await teacher.is_in()
        await teacher.press("Start the class")
        for each in (ann, ben):
            await each.is_in()
        await teacher.press("Camera")
        await ben.gets(teacher, "camera")
        await ben.press("Camera")
        await ann.gets(ben, "camera")
        await ann.says("before")
        await ben.reads("ann: before")
        await ann.press("Raise hand")
        await ben.press("Raise hand")
        await expect(ben.page.locator(".class-hands li")).to_have_text(["ann", "ben"])
        place = f"state.sending['{people[2].id}'].client"
        before = await ann.page.evaluate(f"window.classroom.room.{place}")
        await cut(ben, line)
        await teacher.press("Call next")
        for text in ("one", "two", "three"):
            await ann.says(text)
            await teacher.reads(f"ann: {text}")
        await ann.press("Raise hand")
        await teacher.press("Mute all")
        await teacher.press("Lock screen")
        await mend(ben, line)
        for text in ("ann is called.", "You are muted.", "The screen is locked."):
            await ben.hears(text)
        await ann.sees(f"{place} !== '{before}'")  # or it would be given up after 15 s
        await ann.says("after")
        await ben.reads("ann: after")
        for each in (ann, ben):
            lines = [f"ann: {text}" for text in ("before", "one", "two", "three", "after")]
            await expect(each.page.locator(".class-lines li")).to_have_text(lines)
            await expect(each.page.locator(".class-hands li")).to_have_text(["ben", "ann"])
            await expect(each.page.locator(".class-people li")).to_have_count(3)
        await expect(ben.button("Raise hand")).to_have_attribute("aria-pressed", "true")
        await expect(ben.button("Camera")).to_have_attribute("aria-pressed", "true")
        await ben.gets(teacher, "camera")
        await ann.gets(ben, "camera")
        await expect(ben.tile(teacher, "camera")).to_have_count(1)
        await expect(ben.page.locator(".class-tile")).to_have_count(2)
        await expect(ann.tile(ben, "camera")).to_have_count(1)


async def test_whoever_was_away_for_long_sends_again(visitors: Visitors, server: Server) -> None:
    """So long that their place among those who send was given up; what was locked meanwhile stays so."""
    async with school(server, "teacher", "ann", "ben") as people:
        room = await planned(people)
        teacher, ann = await attend(visitors, server, room, *people[:2])
        ben, line = await on_a_line(visitors, server, room, people[2])
        await teacher.is_in()
        await teacher.press("Start the class")
        for each in (ann, ben):
            await each.is_in()
        await ben.press("Camera")
        await ann.gets(ben, "camera")
        for locked in (False, True):
            await cut(ben, line)
            await ann.sees(f"!('{people[2].id}' in state.sending)", seconds=40)
            await expect(ann.tile(ben, "camera")).to_have_count(0)
            if locked:
                await teacher.press("Lock camera")
            await mend(ben, line)
            await expect(ben.button("Camera")).to_have_attribute("aria-pressed", str(not locked).lower())
            if not locked:
                await ann.gets(ben, "camera")
                await expect(ann.tile(ben, "camera")).to_have_count(1)
        await expect(ann.tile(ben, "camera")).to_have_count(0)
        await expect(ben.page.locator(".class-tile")).to_have_count(0)
