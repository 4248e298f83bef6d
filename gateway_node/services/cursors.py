"""How far people have read: the truth is the highest of what this node, Redis and PostgreSQL know.

A move is noted here, then in Redis, where every node sees it, and within two seconds in PostgreSQL. So each of them may
go: without Redis the node remembers until PostgreSQL has it, and what a killed node had not written yet is in Redis,
from where the next node that reads it writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from uuid import UUID

import structlog

from presence import Away, RedisCursors
from storage.database import DatabaseUnavailable
from storage.reading import MAX_TOGETHER, ReadingStore

FLUSH_PERIOD = 2.0  # s between two writings to PostgreSQL
TELL_PERIOD = 0.05  # s between two tellings of Redis: who writes quickly moves their cursor once, not at each message
STOP_SECONDS = 5.0
RETRY_PERIOD = 0.2  # s between two attempts to write at a stop
MAX_UNSAVED = 100_000  # cursors that PostgreSQL has not got yet; about 25 MB

_log = structlog.get_logger(__name__)


class TooMany(Exception):
    """PostgreSQL has been away for too long: there is no room for more cursors."""


class Cursors:
    """Rooms and users are their ids as text, in the canonical form.

    `saved(moves)` is called when PostgreSQL has these cursors (room, user, offset).
    """

    def __init__(
        self,
        store: ReadingStore,
        redis: RedisCursors,
        saved: Callable[[Sequence[tuple[str, str, int]]], None] = lambda moves: None,
    ) -> None:
        self._store = store
        self._redis = redis
        self._saved = saved
        self._unsaved: dict[str, dict[str, int]] = {}  # user -> room -> offset
        self._size = 0
        self._untold: dict[tuple[str, str], int] = {}  # (room, user) -> offset, for Redis
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- moving ------------------------------------------------------------------------------------------------

    def here(self, room: str, user: str) -> int:
        """What this node knows that PostgreSQL does not yet; 0: nothing."""
        return self._unsaved.get(user, {}).get(room, 0)

    async def move(self, room: str, user: str, offset: int) -> bool:
        """Move a cursor forward; false: it was there or beyond. Afterwards every node knows, where Redis is there.

        Raises `TooMany`.
        """
        if not self._note(room, user, offset):
            return False
        try:
            return (await self._redis.move([(room, user, offset)]))[0]
        except Away:
            return True

    def wrote(self, room: str, user: str, offset: int) -> None:
        """Who writes has read up to their own message. Nobody waits for it."""
        with suppress(TooMany):
            if self._note(room, user, offset):
                self._untold[room, user] = offset
                self._wake.set()

    def _note(self, room: str, user: str, offset: int) -> bool:
        rooms = self._unsaved.get(user)
        if rooms is None or room not in rooms:
            if self._size >= MAX_UNSAVED:
                raise TooMany
            self._size += 1
            if rooms is None:
                rooms = self._unsaved[user] = {}
        if rooms.get(room, -1) >= offset:
            return False
        rooms[room] = offset
        return True

    # --- asking ------------------------------------------------------------------------------------------------

    async def of_user(self, user: str) -> dict[str, int]:
        """Cursors of a user, by room, that may be ahead of PostgreSQL's."""
        try:
            found = await self._redis.of_user(user)
        except Away:
            found = {}
        for room, offset in self._unsaved.get(user, {}).items():
            found[room] = max(offset, found.get(room, 0))
        return found

    async def of_members(self, room: str, users: Sequence[str]) -> dict[str, int]:
        """Cursors of some users in a room that may be ahead of PostgreSQL's."""
        try:
            found = await self._redis.of_members(room, users)
        except Away:
            found = {}
        return {user: offset for user in users if (offset := max(found.get(user, 0), self.here(room, user)))}

    def found(self, room: str, user: str, offset: int) -> None:
        """Redis has what PostgreSQL has not: whoever noted it may have died. Written with the next ones."""
        with suppress(TooMany):
            self._note(room, user, offset)

    # --- writing -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep_saving(), name="cursors to postgresql"),
            asyncio.create_task(self._keep_telling(), name="cursors to redis"),
        ]

    async def stop(self) -> None:
        """Write what is left, for five seconds at most: what then remains is in Redis."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._tell()
                while True:
                    if await self.save():
                        return
                    await asyncio.sleep(RETRY_PERIOD)
        except TimeoutError:
            _log.warning("cursors.unsaved", cursors=self._size)

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_PERIOD)
            try:
                await self.save()
            except Exception:
                _log.exception("cursors.save_failed")

    async def save(self) -> bool:
        """Write to PostgreSQL what it has not got. False: not all of it, because it is away."""
        pending = self._pending()
        while batch := list(islice(pending, MAX_TOGETHER)):
            try:
                await self._store.move([(UUID(room), UUID(user), offset) for room, user, offset in batch])
            except DatabaseUnavailable:
                return False
            for each in batch:
                self._forget(*each)
            self._saved(batch)
        return True

    def _pending(self) -> Iterator[tuple[str, str, int]]:
        for user in list(self._unsaved):
            for room, offset in list(self._unsaved.get(user, {}).items()):
                yield room, user, offset

    def _forget(self, room: str, user: str, offset: int) -> None:
        """PostgreSQL has it, unless it moved on meanwhile."""
        rooms = self._unsaved[user]
        if rooms[room] == offset:
            del rooms[room]
            self._size -= 1
            if not rooms:
                del self._unsaved[user]

    async def _keep_telling(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._tell()
            await asyncio.sleep(TELL_PERIOD)

    async def _tell(self) -> None:
        moves, self._untold = self._untold, {}
        rest = iter(moves.items())
        while batch := list(islice(rest, MAX_TOGETHER)):
            try:
                await self._redis.move([(room, user, offset) for (room, user), offset in batch])
            except Away:
                return  # PostgreSQL will have it
