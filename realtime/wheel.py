"""The one timing wheel of a process: pings, silence, and every rare timeout, without a timer per connection.

Time here is logical: `TimingWheel.advance` is one tick, about a second. A connection sits in one random slot of the
ping wheel, so that pings spread evenly. At its slot a ping is due; `pong_timeout` ticks later a connection from which
nothing came since is silent. Reading costs a connection one assignment (`connection.seen = wheel.tick`), nothing else.

An overloaded node must not kill its own connections. Silence is therefore judged only in a *settled* tick: one whose
event loop was punctual and has just drained its ready sockets. Under load ticks come late and are never caught up, so
that intervals stretch instead of piling up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

TICK = 1.0  # seconds
MAX_LAG = 1.0  # seconds: a loop later than that has not heard everyone who spoke


_logger = logging.getLogger("chalkwire.wheel")


class Pinged(Protocol):
    """What the wheel asks of a connection."""

    seen: int  # the tick at which something last came in
    slot: int  # its place in the wheel, kept by the wheel
    paused: int  # not 0: this side has stopped reading, so silence proves nothing

    def ping_due(self) -> None: ...

    def silent(self) -> None: ...


class Timeout:
    """A callback that is due at a tick, until cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Forget the callback, and with it whatever it kept alive. May be called again, and after it ran."""
        self.callback = None


class TimingWheel:
    """Sans-I/O: `WheelDriver` advances it. `ping_interval` and `pong_timeout` are ticks."""

    def __init__(self, ping_interval: int = 25, pong_timeout: int = 8) -> None:
        if ping_interval < 1 or pong_timeout < 1:
            raise ValueError("ping_interval and pong_timeout are at least one tick")
        self.tick = 0
        self.ping_interval = ping_interval
        self.pong_timeout = pong_timeout
        self._slots: list[set[Pinged]] = [set() for _ in range(ping_interval)]
        self._unjudged: deque[int] = deque()  # ticks whose pings wait for their verdict
        self._timeouts: dict[int, list[Timeout]] = {}
        self._each_tick: list[Callable[[], object]] = []

    def add(self, connection: Pinged) -> None:
        """Ping this connection from now on, first after 1 to `ping_interval` ticks."""
        connection.seen = self.tick
        connection.slot = random.randrange(self.ping_interval)
        self._slots[connection.slot].add(connection)

    def discard(self, connection: Pinged) -> None:
        """Never ping it again."""
        self._slots[connection.slot].discard(connection)

    def after(self, ticks: int, callback: Callable[[], object]) -> Timeout:
        """Call back once, `ticks` ticks from now (at least one)."""
        timeout = Timeout(callback)
        self._timeouts.setdefault(self.tick + max(ticks, 1), []).append(timeout)
        return timeout

    def each_tick(self, callback: Callable[[], object]) -> None:
        """Call back in every tick."""
        self._each_tick.append(callback)

    def advance(self, settled: bool = True) -> None:
        """One tick. `settled`: the loop is punctual and everything that had arrived has been read."""
        self.tick += 1
        for callback in self._each_tick:
            _run(callback)
        for timeout in self._timeouts.pop(self.tick, ()):
            if timeout.callback is not None:
                _run(timeout.callback)
        if settled:
            while self._unjudged and self._unjudged[0] + self.pong_timeout <= self.tick:
                self._judge(self._unjudged.popleft())
        slot = self._slots[self.tick % self.ping_interval]
        if slot:
            self._unjudged.append(self.tick)
            for connection in list(slot):
                _run(connection.ping_due)

    def _judge(self, pinged_at: int) -> None:
        silent = [
            connection
            for connection in self._slots[pinged_at % self.ping_interval]
            if connection.seen < pinged_at and not connection.paused
        ]
        for connection in silent:
            _run(connection.silent)


def _run(callback: Callable[[], object]) -> None:
    """One that fails must not cost the others their turn: unpinged, they would be taken for silent."""
    try:
        callback()
    except Exception:
        _logger.exception("A callback of the timing wheel failed")


class WheelDriver:
    """Advances a wheel once a second on the running event loop.

    When its timer fires it waits until the loop has polled and handled its sockets once more (two passes: both asyncio
    and uvloop run a scheduled callback before the sockets of the same pass) and measures how late all that was.
    """

    def __init__(self, wheel: TimingWheel) -> None:
        self.wheel = wheel
        self.lag = 0.0  # seconds, at the last tick
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin to tick on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._sleep_until(self._loop.time() + TICK)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def _sleep_until(self, due: float) -> None:
        assert self._loop is not None
        self._due = due
        self._timer = self._loop.call_at(due, self._next_pass, 2)

    def _next_pass(self, passes: int) -> None:
        if self._loop is None:
            return
        if passes:
            self._timer = self._loop.call_soon(self._next_pass, passes - 1)
            return
        self.lag = max(self._loop.time() - self._due, 0.0)
        punctual = self.lag < MAX_LAG
        self._sleep_until(self._due + TICK if punctual else self._loop.time() + TICK)
        self.wheel.advance(settled=punctual)
