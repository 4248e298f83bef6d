"""HTTP and WebSocket on one port: uvicorn's HTTP protocol under guard, in a server of our own.

uvicorn parses requests and runs the application. What it lacks is added here: limits on headers and on the time to send
them, an end for bodies and readers that stall, and a drain that leaves the WebSocket connections to whoever drains the
node. WebSocket handshakes go, already parsed, to our own connection class.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import httptools
import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.http11 import Request

from realtime.endpoint import WebSocketEndpoint
from realtime.websocket import WebSocketConnection
from realtime.wheel import Timeout

BACKLOG = 4096  # connections that the kernel holds until we accept them (it caps this at net.core.somaxconn)
HEADER_LIMIT = 16 * 1024  # bytes of request line and headers
HEADER_TIMEOUT = 10  # ticks for them to arrive
KEEP_ALIVE = 75  # seconds that an idle connection is kept for its next request
STALL_TIMEOUT = 30  # ticks in which a body brings STALL_BYTES or ends, and a reader makes some room
STALL_BYTES = 8 * 1024
MAX_PIPELINED = 16  # requests of one connection that may wait for their turn
FAREWELL = 2  # ticks for a client to read why it was refused

ConnectionFactory = Callable[[WebSocketEndpoint], WebSocketConnection]
Application = Callable[..., Any]


class StartFailed(Exception):
    """The application refused to start; its log says why."""


def listening_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound TCP socket for `HTTPServer.start`. Port 0 takes a free one. Raises `OSError`.

    `reuse_port` lets several processes share the port (SO_REUSEPORT); the kernel spreads connections over them.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class HTTPServer:
    """Serves an ASGI application and a WebSocket endpoint on the running event loop.

    trusted_proxies: addresses whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; `*` for all.
    """

    def __init__(
        self,
        app: Application,
        endpoint: WebSocketEndpoint,
        connection_factory: ConnectionFactory,
        *,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.endpoint = endpoint
        self.connection_factory = connection_factory
        self.config = uvicorn.Config(
            _upgrade_required(app, endpoint),
            interface="asgi3",
            http=GuardedHTTP,
            ws=WebSocketConnection,  # only says that upgrades are welcome: GuardedHTTP hands them over itself
            lifespan="auto",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE,
            backlog=BACKLOG,
        )
        self.config.load()
        self.state = ServerState()
        self.lifespan = LifespanOn(self.config)
        self.idle = asyncio.Event()  # set when, while draining, the last HTTP connection ends
        self._listeners: list[asyncio.Server] = []

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Start the application and listen on every socket. Raises `StartFailed`, `OSError`."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise StartFailed("the application did not start")
        self._stamp_date()
        self.endpoint.wheel.each_tick(self._stamp_date)
        loop = asyncio.get_running_loop()
        for listener in sockets:
            self._listeners.append(await loop.create_server(lambda: GuardedHTTP(self), sock=listener, backlog=BACKLOG))

    def stop_accepting(self) -> None:
        """Close the listening sockets; handshakes on connections that are there already get 503."""
        self.endpoint.draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def drain(self, timeout: float) -> None:
        """Finish the HTTP requests under way, for at most `timeout` seconds, and stop the application.

        WebSocket connections are left alone: disconnect them first.
        """
        self.stop_accepting()
        deadline = asyncio.get_running_loop().time() + timeout
        for connection in list(self.state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout_at(deadline):
                while self.state.tasks:
                    await asyncio.wait(set(self.state.tasks))
                while self.state.connections:
                    self.idle.clear()
                    await self.idle.wait()
        except TimeoutError:
            late = set(self.state.tasks)
            for task in late:
                task.cancel()
            for connection in list(self.state.connections):
                connection.transport.abort()
            if late:
                await asyncio.wait(late, timeout=1.0)
        await self.lifespan.shutdown()

    def _stamp_date(self) -> None:
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode()), *self.config.encoded_headers]


class GuardedHTTP(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits on what a client may take.

    One deadline holds at a time: for the head of a request, then for the progress of its body.
    """

    def __init__(self, server: HTTPServer) -> None:
        super().__init__(server.config, server.state, server.lifespan.state)
        self._server = server
        self._wheel = server.endpoint.wheel
        self._refused = False
        self._refusal = HTTPStatus.BAD_REQUEST
        self._heads = 0  # complete so far
        self._in_head = True
        self._upgrades = False
        self._head_size = 0  # bytes of the current head that the parser has passed on
        self._head_raw = 0  # bytes of the current head that came in earlier reads, passed on or not
        self._body_size = 0  # bytes of the current body since its last deadline
        self._deadline: Timeout | None = None
        self._write_deadline: Timeout | None = None

    # --- connection --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Not uvicorn's: that asks for the addresses, for which uvloop makes objects that live as long as the socket,
        # 500 bytes for each of a million WebSockets. Only requests need them (see on_headers_complete).
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.scheme = "http"
        self._expect(HEADER_TIMEOUT, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if not self.connections:
            self._server.idle.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self._wheel.after(STALL_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        began_in_head, heads = self._in_head, self._heads
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._hand_over(data[upgrade.args[0] :])
            else:
                self.cycle.keep_alive = False  # the request itself is answered as if it had not asked
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal)
            return
        if began_in_head and self._in_head and heads == self._heads:
            self._head_raw += len(data)
            if self._head_raw > HEADER_LIMIT:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _hand_over(self, rest: bytes) -> None:
        """Give the socket to a WebSocket connection, and let go of everything: a million of us would remain."""
        self._expect_nothing()
        self.connections.discard(self)
        endpoint = self._server.endpoint
        connection = self._server.connection_factory(endpoint)
        self.transport.set_protocol(connection)
        method, version = self.parser.get_method(), self.parser.get_http_version()
        ordinary = method == b"GET" and version == "1.1"
        if ordinary and (answer := endpoint.accept(self.url, self.headers)) is not None:
            connection.accepted(self.transport, answer)
        else:
            headers = Headers()
            for name, value in self.headers:
                headers.set_insecure(name.decode("latin-1"), value.decode("latin-1"))
            request = Request(self.url.decode("latin-1"), headers, method.decode("latin-1"), f"HTTP/{version}")
            connection.upgrade(self.transport, request)
        if rest:
            connection.data_received(rest)
        self.parser = None  # type: ignore[assignment]  # it refers back to us

    # --- parser ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _TooMuch
        self._head_size = self._head_raw = 0
        if self._deadline is None:
            self._expect(HEADER_TIMEOUT, self._head_late)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count_head(len(name) + len(value) + 4)  # the colon, a space, the line's end

    def on_headers_complete(self) -> None:
        self._heads += 1
        self._in_head = False
        self._body_size = 0
        self._expect(STALL_TIMEOUT, self._body_late)
        self._upgrades = self.parser.should_upgrade() and super()._should_upgrade()
        if not self._upgrades:
            if self.client is None:
                self.server, self.client = get_local_addr(self.transport), get_remote_addr(self.transport)
            self.scope["server"], self.scope["client"] = self.server, self.client
        super().on_headers_complete()

    def _should_upgrade(self) -> bool:
        return self._upgrades  # uvicorn's looks through the headers again, three times a request

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True  # the next one's
        self._expect_nothing()
        super().on_message_complete()

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > HEADER_LIMIT:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise _TooMuch

    # --- deadlines ---------------------------------------------------------------------------------------------

    def _expect(self, ticks: int, otherwise: Callable[[], None]) -> None:
        self._expect_nothing()
        self._deadline = self._wheel.after(ticks, otherwise)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _head_late(self) -> None:
        if self.flow.read_paused:  # we are busy with its earlier requests and do not listen
            self._expect(HEADER_TIMEOUT, self._head_late)
        elif self._heads == 0 and self._head_raw == 0:
            self.transport.close()  # never said a word: a browser's spare connection
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _body_late(self) -> None:
        if self.flow.read_paused or self._body_size >= STALL_BYTES:
            self._body_size = 0
            self._expect(STALL_TIMEOUT, self._body_late)
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer what will not be served, unless an answer is already on its way, and hang up."""
        self._refused = True
        self._expect_nothing()
        self.pipeline.clear()
        if self.cycle is not None and not self.cycle.response_complete:
            started = self.cycle.response_started
            self.cycle.disconnected = True  # the application hears that nobody listens any more
            self.cycle.message_event.set()
            if started:
                self.transport.close()
                return
        body = f"{status.phrase}\n".encode()
        head = b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        head %= (status, status.phrase.encode(), len(body))
        self.transport.write(head + b"Connection: close\r\n\r\n" + body)
        self.transport.write_eof()  # only our half: closing with unread bytes would reset it and lose the answer
        self._wheel.after(FAREWELL, self.transport.abort)


class _TooMuch(Exception):
    """Stops the parser from within its callbacks; `GuardedHTTP._refusal` is the answer."""


def _upgrade_required(app: Application, endpoint: WebSocketEndpoint) -> Application:
    """The application, except for plain requests where only WebSockets are served."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] not in endpoint.paths:
            await app(scope, receive, send)
            return
        body = b"This is a WebSocket endpoint.\n"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"upgrade", b"websocket"),
            (b"connection", b"upgrade"),
        ]
        await send({"type": "http.response.start", "status": 426, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application
