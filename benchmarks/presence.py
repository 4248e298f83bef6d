"""Presence alone: what one more connection costs the node and Valkey, in memory and in CPU time.

19,000 users, one connection and one channel each, on one node: all in one room, 30 a room, a room each. *In* is connect
and join, *out* is leave and disconnect; *again* is being told everything after a FLUSHALL, rate-limited.

    python -m benchmarks.presence
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path

import uvloop
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.measure import cpu_seconds
from config.embedded import EmbeddedStack
from presence import RedisPresence
from realtime.protocol import ClientInfo

CONNECTIONS = 19_000
NODE = "5f0c21aa"
AT_ONCE = 500  # changes between two turns of the loop


class Node:
    """The roster: what the hub would hold."""

    def __init__(self, per_room: int) -> None:
        users = [str(uuid.uuid4()) for _ in range(CONNECTIONS)]
        rooms = [f"room:{uuid.uuid4()}" for _ in range(CONNECTIONS // per_room + 1)]
        self.all = [(rooms[n // per_room], ClientInfo(user, f"{NODE}.{n:x}")) for n, user in enumerate(users)]
        self.here: list[tuple[str, ClientInfo]] = []

    def present(self) -> Iterator[tuple[str, ClientInfo]]:
        yield from self.here

    def online(self) -> Iterator[tuple[str, str]]:
        for _, info in self.here:
            yield info.user, info.client


async def measure(url: str, server: int) -> None:
    console = Console()
    table = Table("", "in us", "Valkey us", "out us", "Valkey us", "again s", "bytes here", "bytes in Valkey", "all ms")
    async with Redis.from_url(url, protocol=3) as redis:
        for label, per_room in (("one room", CONNECTIONS), ("30 a room", 30), ("a room each", 1)):
            table.add_row(label, *await _one(url, server, redis, Node(per_room)))
    console.print(table)


async def _one(url: str, server: int, redis: Redis, node: Node) -> list[str]:
    store = RedisPresence(url, NODE, node, lambda *_: None)
    await store.start()
    filled = (await redis.info("memory"))["used_memory"]
    entering = await _timed(store, server, node, entering=True)
    filled = (await redis.info("memory"))["used_memory"] - filled
    channel = node.all[0][0]
    began = time.perf_counter()
    await store.members(channel)
    asked = time.perf_counter() - began
    began = time.perf_counter()
    await redis.flushall()
    while store.available:
        await asyncio.sleep(0.01)
    while not store.available:
        await asyncio.sleep(0.01)
    again = time.perf_counter() - began
    leaving = await _timed(store, server, node, entering=False)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await _timed(store, server, node, entering=True)
    await asyncio.sleep(0)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    await store.stop()
    return [
        *(f"{spent:.1f}" for spent in (*entering, *leaving)),
        f"{again:.1f}",
        f"{held / CONNECTIONS:.0f}",
        f"{filled / CONNECTIONS:.0f}",
        f"{asked * 1e3:.1f}",
    ]


async def _timed(store: RedisPresence, server: int, node: Node, *, entering: bool) -> tuple[float, float]:
    """CPU microseconds a connection: the node's and Valkey's."""
    here, there = cpu_seconds(os.getpid()), cpu_seconds(server)
    for number, (channel, info) in enumerate(node.all):
        if entering:
            store.connected(info.user, info.client)
            store.join(channel, info)
        else:
            store.leave(channel, info)
            store.disconnected(info.user, info.client)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    node.here = node.all if entering else []
    await store.members("")  # returns when all is written
    return (
        (cpu_seconds(os.getpid()) - here) / CONNECTIONS * 1e6,
        (cpu_seconds(server) - there) / CONNECTIONS * 1e6,
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cw-", dir="/tmp") as name:
        stack = EmbeddedStack(Path(name) / "data", postgres=False, nats=False)
        stack.start()
        try:
            uvloop.run(measure(str(stack.urls.redis), stack.pids["valkey"]))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
