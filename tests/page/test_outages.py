"""The page when the network or a node is away: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import expect

from loadtest.server import Server
from tests.page.visitor import Visitor, Visitors

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

UNREACHABLE = re.compile("WebSocket connection|ERR_|status of 503")


async def two(visitors: Visitors, server: Server) -> tuple[Visitor, Visitor]:
    """Two people in mid-conversation, on two nodes."""
    ana, bo = await visitors.registered("Ana", "Bo", server=server)
    ana.excused = bo.excused = UNREACHABLE
    await ana.message(bo)
    await ana.send("first")
    await bo.open("Ana")
    await bo.sees("first")
    return ana, bo


async def test_a_node_is_killed_in_mid_conversation(visitors: Visitors, private_server: Server) -> None:
    ana, bo = await two(visitors, private_server)
    killed = await asyncio.to_thread(private_server.kill, "node-1")
    for number in range(5):
        await ana.send(f"of Ana {number}")
        await bo.send(f"of Bo {number}")
    await expect(ana.page.locator(".banner")).to_have_text("Reconnecting…")
    await asyncio.to_thread(private_server.wait_restarted, "node-1", killed)
    await ana.connected()
    wanted = [f"of {name} {number}" for name in ("Ana", "Bo") for number in range(5)]
    for each in (ana, bo):
        for text in wanted:
            await each.sees(re.compile(f"^{text}$"))
        await expect(each.page.locator(".is-waiting, .is-sent, .failure")).to_have_count(0)
    assert await ana.texts() == await bo.texts()
    assert sorted(await ana.texts()) == sorted(["first", *wanted])
    for name in ("Ana", "Bo"):
        own = [text for text in await bo.texts() if text.startswith(f"of {name}")]
        assert own == [f"of {name} {number}" for number in range(5)]
    await expect(ana.page.locator(".banner")).to_be_empty()
    await ana.page.reload()
    await ana.sees(re.compile("^of Bo 4$"))
    assert await ana.texts() == await bo.texts()


async def test_what_was_written_without_a_network_survives_a_reload(visitors: Visitors, server: Server) -> None:
    ana, bo = await two(visitors, server)
    # Out of reach: the connection is cut, and new ones are refused.
    await ana.page.route_web_socket(
        re.compile("/connection/websocket"), lambda socket: asyncio.ensure_future(socket.close())
    )
    await ana.page.reload()
    await ana.page.locator(".banner", has_text="Connecting").wait_for()
    await bo.send("meanwhile")
    await ana.page.unroute_all()
    assert await ana.texts() == []


async def test_edits_that_were_missed_are_seen(visitors: Visitors, private_server: Server) -> None:
    ana, bo = await two(visitors, private_server)
    await bo.send("to be edited")
    await bo.send("to be deleted")
    await ana.sees("to be deleted")
    killed = await asyncio.to_thread(private_server.kill, "node-1")
    await bo.choose("to be edited", "Edit")
    await bo.send("edited meanwhile")
    await bo.choose("to be deleted", "Delete")
    await bo.confirm("Delete")
    await bo.sees("Message deleted")
    await asyncio.to_thread(private_server.wait_restarted, "node-1", killed)
    await ana.connected()
    await ana.sees("edited meanwhile")
    await ana.sees("Message deleted")
    assert await ana.texts() == ["first", "edited meanwhile", "Message deleted"]
