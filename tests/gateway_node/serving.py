"""A real server on a loopback port, and clients that speak raw bytes to it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvloop
from websockets.asyncio.client import connect
from websockets.frames import Close

from gateway_node.server import HTTPServer, listening_socket
from realtime.websocket import WebSocketConnection, WebSocketEndpoint
from realtime.wheel import TimingWheel

HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Application = Callable[[Any, Any, Any], Awaitable[None]]


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test on the production loop, for at most half a minute."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await test(*args, **kwargs)

        uvloop.run(bounded())

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest-asyncio would take it for a coroutine
    return run


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers every request with the body it came with, or `hello`."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"hello"})


class Echo(WebSocketConnection):
    __slots__ = ()

    def message_received(self, payload: bytes, binary: bool) -> None:
        self.send_text(payload)


@dataclass
class Served:
    server: HTTPServer
    endpoint: WebSocketEndpoint
    port: int

    @property
    def wheel(self) -> TimingWheel:
        return self.endpoint.wheel

    def advance(self, ticks: int) -> None:
        for _ in range(ticks):
            self.wheel.advance()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something without an event of its own."""
        while not condition():
            await asyncio.sleep(0.002)

    async def raw(self, limit: int = 2**24) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=limit)

    async def websocket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection past its handshake."""
        reader, writer = await self.raw()
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return reader, writer

    def client(self, **options: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/connection/websocket", **options)


@asynccontextmanager
async def served(
    app: Application = hello,
    connection: type[WebSocketConnection] = Echo,
    **options: Any,
) -> AsyncIterator[Served]:
    """The wheel stands still: tests advance it."""
    endpoint = WebSocketEndpoint(TimingWheel(), **options)
    listener = listening_socket("127.0.0.1", 0)
    server = HTTPServer(app, endpoint, connection)
    await server.start([listener])
    node = Served(server, endpoint, listener.getsockname()[1])
    try:
        yield node
    finally:
        for open_connection in list(endpoint.connections):
            open_connection.disconnect(3001, "shutdown")
        node.advance(10)
        await server.drain(0.2)


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and the rest of the stream's bytes, up to its end."""
    answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


async def read_close(reader: asyncio.StreamReader) -> Close:
    """The close frame at the end of the stream."""
    wire = await reader.read()
    start = wire.index(b"\x88")
    return Close.parse(wire[start + 2 :])
