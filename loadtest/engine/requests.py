"""HTTP requests at their times, over connections that stay open, beside the clients of the same process."""

from __future__ import annotations

import random
import re
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from loadtest import plan
from loadtest.engine.activities import ANSWERS_PATIENCE, SECOND, TURN, Done
from loadtest.engine.swarm import Swarm, Target

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Due(NamedTuple):
    """A request whose time has come. `at` in ns of the run's clock: its wait counts from then."""

    kind: str
    data: bytes
    at: int


class Line:
    """One connection; it asks one thing after another."""

    __slots__ = ("asked", "buffer", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.asked: Due | None = None
        self.buffer = b""


class Requesting:
    """The open loop: request n of the run is due at n / rate seconds, whether those before it were answered or not. One
    that finds no free connection waits for one, and its time goes on."""

    def __init__(
        self,
        swarm: Swarm,
        spec: plan.Request,
        target: Target,
        *,
        share: float,
        token: Callable[[str], str],
    ) -> None:
        """`share`: this process's part of the rate. `token` makes one for a user."""
        self._swarm = swarm
        self._spec = spec
        self._rate = spec.rate * share
        self._target = target
        self._token = token
        self._tokens: dict[str, str] = {}
        self._weights = list(accumulate(group.share for group in spec.groups))
        self._lines: list[Line] = []
        self._free: deque[Line] = deque()
        self._waiting: deque[Due] = deque()
        self._unanswered = 0
        self._number = 0
        self._started = self._ends = 0
        self._ended = self._over = False
        self._done: Done = lambda: None

    def start(self, done: Done) -> None:
        self._done = done
        for _ in range(self._spec.connections):
            self._open()
        self._started = self._swarm.now
        self._ends = self._started + int(self._spec.seconds * SECOND)
        self._at_their_times()

    def stop(self) -> None:
        self._waiting.clear()
        self._end()

    def _at_their_times(self) -> None:
        swarm = self._swarm
        pause = swarm.now + TURN
        while not self._ended:
            due = self._started + int(self._number / self._rate * SECOND)
            if due >= self._ends:
                swarm.at(self._ends, self._end)
                return
            now = swarm.now
            if due > now or now > pause:
                swarm.at(max(due, now), self._at_their_times)
                return
            self._number += 1
            self._waiting.append(self._request(due))
            self._send()

    def _request(self, due: int) -> Due:
        (group,) = random.choices(self._spec.groups, cum_weights=self._weights)
        call = random.choice(group.calls)
        token = self._tokens.get(call.user)
        if token is None:
            token = self._tokens[call.user] = self._token(call.user)
        body = call.body.replace("%n", str(self._number)).encode()
        head = (
            f"{call.method} {call.path} HTTP/1.1\r\nHost: {self._target.host_header}\r\n"
            f"Authorization: Bearer {token}\r\n"
        )
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return Due(group.name, head.encode() + b"\r\n" + body, due)

    def _send(self) -> None:
        while self._waiting and self._free:
            line, due = self._free.popleft(), self._waiting.popleft()
            line.asked = due
            self._unanswered += 1
            self._swarm.counts["requests"] += 1
            try:
                line.socket.sendall(due.data)  # a few hundred bytes: the kernel takes them
            except OSError as error:
                self._lost(line, str(error))

    # --- connections -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            connection = socket.create_connection((self._target.host, self._target.port), timeout=5)
        except OSError as error:
            self._swarm.errors[f"request: no connection: {error}"] += 1
            if not self._over:
                self._swarm.after(0.5, self._open)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(connection)
        self._lines.append(line)
        self._free.append(line)
        self._swarm.watch(connection.fileno(), partial(self._readable, line))
        self._send()

    def _readable(self, line: Line) -> None:
        try:
            data = line.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(line, "the connection ended")
            return
        line.buffer += data
        head, separator, body = line.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        line.buffer = b""
        self._answered(line, int(head[9:12]))

    def _answered(self, line: Line, status: int) -> None:
        due, line.asked = line.asked, None
        if due is not None:
            swarm, wait = self._swarm, (self._swarm.now - due.at) // 1000
            self._unanswered -= 1
            if 200 <= status < 300:
                swarm.counts["requests_answered"] += 1
                swarm.counts[f"{due.kind}_answered"] += 1
            else:
                swarm.counts["requests_failed"] += 1
                swarm.errors[f"request: {due.kind}: {status}"] += 1
            swarm.latency["request"][wait] += 1
            swarm.latency[due.kind][wait] += 1
        self._free.append(line)
        self._send()
        self._settle()

    def _lost(self, line: Line, why: str) -> None:
        """What was asked is not known to be done: a failure. Another connection takes its place."""
        due, line.asked = line.asked, None
        if line in self._lines:
            self._lines.remove(line)
            self._swarm.forget(line.socket.fileno())
            line.socket.close()
            if line in self._free:
                self._free.remove(line)
            if not self._over:
                self._open()
        if due is not None:
            self._unanswered -= 1
            self._swarm.counts["requests_failed"] += 1
            self._swarm.errors[f"request: {due.kind}: {why}"] += 1
            self._settle()

    # --- the end -----------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._ended = True
        self._settle()
        if not self._over:
            self._swarm.after(ANSWERS_PATIENCE, self._finish)

    def _settle(self) -> None:
        if self._ended and not self._unanswered and not self._waiting:
            self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = self._ended = True
        unanswered = self._unanswered + len(self._waiting)
        if unanswered:
            self._swarm.counts["requests_failed"] += unanswered
            self._swarm.errors["request: no answer"] += unanswered
        for line in self._lines:
            self._swarm.forget(line.socket.fileno())
            line.socket.close()
        self._lines.clear()
        self._done()
