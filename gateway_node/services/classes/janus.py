"""A node's connection to Janus: requests out, answers and events in, over its WebSocket.

Protocol: https://janus.conf.meetecho.com/docs/rest.html (its WebSocket form). One session a node, a handle each sender
and each watcher. When the connection goes, Janus ends the session and all its handles: nothing is taken up again.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.typing import Subprotocol

TIMEOUT = 5.0  # s for an answer
KEEPALIVE = 25.0  # s; Janus ends a session after a minute of silence
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # s between attempts to connect

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
Message = dict[str, Any]


class JanusAway(Exception):
    """Janus cannot be reached, or does not answer; what it was asked may have been done."""


class JanusRefused(Exception):
    """Janus says no. `code`: 426 no such room, 427 it is there already, 428 no such feed, …"""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class JanusClient:
    """`on_event(handle, message)` hears what nobody asked for; `on_up()` that there is a session, a new one each time;
    `on_down()` that it is over."""

    def __init__(self, url: str, secret: str = "") -> None:
        self._url = url
        self._secret = secret
        self.on_event: Callable[[int, Message], None] = lambda handle, message: None
        self.on_up: Callable[[], None] = lambda: None
        self.on_down: Callable[[], None] = lambda: None
        self._socket: ClientConnection | None = None
        self._session = 0
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._lost_at = time.monotonic()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @property
    def away(self) -> float:
        """Seconds since it was connected, or made; 0: it is."""
        return 0.0 if self.connected else time.monotonic() - self._lost_at

    # --- asking ------------------------------------------------------------------------------------------------

    async def attach(self) -> int:
        """A new handle of VideoRoom. Raises `JanusAway`, `JanusRefused`."""
        answer = await self.ask("attach", plugin="janus.plugin.videoroom")
        return int(answer["data"]["id"])

    async def detach(self, handle: int) -> None:
        """Let go of a handle, and so of its media. Whether it worked does not matter: it ends with the session."""
        with suppress(JanusAway, JanusRefused):
            await self.ask("detach", handle)

    async def message(self, handle: int, body: Message, jsep: Message | None = None) -> tuple[Message, Message | None]:
        """A request to the plugin: its data, and a description. Raises `JanusAway`, `JanusRefused`."""
        answer = await self.ask("message", handle, body=body, **({"jsep": jsep} if jsep else {}))
        data: Message = answer.get("plugindata", {}).get("data", {})
        if "error_code" in data:
            raise JanusRefused(data["error_code"], data.get("error", ""))
        return data, answer.get("jsep")

    async def ask(self, what: str, handle: int = 0, **fields: Any) -> Message:
        """Raises `JanusAway`, `JanusRefused`."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._up.wait()
                return await self._ask(what, handle, **fields)
        except TimeoutError:
            raise JanusAway("no answer") from None

    async def _ask(self, what: str, handle: int = 0, **fields: Any) -> Message:
        socket = self._socket
        if socket is None:
            raise JanusAway("not connected")
        transaction = str(next(self._numbers))
        message = {"janus": what, "transaction": transaction, **fields}
        if self._session:
            message["session_id"] = self._session
        if handle:
            message["handle_id"] = handle
        if self._secret:
            message["apisecret"] = self._secret
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = future
        try:
            await socket.send(_encode(message).decode())
            answer = await future
        except WebSocketException:
            raise JanusAway("the connection is gone") from None
        finally:
            self._waiting.pop(transaction, None)
        if answer["janus"] == "error":
            raise JanusRefused(answer["error"]["code"], answer["error"]["reason"])
        return answer

    # --- the connection ----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._connect() as socket:
                    self._socket = socket
                    reading = asyncio.create_task(self._read(socket))
                    try:
                        await self._begin()
                        pause = FIRST_PAUSE
                        await reading
                    finally:
                        reading.cancel()
                        self._end()
            except (OSError, InvalidHandshake, WebSocketException, JanusAway, JanusRefused, TimeoutError):
                pass
            except Exception:
                _log.exception("janus.failed")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _connect(self) -> connect:
        protocol = Subprotocol("janus-protocol")
        options: dict[str, Any] = {"subprotocols": [protocol], "compression": None, "open_timeout": TIMEOUT}
        if self._url.startswith("unix:"):
            return unix_connect(unquote(urlsplit(self._url).path), uri="ws://localhost/", **options)
        return connect(self._url, proxy=None, **options)

    async def _begin(self) -> None:
        self._session = 0
        async with asyncio.timeout(TIMEOUT):
            self._session = int((await self._ask("create"))["data"]["id"])
        self._up.set()
        _log.info("janus.connected")
        self.on_up()

    def _end(self) -> None:
        was_up = self._up.is_set()
        self._socket = None
        self._session = 0
        self._up.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(JanusAway("the connection is gone"))
        if was_up:
            self._lost_at = time.monotonic()
            _log.warning("janus.lost")
            self.on_down()

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE):
                    text = await socket.recv()
            except TimeoutError:
                await socket.send(_encode(self._keepalive()).decode())
                continue
            self._received(msgspec.json.decode(text))

    def _keepalive(self) -> Message:
        secret = {"apisecret": self._secret} if self._secret else {}
        return {"janus": "keepalive", "session_id": self._session, "transaction": "keepalive", **secret}

    def _received(self, message: Message) -> None:
        if message["janus"] == "ack":
            return  # the answer of a request that takes its time follows as an event
        waiting = self._waiting.get(message.get("transaction", ""))
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(message)
        elif "sender" in message:
            self.on_event(int(message["sender"]), message)


class Handle(NamedTuple):
    """A handle of VideoRoom. Its number is its server's own."""

    client: JanusClient
    number: int

    async def message(self, body: Message, jsep: Message | None = None) -> tuple[Message, Message | None]:
        """Raises `JanusAway`, `JanusRefused`."""
        return await self.client.message(self.number, body, jsep)

    async def detach(self) -> None:
        await self.client.detach(self.number)


async def attach(client: JanusClient) -> Handle:
    """Raises `JanusAway`, `JanusRefused`."""
    return Handle(client, await client.attach())
