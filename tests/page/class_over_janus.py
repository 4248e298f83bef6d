"""What `test_class_janus.py` runs in a network namespace: a class in three browsers by way of Janus."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright, expect

from loadtest.server import Server
from tests.lms.school import school
from tests.page import class_scenarios as scenarios
from tests.page.class_scenarios import begin, three
from tests.page.classroom import FLAGS
from tests.page.conftest import chromium
from tests.page.test_outages import UNREACHABLE
from tests.page.visitor import Visitors

pytestmark = pytest.mark.integration


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS, "--no-sandbox"])
        yield browser
        await browser.close()


async def test_three_hold_a_class(visitors: Visitors, server: Server) -> None:
    await scenarios.hold_a_class(visitors, server, "janus")


async def test_everybody_is_back_after_the_death_of_the_teachers_node(visitors: Visitors, three_nodes: Server) -> None:
    await scenarios.outlive_the_teachers_node(visitors, three_nodes, "janus")


async def test_whoever_is_taken_out_is_cut_off(visitors: Visitors, server: Server) -> None:
    await scenarios.take_out(visitors, server, "janus")


async def test_whoever_is_no_assistant_any_more_waits_in_the_lobby(visitors: Visitors, server: Server) -> None:
    await scenarios.wait_in_the_lobby(visitors, server, "janus")


async def test_a_page_that_does_not_obey_is_not_forwarded(visitors: Visitors, server: Server) -> None:
    """Ann's page goes on sending whatever the class says, and Ben's would take it: nothing comes."""
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people, media="janus", cheats="ann ben")
        await begin(teacher, ann, ben)
        await ann.press("Camera")
        await ben.gets(ann, "camera")
        began = await ben.frames()
        await ben.gets(ann, "camera")
        assert await ben.frames() > began
        await teacher.press("Lock camera")
        await ben.sees("'camera' in state.locks")
        async with asyncio.timeout(20):
            before, after = -1.0, await ben.frames()
            while before != after:
                await asyncio.sleep(1)
                before, after = after, await ben.frames()


async def test_the_class_goes_on_when_janus_dies(visitors: Visitors, private_server: Server) -> None:
    server = private_server
    async with school(server, "teacher", "ann", "ben") as people:
        _, (teacher, ann, ben) = await three(visitors, server, people, media="janus")
        for each in (teacher, ann, ben):
            each.visitor.excused = UNREACHABLE
        await begin(teacher, ann, ben)
        await teacher.press("Camera")
        for each in (ann, ben):
            await each.gets(teacher, "camera")
        before = {each: await each.track(teacher, "camera") for each in (ann, ben)}
        os.kill(int((server.data_dir / "janus.pid").read_text().split()[0]), signal.SIGKILL)
        await ann.says("Can you hear me?")
        await ben.reads("ann: Can you hear me?")
        await ann.press("Raise hand")
        await expect(teacher.page.locator(".class-hands li")).to_have_text(["ann"])
        for each in (ann, ben):
            await each.gets_anew(teacher, "camera", before[each])
