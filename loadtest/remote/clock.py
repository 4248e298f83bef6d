"""How far another machine's monotonic clock is ahead of ours."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

ROUNDS = 30  # a few milliseconds each at worst; one undisturbed round is enough


class Clock:
    """By the shortest of many round trips: the answer was given somewhere between question and answer."""

    def __init__(self) -> None:
        self.offset = 0  # ns to add to our clock
        self.error = 1 << 62  # ns by which `offset` may be wrong at the time of its measurement
        self.drift = 0  # ns by which the clocks have moved apart since, at least

    async def measure(self, ask: Callable[[], Awaitable[int]]) -> None:
        """`ask` brings the other clock's reading."""
        for _ in range(ROUNDS):
            sent = time.monotonic_ns()
            theirs = await ask()
            received = time.monotonic_ns()
            if (error := -((sent - received) // 2)) < self.error:
                self.error = error
                self.offset = theirs - (sent + received) // 2

    def compare(self, sent: int, theirs: int, received: int) -> None:
        """A later round: the offset was between `theirs - received` and `theirs - sent`."""
        apart = max(theirs - received - self.offset, self.offset - (theirs - sent)) - self.error
        self.drift = max(self.drift, apart)
