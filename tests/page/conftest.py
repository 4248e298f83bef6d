"""People with a browser each: the system's Chromium, and a server of two nodes."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, async_playwright

from loadtest.server import Server
from tests.page.classroom import FLAGS, LOOPBACK
from tests.page.visitor import Visitors
from tests.post.mailbox import Mailbox
from tests.stack import short_folder

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SETTINGS = {
    "LIMITS__REGISTRATIONS_PER_ADDRESS": "0",
    "LIMITS__LOGINS_PER_ADDRESS": "0",
    "LIMITS__REQUESTS_PER_ADDRESS": "0",
    "CHAT__PULSE": "0.2",
}


def chromium() -> str:
    """The browser's path; skips the test where there is none. None is ever downloaded."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    pytest.skip("needs chromium: none is installed")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Leave it running."""
    chromium()
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def private_server() -> Iterator[Server]:
    """A server of the test's own, to kill parts of."""
    chromium()
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def three_nodes() -> Iterator[Server]:
    """A server of the test's own, to kill one of its nodes."""
    chromium()
    with short_folder() as folder, Server(folder / "data", nodes=3, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def crowded_server() -> Iterator[Server]:
    """A server to which a room of three is a big one."""
    chromium()
    settings = SETTINGS | {"CHAT__SMALL_ROOM": "2"}
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """With a camera and a microphone that are none."""
    # The sandbox needs rights that root in a container does not have.
    arguments = [*FLAGS, LOOPBACK, *(["--no-sandbox"] if os.getuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        await browser.close()


@pytest.fixture
async def visitors(browser: Browser, server: Server) -> AsyncIterator[Visitors]:
    """Makes people at their browsers. After the test none of them may have seen an error."""
    visitors = Visitors(browser, server)
    yield visitors
    await visitors.leave()


@pytest.fixture
def mailing_server(mailbox: Mailbox) -> Iterator[Server]:
    """A server that sends mail to `mailbox`."""
    chromium()
    settings = SETTINGS | {"MAIL__URL": mailbox.url, "MAIL__SENDER": "no-reply@school.example"}
    with short_folder() as folder, Server(folder / "data", nodes=1, settings=settings) as running:
        yield running


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as running:
        yield running
