"""Turns: of all nodes that want to say the same thing, one says it."""

from __future__ import annotations

from collections.abc import Sequence

from presence import keys
from presence.link import Command
from presence.pipe import Pipe


class Turns:
    """A turn is a key that lives as long as nobody else shall have one."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def take(self, names: Sequence[str], seconds: float) -> list[float | None]:
        """For each name: `None` when the turn is the caller's, else how long ago, in seconds, somebody took it.

        Raises `Away`.
        """
        length = max(1, round(seconds * 1000))
        commands: list[Command] = []
        for name in names:
            key = keys.turn(name)
            commands += [("SET", key, 1, "NX", "PX", length), ("PTTL", key)]
        replies = await self._pipe.run(commands)
        return [
            None if taken else (length - max(0, left)) / 1000
            for taken, left in zip(replies[::2], replies[1::2], strict=True)
        ]
