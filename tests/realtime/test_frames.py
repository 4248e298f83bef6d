"""Server frames, read back by the reference parser of `websockets`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from realtime.frames import (
    WINDOW_BITS,
    binary_frame,
    close_frame,
    deflated_binary_frame,
    deflated_text_frame,
    ping_frame,
    text_frame,
)


def read(wire: bytes, deflate: bool = False) -> Frame:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=None)
    if deflate:
        client.extensions = [PerMessageDeflate(True, True, WINDOW_BITS, 15)]
    client.receive_data(wire)
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert not client.reader.buffer
    return event


sizes = pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])


@sizes
def test_text_and_binary_of_every_length_form(size: int) -> None:
    payload = b"x" * size
    assert read(text_frame(payload)) == Frame(Opcode.TEXT, payload)
    assert read(binary_frame(payload)) == Frame(Opcode.BINARY, payload)


def test_ping() -> None:
    assert read(ping_frame(b"are you there")) == Frame(Opcode.PING, b"are you there")


@given(st.binary(max_size=2000) | st.text(max_size=2000).map(str.encode))
@example(b"a" * 100_000)
@example(b"")
def test_compressed_frames_decode_alone_and_are_never_longer(payload: bytes) -> None:
    for encode, plain, opcode in [
        (deflated_text_frame, text_frame, Opcode.TEXT),
        (deflated_binary_frame, binary_frame, Opcode.BINARY),
    ]:
        wire = encode(payload)
        assert len(wire) <= len(plain(payload))
        assert read(wire, deflate=True) == Frame(opcode, payload)


def test_compression_compresses() -> None:
    assert len(deflated_text_frame(b'{"push":{"channel":"room:1","pub":{}}}' * 50)) < 150


def test_compressed_frames_stay_within_the_agreed_window() -> None:
    import random

    block = random.Random(7).randbytes(1 << WINDOW_BITS)
    payload = block * 3  # repeats only beyond the window: a larger one would find them
    assert read(deflated_binary_frame(payload), deflate=True).data == payload


@given(st.integers(3000, 4999), st.text(max_size=200))
def test_close_reasons_are_cut_between_characters(code: int, reason: str) -> None:
    frame = read(close_frame(code, reason))
    close = Close.parse(frame.data)
    assert close.code == code
    assert reason.startswith(close.reason)
    assert len(frame.data) <= 125
    assert close.reason == reason or len(close.reason.encode()) > 123 - 4


@pytest.mark.parametrize(("args", "data"), [((1005,), b""), ((1000,), b"\x03\xe8")])
def test_close_without_code_or_reason(args: Any, data: bytes) -> None:
    assert read(close_frame(*args)).data == data
