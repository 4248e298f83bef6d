"""Signals for a process that waits: they wake a `poll` instead of interrupting whatever runs."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """A signal to stop came during `Signals.interrupting`."""


class Signals:
    """Counts SIGTERM and SIGINT (`stops`), remembers SIGHUP (`reload`) and wakes for SIGCHLD.

    Only between `open` and `close`, in the main thread.
    """

    WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(self) -> None:
        self.stops = 0
        self.reload = False
        self._raise = False
        self._reader = self._writer = -1
        self._previous: dict[int, object] = {}

    def open(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self.WATCHED:
            self._previous[number] = signal.signal(number, self._on_signal)

    def close(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal to stop raise `Interrupted` in a call that waits on its own."""
        if self.stops:
            raise Interrupted
        self._raise = True
        try:
            yield
        finally:
            self._raise = False

    def wait(self, timeout: float, pipes: Collection[int]) -> set[int]:
        """Sleep until a signal, something on a pipe, or `timeout` seconds. The pipes that have something."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        for pipe in pipes:
            poll.register(pipe, select.POLLIN)
        ready = {number for number, _ in poll.poll(max(0.0, timeout) * 1000)}
        if self._reader in ready:
            ready.discard(self._reader)
            try:
                while os.read(self._reader, 512):
                    pass
            except BlockingIOError:
                pass
        return ready

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        elif number in (signal.SIGTERM, signal.SIGINT):
            self.stops += 1
            if self._raise:
                self._raise = False
                raise Interrupted
