"""Messages of any size over a carrier that takes small ones, and may lose some: numbered frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = struct.Struct(">Q?")  # the frame's number in its stream, whether it is the last of its message
MOST = 1 << 28  # bytes of one message: the books of a worker are tens of megabytes at most


class Torn(Exception):
    """A frame is missing, or is none; what comes after it cannot be trusted."""


class Splitter:
    """One direction's sender. `limit` is the size of a frame in bytes, its header included."""

    def __init__(self, limit: int) -> None:
        if limit <= HEADER.size:
            raise ValueError(f"a frame of {limit} bytes holds nothing")
        self._room = limit - HEADER.size
        self._next = 0

    def split(self, message: bytes) -> Iterator[bytes]:
        rest = memoryview(message)
        while True:
            part, rest = rest[: self._room], rest[self._room :]
            yield HEADER.pack(self._next, not rest) + part
            self._next += 1
            if not rest:
                return


class Joiner:
    """The other end: frames in, whole messages out."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._next = 0
        self._parts: list[memoryview] = []
        self._size = 0

    def feed(self, frame: bytes) -> bytes | None:
        """The message that this frame completes. Raises Torn."""
        if len(frame) < HEADER.size:
            raise Torn("a frame without a header")
        number, last = HEADER.unpack_from(frame)
        if number != self._next:
            raise Torn(f"frame {number} came when {self._next} was due")
        self._next += 1
        self._parts.append(memoryview(frame)[HEADER.size :])
        self._size += len(frame) - HEADER.size
        if self._size > self._most:
            raise Torn(f"a message of more than {self._most:,} bytes")
        if not last:
            return None
        message = b"".join(self._parts)
        self._parts, self._size = [], 0
        return message
