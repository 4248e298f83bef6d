"""WebSocket framing of the client's side (RFC 6455, section 5): just what a server may send to us."""

from __future__ import annotations

import base64
import hashlib
import os

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class BadFrame(Exception):
    """The server sent what RFC 6455 forbids."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole frame, masked with zeros: legal, and as random as a load test needs."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def take_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Whole messages as (opcode, payload), and the bytes of the one that is not complete yet.

    Messages in fragments stay in the rest until their last frame is there.

    Raises:
        BadFrame: masked, reserved bits or opcodes, a fragment out of place, or a control frame that is long or in
            fragments.
    """
    messages: list[tuple[int, bytes]] = []
    at = taken = 0  # the next frame; where the first incomplete message begins
    end = len(data)
    opcode, parts = 0, b""
    while end - at >= 2:
        first, second = data[at], data[at + 1]
        if first & 0x70 or second & 0x80:
            raise BadFrame(f"frame begins with {first:#04x} {second:#04x}")
        size, start = second, at + 2
        if size == 126:
            start = at + 4
            size = int.from_bytes(data[at + 2 : start], "big")
        elif size == 127:
            start = at + 10
            size = int.from_bytes(data[at + 2 : start], "big")
        kind = first & 0x0F
        if kind > BINARY:
            if not CLOSE <= kind <= PONG or second > 125 or not first & 0x80:
                raise BadFrame(f"frame begins with {first:#04x} {second:#04x}")
        elif (kind == CONTINUATION) != bool(opcode):
            raise BadFrame(f"opcode {kind} {'inside' if opcode else 'without'} a message in fragments")
        if start > end or start + size > end:
            break
        payload = data[start : start + size]
        if kind > BINARY:
            messages.append((kind, payload))
            if opcode:  # between fragments: cut out, or it would come once more when these are complete
                data = data[:at] + data[start + size :]
                end = len(data)
            else:
                at = taken = start + size
            continue
        at = start + size
        opcode = opcode or kind
        parts = parts + payload if parts else payload
        if first & 0x80:
            messages.append((opcode, parts))
            opcode, parts, taken = 0, b"", at
    return messages, data[taken:]


def handshake(host: str, path: str) -> tuple[bytes, bytes]:
    """An upgrade request (RFC 6455, section 4.1), and what its answer must contain."""
    key = base64.b64encode(os.urandom(16))
    request = (
        b"GET %b HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % (path.encode(), host.encode(), key)
    )
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return request, accept
