"""More hands than a page is shown at once."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from realtime.classroom.commands import SHOWN
from tests.classes.room import crowd, scheduled, write_log
from tests.lms.school import enrol, ok, published_course, school
from tests.page.classroom import attend
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration

HANDS = SHOWN + 40


async def test_the_queue_is_filled_up_as_those_in_front_are_called(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        room = await scheduled(teacher, course)
        await write_log(server, room, *crowd(HANDS))
        page_of_teacher, page_of_ann = await attend(visitors, server, room, teacher, ann)
        hands = page_of_teacher.page.locator(".class-hands li")
        await expect(hands).to_have_count(SHOWN)
        await expect(page_of_teacher.page.get_by_text(f"and {HANDS - SHOWN} more")).to_be_visible()
        # One's own is beyond them; it is known to be up, also after a reload.
        await page_of_ann.press("Raise hand")
        for _ in range(2):
            await expect(page_of_ann.button("Raise hand")).to_have_attribute("aria-pressed", "true")
            await page_of_ann.page.reload()
        await expect(page_of_teacher.page.get_by_text(f"and {HANDS - SHOWN + 1} more")).to_be_visible()
        for _ in range(SHOWN):
            ok(await teacher.http("POST", f"{room.path}/commands", {"do": "call_next"}))
        left = [f"hand {i}" for i in range(SHOWN, HANDS)] + ["ann"]
        for each in (page_of_teacher, page_of_ann):
            await expect(each.page.locator(".class-hands li")).to_have_text(left)
            await expect(each.page.locator(".class-called")).to_have_text(f"Called: hand {SHOWN - 1}")
            await expect(each.page.get_by_text(re.compile("^and .* more$"))).to_have_count(0)
        await page_of_teacher.press("Lower all hands")
        await expect(hands).to_have_count(0)
        await expect(page_of_ann.button("Raise hand")).to_have_attribute("aria-pressed", "false")
