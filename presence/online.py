"""Whether people are online, on whichever node and with however many devices."""

from __future__ import annotations

from collections.abc import Sequence

from presence import keys
from presence.pipe import Pipe


class Online:
    """Reads the marks that `RedisPresence` keeps."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def which(self, users: Sequence[str]) -> list[bool]:
        """Whether each of the users is online, in one round trip. Raises `Away`."""
        return [bool(there) for there in await self._pipe.run([("EXISTS", keys.online(user)[0]) for user in users])]
