"""The HTTP server under guard: limits, deadlines, upgrades, draining."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import Any

import pytest

from gateway_node import server as server_module
from gateway_node.server import (
    FAREWELL,
    HEADER_LIMIT,
    HEADER_TIMEOUT,
    MAX_PIPELINED,
    STALL_BYTES,
    STALL_TIMEOUT,
    GuardedHTTP,
    HTTPServer,
    StartFailed,
    listening_socket,
)
from realtime.websocket import WebSocketEndpoint
from realtime.wheel import TimingWheel
from tests.gateway_node.serving import HANDSHAKE, Echo, hello, on_uvloop, read_response, served

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@on_uvloop
async def test_serves_http_and_websocket_on_one_port() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert await read_response(reader) == (200, b"5\r\nhello\r\n0\r\n\r\n")
        async with node.client() as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        writer.close()


@on_uvloop
async def test_frames_that_come_with_the_handshake_are_read() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(HANDSHAKE + b"\x81\x82\x00\x00\x00\x00hi")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"\x81\x02hi"
        writer.close()


@on_uvloop
async def test_a_handshake_in_pieces() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        for byte in HANDSHAKE:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HANDSHAKE.replace(b"/connection/websocket", b"/nowhere"), 404),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 7"), 400),
        (HANDSHAKE.replace(b"GET", b"POST"), 405),
        (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (GET.replace(b" / ", b" /connection/websocket "), 426),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS to a plain port\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (GET.replace(b"Host", b"Ho\x00st"), 400),
    ],
)
@on_uvloop
async def test_requests_that_are_refused(request_: bytes, status: int) -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(request_)
        answer = await reader.readuntil(b"\r\n")
        assert answer.split(b" ")[1] == b"%d" % status
        writer.close()


@on_uvloop
async def test_an_unknown_upgrade_is_ignored() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        status, body = await read_response(reader)
        assert (status, b"hello" in body) == (200, True)
        writer.close()


# --- limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEADER_LIMIT,
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEADER_LIMIT + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (HEADER_LIMIT // 5),
        b"GET /" + b"x" * HEADER_LIMIT,
        b"GET /" + b"x" * HEADER_LIMIT + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["endless header", "long header", "many headers", "endless url", "long url"],
)
@pytest.mark.parametrize("chunk", [1000, 1_000_000])
@on_uvloop
async def test_header_bombs_get_431(head: bytes, chunk: int) -> None:
    async with served() as node:
        reader, writer = await node.raw()
        for start in range(0, len(head), chunk):
            writer.write(head[start : start + chunk])
            await asyncio.sleep(0)
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        writer.close()
        await node.until(lambda: not node.server.state.connections)


@on_uvloop
async def test_heads_up_to_the_limit_are_served_again_and_again() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        request = GET.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * (HEADER_LIMIT - 200) + b"\r\n\r\n")
        for _ in range(3):
            writer.write(request[:5000])
            await asyncio.sleep(0.01)
            writer.write(request[5000:])
            assert b" 200 " in await reader.readuntil(b"\r\n")
            await reader.readuntil(b"0\r\n\r\n")
        writer.close()


@on_uvloop
async def test_a_long_body_is_no_header() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        body = b"b" * 300_000
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body + GET)
        assert b" 200 " in await reader.readuntil(b"\r\n")
        assert b" 200 " in await reader.readuntil(b"hello\r\n0\r\n\r\n")
        writer.close()


@on_uvloop
async def test_pipelined_requests_are_answered_in_order_up_to_a_limit() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(GET * 5)
        for _ in range(5):
            assert b" 200 " in await reader.readuntil(b"0\r\n\r\n")
        writer.write(GET * (MAX_PIPELINED + 5))
        await reader.read()  # refused: the end comes
        writer.close()
        await node.until(lambda: not node.server.state.connections)


@on_uvloop
async def test_a_slow_head_gets_408() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(GET[:20])
        await node.until(lambda: any(c._head_raw for c in node.server.state.connections))
        node.advance(HEADER_TIMEOUT)
        assert (await read_response(reader))[0] == 408
        writer.close()


@on_uvloop
async def test_a_connection_that_says_nothing_is_closed_in_silence() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        await node.until(lambda: node.server.state.connections)
        node.advance(HEADER_TIMEOUT)
        assert await reader.read() == b""
        writer.close()


@on_uvloop
async def test_the_second_head_has_its_own_deadline() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(GET)
        await reader.readuntil(b"0\r\n\r\n")
        node.advance(HEADER_TIMEOUT * 3)
        writer.write(GET[:20])
        await node.until(lambda: any(c._head_raw for c in node.server.state.connections))
        node.advance(HEADER_TIMEOUT - 1)
        assert not reader.at_eof()
        node.advance(1)
        assert (await read_response(reader))[0] == 408
        writer.close()


@on_uvloop
async def test_a_body_must_make_progress() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * STALL_BYTES)
        await node.until(lambda: any(c._body_size for c in node.server.state.connections))
        node.advance(STALL_TIMEOUT)
        assert not reader.at_eof()
        writer.write(b"x")
        await node.until(lambda: any(c._body_size for c in node.server.state.connections))
        node.advance(STALL_TIMEOUT)
        assert (await read_response(reader))[0] == 408
        writer.close()
        await node.until(lambda: not node.server.state.tasks)


@on_uvloop
async def test_a_refused_client_that_does_not_hang_up_is_cut_off() -> None:
    async with served() as node:
        _, writer = await node.raw()
        writer.write(b"nonsense\r\n\r\n")
        await node.until(lambda: any(c._refused for c in node.server.state.connections))
        for _ in range(50):
            writer.write(b"more nonsense" * 100)
            await asyncio.sleep(0)
        node.advance(FAREWELL)
        await node.until(lambda: not node.server.state.connections)
        writer.close()


@on_uvloop
async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    async with served(endless) as node:
        _, writer = await node.raw(limit=1024)
        writer.write(GET)
        await node.until(lambda: any(c.flow.write_paused for c in node.server.state.connections))
        node.advance(STALL_TIMEOUT)
        await node.until(lambda: not node.server.state.connections and not node.server.state.tasks)
        writer.close()


# --- sockets ----------------------------------------------------------------------------------------------------


@on_uvloop
async def test_several_sockets_one_of_them_shared() -> None:
    shared = listening_socket("127.0.0.1", 0, reuse_port=True)
    port = shared.getsockname()[1]
    neighbour = listening_socket("127.0.0.1", port, reuse_port=True)
    neighbour.close()
    own = listening_socket("::1", 0)
    server = HTTPServer(hello, WebSocketEndpoint(TimingWheel()), Echo)
    await server.start([shared, own])
    with pytest.raises(OSError, match="in use"):
        listening_socket("127.0.0.1", port)
    for host, number in (("127.0.0.1", port), ("::1", own.getsockname()[1])):
        reader, writer = await asyncio.open_connection(host, number)
        writer.write(GET)
        assert b" 200 " in await reader.readuntil(b"\r\n")
        writer.close()
    await server.drain(1)


@on_uvloop
async def test_nagle_is_off_on_both_sides_of_the_upgrade() -> None:
    options: list[int] = []

    class Looking(Echo):
        __slots__ = ()

        def opened(self) -> None:
            sock = self.transport.get_extra_info("socket")  # type: ignore[attr-defined]
            options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with served(connection=Looking) as node, node.client():
        pass
    assert options == [1]


@on_uvloop
async def test_an_upgraded_connection_leaves_no_http_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[GuardedHTTP]] = []

    class Referable(GuardedHTTP):
        def __init__(self, server: HTTPServer) -> None:
            super().__init__(server)
            made.append(weakref.ref(self))

    monkeypatch.setattr(server_module, "GuardedHTTP", Referable)
    gc.collect()
    gc.disable()
    try:
        async with served() as node:
            _, writer = await node.websocket()
            await node.until(lambda: node.endpoint.connections)
            node.advance(HEADER_TIMEOUT)  # the cancelled deadline's place in the wheel comes by
            await asyncio.sleep(0)
            assert made[0]() is None
            assert not node.server.state.connections
            writer.close()
    finally:
        gc.enable()


# --- start and drain --------------------------------------------------------------------------------------------


@on_uvloop
async def test_an_application_that_fails_to_start() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(StartFailed):
        await HTTPServer(failing, WebSocketEndpoint(TimingWheel()), Echo).start([])


@on_uvloop
async def test_the_application_starts_and_stops_with_the_server() -> None:
    events: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                events.append(message["type"])
                await send({"type": message["type"] + ".complete"})

    async with served(application):
        assert events == ["lifespan.startup"]
    assert events == ["lifespan.startup", "lifespan.shutdown"]


@on_uvloop
async def test_draining_finishes_requests_and_spares_websockets() -> None:
    release = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await release.wait()
            await hello(scope, receive, send)

    async with served(slow) as node:
        idle_reader, idle_writer = await node.raw()
        reader, writer = await node.raw()
        writer.write(GET)
        ws_reader, ws_writer = await node.websocket()
        await node.until(lambda: node.server.state.tasks)
        drained = asyncio.ensure_future(node.server.drain(30))
        assert await idle_reader.read() == b""
        with pytest.raises(OSError):
            await node.raw()
        assert not drained.done()
        release.set()
        assert (await read_response(reader))[0] == 200
        await drained
        ws_writer.write(b"\x81\x82\x00\x00\x00\x00hi")
        assert await ws_reader.readexactly(4) == b"\x81\x02hi"
        for each in (writer, ws_writer, idle_writer):
            each.close()


@on_uvloop
async def test_draining_gives_up_on_requests_that_do_not_end() -> None:
    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await asyncio.Event().wait()

    async with served(stuck) as node:
        reader, writer = await node.raw()
        writer.write(GET)
        await node.until(lambda: node.server.state.tasks)
        await node.server.drain(0.05)
        assert not node.server.state.tasks
        await reader.read()
        writer.close()


@on_uvloop
async def test_a_kept_alive_connection_gets_503_for_a_handshake_while_draining() -> None:
    async with served() as node:
        reader, writer = await node.raw()
        writer.write(GET)
        await reader.readuntil(b"0\r\n\r\n")
        node.server.stop_accepting()
        writer.write(HANDSHAKE)
        assert b" 503 " in await reader.readuntil(b"\r\n")
        writer.close()


@on_uvloop
async def test_responses_carry_the_current_date() -> None:
    async with served() as node:
        first = node.server.state.default_headers
        node.advance(1)
        assert node.server.state.default_headers is not first
        assert node.server.state.default_headers[0][0] == b"date"
