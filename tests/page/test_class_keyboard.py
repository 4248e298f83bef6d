"""A class without a mouse, and as a screen reader has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.lms.school import ok, school
from tests.npm import installed
from tests.page.class_scenarios import planned, three
from tests.page.classroom import Attendee, attend
from tests.page.keyboard import Keyboard
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration

INTERACTIVE = frozenset(
    ("button", "link", "textbox", "searchbox", "combobox", "checkbox", "radio", "menuitem", "spinbutton", "dialog")
)
# Contrast is a matter of looks, which are not decided; an open menu is in no landmark.
AXE = """
window.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'],
    rules: { 'color-contrast': { enabled: false }, region: { enabled: false } },
})
"""


async def test_a_class_is_held_by_keys_alone(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        room, (teacher, ann, ben) = await three(visitors, server, people)
        keys, anns, bens = Keyboard(teacher), Keyboard(ann), Keyboard(ben)
        await teacher.is_in()
        await keys.use("Start the class")
        for each in (ann, ben):
            await each.is_in()
        await keys.is_at("Microphone")  # what was pressed is gone: the focus is where it was
        # hands
        await anns.use("Raise hand", "Space")
        await expect(ann.button("Raise hand")).to_have_attribute("aria-pressed", "true")
        await anns.is_at("Raise hand")
        await bens.use("Raise hand")
        await teacher.hears("ann has raised a hand.")
        await teacher.hears("ben has raised a hand.")
        await keys.use("Call next")
        await ann.hears("You are called.")
        await ben.hears("ann is called.")
        await keys.is_at("Call next")
        await keys.use("Call next")
        await ben.hears("You are called.")
        await keys.is_at("Call next")
        await bens.use("Done")
        await expect(ben.page.locator(".class-called")).to_be_empty()
        await bens.is_at("Hands")  # the button is gone, and not the focus
        # chat
        await anns.write("Message to the class", "Hello")
        await anns.press("Enter")
        await teacher.reads("ann: Hello")
        await anns.is_at("Message to the class")
        # a poll
        await keys.write("Question", "Clear?")
        await keys.press("Tab")
        await keys.is_at("Answers, one a line")
        await keys.write("Answers, one a line", "yes\nno")
        await keys.use("Ask")
        await ann.hears("A question: Clear?")
        await keys.is_at("Poll")
        await anns.use("yes")
        await expect(ann.button("yes")).to_have_attribute("aria-pressed", "true")
        await anns.is_at("yes")
        await bens.reach("no")
        await expect(teacher.page.locator(".class-poll li")).to_have_text(["yes 1", "no 0"])
        await bens.is_at("no")  # counts come, the focus stays
        await bens.press("Space")
        await keys.use("Close the poll")
        await ben.hears("The poll is closed.")
        await keys.is_at("Poll")
        # muting, locks
        await keys.use("Mute ann")
        await ann.hears("You are muted.")
        await keys.is_at("Unmute ann")
        await keys.press("Enter")
        await ann.hears("You are not muted any more.")
        await keys.use("Mute all", "Space")
        await expect(teacher.button("Mute all")).to_have_attribute("aria-pressed", "true")
        await keys.is_at("Mute all")
        await keys.use("Lock chat")
        await ben.hears("The chat is locked.")
        await keys.is_at("Lock chat")
        await keys.press("Home")
        await keys.is_at("Lock microphone")
        await keys.press("ArrowLeft")
        await keys.is_at("Chat to teachers only")
        # a role, by a menu
        await keys.use("More about ben")
        await keys.is_at("Make speaker")
        await keys.press("Escape")
        await keys.is_at("More about ben")
        await keys.press("Enter", "ArrowDown", "ArrowUp", "Enter")
        await ben.hears("You are a speaker now.")
        await keys.is_at("More about ben")
        # a dialog keeps the focus, and gives it back
        await keys.press("Enter", "ArrowUp")
        await keys.is_at("Ban")
        await keys.press("Enter")
        await expect(teacher.page.get_by_role("dialog")).to_be_visible()
        for _ in range(5):
            await keys.press("Tab")
            assert await keys.at() not in ("Mute ann", "Lock chat", "Microphone")
        change = {"do": "role", "user": people[2].id, "role": "observer"}  # what opened it is drawn anew meanwhile
        ok(await people[0].http("POST", f"{room.path}/commands", change))
        await expect(teacher.page.locator(".class-people")).to_contain_text("ben (observer)")
        await keys.press("Escape")
        await expect(teacher.page.get_by_role("dialog")).to_have_count(0)
        await keys.is_at("More about ben")
        await keys.use("End the class")
        await keys.use("End it")
        for each in (ann, ben):
            await each.hears("The class has ended.")


async def test_the_lobby_by_keys(visitors: Visitors, server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        room = await planned(people)
        (teacher,) = await attend(visitors, server, room, people[0])
        keys = Keyboard(teacher)
        await teacher.is_in()
        await keys.use("Start the class")
        await keys.use("Lobby")
        await teacher.hears("Whoever comes waits in the lobby.")
        await keys.is_at("Lobby")
        ann, ben = await attend(visitors, server, room, *people[1:])
        for each in (ann, ben):
            await each.hears("You are in the lobby: a teacher lets you in.")
        await expect(teacher.page.get_by_text(re.compile("^(ann|ben) waits in the lobby.$")).first).to_be_visible()
        await keys.use("Admit ann")
        await ann.hears("You have been let in.")
        await ann.is_in()
        await keys.is_at("Admit ben")  # the next one
        await keys.press("Enter")
        await ben.hears("You have been let in.")
        await ben.is_in()
        await keys.is_at("People (3)")
        await keys.use("Lock the class")
        await ann.hears("The class is locked: nobody new comes in.")
        await keys.use("Kick ben")
        await ben.hears("You were removed from this class.")
        await keys.is_at("Kick ann")
        await Keyboard(ben).use("Come in")
        await expect(ben.page.locator(".class-status")).to_have_text("The class is locked.")
        await keys.use("Lock the class")
        await Keyboard(ben).use("Come in")
        await expect(ben.page.locator(".class-status")).to_contain_text("lobby")


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = installed(Path(__file__).parent, tmp_path_factory.mktemp("npm"))
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


async def heard(attendee: Attendee) -> list[dict[str, Any]]:
    """The accessibility tree: {role, name} of each element in it."""
    session = await attendee.page.context.new_cdp_session(attendee.page)
    nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    await session.detach()
    return [
        {"role": each["role"]["value"], "name": each.get("name", {}).get("value", "")}
        for each in nodes
        if not each["ignored"] and "role" in each
    ]


async def fits(attendee: Attendee, axe: str) -> None:
    """Everything has a name, no id is there twice, and axe finds nothing."""
    page = attendee.page
    tree = await heard(attendee)
    assert [each for each in tree if each["role"] in INTERACTIVE and not each["name"].strip()] == []
    assert len([each for each in tree if each["role"] in INTERACTIVE]) > 1
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(axe)
    found = (await page.evaluate(AXE))["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


async def test_a_screen_reader_finds_its_way(visitors: Visitors, server: Server, axe: str) -> None:
    async with school(server, "teacher", "ann", "ben") as people:
        room = await planned(people)
        teacher, ann = await attend(visitors, server, room, *people[:2])
        await teacher.is_in()
        await fits(teacher, axe)
        await ann.page.get_by_text("The class has not begun. This page tries again by itself.").wait_for()
        await fits(ann, axe)
        await teacher.press("Start the class")
        await ann.is_in()
        await teacher.press("Lobby")
        (ben,) = await attend(visitors, server, room, people[2])
        await teacher.button("Admit ben").wait_for()
        for each in (teacher, ann):
            await each.press("Camera")
            await each.press("Raise hand")
        await ann.gets(teacher, "camera")
        await ann.says("Hello")
        await teacher.reads("ann: Hello")
        await teacher.page.get_by_label("Quiz").check()
        await fits(teacher, axe)
        await fits(ben, axe)  # in the lobby
        await teacher.page.get_by_label("Question").fill("1 + 1?")
        await teacher.page.get_by_label("Answers, one a line").fill("2\n3")
        await teacher.press("Ask")
        await ann.press("2")
        await expect(teacher.page.locator(".class-voters li")).to_have_count(1)
        for each in (teacher, ann):
            await fits(each, axe)
        states = {each["name"]: each for each in await states_of(ann)}
        assert states["Raise hand"]["pressed"] == states["Camera"]["pressed"] == "true"
        assert states["Microphone"]["pressed"] == "false"
        assert states["3"]["disabled"] is True
        await teacher.press("More about ann")
        await fits(teacher, axe)
        await teacher.page.keyboard.press("Escape")
        await teacher.press("End the class")
        await fits(teacher, axe)
        await teacher.confirms("End it")
        await ann.hears("The class has ended.")
        for each in (teacher, ann):
            await fits(each, axe)


async def states_of(attendee: Attendee) -> list[dict[str, Any]]:
    """The buttons of the accessibility tree, with their states."""
    session = await attendee.page.context.new_cdp_session(attendee.page)
    nodes = (await session.send("Accessibility.getFullAXTree"))["nodes"]
    await session.detach()
    return [
        {
            "name": each["name"]["value"],
            **{each["name"]: each["value"]["value"] for each in each.get("properties", ())},
        }
        for each in nodes
        if not each["ignored"] and each.get("role", {}).get("value") in ("button", "ToggleButton")
    ]
