"""The broker alone: what a subscription weighs and what a message costs, beside nats-py's own in the same run.

Memory: Python's allocations and the NATS server's PSS, for each of 19,000 exact subjects. Messages: 300 bytes,
published by one connection and received by another in the same process; the time is this process's CPU for both ends.

    python -m benchmarks.broker
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import nats
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.measure import cpu_seconds, proportional_memory
from config.embedded import EmbeddedStack
from gateway_node.broker import NatsBroker, subject_of

SUBSCRIPTIONS = 38_000  # half of them weighed, half of them timed
TOGETHER = 500  # subscribe calls of one tick
MESSAGES = 50_000
PAYLOAD = b"y" * 300
ROUNDS = 3


class Count:
    """Waits for a number of messages."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.left = 0

    def expect(self, number: int) -> None:
        self.left = number
        self.done.clear()

    def one(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set()

    async def one_later(self, _: Any) -> None:
        self.one()


async def weigh(subscribe: Callable[[str], Awaitable[Any]], channels: list[str], server: int) -> tuple[float, ...]:
    """Bytes here and at the server for a subscription, and subscriptions a second."""
    half = len(channels) // 2
    gc.collect()
    tracemalloc.start()
    before, before_server = tracemalloc.get_traced_memory()[0], proportional_memory(server)
    await _all(subscribe, channels[:half])
    subject_of.cache_clear()  # 4,096 names at most, however many subscriptions
    gc.collect()
    here = (tracemalloc.get_traced_memory()[0] - before) / half
    there = (proportional_memory(server) - before_server) / half
    tracemalloc.stop()
    began = time.perf_counter()
    await _all(subscribe, channels[half:])
    return here, there, half / (time.perf_counter() - began)


async def _all(subscribe: Callable[[str], Awaitable[Any]], channels: list[str]) -> None:
    for start in range(0, len(channels), TOGETHER):
        await asyncio.gather(*(subscribe(channel) for channel in channels[start : start + TOGETHER]))


async def carry(publish: Callable[[str], Any], channels: list[str], count: Count) -> tuple[float, float]:
    """CPU microseconds a message, and messages a second."""
    count.expect(MESSAGES)
    spent, began = cpu_seconds(os.getpid()), time.perf_counter()
    for number in range(MESSAGES):
        result = publish(channels[number % 1000])
        if result is not None:
            await result
        if number % TOGETHER == 0:
            await asyncio.sleep(0)
    await count.done.wait()
    return (cpu_seconds(os.getpid()) - spent) / MESSAGES * 1e6, MESSAGES / (time.perf_counter() - began)


async def measure(url: str, server: int) -> None:
    table = Table("", "bytes/subscription", "of the server", "subscriptions/s", "us/message", "messages/s")
    names = [f"room:{number:036x}" for number in range(SUBSCRIPTIONS)]

    count = Count()
    here = NatsBroker(url, count.one, lambda _: None, linger=3600)
    there = NatsBroker(url, lambda *_: None, lambda _: None)
    await here.start()
    await there.start()
    weights = await weigh(here.subscribe, names, server)
    speeds = [await carry(lambda channel: there.publish(channel, PAYLOAD), names, count) for _ in range(ROUNDS)]
    table.add_row("NatsBroker", *_row(weights, min(speeds)))
    await here.close()
    await there.close()

    receiver, sender = await nats.connect(url, no_echo=True), await nats.connect(url)
    subjects = [f"cw.ch.{name}" for name in names]

    async def subscribe(subject: str) -> None:
        await receiver.subscribe(subject, cb=count.one_later)

    weights = await weigh(subscribe, subjects, server)
    await receiver.flush()
    speeds = [await carry(lambda subject: sender.publish(subject, PAYLOAD), subjects, count) for _ in range(ROUNDS)]
    row = _row(weights, min(speeds))
    row[1] = ""  # the server reuses what the first round left
    table.add_row("nats-py", *row)
    await receiver.close()
    await sender.close()
    Console().print(table)


def _row(weights: tuple[float, ...], speed: tuple[float, float]) -> list[str]:
    return [f"{weights[0]:,.0f}", f"{weights[1]:,.0f}", f"{weights[2]:,.0f}", f"{speed[0]:.1f}", f"{speed[1]:,.0f}"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cw-", dir="/tmp") as name:
        stack = EmbeddedStack(Path(name) / "data", postgres=False, valkey=False)
        stack.start()
        try:
            uvloop.run(measure(str(stack.urls.nats), stack.pids["nats"]))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
