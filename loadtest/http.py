"""HTTP requests at a pace: connections that send one after another, or each at its time. HTTP/1.1, no TLS.

Only as much of a client as measuring takes: 15 us a request, so that one process loads a core of a server.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

PATIENCE = 10.0  # s for the answers that are missing at the end


@dataclass
class Taken:
    """What came of some requests. `latency`: by microseconds, from the time at which each was due."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    by_second: Counter[int] = field(default_factory=Counter)  # of `time.monotonic`
    sent: Counter[int] = field(default_factory=Counter)  # by the number of the request among those that were given
    broken: int = 0  # requests whose connection ended

    @property
    def count(self) -> int:
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0


class Lane(asyncio.Protocol):
    """One connection with at most one request under way. `done(lane, status, body)`; status 0: it broke."""

    def __init__(self, done: Callable[[Lane, int, bytes], None]) -> None:
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._got = b""
        self._busy = False
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self.due = due
        self._busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._got[:end].lower()
        _, found, rest = head.partition(b"\r\ncontent-length: ")
        whole = end + 4 + (int(rest.partition(b"\r\n")[0]) if found else 0)
        if len(self._got) < whole:
            return
        status, body = int(head[9:12]), self._got[end + 4 : whole]
        self._got = b""
        self._busy = False
        self._done(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._busy = False
            self._done(self, 0, b"")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Requests:
    """Requests to one server over so many connections, of which each takes its turn among `requests`."""

    def __init__(self, host: str, port: int, lanes: int) -> None:
        self._host = host
        self._port = port
        self._lanes = lanes

    async def closed(self, requests: Sequence[bytes], seconds: float) -> Taken:
        """As many as are answered within some seconds, or all of them where they are fewer: `requests` come round."""
        ends = time.monotonic() + seconds
        numbers = _round(len(requests))
        return await self._run(requests, lambda: next(numbers) if time.monotonic() < ends else None)

    async def once(self, requests: Sequence[bytes], bodies: list[bytes] | None = None) -> Taken:
        """Each of them once; the bodies of the answers, in the order in which they came."""
        numbers = iter(range(len(requests)))
        return await self._run(requests, lambda: next(numbers, None), bodies)

    async def _run(
        self, requests: Sequence[bytes], following: Callable[[], int | None], bodies: list[bytes] | None = None
    ) -> Taken:
        taken, left = Taken(), self._lanes
        ended = asyncio.Event()

        def go_on(lane: Lane) -> None:
            nonlocal left
            number = following()
            if number is None:
                left -= 1
                if not left:
                    ended.set()
                return
            taken.sent[number] += 1
            lane.send(requests[number], time.monotonic())

        def done(lane: Lane, status: int, body: bytes) -> None:
            nonlocal left
            if not status:
                taken.broken += 1
                left -= 1
                if not left:
                    ended.set()
                return
            _note(taken, lane, status)
            if bodies is not None:
                bodies.append(body)
            go_on(lane)

        lanes = await self._open(done)
        began = time.monotonic()
        for lane in lanes:
            go_on(lane)
        await ended.wait()
        taken.seconds = time.monotonic() - began
        for lane in lanes:
            lane.close()
        return taken

    async def paced(self, requests: Sequence[bytes], rate: float, seconds: float) -> Taken:
        """Each at its time, whatever the server does; one that finds no connection free waits, and counts from its
        time."""
        taken, ended = Taken(), asyncio.Event()
        total, place = int(rate * seconds), 0
        free: list[Lane] = []
        late: deque[tuple[int, float]] = deque()
        numbers = _round(len(requests))

        def done(lane: Lane, status: int, body: bytes) -> None:
            if status:
                _note(taken, lane, status)
            else:
                taken.broken += 1
            if taken.count + taken.broken == total:
                ended.set()
            if not status:
                return
            if late:
                number, due = late.popleft()
                lane.send(requests[number], due)
            else:
                free.append(lane)

        lanes = await self._open(done)
        free += lanes
        began = time.monotonic()
        while place < total:
            now = time.monotonic()
            while place < total and (due := began + place / rate) <= now:
                number = next(numbers)
                taken.sent[number] += 1
                if free:
                    free.pop().send(requests[number], due)
                else:
                    late.append((number, due))
                place += 1
            await asyncio.sleep(max(0.0, began + place / rate - time.monotonic()))
        taken.seconds = time.monotonic() - began
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await ended.wait()
        for lane in lanes:
            lane.close()
        return taken

    async def _open(self, done: Callable[[Lane, int, bytes], None]) -> list[Lane]:
        loop = asyncio.get_running_loop()
        return [
            (await loop.create_connection(lambda: Lane(done), self._host, self._port))[1] for _ in range(self._lanes)
        ]


def request(method: str, path: str, host: str, body: bytes = b"", **headers: Any) -> bytes:
    """A request as bytes; `headers` with `_` for `-`."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _note(taken: Taken, lane: Lane, status: int) -> None:
    now = time.monotonic()
    taken.statuses[status] += 1
    taken.latency[int((now - lane.due) * 1e6)] += 1
    taken.by_second[int(now)] += 1


def _round(number: int) -> Iterator[int]:
    while True:
        yield from range(number)
