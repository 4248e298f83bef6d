"""Crowds: who is in a big channel is counted, not listed, and those in it are told the numbers.

Each of 19,000 who come back to a room would else read 19,000 entries, and be told 19,000 times that somebody came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from realtime import codes
from realtime.interfaces import PresenceStats, PresenceStore, PresenceUnavailable
from realtime.protocol import ClientInfo

logger = logging.getLogger("chalkwire.crowd")

BIG = 1000  # members above which they are not listed
FRESH = 1.0  # s that the numbers of a big channel are good for
PAUSE = 2.0  # s between two pushes of a channel's numbers
SETTLED = 0.5  # s after which a change has come to where the others count
REMEMBERED = 1000  # channels

TakeTurns = Callable[[Sequence[str], float], Awaitable[Sequence[float | None]]]
"""Which of several turns are the caller's (`None`), and how many seconds ago others took the rest. Of all nodes, one
gets a turn, for so many seconds. Raises `PresenceUnavailable`."""


async def _every_turn(names: Sequence[str], seconds: float) -> Sequence[float | None]:
    return [None] * len(names)


class Crowds:
    """Big channels, as one node sees them. `push(channel, data)` tells whoever listens, on every node."""

    def __init__(
        self, presence: PresenceStore, push: Callable[[str, bytes], None], take_turns: TakeTurns = _every_turn
    ) -> None:
        self.take_turns = take_turns
        self._presence = presence
        self._push = push
        self._counted: dict[str, tuple[float, PresenceStats]] = {}  # big ones: until when, and how many
        self._changed: dict[str, float] = {}  # where somebody came or went without being announced, and since when
        self._told: dict[str, PresenceStats] = {}
        self._wake = asyncio.Event()

    async def members(self, channel: str) -> list[ClientInfo]:
        """Who is in the channel. Raises error 106 when they are too many, `PresenceUnavailable`."""
        if self._known(channel) is None:
            members = await self._presence.members(channel)
            if len(members) <= BIG:
                return members
            self._know(channel, PresenceStats(len(members), len({each.user for each in members})))
        raise codes.LIMIT_EXCEEDED.saying(f"more than {BIG} are here: use presence_stats")

    async def stats(self, channel: str) -> PresenceStats:
        """How many are in the channel, in a big one up to a second ago. Raises `PresenceUnavailable`."""
        return self._known(channel) or await self._count(channel)

    async def _count(self, channel: str) -> PresenceStats:
        stats = await self._presence.stats(channel)
        if stats.num_clients > BIG:
            self._know(channel, stats)
        return stats

    def _known(self, channel: str) -> PresenceStats | None:
        until, stats = self._counted.get(channel, (0.0, None))
        return stats if until > asyncio.get_running_loop().time() else None

    def _know(self, channel: str, stats: PresenceStats) -> None:
        if len(self._counted) >= REMEMBERED:
            self._counted.clear()
        self._counted[channel] = asyncio.get_running_loop().time() + FRESH, stats

    # --- telling -----------------------------------------------------------------------------------------------

    def changed(self, channel: str) -> None:
        """Somebody came or went."""
        self._changed[channel] = asyncio.get_running_loop().time()
        self._wake.set()

    async def run(self) -> None:
        """Tell the numbers of the channels that changed, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._tell()
            except PresenceUnavailable:
                pass  # nobody knows, so nothing is told; the next change begins anew
            except Exception:
                logger.exception("a crowd could not be counted")
            await asyncio.sleep(PAUSE)

    async def _tell(self) -> None:
        changed, self._changed = self._changed, {}
        turns = await self.take_turns([f"presence:{channel}" for channel in changed], PAUSE)
        now = asyncio.get_running_loop().time()
        for (channel, since), ago in zip(changed.items(), turns, strict=True):
            if ago is None:
                await self._tell_one(channel)
            elif now - ago < since + SETTLED:  # whoever had the turn may not have counted this one yet
                self._changed.setdefault(channel, since)
                self._wake.set()

    async def _tell_one(self, channel: str) -> None:
        stats = await self._count(channel)
        if self._told.get(channel) != stats:
            if len(self._told) >= REMEMBERED:
                self._told.clear()
            self._told[channel] = stats
            told = {"type": "presence", "num_users": stats.num_users, "num_clients": stats.num_clients}
            self._push(channel, msgspec.json.encode(told))
