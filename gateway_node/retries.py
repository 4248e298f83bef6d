"""What was sent under which idempotency key, in Redis, for all nodes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEPT = 86400  # s that a key is held against its body
TIMEOUT = 0.25  # s; a courtesy must not be what a request waits for

_log = structlog.get_logger(__name__)


class Digests:
    """What was sent under a key, by all nodes. `None` instead of a Redis: nothing is remembered."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis

    async def before(self, key: str, digest: bytes) -> bytes | None:
        """The digest that the key was used with before; `None`: it is new, and has this one from now on, or Redis
        cannot say."""
        if self._redis is None:
            return None
        try:
            async with asyncio.timeout(TIMEOUT):
                before = await self._redis.set(key, digest, ex=KEPT, nx=True, get=True)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("retries.unchecked", error=type(error).__name__)
            return None
        return before if isinstance(before, bytes) else None

    async def forget(self, key: str) -> None:
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._redis.delete(key)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("retries.kept", error=type(error).__name__)
