"""One connection to Redis that many callers share, without a task or a timer for each."""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections import deque
from collections.abc import Sequence
from typing import Any

from presence.link import BATCH, Away, Command, Link

TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 1.0  # in which a Redis that failed is not asked again
MAX_WAITING = 20_000  # commands; about 10 MB


class Pipe:
    """What callers ask in one turn of the loop, or while a round trip is under way, travels together in the next.

    After a failure everybody is told so at once for a second: nobody waits for a Redis that is away.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT_SECONDS) -> None:
        self._link = Link(url, timeout)
        self._waiting: deque[tuple[Sequence[Command], Future[list[Any]]]] = deque()
        self._size = 0  # commands that wait
        self._task: Task[None] | None = None
        self._trouble = ""
        self._away_until = 0.0

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order. Raises `Away`, also for a key of another type than ours."""
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            raise Away(self._trouble)
        if self._size + len(commands) > MAX_WAITING:
            raise Away("too much is asked at once")
        waiter: Future[list[Any]] = loop.create_future()
        self._waiting.append((commands, waiter))
        self._size += len(commands)
        if self._task is None:
            self._task = loop.create_task(self._work(), name="redis pipe")
        replies = await waiter
        for reply in replies:
            if isinstance(reply, Exception):
                raise Away(str(reply))
        return replies

    async def close(self) -> None:
        self._fail("closed", float("inf"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._link.close()

    async def _work(self) -> None:
        try:
            await asyncio.sleep(0)  # those of the same turn come along
            while self._waiting:
                await self._round_trip()
        finally:
            self._task = None

    async def _round_trip(self) -> None:
        commands: list[Command] = []
        callers: list[tuple[int, Future[list[Any]]]] = []
        while self._waiting and len(commands) < BATCH:
            asked, waiter = self._waiting.popleft()
            self._size -= len(asked)
            if not waiter.done():
                commands += asked
                callers.append((len(asked), waiter))
        try:
            replies = await self._link.run(commands)
        except Away as away:
            for _, waiter in callers:
                _refuse(waiter, str(away))
            self._fail(str(away), asyncio.get_running_loop().time() + PAUSE_SECONDS)
            return
        except asyncio.CancelledError:
            for _, waiter in callers:
                _refuse(waiter, "closed")
            raise
        start = 0
        for size, waiter in callers:
            if not waiter.done():
                waiter.set_result(replies[start : start + size])
            start += size

    def _fail(self, reason: str, until: float) -> None:
        self._trouble = reason
        self._away_until = until
        for _, waiter in self._waiting:
            _refuse(waiter, reason)
        self._waiting.clear()
        self._size = 0


def _refuse(waiter: Future[list[Any]], reason: str) -> None:
    if not waiter.done():
        waiter.set_exception(Away(reason))
