"""Groups: making, joining, inviting, roles, muting, removing, renaming, archiving, leaving."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


async def test_a_group_and_its_members(visitors: Visitors) -> None:
    ana, bo, cy = await visitors.registered("Ana", "Bo", "Cy")
    await ana.create_group("Team", bo)
    await bo.open("Team")
    await ana.send("Welcome")
    await bo.sees("Welcome")
    panel = await ana.show_members()
    await expect(panel.locator(".member")).to_have_count(2)
    await panel.get_by_role("button", name="Invite").click()
    await ana.find(cy.email)
    await ana.found("Cy")
    await cy.open("Team")
    await cy.sees("Welcome")
    await expect(bo.page.locator(".system", has_text="Ana added Cy")).to_be_visible()
    await expect(bo.page.locator(".head")).to_contain_text("3 members")
    await ana.do_with("Cy", "Make moderator")
    await expect(panel.locator(".member", has_text="Cy")).to_contain_text("moderator")
    await expect(cy.page.locator(".system", has_text="Ana made you moderator")).to_be_visible()
    await ana.do_with("Bo", "Remove")
    await ana.confirm("Remove")
    await expect(bo.page.locator(".toast")).to_contain_text("not in “Team” any more")
    await expect(bo.room("Team")).to_have_count(0)
    await expect(cy.page.locator(".head")).to_contain_text("2 members")


async def test_a_muted_member_cannot_write(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Team", bo)
    await bo.open("Team")
    await expect(bo.composer).to_be_visible()
    await ana.show_members()
    await ana.do_with("Bo", "Mute until further notice")
    await expect(bo.page.locator(".closed")).to_contain_text("muted")
    await expect(bo.composer).to_be_hidden()
    await ana.do_with("Bo", "Unmute")
    await expect(bo.composer).to_be_visible()
    await bo.send("I am back")
    await ana.sees("I am back")


async def test_what_was_refused_can_be_tried_again(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Team", bo)
    await bo.open("Team")
    await ana.show_members()
    # The page is quicker than the news that one may not write: its composer is filled and sent in one step.
    await bo.page.evaluate(
        """() => {
            const line = document.querySelector('.composer-line');
            new MutationObserver(() => { line.hidden = false; }).observe(line, { attributes: true });
        }"""
    )
    await ana.do_with("Bo", "Mute until further notice")
    await expect(bo.page.locator(".closed")).to_contain_text("muted")
    await bo.send("Am I heard?")
    failure = bo.page.locator(".failure")
    await expect(failure).to_contain_text("Not sent")
    await ana.do_with("Bo", "Unmute")
    await expect(bo.page.locator(".closed")).to_be_hidden()
    await failure.get_by_role("button", name="Try again").click()
    await ana.sees("Am I heard?")
    await expect(failure).to_have_count(0)


async def test_an_open_group_is_found_and_joined(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Astronomy 101", open=True)
    await bo.begin("Join an open group")
    await bo.find("astro")
    await bo.found("Astronomy 101")
    await bo.in_room("Astronomy 101")
    await expect(ana.page.locator(".system", has_text="Bo joined")).to_be_visible()
    await bo.send("Hello stars")
    await ana.sees("Hello stars")
    await bo.show_members()
    await bo.page.get_by_role("button", name="Leave").click()
    await bo.confirm("Leave")
    await expect(bo.room("Astronomy 101")).to_have_count(0)
    await expect(ana.page.locator(".system", has_text="Bo left")).to_be_visible()


async def test_rename_archive_and_restore(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Team", bo)
    await bo.open("Team")
    panel = await ana.show_members()
    await panel.get_by_role("button", name="Rename").click()
    await ana.page.get_by_label("Title").fill("The team")
    await ana.page.get_by_role("button", name="Save").click()
    await expect(bo.page.locator(".head h2")).to_have_text("The team")
    await expect(bo.room("The team")).to_be_visible()
    await panel.get_by_role("button", name="Archive").click()
    await ana.confirm("Archive")
    await expect(bo.page.locator(".closed")).to_contain_text("archived")
    await expect(bo.room("The team")).to_have_count(0)
    await bo.page.get_by_role("button", name="Account").click()
    await bo.page.get_by_role("menuitem", name="Show archived rooms").click()
    await expect(bo.room("The team")).to_be_visible()
    await panel.get_by_role("button", name="Restore").click()
    await expect(bo.page.locator(".closed")).to_be_hidden()
    await bo.send("Alive")
    await ana.sees("Alive")


async def test_a_new_name_is_seen(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Team", bo)
    await ana.page.get_by_role("button", name="Account").click()
    await ana.page.get_by_role("menuitem", name="Change my name").click()
    await ana.page.get_by_label("Name", exact=True).fill("Anastasia")
    await ana.page.get_by_role("button", name="Save").click()
    await expect(ana.page.locator(".me")).to_contain_text("Anastasia")
    await ana.page.reload()
    await expect(ana.page.locator(".me")).to_contain_text("Anastasia")
    await bo.open("Team")
    await expect((await bo.show_members()).locator(".member", has_text="Anastasia")).to_be_visible()


async def test_somebody_elses_room_is_not_shown(visitors: Visitors) -> None:
    ana, bo = await visitors.registered("Ana", "Bo")
    await ana.create_group("Secret")
    address = await ana.page.evaluate("location.hash")
    await bo.page.evaluate("(address) => { location.hash = address; }", address)
    await expect(bo.page.locator(".toast")).to_have_text(re.compile("no such room"))
    await expect(bo.page.locator(".conversation")).to_have_count(0)


async def test_a_big_room_shows_numbers_instead_of_names(crowded_server: Server, visitors: Visitors) -> None:
    ana, bo, cy = await visitors.registered("Ana", "Bo", "Cy", server=crowded_server)
    await ana.create_group("Everybody", bo, cy)
    await ana.send("hello all")
    for each in (bo, cy):
        await each.open("Everybody")
        await each.sees("hello all")
    await expect(ana.page.locator(".seen")).to_have_text("Seen by 2")
    await bo.composer.press_sequentially("I am")
    await expect(ana.page.locator(".typing-line")).to_have_text("Bo is typing…")
    await bo.send("I am here")
    await ana.sees("I am here")
    await expect(ana.page.locator(".seen")).to_have_count(0)
