"""From the room of a course to its class, and back."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.classes.room import scheduled, times
from tests.lms.school import enrol, published_course, school
from tests.page.classroom import Attendee
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


async def test_the_room_of_a_course_leads_to_its_class(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        await scheduled(teacher, course, title="Next week", **times(begins=timedelta(days=7)))
        room = await scheduled(teacher, course)
        visitor = await visitors.one("ann", node=ann.node, server=server)
        attendee = Attendee(visitor, ann, room)
        await visitor.page.add_init_script(attendee.login)
        await visitor.visit()
        await visitor.open(course["title"])
        link = visitor.page.get_by_role("link", name="Channels")
        await expect(link).to_contain_text("Class, ")
        await room.enter(teacher)
        await room.do(teacher, "start")
        await visitor.page.reload()
        await expect(link).to_have_text("Class running: joinChannels")
        await link.focus()
        await link.press("Enter")
        await attendee.is_in()
        await expect(visitor.page.get_by_role("heading", name="Channels", level=1)).to_be_visible()
        await expect(visitor.page).to_have_title(re.compile("^Channels "))
        await room.do(teacher, "end")
        await visitor.page.get_by_role("link", name="Back to the rooms").click()
        await visitor.open(course["title"])
        await expect(visitor.page.get_by_role("link", name="Next week")).to_contain_text("Class, ")
