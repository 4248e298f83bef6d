"""Background work that every node can do and that has to be done once.

Each node looks at random times, the less often the more nodes there are, so that many of them with nothing to do ask
PostgreSQL little more than one would. Which of them finds the work does it; the work sees to it that two who find it do
it once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from realtime import codes
from storage.database import DatabaseUnavailable

SHARED_BY = 8  # nodes, at most, that are counted on: with other roles, a node may be the only one that works

_log = structlog.get_logger(__name__)


class Shifts:
    """`nodes`: how many there are, as far as this one knows."""

    def __init__(self, nodes: Callable[[], int] = lambda: 1) -> None:
        self._nodes = nodes
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do the work that often, among all nodes. What fails is tried again the next time."""
        self._tasks.append(asyncio.create_task(self._go_on(seconds, work)))

    async def stop(self) -> None:
        """End what is under way; it rolls back."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    async def _go_on(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.current_task()
        # Looked at, because a cancellation that meets an answer in one turn is lost in wait_for of Python 3.11.
        while task is None or not task.cancelling():
            await asyncio.sleep(seconds * min(self._nodes(), SHARED_BY) * random.uniform(0.5, 1.5))
            try:
                await work()
            except (DatabaseUnavailable, codes.CommandError):
                pass  # PostgreSQL or the log is away
            except Exception:
                _log.exception("work.failed", work=getattr(work, "__qualname__", str(work)))
