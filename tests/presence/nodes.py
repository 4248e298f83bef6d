"""Nodes for the tests of presence: a roster in memory and a store beside it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Raw
from redis.asyncio import Redis

from presence import RedisPresence
from presence.link import Link
from realtime.interfaces import PresenceUnavailable
from realtime.protocol import ClientInfo

LEASE = 1.0


class Node:
    """What the hub is to the store: it holds the connections, and tells each change."""

    def __init__(self, url: str, **options: Any) -> None:
        self.name = secrets.token_hex(4)
        self.members: dict[str, dict[str, ClientInfo]] = {}
        self.users: dict[str, str] = {}  # by client
        self.left: list[tuple[str, str]] = []  # what `on_leave` announced
        self._numbers = itertools.count(1)
        self.store = RedisPresence(url, self.name, self, self._on_leave, **({"lease": LEASE} | options))

    def _on_leave(self, channel: str, info: ClientInfo) -> None:
        self.left.append((channel, info.client))

    def present(self) -> Iterator[tuple[str, ClientInfo]]:
        for channel, members in self.members.items():
            for info in members.values():
                yield channel, info

    def online(self) -> Iterator[tuple[str, str]]:
        for client, user in self.users.items():
            yield user, client

    def connect(self, user: str) -> str:
        client = f"{self.name}.{next(self._numbers):x}"
        self.users[client] = user
        self.store.connected(user, client)
        return client

    def disconnect(self, client: str) -> None:
        for channel in [channel for channel, members in self.members.items() if client in members]:
            self.leave(channel, client)
        self.store.disconnected(self.users.pop(client), client)

    def join(self, channel: str, client: str, info: bytes = b"") -> None:
        present = ClientInfo(self.users[client], client, Raw(info))
        self.members.setdefault(channel, {})[client] = present
        self.store.join(channel, present)

    def leave(self, channel: str, client: str) -> None:
        self.store.leave(channel, self.members[channel].pop(client))

    def enter(self, user: str, channel: str) -> str:
        """Connect and join."""
        client = self.connect(user)
        self.join(channel, client)
        return client

    async def die(self) -> None:
        """As at kill -9: nothing is said to anyone."""
        await self.store._end_tasks()
        for link in (self.store._writing, self.store._reading, self.store._reaping):
            await link.close()


@asynccontextmanager
async def node(url: str, **options: Any) -> AsyncIterator[Node]:
    made = Node(url, **options)
    await made.store.start()
    try:
        yield made
    finally:
        await made.store.stop()


async def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    """Wait for a condition, which may be a coroutine function."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return
            await asyncio.sleep(0.01)


async def clients(node: Node, channel: str) -> set[str]:
    return {info.client for info in await node.store.members(channel)}


async def known(*nodes: Node) -> None:
    await until(lambda: all(each.store.available for each in nodes))


def shows(observer: Node, channel: str, wanted: set[str]) -> Callable[[], Any]:
    async def look() -> bool:
        try:
            return await clients(observer, channel) == wanted
        except PresenceUnavailable:
            return False

    return look


async def only(redis: Redis, pattern: str, wanted: set[str]) -> bool:
    """Whether just these keys fit the pattern; braces stand for themselves."""
    return set(await redis.keys(pattern.replace("{", "\\{"))) == wanted


class Gate:
    """Stands in a link's way: `shut` makes its next batch wait (as in a process that is stopped)."""

    def __init__(self, link: Link) -> None:
        self._run = link.run
        self._open = asyncio.Event()
        self._open.set()
        self.waiting = False
        self.passes = 0  # batches let through although shut
        link.run = self._pass  # type: ignore[method-assign]

    async def _pass(self, commands: Any) -> list[Any]:
        if self.passes:
            self.passes -= 1
        elif not self._open.is_set():
            self.waiting = True
            await self._open.wait()
            self.waiting = False
        return await self._run(commands)

    def shut(self, after: int = 0) -> None:
        self.passes = after
        self._open.clear()

    def open(self) -> None:
        self._open.set()


def connect(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True, protocol=3)
