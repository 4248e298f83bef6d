"""Where people are in videos, in Redis: ahead of PostgreSQL by the seconds until a node writes it there."""

from __future__ import annotations

from collections.abc import Iterable

from presence import keys
from presence.link import Command
from presence.pipe import Pipe

TTL_SECONDS = 86400  # of a user's places, from their last move; PostgreSQL has them after seconds

Moved = tuple[str, str, str, int, int, int]
"""User, course and lesson (ids as text), position and furthest (seconds), and when (Unix milliseconds)."""


class RedisPlaces:
    """A hash a user: lesson -> course, position, furthest and time. The last one said stands.

    Every method raises `Away`.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def move(self, moved: Iterable[Moved]) -> None:
        """In one round trip."""
        commands: list[Command] = []
        for user, course, lesson, position, furthest, at in moved:
            key = keys.places(user)
            commands += [("HSET", key, lesson, f"{course} {position} {furthest} {at}"), ("EXPIRE", key, TTL_SECONDS)]
        await self._pipe.run(commands)

    async def of_user(self, user: str) -> list[Moved]:
        """All that Redis has of a user."""
        (reply,) = await self._pipe.run([("HGETALL", keys.places(user))])
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        found: list[Moved] = []
        for lesson, value in pairs:
            course, position, furthest, at = value.decode().split()
            found.append((user, course, lesson.decode(), int(position), int(furthest), int(at)))
        return found
