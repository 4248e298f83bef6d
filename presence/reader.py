"""Who is in a channel, for any number of callers at a time."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable
from itertools import islice

from presence import entry
from presence.link import Away, Link, scan
from realtime.interfaces import PresenceUnavailable
from realtime.protocol import ClientInfo

log = logging.getLogger(__name__)

TOGETHER = 64  # channels read in one round trip


class Reader:
    """Reads in batches, and a channel once for all who asked since the last read of it began.

    19,000 people who come back to a room and each ask who is there would else cost 19,000 x 19,000 entries. `flushed`
    is awaited before each read, so that a caller sees the joins it made before.
    """

    def __init__(self, link: Link, flushed: Callable[[], Awaitable[None]], failed: Callable[[], None]) -> None:
        self._link = link
        self._flushed = flushed
        self._failed = failed
        self._waiting: dict[str, Future[list[ClientInfo]]] = {}
        self._wake = asyncio.Event()

    async def members(self, channel: str) -> list[ClientInfo]:
        """Raises `PresenceUnavailable`. The list is shared: do not change it."""
        waiting = self._waiting.get(channel)
        if waiting is None:
            waiting = self._waiting[channel] = asyncio.get_running_loop().create_future()
            self._wake.set()
        return await asyncio.shield(waiting)

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._answer({name: self._waiting.pop(name) for name in list(islice(self._waiting, TOGETHER))})

    def refuse_all(self, reason: str) -> None:
        """Answer those who still wait."""
        self._refuse(self._waiting, reason)
        self._waiting.clear()

    async def _answer(self, batch: dict[str, Future[list[ClientInfo]]]) -> None:
        try:
            found = await self._read(list(batch))
        except Away as away:
            self._refuse(batch, str(away))
            self._failed()
        except Exception:
            log.exception("presence: not read")
            self._refuse(batch, "internal error")
        except asyncio.CancelledError:
            self._refuse(batch, "stopped")
            raise
        else:
            for channel, waiting in batch.items():
                waiting.set_result(found[channel])

    async def _read(self, channels: list[str]) -> dict[str, list[ClientInfo]]:
        await self._flushed()
        found: dict[str, dict[str, ClientInfo]] = {channel: {} for channel in channels}
        async for part in scan(self._link, channels):
            for channel, entries in part:
                members = found[channel]
                for client, value in entries.items():
                    info = entry.decode(client, value)
                    if info is not None:
                        members[info.client] = info
        return {channel: list(members.values()) for channel, members in found.items()}

    @staticmethod
    def _refuse(batch: dict[str, Future[list[ClientInfo]]], reason: str) -> None:
        for waiting in batch.values():
            waiting.set_exception(PresenceUnavailable(reason))
            waiting.exception()  # seen, even when everybody who waited has gone
