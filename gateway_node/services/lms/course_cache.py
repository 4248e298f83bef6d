"""Courses in Redis, as `course:{id}`, so that a thousand readers are one question to PostgreSQL.

- One flight: of those on a node who want a course that is not there, one asks.
- Stale while revalidate: what is older than `FRESH` is given at once and read again meanwhile.
- Whoever has asked who may see it knows the present version: then no old course is given, whatever Redis says, and one
  that this node remembers is given without asking Redis.
- Whoever changes a course puts a mark in its place for as long as a statement may take. A reader that began before the
  change then cannot put back what it has read: it writes only where there is nothing.

Redis may be away at any time: then PostgreSQL answers.
"""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.lms.courses import Course, CourseStore

TTL = 3600  # s
FRESH = 300.0  # s
MARK = 10  # s: longer than a statement and its way to Redis; until then a changed course is read from PostgreSQL
NEAR = 256  # courses that a node remembers; one of 30 lessons takes 13 KB
PATIENCE = 0.25  # s for Redis: PostgreSQL has the answer in a hundredth of that

_TROUBLE = (RedisError, OSError, TimeoutError)
_log = structlog.get_logger(__name__)


class Kept(Struct, array_like=True):
    """`at` is Unix time: other nodes read it."""

    at: float
    course: Course


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


def key(course_id: UUID) -> str:
    return f"course:{course_id}"


class CourseCache:
    """Raises `DatabaseUnavailable` where PostgreSQL has to be asked and is away."""

    def __init__(self, redis: Redis, store: CourseStore) -> None:
        self._redis = redis
        self._store = store
        self._flights: dict[UUID, asyncio.Task[Course | None]] = {}
        self._near: dict[UUID, Course] = {}  # latest last
        self._away_until = 0.0

    async def get(self, course_id: UUID, version: int = 0) -> Course | None:
        """The course, in this version or a later one; 0: any that Redis has. `None`: there is no such course."""
        near = self._near.get(course_id)
        if version and near is not None and near.version >= version:
            return near
        found = await self._read(course_id)
        if found is None or found.course.version < version:
            course = await asyncio.shield(self._fetch(course_id, replace=found is not None))
            if course is not None and course.version < version:  # it was on its way before the change
                course = await asyncio.shield(self._fetch(course_id, replace=True))
        else:
            course = found.course
            if time.time() - found.at > FRESH:
                self._fetch(course_id, replace=True)
        if course is not None:
            self._remember(course)
        return course

    def _remember(self, course: Course) -> None:
        self._near.pop(course.id, None)
        self._near[course.id] = course
        if len(self._near) > NEAR:
            del self._near[next(iter(self._near))]

    async def forget(self, course_id: UUID) -> None:
        """After a change is committed."""
        self._flights.pop(course_id, None)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._redis.set(key(course_id), b"", ex=MARK)
        except _TROUBLE as error:
            self._failed(error)

    async def _read(self, course_id: UUID) -> Kept | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                value = await self._redis.get(key(course_id))
        except _TROUBLE as error:
            self._failed(error)
            return None
        if not value:
            return None
        assert isinstance(value, bytes)
        try:
            return _decode(value)
        except msgspec.DecodeError:  # of another version of this program
            return None

    def _fetch(self, course_id: UUID, *, replace: bool = False) -> asyncio.Task[Course | None]:
        flight = self._flights.get(course_id)
        if flight is None:
            flight = self._flights[course_id] = asyncio.create_task(self._load(course_id, replace))
            flight.add_done_callback(lambda done: self._landed(course_id, done))
        return flight

    def _landed(self, course_id: UUID, flight: asyncio.Task[Course | None]) -> None:
        if self._flights.get(course_id) is flight:
            del self._flights[course_id]
        if not flight.cancelled():
            flight.exception()  # whoever waits has it; of a revalidation nobody does

    async def _load(self, course_id: UUID, replace: bool) -> Course | None:
        course = await self._store.get(course_id)
        if course is not None and time.monotonic() >= self._away_until:
            value = _encode(Kept(time.time(), course))
            try:
                async with asyncio.timeout(PATIENCE):
                    # A value is replaced only where there still is one: a mark that came meanwhile must stay. Between
                    # the two a change could be lost for `FRESH` seconds, hence in one step.
                    if replace:
                        await self._redis.eval(_REPLACE, 1, key(course_id), value, TTL)
                    else:
                        await self._redis.set(key(course_id), value, ex=TTL, nx=True)
            except _TROUBLE as error:
                self._failed(error)
        return course

    def _failed(self, error: Exception) -> None:
        if time.monotonic() >= self._away_until:
            _log.warning("courses.uncached", error=str(error) or type(error).__name__)
        self._away_until = time.monotonic() + 1.0


_REPLACE = """
local there = redis.call('GET', KEYS[1])
if there and there ~= '' then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
"""
