"""A small server of the Centrifuge protocol (version 2, JSON), not ours, that keeps its promises unless told otherwise.

One process, everything in memory, on the `websockets` library. It knows connect, subscribe with recovery, unsubscribe,
publish and history, and lies as `Lies` says.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response


@dataclass
class Lies:
    """What happens to every k-th publication of a channel; 0: to none. Nothing here: an honest server."""

    lose: int = 0  # acknowledged; neither stored nor delivered
    forget: int = 0  # acknowledged and delivered with an offset, not stored
    keep: int = 0  # acknowledged and stored, not delivered
    double: int = 0  # stored twice, under two offsets
    repeat: int = 0  # delivered twice under the same offset
    swap: int = 0  # delivered after the one that follows it
    overtake: int = 0  # stored after the one that follows it
    alter: int = 0  # stored and delivered as another message, which nobody sent
    differ: int = 0  # delivered to every second reader as another message
    bare: int = 0  # delivered without its offset
    garbage: str = ""  # sent instead of every 5th delivery: text | binary | frame
    # Connections and positions.
    drop: int = 0  # the k-th publication of a channel cuts all readers of it off, except its publisher
    no_return: bool = False  # and nobody gets in after that
    new_epoch: bool = False  # whoever comes back finds another epoch
    half_recovery: bool = False  # recovered, says the reply, and leaves out the last
    no_recovery: bool = False  # every reply says it has too much to tell: the client reads the history
    # Not lies: servers that do less.
    ephemeral: bool = False  # no offsets, no history
    kept: int = 0  # publications in history; 0: all
    refuse_history: bool = False
    refuse_publish: int = 0
    silent_publish: int = 0  # stored and delivered, never answered
    invent: bool = False  # at each request for history, one more publication that is not stored is delivered

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if value) or "honest"


@dataclass
class Stored:
    """A channel: its history, and who is in it."""

    epoch: str = "e1"
    top: int = 0
    published: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    readers: dict[ServerConnection, int] = field(default_factory=dict)  # with a number
    late: list[dict[str, Any]] = field(default_factory=list)  # to be delivered after the next
    waiting: list[dict[str, Any]] = field(default_factory=list)  # to be stored after the next


class LyingServer:
    def __init__(self, lies: Lies) -> None:
        self.lies = lies
        self.port = 0
        self.pongs = 0  # of the protocol: a client answers {} with {}
        self.pings: list[Awaitable[float]] = []  # of WebSocket: done when the client has answered
        self.on_publish: Callable[[int], None] = lambda published: None
        self.channels: defaultdict[str, Stored] = defaultdict(Stored)
        self._numbers = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[LyingServer]:
        async with serve(
            self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, process_request=self._gate
        ) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    def _gate(self, connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "no\n") if self._closed else None

    async def _serve(self, connection: ServerConnection) -> None:
        greeted = False
        try:
            async for frame in connection:
                replies = []
                for line in str(frame).split("\n"):
                    command = json.loads(line)
                    if not command:
                        self.pongs += 1
                        continue
                    result = await self._answer(connection, command)
                    if result is not None:
                        replies.append(json.dumps({"id": command["id"], **result}))
                if replies:
                    await connection.send("\n".join(replies))
                if not greeted:
                    greeted = True
                    self.pings.append(await connection.ping())
                    await connection.send("{}")
        except ConnectionClosed:
            pass
        finally:
            for channel in self.channels.values():
                channel.readers.pop(connection, None)

    async def _answer(self, connection: ServerConnection, command: dict[str, Any]) -> dict[str, Any] | None:
        match command:
            case {"connect": _}:
                return {"connect": {"client": "c", "ping": 25, "pong": True}}
            case {"subscribe": {"channel": name, **request}}:
                return {"subscribe": self._subscribe(connection, self.channels[name], request)}
            case {"unsubscribe": {"channel": name}}:
                self.channels[name].readers.pop(connection, None)
                return {"unsubscribe": {}}
            case {"publish": {"channel": name, "data": data}}:
                return await self._publish(connection, name, data)
            case {"history": {"channel": name, **request}}:
                return await self._history(name, request)
        return {"error": {"code": 104, "message": "method not found"}}

    def _subscribe(self, connection: ServerConnection, channel: Stored, request: dict[str, Any]) -> dict[str, Any]:
        lies = self.lies
        self._numbers += 1
        channel.readers[connection] = self._numbers
        if lies.ephemeral:
            return {}
        answer = {"recoverable": True, "positioned": True, "epoch": channel.epoch, "offset": channel.top}
        if not request.get("recover"):
            return answer
        if lies.new_epoch:
            channel.epoch = answer["epoch"] = "e2"
        missed = [each for each in channel.history if each["offset"] > request["offset"]]
        if lies.half_recovery:
            missed = missed[:-1]
        recovered = request["epoch"] == answer["epoch"] and not lies.no_recovery
        return answer | {"recovered": recovered, "was_recovering": True, "publications": missed if recovered else []}

    async def _publish(self, connection: ServerConnection, name: str, data: dict[str, Any]) -> dict[str, Any] | None:
        lies, channel = self.lies, self.channels[name]
        channel.published += 1
        self.on_publish(channel.published)

        def every(k: int) -> bool:
            return bool(k) and channel.published % k == 0

        if every(lies.refuse_publish):
            return {"error": {"code": 111, "message": "too many requests", "temporary": True}}
        answer: dict[str, Any] | None = {"publish": {}}
        if every(lies.silent_publish):
            answer = None
        if every(lies.lose):
            return answer
        if every(lies.overtake):
            channel.waiting.append(data)
            return answer
        if every(lies.alter):
            data = data | {"n": data["n"] + 1_000_000}
        for each in [data, *([data] if every(lies.double) else []), *channel.waiting]:
            publication: dict[str, Any] = {"data": each}
            if not lies.ephemeral:
                channel.top += 1
                publication["offset"] = channel.top
                if not every(lies.forget):
                    channel.history.append(publication)
                if lies.kept:
                    channel.history = channel.history[-lies.kept :]
            if every(lies.keep):
                continue
            if every(lies.swap):
                channel.late.append(publication)
                continue
            if every(lies.bare):
                publication = {"data": each}
            for one in [publication, *([publication] if every(lies.repeat) else []), *channel.late]:
                await self._deliver(name, one, differ=every(lies.differ), garbage=(every(5) and lies.garbage) or "")
            channel.late.clear()
        channel.waiting.clear()
        if every(lies.drop):
            self._closed = lies.no_return
            for reader in [reader for reader in channel.readers if reader is not connection]:
                del channel.readers[reader]
                reader.transport.abort()
        return answer

    async def _deliver(
        self, name: str, publication: dict[str, Any], *, differ: bool = False, garbage: str = ""
    ) -> None:
        other = publication | {"data": publication["data"] | {"n": 0, "s": 77}}
        for reader, number in list(self.channels[name].readers.items()):
            push = {"channel": name, "pub": other if differ and number % 2 else publication}
            with contextlib.suppress(ConnectionClosed):
                if garbage == "text":
                    await reader.send('{"push":{"channel":7}}')
                elif garbage == "binary":
                    await reader.send(b"\0\1")
                elif garbage == "frame":
                    reader.transport.write(b"\xf3\x01x")
                else:
                    await reader.send(json.dumps({"push": push}))

    async def _history(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        channel = self.channels[name]
        if self.lies.refuse_history or self.lies.ephemeral:
            return {"error": {"code": 108, "message": "not available"}}
        position = {"epoch": channel.epoch, "offset": channel.top}
        if not request["limit"]:
            if self.lies.invent:
                await self._deliver(name, {"offset": channel.top + 1, "data": {"text": "nobody stored me"}})
            return {"history": position}
        since = request["since"]
        if since["epoch"] != channel.epoch:
            return {"error": {"code": 112, "message": "unrecoverable position"}}
        found = [each for each in channel.history if each["offset"] > since["offset"]]
        return {"history": position | {"publications": found[: request["limit"]]}}
