"""Client frames, well-formed or not, and a transport that remembers: the tools of the connection's tests."""

from __future__ import annotations

import zlib
from typing import TypeVar

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.speedups import apply_mask

from realtime.websocket import WebSocketConnection, WebSocketEndpoint

TEXT, BINARY, CLOSE, PING, PONG, CONT = 1, 2, 8, 9, 10, 0
RSV1 = 0x40
MASK = b"\x5a\x01\xfe\x33"


def frame(
    payload: bytes = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """A client frame. `length` lies about the payload's size; `length_bytes` (0, 2, 8) takes a longer form for it."""
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    marker = {0: size & 0x7F, 2: 126, 8: 127}[length_bytes]
    head = bytes((fin << 7 | rsv | opcode, masked << 7 | marker)) + (
        size.to_bytes(length_bytes, "big") if length_bytes else b""
    )
    return head + MASK + apply_mask(payload, MASK) if masked else head + payload


def deflated(payload: bytes) -> bytes:
    """As permessage-deflate puts it on the wire."""
    encoder = zlib.compressobj(wbits=-15)
    return (encoder.compress(payload) + encoder.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def handshake(path: str = "/connection/websocket", **headers: str) -> Request:
    """The parsed request of a client; a header given as an empty string is left out."""
    fields = {
        "Host": "example.com",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return Request(path, Headers([(name, value) for name, value in fields.items() if value]))


class MemoryTransport:
    """A transport whose peer reads at once (`stuck`: never)."""

    def __init__(self, stuck: bool = False) -> None:
        self.written: list[bytes] = []
        self.stuck = stuck
        self.reading = True
        self.eof_written = False
        self.closing = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.eof_written
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written)) if self.stuck else 0

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_written = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True


class Recorder(WebSocketConnection):
    """A connection that writes down what happens to it."""

    __slots__ = ("closes", "messages", "opens")

    def __init__(self, endpoint: WebSocketEndpoint) -> None:
        super().__init__(endpoint)
        self.messages: list[tuple[bytes, bool]] = []
        self.closes: list[tuple[int, str]] = []
        self.opens = 0

    def opened(self) -> None:
        self.opens += 1

    def message_received(self, payload: bytes, binary: bool) -> None:
        self.messages.append((payload, binary))

    def closed(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))


Connection = TypeVar("Connection", bound=WebSocketConnection)


def connected(connection: Connection, **headers: str) -> tuple[Connection, MemoryTransport]:
    """The connection, open, and its transport without the handshake's answer."""
    transport = MemoryTransport()
    connection.upgrade(transport, handshake(**headers))  # type: ignore[arg-type]
    assert transport.written.pop().startswith(b"HTTP/1.1 101")
    return connection, transport
