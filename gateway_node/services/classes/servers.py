"""The media servers of an installation, and on which of them each class is.

With one server there is nothing to ask. Of several, the node that needs a class first places it, in Redis, where all
nodes find it, on the one with the fewest classes. It stays there until it is over, or until its server has been away
for `PATIENCE`: then it is placed anew, and its pages begin again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from gateway_node.services.classes.janus import JanusAway, JanusClient
from presence import Away, Condition, RedisMediaRooms

PATIENCE = 3.0  # s: a supervisor starts a Janus that died again in less, and a class that moves is interrupted
KEEP = 60.0  # s between two looks at where one's classes are: a fifth of the time that Redis keeps them


class MediaServers:
    """`clients` by name, the same on every node. `on_moved(class, here)`: a class is on another server than this node
    had it; `here`: this node has moved it, and tells everybody. `goes_on(class)`: whether this node still has it."""

    def __init__(self, clients: Mapping[str, JanusClient], rooms: RedisMediaRooms | None = None) -> None:
        assert rooms is not None or len(clients) == 1, "who of several has a class is in Redis"
        self._clients = clients
        self._rooms = rooms if len(clients) > 1 else None
        self._places: dict[UUID, str] = {}  # as far as this node knows
        self._tasks: set[asyncio.Task[Any]] = set()
        self.on_moved: Callable[[UUID, bool], None] = lambda id, here: None
        self.goes_on: Callable[[UUID], bool] = lambda id: True

    @property
    def clients(self) -> list[JanusClient]:
        return list(self._clients.values())

    def start(self) -> None:
        for client in self.clients:
            client.start()
        if self._rooms is not None:
            self._spawn(self._keep())

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(client.stop() for client in self.clients))

    async def of(self, id: UUID) -> JanusClient:
        """The server of a class. Raises `JanusAway` where none is up, or nobody knows."""
        name = await self._place(id) if self._rooms is not None else next(iter(self._clients))
        if name not in self._clients:
            raise JanusAway("no media server is up")
        return self._clients[name]

    def has(self, client: JanusClient, id: UUID) -> bool:
        """Whether a class is on that server, as far as this node knows."""
        return self._rooms is None or self._clients.get(self._places.get(id, "")) is client

    async def forget(self, id: UUID) -> None:
        """A class is over."""
        self._places.pop(id, None)
        if self._rooms is not None:
            try:
                await self._rooms.release(str(id), self._conditions())
            except Away:
                pass  # its time to live ends it

    def lost(self, client: JanusClient) -> None:
        """The connection to a server is gone: its classes are placed anew unless it is back soon."""
        if self._rooms is not None:
            self._spawn(self._replace(client))

    async def _replace(self, client: JanusClient) -> None:
        await asyncio.sleep(PATIENCE)
        while not client.connected and (ids := [id for id in self._places if self.has(client, id)]):
            await self._look_again(ids)
            await asyncio.sleep(PATIENCE)  # all of them were down, or Redis

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP)
            await self._look_again(list(self._places))

    async def _look_again(self, ids: list[UUID]) -> None:
        for id in ids:
            if not self.goes_on(id):
                self._places.pop(id, None)
                continue
            try:
                await self._place(id)
            except JanusAway:
                return

    async def _place(self, id: UUID) -> str:
        assert self._rooms is not None
        before = self._places.get(id, "")
        try:
            name, moved = await self._rooms.place(str(id), self._conditions(), before)
        except Away as away:
            if before:
                return before
            raise JanusAway(str(away)) from None
        if name:
            self._places[id] = name
        if moved or before not in ("", name):
            self.on_moved(id, moved)
        return name

    def _conditions(self) -> dict[str, Condition]:
        return {name: _condition(client) for name, client in self._clients.items()}

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _condition(client: JanusClient) -> Condition:
    if client.connected:
        return "up"
    return "late" if client.away < PATIENCE else "down"
