"""The cyclic garbage collector's policy for processes that hold many connections for long.

A full collection visits every container object alive: with 19,000 connections that is a pause of tens of milliseconds,
paid again and again for objects that reference counting frees anyway. So: what exists after the start is frozen (never
visited again), collections come later, and each one is measured.
"""

from __future__ import annotations

import gc
import time
from typing import Any

# Young objects until a collection; collections of a generation until one of the next. CPython's 700, 10, 10 would run
# a full collection about every 70,000 new containers; this is every 2,000,000. The young pass then costs under 2 ms.
THRESHOLDS = (20_000, 10, 10)


def freeze() -> None:
    """Take everything that is alive out of the collector's sight. Call before a fork (pages stay shared, because the
    collector does not write into them) and again when a process has started."""
    gc.collect()
    gc.freeze()


def settle() -> None:
    """Freeze what the start has made and set the thresholds."""
    freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


class Collections:
    """Counts collections by generation and the time they took, from `watch` to `unwatch`."""

    __slots__ = ("_began", "count", "longest", "seconds")

    def __init__(self) -> None:
        self.count = [0, 0, 0]
        self.seconds = 0.0
        self.longest = 0.0  # seconds of the longest one
        self._began = 0.0

    def watch(self) -> None:
        if self._observe not in gc.callbacks:
            gc.callbacks.append(self._observe)

    def unwatch(self) -> None:
        if self._observe in gc.callbacks:
            gc.callbacks.remove(self._observe)

    def _observe(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
            return
        took = time.perf_counter() - self._began
        self.count[info["generation"]] += 1
        self.seconds += took
        self.longest = max(self.longest, took)
