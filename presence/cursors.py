"""Read cursors in Redis: ahead of PostgreSQL by the seconds until a node writes them there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from presence import keys
from presence.link import Command
from presence.pipe import Pipe

TTL_SECONDS = 30 * 86400  # of a user's cursors, from their last move


class RedisCursors:
    """A sorted set a user: the score of a room is how far they have read in it. It only grows (`ZADD GT`).

    By user and not by room, so that the cursors of all of one's rooms are one read, and no key grows with a room.
    Users and rooms are given by their ids as text. Every method raises `Away`.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def move(self, moves: Iterable[tuple[str, str, int]]) -> list[bool]:
        """Move cursors (room, user, offset) forward, in one round trip; says which of them moved."""
        commands: list[Command] = []
        for room, user, offset in moves:
            key = keys.cursors(user)
            commands += [("ZADD", key, "GT", "CH", offset, room), ("EXPIRE", key, TTL_SECONDS)]
        replies = await self._pipe.run(commands)
        return [bool(moved) for moved in replies[::2]]

    async def of_user(self, user: str) -> dict[str, int]:
        """All that Redis has of a user: offsets by room."""
        ((*pairs,),) = await self._pipe.run([("ZRANGE", keys.cursors(user), 0, -1, "WITHSCORES")])
        return {room.decode(): int(offset) for room, offset in pairs}

    async def of_members(self, room: str, users: Sequence[str]) -> dict[str, int]:
        """What Redis has of some users in one room."""
        scores = await self._pipe.run([("ZSCORE", keys.cursors(user), room) for user in users])
        return {user: int(score) for user, score in zip(users, scores, strict=True) if score is not None}
