"""Where students are in videos: the truth is the latest of what this node, Redis and PostgreSQL know, and the furthest.

A player says so every few seconds. That is noted here, then in Redis, where every node sees it, and within two seconds
in PostgreSQL, many in one statement. So each of them may go, as with read cursors (`services/cursors.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog

from presence import Away, RedisPlaces
from storage.database import DatabaseUnavailable
from storage.lms.progress import MAX_TOGETHER, Opened, Place, ProgressStore

FLUSH_PERIOD = 2.0  # s between two writings to PostgreSQL
STOP_SECONDS = 5.0
RETRY_PERIOD = 0.2  # s between two attempts to write at a stop
MAX_UNSAVED = 100_000  # places that PostgreSQL has not got yet; about 40 MB

_EPOCH = datetime.fromtimestamp(0, UTC)
_log = structlog.get_logger(__name__)

Key = tuple[UUID, UUID, UUID]
"""User, course, lesson."""


class TooMany(Exception):
    """PostgreSQL has been away for too long: there is no room for more places."""


class Places:
    def __init__(self, store: ProgressStore, redis: RedisPlaces) -> None:
        self._store = store
        self._redis = redis
        self._unsaved: dict[Key, Place] = {}
        self._task: asyncio.Task[None] | None = None

    async def move(self, key: Key, position: int) -> None:
        """Somebody is there now; `position` in seconds. Raises `TooMany`."""
        place = self._note(key, Place(position, position, int(time.time() * 1000)))
        user, course, lesson = map(str, key)
        try:
            await self._redis.move([(user, course, lesson, place.position, place.furthest, place.at)])
        except Away:
            pass  # PostgreSQL will have it

    async def overlaid(self, course_id: UUID, user_id: UUID, stored: list[Opened]) -> dict[UUID, Place]:
        """Where somebody is in the lessons of which PostgreSQL has `stored`."""
        found = {
            each.lesson_id: Place(each.position, each.furthest, milliseconds(each.seen_at))
            for each in stored
            if each.seen_at is not None
        }
        try:
            ahead = await self._redis.of_user(str(user_id))
        except Away:
            ahead = []
        lessons = {each.lesson_id for each in stored}
        for _, course, lesson, position, furthest, at in ahead:
            if course != str(course_id) or (lesson_id := UUID(lesson)) not in lessons:
                continue
            before, place = found.get(lesson_id), Place(position, furthest, at)
            if before is None or before.at < at or before.furthest < furthest:
                found[lesson_id] = latest(before, place)
                self._heal((user_id, course_id, lesson_id), place)
        for lesson_id in lessons:
            here = self._unsaved.get((user_id, course_id, lesson_id))
            if here is not None:
                found[lesson_id] = latest(found.get(lesson_id), here)
        return found

    def _heal(self, key: Key, place: Place) -> None:
        """Redis has what PostgreSQL has not: whoever noted it may have died. Written with the next ones."""
        try:
            self._note(key, place)
        except TooMany:
            pass

    def _note(self, key: Key, place: Place) -> Place:
        before = self._unsaved.get(key)
        if before is None and len(self._unsaved) >= MAX_UNSAVED:
            raise TooMany
        self._unsaved[key] = place = latest(before, place)
        return place

    # --- writing -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep_saving(), name="places to postgresql")

    async def stop(self) -> None:
        """Write what is left, for five seconds at most: what then remains is in Redis."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while True:
                    if await self.save():
                        return
                    await asyncio.sleep(RETRY_PERIOD)
        except TimeoutError:
            _log.warning("places.unsaved", places=len(self._unsaved))

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_PERIOD)
            try:
                await self.save()
            except Exception:
                _log.exception("places.save_failed")

    async def save(self) -> bool:
        """Write to PostgreSQL what it has not got. False: not all of it, because it is away."""
        pending = self._pending()
        while batch := list(islice(pending, MAX_TOGETHER)):
            try:
                await self._store.move([(*key, place, _moment(place.at)) for key, place in batch])
            except DatabaseUnavailable:
                return False
            for key, place in batch:
                if self._unsaved.get(key) is place:  # else it moved on meanwhile
                    del self._unsaved[key]
        return True

    def _pending(self) -> Iterator[tuple[Key, Place]]:
        for key in sorted(self._unsaved):
            yield key, self._unsaved[key]


def latest(one: Place | None, other: Place) -> Place:
    """The position of the later, and the furthest of both."""
    if one is None:
        return other
    later = other if other.at >= one.at else one
    return Place(later.position, max(one.furthest, other.furthest), later.at)


def milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
