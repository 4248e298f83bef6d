"""People of the chat: accounts with names, their devices on both nodes, RPC and HTTP in their name.

    async with people(server, "Ann", "Ben") as (ann, ben):     # Ann on node 0, Ben on node 1
        room = await ann.rpc("room.create", title="Algebra", members=[ben.id])
        line = await ben.hears(f"room:{room['id']}", event="member_added")
        answer = await ann.http("GET", f"/v1/rooms/{room['id']}")

Every device is subscribed to its rooms by the server; what it is told there is in `device.heard(channel)`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from loadtest.server import Server
from tests.invariants.rawclient import PATIENCE, RawClient, Refused, Subscription


class Device(RawClient):
    """A client that also notes what comes through the subscriptions that the server made."""

    def __init__(self, address: str, token: str, *, comes_back: bool = True) -> None:
        super().__init__(address, token, comes_back=comes_back)
        self.given: dict[str, Subscription] = {}  # by the server

    def heard(self, channel: str) -> list[Any]:
        """The data of what came in a channel, oldest first."""
        return [publication["data"] for publication in self.publications(channel)]

    def publications(self, channel: str) -> list[dict[str, Any]]:
        """What came in a channel: through the client's own subscription where there is one, else the server's."""
        subscription = self.subscriptions.get(channel) or self.given.get(channel)
        return subscription.publications if subscription else []

    async def hears(
        self,
        channel: str,
        /,
        holds: Callable[[Any], bool] = lambda data: True,
        seconds: float = PATIENCE,
        **fields: Any,
    ) -> Any:
        """The first data in a channel with these fields for which `holds` is true, when it is there.

        Raises TimeoutError.
        """

        def matches(data: Any) -> bool:
            return all(data.get(name) == value for name, value in fields.items()) and holds(data)

        await self.until(lambda: any(matches(data) for data in self.heard(channel)), seconds)
        return next(data for data in self.heard(channel) if matches(data))

    async def is_in(self, channel: str, seconds: float = PATIENCE) -> Subscription:
        """The server's subscription to a channel, when there is one. Raises TimeoutError."""
        await self.until(lambda: channel in self.given and self.given[channel].live, seconds)
        return self.given[channel]

    async def is_out(self, channel: str, seconds: float = PATIENCE) -> None:
        """Return when no subscription to the channel is live any more. Raises TimeoutError."""
        both = self.given, self.subscriptions
        await self.until(lambda: not any(channel in each and each[channel].live for each in both), seconds)

    def _greeted(self, result: dict[str, Any]) -> None:
        super()._greeted(result)
        self.given = {}
        for channel, reply in self.subs.items():
            self._give(channel, reply)

    def _give(self, channel: str, reply: dict[str, Any]) -> None:
        self.given[channel] = subscription = Subscription(channel)
        subscription.accept({**reply, "publications": []})
        for publication in reply.get("publications", ()):  # since the user came into the room
            subscription.publications.append(publication)

    def _end(self, *args: Any) -> None:
        for subscription in self.given.values():
            subscription.live = False
        super()._end(*args)

    def _pushed(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if "subscribe" in push:
            self._give(channel, push["subscribe"])
            return
        if channel in self.subscriptions or channel not in self.given:
            super()._pushed(push)
            return
        subscription = self.given[channel]
        if "pub" in push:
            subscription.take(push["pub"])
        elif "join" in push:
            subscription.joins.append(push["join"]["info"])
        elif "leave" in push:
            subscription.leaves.append(push["leave"]["info"])
        elif "unsubscribe" in push:
            subscription.live = False
            subscription.ended = push["unsubscribe"]["code"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What HTTP said. `body` is decoded JSON, `None` where there is no body or another type."""

    status: int
    headers: httpx.Headers
    content: bytes
    body: Any = None

    @property
    def pointers(self) -> list[str]:
        """The JSON pointers of a refusal."""
        return [each.get("pointer", each.get("parameter")) for each in self.body.get("errors", [])]


@dataclass
class Person:
    """Somebody with an account, and a device on `node`."""

    server: Server
    id: str
    name: str
    node: int
    token: str
    device: Device
    _http: httpx.AsyncClient
    _more: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def channel(self) -> str:
        """The personal one."""
        return f"user:{self.id}"

    async def rpc(self, method: str, **params: Any) -> Any:
        """Raises `Refused` (with `code`)."""
        return await self.device.rpc(method, **params)

    async def refusal(self, method: str, **params: Any) -> int:
        """The code of the error that an RPC must answer with."""
        with pytest.raises(Refused) as refused:
            await self.device.rpc(method, **params)
        return refused.value.code

    async def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        node: int | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """A request with this person's access token to their node, or another. `content` is sent as it is."""
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        url = self.server.url(path, self.node if node is None else node)
        response = await self._http.request(method, url, headers=sent, content=content)
        is_json = response.content and "json" in response.headers.get("content-type", "")
        return Answer(
            response.status_code, response.headers, response.content, json.loads(response.content) if is_json else None
        )

    async def say(self, room_id: str, content: str, **more: Any) -> None:
        """Publish into a room, over the WebSocket. Raises `Refused`."""
        message = {"id": str(uuid.uuid4()), "type": "text", "content": content, **more}
        await self.device.publish(f"room:{room_id}", message)

    async def subscribe(self, room_id: str) -> Subscription:
        """By the client itself. Raises `Refused`."""
        return await self.device.subscribe(f"room:{room_id}")

    async def hears(
        self,
        room_id: str,
        /,
        holds: Callable[[Any], bool] = lambda data: True,
        seconds: float = PATIENCE,
        **fields: Any,
    ) -> Any:
        """What came in a room with these fields, when it is there; `room_id` may also be a channel's name."""
        channel = room_id if ":" in room_id else f"room:{room_id}"
        return await self.device.hears(channel, holds, seconds, **fields)

    async def another_device(self, node: int | None = None) -> Device:
        """One more connection of this person; it leaves with them."""
        device = Device(self.server.websocket(self.node if node is None else node), self.token)
        self._more.push_async_callback(device.close)
        await device.open()
        return device


async def register(server: Server, name: str, http: httpx.AsyncClient) -> str:
    """Make an account and return its id."""
    account = {"email": f"{secrets.token_hex(8)}@example.org", "password": secrets.token_hex(8), "name": name}
    response = await http.post(server.url("/v1/auth/register"), json=account)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


@asynccontextmanager
async def people(server: Server, *names: str, nodes: tuple[int, ...] = ()) -> AsyncIterator[list[Person]]:
    """New people with these names, each with a device: the first on node 0, the next on node 1, and so on in turn,
    or on the `nodes` given."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE))
        made: list[Person] = []
        ids = await asyncio.gather(*(register(server, name, http) for name in names))
        for place, (name, id) in enumerate(zip(names, ids, strict=True)):
            node = nodes[place] if nodes else place % server.nodes
            token = server.token(id, info={"name": name})
            device = Device(server.websocket(node), token)
            stack.push_async_callback(device.close)
            await device.open()
            person = Person(server, id, name, node, token, device, http)
            stack.push_async_callback(person._more.aclose)
            made.append(person)
        yield made
