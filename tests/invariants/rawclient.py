"""A client of the wire protocol that trusts nobody: it notes every publication and every fault in their sequence.

It comes back after a disconnect and recovers with its own positions, as an SDK does; but where an SDK would hide a
doubled or missing publication, this one writes it down in `faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

PATIENCE = 30.0  # seconds until a test gives up waiting for something that must come
RECONNECT = (0.05, 0.5)  # seconds: the first and the longest pause between two attempts, shortened at random


class Refused(Exception):
    """An error reply."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.temporary: bool = error.get("temporary", False)


class Lost(Exception):
    """The connection ended before the reply came: whether the command took effect is unknown."""


class Subscription:
    """What one client was told in one channel."""

    def __init__(self, channel: str, **options: Any) -> None:
        self.channel = channel
        self.options = options
        self.live = False
        self.ended = 0  # the code that ended the subscription for good
        self.start = 0  # the offset at the first subscribe: everything beyond must be seen
        self.offset = 0
        self.epoch = ""
        self.publications: list[dict[str, Any]] = []
        self.joins: list[dict[str, Any]] = []
        self.leaves: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self.recoveries = 0
        self.resubscribes = 0  # times that the server said "insufficient state"

    @property
    def offsets(self) -> list[int]:
        return [publication.get("offset", 0) for publication in self.publications]

    @property
    def data(self) -> list[Any]:
        return [publication["data"] for publication in self.publications]

    def accept(self, result: dict[str, Any]) -> None:
        """Take in a subscribe reply."""
        offset, epoch = result.get("offset", 0), result.get("epoch", "")
        self.greeting = result.get("data")
        if not self.epoch:
            self.start = self.offset = offset
            self.epoch = epoch
        elif not result.get("recovered"):
            self.faults.append(f"not recovered from {self.offset} of {self.epoch} to {offset} of {epoch}")
            self.offset, self.epoch = offset, epoch
        else:
            self.recoveries += 1
            for publication in result.get("publications", ()):
                self.take(publication)
            if self.offset != offset:
                self.faults.append(f"recovered up to {self.offset}, but the reply says {offset}")
        self.live = True

    def take(self, publication: dict[str, Any]) -> None:
        offset = publication.get("offset", 0)
        if offset:
            if offset <= self.offset:
                self.faults.append(f"{offset} came again, or late, after {self.offset}")
            elif offset > self.offset + 1:
                self.faults.append(f"{offset} came after {self.offset}")
            self.offset = max(offset, self.offset)
        self.publications.append(publication)


class RawClient:
    """A connection that is kept up until `close`, or until the server says not to come back.

    With `comes_back=False` it ends with the first connection.
    """

    def __init__(self, address: str, token: str, *, comes_back: bool = True) -> None:
        self.address = address
        self.token = token
        self.comes_back = comes_back
        self.subscriptions: dict[str, Subscription] = {}
        self.client = ""
        self.node = ""
        self.subs: dict[str, Any] = {}  # subscribed by the server
        self.closes: list[tuple[int, float]] = []  # close codes and when they came, by the loop's clock
        self.connects = 0
        self._socket: ClientConnection | None = None
        self._replies: dict[int, tuple[asyncio.Future[dict[str, Any]], Callable[[dict[str, Any]], None]]] = {}
        self._number = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._joining: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        return bool(self.client)

    @property
    def refused(self) -> bool:
        """The server said not to come back."""
        return bool(self.closes) and 3500 <= self.closes[-1][0] < 4000

    # --- waiting -------------------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Return when something that this client was told made the condition true. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():
                await self._news.wait()

    async def told(self, channel: str, offset: int, seconds: float = PATIENCE) -> None:
        """Return when the subscription is live and has everything up to the offset. Raises TimeoutError."""
        subscription = self.subscriptions[channel]
        await self.until(lambda: subscription.live and subscription.offset >= offset, seconds)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # --- commands ------------------------------------------------------------------------------------------------

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return its result. Raises `Refused` or `Lost`."""
        return await self.ask_soon(**command)

    def ask_soon(
        self, then: Callable[[dict[str, Any]], None] = lambda result: None, **command: Any
    ) -> asyncio.Future[dict[str, Any]]:
        """Send a command now; the result can be awaited later.

        `then` is called with it before anything is read that the server sent behind it, in the same frame even.
        """
        self._number += 1
        number = self._number
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        socket = self._socket
        if socket is None:
            reply.set_exception(Lost("not connected"))
            return reply
        self._replies[number] = reply, then
        task = asyncio.ensure_future(socket.send(json.dumps({"id": number, **command})))
        self._joining.add(task)
        task.add_done_callback(self._sent)
        return reply

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._joining.discard(task)
        if not task.cancelled():
            task.exception()  # the reader sees the end of the connection, too

    async def publish(self, channel: str, data: Any) -> None:
        await self.ask(publish={"channel": channel, "data": data})

    async def rpc(self, method: str, **params: Any) -> Any:
        return (await self.ask(rpc={"method": method, "data": params}))["data"]

    async def members(self, channel: str) -> set[str]:
        """Who is in the channel, by client id."""
        return set((await self.ask(presence={"channel": channel})).get("presence", {}))

    async def in_step(self) -> None:
        """Return when the server has answered something: what it sent before has been noted then."""
        with contextlib.suppress(Refused):
            await self.rpc("no.such.method")

    async def subscribe(self, channel: str, **options: Any) -> Subscription:
        """Subscribe, and again after each reconnect. Raises `Refused`."""
        subscription = Subscription(channel, **options)

        def begin(result: dict[str, Any]) -> None:
            subscription.accept(result)
            self.subscriptions[channel] = subscription

        await self.ask_soon(begin, subscribe={"channel": channel, **options})
        return subscription

    async def unsubscribe(self, channel: str) -> None:
        self.subscriptions.pop(channel, None)
        await self.ask(unsubscribe={"channel": channel})

    # --- the connection --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._task = asyncio.create_task(self._keep_up())
        await self.until(lambda: self.connected or self.refused)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._joining, return_exceptions=True)

    def cut(self) -> None:
        """End the connection without a word, as a dead battery does."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def cut_and_return(self) -> None:
        """Return when the client is back after a `cut`."""
        before = self.connects
        self.cut()
        await self.until(lambda: self.connects > before)

    async def _keep_up(self) -> None:
        pause, longest = RECONNECT
        while not self.refused:
            with contextlib.suppress(OSError, TimeoutError, InvalidHandshake, InvalidMessage):
                async with connect(
                    self.address, proxy=None, compression=None, ping_interval=None, close_timeout=1, open_timeout=5
                ) as socket:
                    before = self.connects
                    try:
                        await self._talk(socket)
                    finally:
                        self._end(socket)
                    if self.connects > before:
                        pause = RECONNECT[0]
            if not self.comes_back and self.closes:
                return
            if not self.refused:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, longest)

    async def _talk(self, socket: ClientConnection) -> None:
        self._socket = socket
        greeting = self.ask_soon(self._greeted, connect={"token": self.token})
        greeting.add_done_callback(self._not_greeted)
        with contextlib.suppress(ConnectionClosed):
            while True:
                for line in str(await socket.recv()).split("\n"):
                    if line == "{}":
                        await socket.send("{}")
                    elif line:
                        self._received(json.loads(line))
                self._tell()

    def _end(self, socket: ClientConnection) -> None:
        self._socket = None
        self.client = ""
        self.closes.append((socket.close_code or 1006, asyncio.get_running_loop().time()))
        for subscription in self.subscriptions.values():
            subscription.live = False
        replies, self._replies = self._replies, {}
        for reply, _ in replies.values():
            if not reply.done():
                reply.set_exception(Lost(f"closed with {socket.close_code}"))
                reply.exception()
        self._tell()

    def _greeted(self, result: dict[str, Any]) -> None:
        self.client, self.node, self.subs = result["client"], result["node"], result.get("subs", {})
        self.connects += 1
        for subscription in self.subscriptions.values():
            if not subscription.ended:
                self._later(self._resubscribe(subscription))

    def _not_greeted(self, greeting: asyncio.Future[dict[str, Any]]) -> None:
        if not greeting.cancelled() and isinstance(greeting.exception(), Refused) and self._socket is not None:
            self._later(self._socket.close())  # a temporary trouble: come back as an SDK does

    def _later(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._joining.add(task)
        task.add_done_callback(self._sent)

    async def _resubscribe(self, subscription: Subscription) -> None:
        connection = self.client
        pause, longest = RECONNECT
        while self.client == connection and not subscription.ended:
            position = {"recover": True, "offset": subscription.offset, "epoch": subscription.epoch}
            command = {"channel": subscription.channel, **subscription.options, **position}
            try:
                await self.ask_soon(subscription.accept, subscribe=command)
            except Refused as error:
                if not error.temporary:
                    subscription.ended = error.code
                    self._tell()
                    return
            except Lost:
                return
            else:
                self._tell()
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, longest)

    def _received(self, reply: dict[str, Any]) -> None:
        if push := reply.get("push"):
            self._pushed(push)
            return
        future, then = self._replies.pop(reply["id"])
        if error := reply.get("error"):
            if not future.done():
                future.set_exception(Refused(error))
                future.exception()  # seen, even when nobody waits any more
            return
        result: dict[str, Any] = next((value for key, value in reply.items() if key != "id"), {})
        then(result)
        if not future.done():
            future.set_result(result)

    def _pushed(self, push: dict[str, Any]) -> None:
        subscription = self.subscriptions.get(push.get("channel", ""))
        if subscription is None:
            return
        if "pub" in push:
            if subscription.live:  # else it is for the server's subscription, which this one has not taken over yet
                subscription.take(push["pub"])
        elif "join" in push:
            subscription.joins.append(push["join"]["info"])
        elif "leave" in push:
            subscription.leaves.append(push["leave"]["info"])
        elif "unsubscribe" in push:
            subscription.live = False
            code = push["unsubscribe"]["code"]
            if code < 2500:
                subscription.ended = code
            else:
                subscription.resubscribes += 1
                self._later(self._resubscribe(subscription))


@asynccontextmanager
async def raw_client(address: str, token: str, *, comes_back: bool = True) -> AsyncIterator[RawClient]:
    """A connected client, which leaves at the end."""
    client = RawClient(address, token, comes_back=comes_back)
    try:
        await client.open()
        yield client
    finally:
        await client.close()
