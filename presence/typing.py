"""Who is typing where, over all nodes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from presence import keys
from presence.link import Command
from presence.pipe import Pipe

TTL_SECONDS = 6  # after which somebody who says nothing more has stopped


class RedisTyping:
    """A sorted set a room: the score of a user is when they count as having stopped, in Unix milliseconds.

    By the nodes' clocks: one that is wrong by a second shows somebody typing for a second more or less. Every method
    raises `Away`.
    """

    def __init__(self, pipe: Pipe, ttl: float = TTL_SECONDS) -> None:
        self._pipe = pipe
        self._ttl = round(ttl * 1000)

    async def start(self, room: str, user: str) -> None:
        key = keys.typing(room)
        await self._pipe.run([("ZADD", key, _now() + self._ttl, user), ("PEXPIRE", key, self._ttl)])

    async def stop(self, typists: Iterable[tuple[str, str]]) -> None:
        """(room, user) pairs: they have sent what they typed."""
        await self._pipe.run([("ZREM", keys.typing(room), user) for room, user in typists])

    async def who(self, rooms: Sequence[str], most: int) -> list[tuple[list[str], int]]:
        """For each room: who types, those who began first and at most `most` of them, and how many they are."""
        now = _now()
        commands: list[Command] = []
        for room in rooms:
            key = keys.typing(room)
            commands += [("ZCOUNT", key, f"({now}", "+inf")]
            commands += [("ZRANGE", key, f"({now}", "+inf", "BYSCORE", "LIMIT", 0, most)]
        replies = await self._pipe.run(commands)
        return [
            ([user.decode() for user in users], int(count))
            for count, users in zip(replies[::2], replies[1::2], strict=True)
        ]


def _now() -> int:
    return int(time.time() * 1000)
