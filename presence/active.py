"""Who is active in a course, and in which of its lessons: `active_users:course_{id}`.

A sorted set by time under the name that the product's brief has, not a plain set with a TTL: in a set nobody would
cease to be active as long as somebody is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

WINDOW = 300  # s after which somebody is not active any more
PATIENCE = 0.5  # s


class ActiveUnknown(Exception):
    """Redis is away."""


def course_key(course: str) -> str:
    return f"active_users:course_{course}"


def lesson_key(lesson: str) -> str:
    return f"active_users:lesson_{lesson}"


class ActiveUsers:
    """Who did something in the last five minutes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def mark(self, user: str, course: str, lesson: str = "") -> None:
        """Somebody is active; nothing when Redis is away, because the next mark comes soon."""
        now = time.time()
        try:
            async with asyncio.timeout(PATIENCE):
                pipeline = self._redis.pipeline(transaction=False)
                for key in (course_key(course), *([lesson_key(lesson)] if lesson else [])):
                    pipeline.zadd(key, {user: now})
                    pipeline.zremrangebyscore(key, "-inf", now - WINDOW)
                    pipeline.expire(key, WINDOW)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError):
            return

    async def count(self, course: str, lessons: Sequence[str]) -> list[int]:
        """How many are active in the course, and in each lesson. Raises `ActiveUnknown`."""
        since = time.time() - WINDOW
        try:
            async with asyncio.timeout(PATIENCE):
                pipeline = self._redis.pipeline(transaction=False)
                for key in (course_key(course), *map(lesson_key, lessons)):
                    pipeline.zcount(key, since, "+inf")
                counts: list[int] = await pipeline.execute()
                return counts
        except (RedisError, OSError, TimeoutError) as error:
            raise ActiveUnknown(str(error)) from None
