"""Frames between a node and the log writer: a length (4 bytes, big-endian), then MessagePack.

    node -> writer   Hello once, then Appends
    writer -> node   Outcomes and Heads

Requests are numbered by the node; one number is one entry, also when it is sent again over a new connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from realtime.interfaces import Entry

MAX_FRAME = 32 << 20  # bytes; senders stay below FRAME_TARGET plus one entry
FRAME_TARGET = 1 << 20
_LENGTH = 4
_T = TypeVar("_T")


class Hello(Struct, tag=0, array_like=True):
    """`seen` is `complete_to` of the last `Heads` that this node had; 0: none.

    A new writer looks from there, so that the death of a writer hides no change.
    """

    seen: int = 0


class Appends(Struct, tag=1, array_like=True):
    """`entries[i]` is request `numbers[i]`, as MessagePack of `Entry`."""

    numbers: list[int]
    entries: list[Raw]


class Stored(Struct, array_like=True):
    """What an earlier append of the same id left in the log."""

    data: bytes
    info: bytes | None
    tags: bytes | None


class Outcome(Struct, array_like=True):
    """The answer to one request: a place in the log, or why there is none."""

    status: int
    number: int = 0
    offset: int = 0
    epoch: str = ""
    time: int = 0  # Unix milliseconds: of the commit; of SILENCED until when it holds, 0: without end
    stored: Stored | None = None
    reason: str = ""


# Outcome.status; the first five as in SQL
APPENDED, DUPLICATE, ID_TAKEN, CLOSED, SILENCED, REJECTED, UNAVAILABLE = range(7)


class Outcomes(Struct, tag=2, array_like=True):
    outcomes: list[Outcome]


class Head(Struct, array_like=True):
    channel: str
    offset: int
    epoch: str


class Heads(Struct, tag=3, array_like=True):
    """Channels that changed, by the sweep. Nothing created up to `complete_to` (the database's clock in Unix
    microseconds) can appear any more."""

    complete_to: int
    heads: list[Head]


class FrameError(Exception):
    """What arrived is not a frame of this protocol; the connection is of no more use."""


_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Hello | Appends] = msgspec.msgpack.Decoder(Hello | Appends)
_reports: msgspec.msgpack.Decoder[Outcomes | Heads] = msgspec.msgpack.Decoder(Outcomes | Heads)
_entry = msgspec.msgpack.Decoder(Entry)


def encode(message: Hello | Appends | Outcomes | Heads) -> bytes:
    frame = bytearray(_LENGTH)
    _encoder.encode_into(message, frame, _LENGTH)
    length = len(frame) - _LENGTH
    if length > MAX_FRAME:
        raise FrameError(f"a frame of {length} bytes is more than {MAX_FRAME}")
    frame[:_LENGTH] = length.to_bytes(_LENGTH, "big")
    return bytes(frame)


def encode_entry(entry: Entry) -> bytes:
    """Raises `UnicodeEncodeError` (a lone surrogate), `OverflowError` (an integer beyond 64 bits)."""
    return _encoder.encode(entry)


def decode_entry(data: Raw) -> Entry:
    return _decode(_entry, data)


def decode_request(frame: bytes) -> Hello | Appends:
    return _decode(_requests, frame)


def decode_report(frame: bytes) -> Outcomes | Heads:
    return _decode(_reports, frame)


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes | Raw) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(str(error)) from error


class FrameReader:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete now. Raises `FrameError` at a length beyond `MAX_FRAME`."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH:
                length = int.from_bytes(buffer[start : start + _LENGTH], "big")
                if length > MAX_FRAME:
                    raise FrameError(f"a frame of {length} bytes is announced; {MAX_FRAME} is the most")
                end = start + _LENGTH + length
                if len(buffer) < end:
                    break
                frame = bytes(memoryview(buffer)[start + _LENGTH : end])
                start = end
                yield frame
        finally:
            del buffer[:start]
