"""Many clients in one process: sockets that speak just enough of the protocol, and count bytes.

One SDK client costs 100 KB and 0.2 ms a message; 19,000 of them would measure themselves. These cost a socket each.
They send no pongs: give the server a long ping interval.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self

BATCH = 200  # connections under way at once; more overflow a listen queue of 4,096 when several processes do so
CHUNK = 1 << 20  # bytes read at once
HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Y2hhbGt3aXJlLWNsaWVudA==\r\n\r\n"
)


class Refused(Exception):
    """The server did not do what a client asked for."""


def frame(payload: bytes) -> bytes:
    """A client's text frame (RFC 6455, section 5.2), masked with zeros: legal, and costs nothing here."""
    size = len(payload)
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 1 << 16:
        head = b"\x81\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def command(id: int, **request: Any) -> bytes:
    return json.dumps({"id": id, **request}, separators=(",", ":")).encode()


class Sender:
    """One client that publishes and is subscribed to nothing."""

    def __init__(self, port: int, token: str) -> None:
        self._socket = _connected(port)
        self._socket.sendall(HANDSHAKE)
        _expect(self._socket, b"", b"\r\n\r\n")
        self._socket.sendall(frame(command(1, connect={"token": token})))
        _expect(self._socket, b"", b'"id":1')
        self._next = 2

    def publish(self, channel: str, data: Any, times: int = 1) -> None:
        """Send publish commands, `times` of them in one write. Returns before they are answered."""
        commands = [command(self._next + n, publish={"channel": channel, "data": data}) for n in range(times)]
        self._next += times
        self._socket.sendall(b"".join(map(frame, commands)))

    def answered(self) -> None:
        """Return when the last publish is acknowledged. Raises `Refused` when one was refused."""
        answers = _expect(self._socket, b"", b'"id":%d,' % (self._next - 1))
        if b'"error":' in answers:
            raise Refused(answers.decode(errors="replace"))

    def close(self) -> None:
        self._socket.close()


def opened(
    port: int, dialogues: Sequence[Sequence[bytes]], at_once: int = BATCH
) -> list[tuple[socket.socket, list[bytes]]]:
    """A connection for each dialogue: its first commands, numbered from 1, sent in one frame and answered.

    Returns the sockets, and the replies and pushes that came on each until then. Raises `Refused`.
    """
    made: list[tuple[socket.socket, list[bytes]]] = []
    for start in range(0, len(dialogues), at_once):
        batch = dialogues[start : start + at_once]
        sockets = [_connected(port) for _ in batch]
        for each in sockets:
            each.sendall(HANDSHAKE)
        for each, commands in zip(sockets, batch, strict=True):
            rest = _expect(each, b"", b"\r\n\r\n")
            assert rest.startswith(b"HTTP/1.1 101 "), rest
            each.sendall(frame(b"\n".join(commands)))
        for each, commands in zip(sockets, batch, strict=True):
            answers = _expect(each, b"", b'"id":%d,' % len(commands))
            if b'"error":' in answers:
                raise Refused(answers.decode(errors="replace"))
            while (lines := messages(answers)) is None:
                answers += each.recv(CHUNK)
            made.append((each, lines))
    return made


def messages(frames: bytes) -> list[bytes] | None:
    """The lines in a server's frames; `None` where the last frame is not complete."""
    found: list[bytes] = []
    start, size = 0, len(frames)
    while start < size:
        short = frames[start + 1] if start + 1 < size else 0
        body = start + 2 + {126: 2, 127: 8}.get(short, 0)
        end = body + (short if short < 126 else int.from_bytes(frames[start + 2 : body], "big"))
        if end > size or body > size:
            return None
        found += frames[body:end].split(b"\n")
        start = end
    return found


class Publishers:
    """Clients that publish, each up to `window` messages ahead of its acknowledgements.

    Client n sends to `port_of(n)` and `channel_of(n)`. `latencies` are seconds from a write to its acknowledgement.
    Raises `Refused` as soon as a publish is not acknowledged.
    """

    FIRST = 1_000_000  # command ids have seven digits, so all frames of a client have one size
    ACKNOWLEDGED = b'"publish":{}'

    def __init__(
        self, tokens: Sequence[str], port_of: Callable[[int], int], channel_of: Callable[[int], str], data: Any
    ) -> None:
        self.latencies: list[float] = []
        self.acknowledged = 0
        self._poll = select.epoll()
        self._clients: dict[int, _Publisher] = {}
        for number, token in enumerate(tokens):
            publish = command(self.FIRST, publish={"channel": channel_of(number), "data": data})
            client = _Publisher(port_of(number), token, publish)
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket.fileno(), select.EPOLLIN)

    def saturate(self, count: int, window: int) -> float:
        """Have `count` messages acknowledged, as fast as it goes. Returns seconds."""
        left = count
        started = time.monotonic()
        for client in self._clients.values():
            client.send(min(window, left))
            left -= min(window, left)
        waiting = count
        while waiting:
            for client, acknowledged in self._answers(20.0):
                waiting -= acknowledged
                again = min(acknowledged, left)
                left -= again
                client.send(again)
        return time.monotonic() - started

    def paced(self, rate: float, seconds: float) -> None:
        """Send `rate` messages a second, evenly, whatever comes back; the clients take turns."""
        self.latencies = []
        clients = list(self._clients.values())
        started, sent, waiting = time.monotonic(), 0, 0
        total = int(rate * seconds)
        while sent < total or waiting:
            while sent < total and time.monotonic() >= started + sent / rate:
                clients[sent % len(clients)].send(1)
                sent += 1
                waiting += 1
            pause = started + sent / rate - time.monotonic() if sent < total else 20.0
            for _, acknowledged in self._answers(max(pause, 0.0)):
                waiting -= acknowledged

    def _answers(self, patience: float) -> Iterator[tuple[_Publisher, int]]:
        ready = self._poll.poll(patience, 1024)
        if not ready and patience > 1:
            raise Refused(f"nothing was acknowledged for {patience:.0f} s")
        for number, _ in ready:
            client = self._clients[number]
            acknowledged = client.receive(self.latencies)
            self.acknowledged += acknowledged
            yield client, acknowledged

    def close(self) -> None:
        self._poll.close()
        for client in self._clients.values():
            client.socket.close()


class _Publisher:
    """One of them. Its frame is made once; only the command's number changes."""

    def __init__(self, port: int, token: str, publish: bytes) -> None:
        self.socket = _connected(port)
        self.socket.sendall(HANDSHAKE)
        _expect(self.socket, b"", b"\r\n\r\n")
        self.socket.sendall(frame(command(1, connect={"token": token})))
        _expect(self.socket, b"", b'"id":1')
        self._head, _, self._tail = frame(publish).partition(b"%d" % Publishers.FIRST)
        self._next = Publishers.FIRST
        self._sent: deque[float] = deque()  # when those were written that are not acknowledged
        self._rest = b""

    def send(self, times: int) -> None:
        first, self._next = self._next, self._next + times
        frames = [b"%b%d%b" % (self._head, number, self._tail) for number in range(first, self._next)]
        self.socket.sendall(b"".join(frames))
        now = time.monotonic()
        self._sent.extend([now] * times)

    def receive(self, latencies: list[float]) -> int:
        received = self.socket.recv(CHUNK)
        if not received or b'"error":' in received:
            raise Refused(received.decode(errors="replace"))
        answers = self._rest + received
        self._rest = answers[-len(Publishers.ACKNOWLEDGED) + 1 :]
        acknowledged = answers.count(Publishers.ACKNOWLEDGED)
        if acknowledged and answers.endswith(Publishers.ACKNOWLEDGED):
            self._rest = b""
        now = time.monotonic()
        latencies += [now - self._sent.popleft() for _ in range(acknowledged)]
        return acknowledged


class Readers:
    """Connected sockets, and the bytes that came in on all of them."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self.sockets = sockets
        self._by_number = {each.fileno(): each for each in sockets}
        self._buffer = bytearray(CHUNK)
        self._poll = select.epoll()
        for each in sockets:
            each.setblocking(False)
            self._poll.register(each.fileno(), select.EPOLLIN | select.EPOLLET)

    @classmethod
    def plain(cls, port: int, count: int) -> Self:
        """TCP connections without a protocol on them."""
        return cls([_connected(port) for _ in range(count)])

    @classmethod
    def of_protocol(cls, port: int, tokens: Sequence[str], channel: Callable[[int], str] | None = None) -> Self:
        """A client for each token, connected and, where `channel` says to what, subscribed to `channel(index)`.

        Raises `Refused`.
        """
        commands = [[command(1, connect={"token": token})] for token in tokens]
        if channel is not None:
            for index, each in enumerate(commands):
                each.append(command(2, subscribe={"channel": channel(index)}))
        return cls([made for made, _ in opened(port, commands)])

    def receive(self, expected: int, patience: float = 20.0) -> int:
        """Read until `expected` bytes have come in on all sockets together, or nothing for `patience` seconds."""
        total = 0
        deadline = time.monotonic() + patience
        while total < expected and time.monotonic() < deadline:
            for number, _ in self._poll.poll(0.5, 1024):
                total += self._drain(self._by_number[number])
                deadline = time.monotonic() + patience
        return total

    def _drain(self, source: socket.socket) -> int:
        total = 0
        with suppress(BlockingIOError):
            while True:
                size = source.recv_into(self._buffer)
                total += size
                if not size:
                    raise Refused("the server closed a connection")
                if size < CHUNK:  # with edge-triggered polling, a short read means that the socket is empty
                    break
        return total

    def close(self) -> None:
        self._poll.close()
        for each in self.sockets:
            each.close()


def _connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _expect(source: socket.socket, received: bytes, wanted: bytes) -> bytes:
    source.settimeout(20.0)
    while wanted not in received:
        chunk = source.recv(1 << 16)
        if not chunk:
            raise Refused(f"the server closed a connection after {received!r}")
        received += chunk
    return received
