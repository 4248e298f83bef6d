"""What a class is told a few times a second, however much happens: reactions by count, votes by option, that somebody
waits. In no history, and lost on whoever is away: the next one says it all again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import structlog

from storage.database import DatabaseUnavailable
from storage.lms.classes import ClassStore, class_channel

PULSE = 0.25  # s between two pushes of a class, at least
TALLY = 1.0  # s between two counts of a poll's votes: each is a look at up to 10,000 rows

_log = structlog.get_logger(__name__)

Push = Callable[[str, bytes], None]
_encode = msgspec.json.Encoder().encode


class Crier:
    """`push(channel, data)` tells whoever listens, on every node."""

    def __init__(self, push: Push, store: ClassStore) -> None:
        self._push = push
        self._store = store
        self._reactions: dict[UUID, Counter[str]] = {}
        self._waiting: set[UUID] = set()
        self._voted: dict[tuple[UUID, UUID], int] = {}  # (class, poll) -> options
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._vote = asyncio.Event()

    def react(self, id: UUID, emoji: str) -> None:
        self._reactions.setdefault(id, Counter())[emoji] += 1
        self._wake.set()

    def waits(self, id: UUID) -> None:
        """Somebody came into the lobby."""
        self._waiting.add(id)
        self._wake.set()

    def voted(self, id: UUID, poll_id: UUID, options: int) -> None:
        self._voted[id, poll_id] = options
        self._vote.set()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(each) for each in (self._cry(), self._count())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cry(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            reactions, self._reactions = self._reactions, {}
            waiting, self._waiting = self._waiting, set()
            for id, counts in reactions.items():
                self._tell(id, {"type": "reactions", "counts": counts})
            for id in waiting:
                self._tell(id, {"type": "lobby"})
            await asyncio.sleep(PULSE)

    async def _count(self) -> None:
        while True:
            await self._vote.wait()
            self._vote.clear()
            voted, self._voted = self._voted, {}
            for (id, poll_id), options in voted.items():
                try:
                    counts = await self._store.tally(poll_id, options)
                    self._tell(id, {"type": "votes", "poll_id": str(poll_id), "counts": counts})
                except DatabaseUnavailable:
                    pass
                except Exception:  # whatever it is, the polls of others go on
                    _log.exception("votes.failed", poll=str(poll_id))
            await asyncio.sleep(TALLY)

    def _tell(self, id: UUID, what: dict[str, Any]) -> None:
        self._push(class_channel(id), _encode(what))
