"""Frames as a server of the `websockets` library writes them, in whatever pieces they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from loadtest.engine import frames
from loadtest.engine.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, BadFrame, take_frames

CONTROL = st.tuples(st.sampled_from([PING, PONG, CLOSE]), st.binary(max_size=125))
# Lengths of 7, 16 and 64 bits, and both sides of where one becomes the other.
PAYLOAD = st.one_of(
    st.binary(max_size=20), st.sampled_from([125, 126, 127, 65535, 65536]).map(lambda size: b"\x81\x03" * (size // 2))
)
DATA = st.tuples(
    st.sampled_from([TEXT, BINARY]),
    st.lists(st.tuples(PAYLOAD, st.lists(CONTROL, max_size=2)), min_size=1, max_size=3),
)


def written(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=False)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes]]]:
    """What a server writes, and the messages that it means; control frames come before the end of the fragments."""
    stream, messages = b"", []
    for kind, content in draw(st.lists(st.one_of(CONTROL, DATA), max_size=5)):
        if isinstance(content, bytes):
            stream += written(kind, content)
            messages.append((kind, content))
            continue
        for n, (payload, between) in enumerate(content):
            stream += written(CONTINUATION if n else kind, payload, fin=n == len(content) - 1)
            if n < len(content) - 1:
                stream += b"".join(written(*control) for control in between)
                messages += between
        messages.append((kind, b"".join(payload for payload, _ in content)))
    return stream, messages


@given(streams(), st.data())
def test_the_pieces_in_which_a_stream_arrives_do_not_matter(
    sent: tuple[bytes, list[tuple[int, bytes]]], data: st.DataObject
) -> None:
    stream, messages = sent
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    received, rest = [], b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        whole, rest = take_frames(rest + stream[start:end])
        received += whole
    assert received == messages
    assert rest == b""


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=125)), max_size=4))
def test_one_byte_at_a_time(sent: list[tuple[int, bytes]]) -> None:
    received, rest = [], b""
    for byte in b"".join(written(*each) for each in sent):
        whole, rest = take_frames(rest + bytes((byte,)))
        received += whole
    assert (received, rest) == (sent, b"")


@given(st.sampled_from([TEXT, BINARY, PING, PONG, CLOSE]), PAYLOAD)
def test_what_a_client_writes_is_read_by_the_library(opcode: int, payload: bytes) -> None:
    payload = payload if opcode <= BINARY else payload[:125]
    reader = StreamReader()
    reader.feed_data(frames.frame(payload, opcode))
    parsing = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)
    assert (parsed.value.value.opcode, bytes(parsed.value.value.data)) == (opcode, payload)
    assert not reader.buffer


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        pytest.param(b"\x81\x81\0\0\0\0x", "0x81 0x81", id="masked"),
        pytest.param(b"\xc1\x01x", "0xc1 0x01", id="reserved bit 1: compressed, which nobody asked for"),
        pytest.param(b"\x91\x01x", "0x91 0x01", id="reserved bit 3"),
        pytest.param(b"\x83\x01x", "0x83 0x01", id="reserved data opcode"),
        pytest.param(b"\x8b\x00", "0x8b 0x00", id="reserved control opcode"),
        pytest.param(b"\x89\x7e\x00\x7e", "0x89 0x7e", id="a ping of 126 bytes"),
        pytest.param(b"\x09\x00", "0x09 0x00", id="a ping in fragments"),
        pytest.param(b"\x80\x01x", "opcode 0 without", id="a continuation of nothing"),
        pytest.param(b"\x01\x01x\x81\x01y", "opcode 1 inside", id="a new message among fragments"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "0x48", id="no WebSocket at all"),
    ],
)
def test_what_a_server_must_not_send_is_refused(stream: bytes, why: str) -> None:
    with pytest.raises(BadFrame, match=why):
        take_frames(stream)


def test_a_bad_frame_is_refused_before_its_payload_is_there() -> None:
    with pytest.raises(BadFrame):
        take_frames(b"\x83\x7f" + b"\xff" * 8)


def test_the_library_accepts_the_upgrade_and_its_answer_has_what_is_awaited() -> None:
    request, accept = frames.handshake("example.org:8000", "/connection/websocket")
    server = ServerProtocol()
    server.receive_data(request)
    (event,) = server.events_received()
    assert event.path == "/connection/websocket"
    server.send_response(server.accept(event))
    answer = b"".join(server.data_to_send())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert accept in answer
