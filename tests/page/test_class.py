"""A class in three browsers, over a mesh: what each sees of the others, and what the class lets them do."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.lms.school import school
from tests.page import class_scenarios as scenarios
from tests.page.class_scenarios import begin, three
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


async def test_three_hold_a_class(visitors: Visitors, server: Server) -> None:
    await scenarios.hold_a_class(visitors, server, "p2p")


async def test_everybody_is_back_after_the_death_of_the_teachers_node(visitors: Visitors, three_nodes: Server) -> None:
    await scenarios.outlive_the_teachers_node(visitors, three_nodes, "p2p")


async def test_whoever_is_taken_out_is_cut_off(visitors: Visitors, server: Server) -> None:
    await scenarios.take_out(visitors, server, "p2p")


async def test_whoever_is_no_assistant_any_more_waits_in_the_lobby(visitors: Visitors, server: Server) -> None:
    await scenarios.wait_in_the_lobby(visitors, server, "p2p")


async def test_one_is_unmuted_when_all_are_muted(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people)
        await begin(teacher, ann, ben)
        await teacher.press("Mute all")
        await teacher.press("Unmute ann")
        await expect(teacher.button("Mute ann")).to_be_visible()
        await expect(teacher.button("Unmute ben")).to_be_visible()
        await ann.press("Microphone")
        for each in (teacher, ben):
            await each.gets(ann, "microphone")
        await ben.press("Microphone")
        await expect(ben.page.get_by_text("the microphone is not yours to send now")).to_be_visible()


async def test_a_page_that_does_not_obey_is_not_shown(visitors: Visitors, server: Server) -> None:
    """Ann's page goes on sending whatever the class says: the others take no more of it than she may send."""
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people, cheats="ann")
        await begin(teacher, ann, ben)
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


async def test_whoever_is_banned_is_out_until_they_are_not_banned_any_more(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people)
        await begin(teacher, ann, ben)
        await teacher.chooses(ben, "Ban")
        await teacher.confirms("Ban")
        await expect(ben.page.locator(".class-status")).to_have_text("You were removed from this class.")
        banned = teacher.page.get_by_role("list", name="Banned")
        await expect(banned).to_contain_text("ben (banned)")
        await expect(ann.page.get_by_role("list", name="Banned")).to_have_count(0)
        await ben.press("Come in")
        await expect(ben.page.locator(".class-status")).to_have_text("Banned from this class.")
        await teacher.page.reload()
        await teacher.is_in()
        await teacher.press("Unban ben")
        await expect(banned).to_have_count(0)
        await ben.press("Come in")
        await ben.is_in()
