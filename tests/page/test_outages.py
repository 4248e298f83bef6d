"""The page when the network or a node is away: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import WebSocketRoute, expect

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
    await ana.watch_banner()
    killed = await asyncio.to_thread(private_server.kill, "node-1")
    for number in range(5):
        await ana.send(f"of Ana {number}")
        await bo.send(f"of Bo {number}")
    await asyncio.to_thread(private_server.wait_restarted, "node-1", killed)
    await ana.connected()
    assert "Reconnecting…" in await ana.banners()
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


class Line:
    """A page's way to the server, which can be cut, or let nothing through to the page."""

    def __init__(self) -> None:
        self.up = True
        self.deaf = False
        self._sockets: list[WebSocketRoute] = []

    async def connect(self, socket: WebSocketRoute) -> None:
        if not self.up:
            await socket.close()
            return
        server = socket.connect_to_server()
        socket.on_message(server.send)
        server.on_message(lambda message: None if self.deaf else socket.send(message))
        self._sockets.append(socket)

    async def cut(self) -> None:
        self.up = False
        for socket in self._sockets:
            await socket.close()
        self._sockets.clear()


async def on_a_line(visitors: Visitors, server: Server) -> tuple[Visitor, Visitor, Line]:
    """The same, and the first one's line."""
    line = Line()
    ana, bo = await visitors.one("Ana", server=server), await visitors.one("Bo", node=1, server=server)
    await ana.page.route_web_socket(re.compile("/connection/websocket"), line.connect)
    for each in (ana, bo):
        await each.register()
    await ana.message(bo)
    await bo.open("Ana")
    return ana, bo, line


async def test_what_was_written_without_a_network_survives_a_reload(visitors: Visitors, server: Server) -> None:
    ana, bo, line = await on_a_line(visitors, server)
    await line.cut()
    await expect(ana.page.locator(".banner")).to_have_text("Reconnecting…")
    for text in ("one", "two", "three"):
        await ana.send(text)
    await expect(ana.page.locator(".is-waiting")).to_have_count(3)
    await ana.page.reload()
    await expect(ana.page.locator(".banner")).to_have_text("Connecting…")
    await bo.send("meanwhile")
    await bo.stored("meanwhile")
    line.up = True
    await bo.sees("three")
    await ana.sees("three")
    assert await ana.texts() == await bo.texts() == ["meanwhile", "one", "two", "three"]
    await expect(ana.page.locator(".is-waiting, .is-sent")).to_have_count(0)


async def test_an_answer_that_was_lost_doubles_nothing(visitors: Visitors, server: Server) -> None:
    ana, bo, line = await on_a_line(visitors, server)
    line.deaf = True
    await ana.send("once")
    await bo.sees("once")  # it is stored; she does not know
    await expect(ana.page.locator(".is-waiting")).to_have_count(1)
    await line.cut()
    line.up, line.deaf = True, False
    await ana.stored("once")
    await ana.send("twice")
    await bo.sees("twice")
    assert await ana.texts() == await bo.texts() == ["once", "twice"]


async def test_edits_that_were_missed_are_seen(visitors: Visitors, private_server: Server) -> None:
    ana, bo = await two(visitors, private_server)
    await bo.send("to be edited")
    await bo.send("to be deleted")
    await ana.sees("to be deleted")
    await ana.watch_banner()
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
