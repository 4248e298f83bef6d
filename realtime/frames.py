"""Server frames of the WebSocket protocol (RFC 6455, section 5): payload bytes in, wire bytes out.

A server's frames are not masked, so the same bytes serve every recipient: a publication is framed once, and compressed
at most once, for all its readers.
"""

from __future__ import annotations

import struct
import zlib

MAX_CLOSE_REASON = 123  # bytes: a control frame carries 125 (RFC 6455, section 5.5), two of them are the code

WINDOW_BITS = 12  # 4 KiB of history, as long as most messages; an encoder of 15 bits would take 268 KB a publication
_MEMORY_LEVEL = 5
_SMALLEST_DEFLATED = 64  # bytes: below that, deflate seldom saves what its own framing costs
_SYNC_FLUSH_TAIL = b"\x00\x00\xff\xff"  # what a sync flush ends with and the wire leaves out (RFC 7692, section 7.2.1)

_TEXT = 0x81
_BINARY = 0x82
_CLOSE = 0x88
_PING = 0x89
_COMPRESSED = 0x40  # RSV1

_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return _SHORT(first, size) + payload
    if size < 65536:
        return _MEDIUM(first, 126, size) + payload
    return _LONG(first, 127, size) + payload


def text_frame(payload: bytes) -> bytes:
    """A whole text message. `payload` must be valid UTF-8."""
    return _frame(_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """A whole binary message."""
    return _frame(_BINARY, payload)


def ping_frame(payload: bytes = b"") -> bytes:
    """A protocol-level ping with at most 125 bytes of payload."""
    return _frame(_PING, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame. A reason over 123 bytes is cut between characters; code 1005 (no status) gives an empty one."""
    if code == 1005:
        return _frame(_CLOSE, b"")
    cut = reason.encode()[:MAX_CLOSE_REASON].decode(errors="ignore")
    return _frame(_CLOSE, code.to_bytes(2, "big") + cut.encode())


def deflated_text_frame(payload: bytes) -> bytes:
    """A whole text message for connections with permessage-deflate, or a plain frame where that is not longer.

    Without context takeover (RFC 7692, section 7.1.1): every recipient can decode it whatever came before.
    """
    return _deflated(_TEXT, payload)


def deflated_binary_frame(payload: bytes) -> bytes:
    """Like `deflated_text_frame`, for a binary message."""
    return _deflated(_BINARY, payload)


def _deflated(first: int, payload: bytes) -> bytes:
    if len(payload) >= _SMALLEST_DEFLATED:
        encoder = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=_MEMORY_LEVEL)
        deflated = (encoder.compress(payload) + encoder.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_SYNC_FLUSH_TAIL)
        if len(deflated) < len(payload):
            return _frame(first | _COMPRESSED, deflated)
    return _frame(first, payload)
