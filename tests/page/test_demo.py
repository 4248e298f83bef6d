"""What a newcomer does first: `serve --demo`, two browsers, two of the logins that it prints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.page.conftest import SETTINGS, chromium
from tests.page.visitor import Visitors
from tests.stack import short_folder

pytestmark = pytest.mark.integration


@pytest.fixture
def demo_server() -> Iterator[Server]:
    chromium()
    with short_folder() as folder, Server(folder / "data", settings=SETTINGS, arguments=["--demo"]) as running:
        yield running


async def printed(server: Server) -> str:
    """What the server has said, when the class is there, its last line."""
    async with asyncio.timeout(60):
        while "/#/class/" not in (text := server.log.read_text()):
            await asyncio.sleep(0.1)
    return text


async def test_two_of_the_demos_people_chat(demo_server: Server, visitors: Visitors) -> None:
    text = await printed(demo_server)
    found = re.search(r"sign in at (\S+) .*password of each is (\w+)", text)
    assert found is not None
    address, password = found.groups()
    assert address == demo_server.url("")
    emails = re.findall(r"^ +(\S+@\S+) ", text, re.MULTILINE)
    ada, ben = [await visitors.one(name, server=demo_server, node=node) for node, name in enumerate(("Ada", "Ben"))]
    for visitor, email in zip((ada, ben), emails, strict=False):
        await visitor.sign_in(email, password)
        await visitor.open("Physics 8b")
        await visitor.sees(re.compile("how fast a ball falls"))
    await expect(ben.page.get_by_role("img", name="pendulum.png")).to_be_visible()
    await ben.send("I bring two phones")
    await ada.sees("I bring two phones")
    await ada.send("Thank you!")
    await ben.sees("Thank you!")
    (lesson,) = re.findall(r"#/class/\S+", text)
    for visitor in (ben, ada):
        await visitor.page.evaluate("(hash) => { location.hash = hash; }", lesson)
    await ada.page.get_by_role("button", name="Start the class").click()
    await expect(ben.page.get_by_role("button", name="Raise hand")).to_be_visible(timeout=30_000)
