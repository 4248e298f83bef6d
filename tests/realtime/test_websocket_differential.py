"""The connection's three reading lanes against the reference parser alone: the same bytes, however they are cut into
reads, give the same messages, the same answers and the same close code."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from realtime.websocket import WebSocketEndpoint
from realtime.wheel import TimingWheel
from tests.realtime.wire import CLOSE, CONT, PING, PONG, RSV1, TEXT, Recorder, connected, deflated, frame

LIMIT = 1000  # bytes a message
EXAMPLES = int(os.environ.get("CHALKWIRE_TEST_EXAMPLES", "300"))

Outcome = tuple[list[tuple[bytes, bool]], list[bytes], int | None]


class Reference(ServerProtocol):
    """`websockets`' parser, except that a close frame is answered alike inside and outside of a fragmented message."""

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


def by_reference(stream: bytes, compressed: bool) -> Outcome:
    """Messages, answers (pongs and closes) and the close code, by the reference parser and the simplest assembly.

    Answers are not compared where text is invalid: the words of the reason are each side's own.
    """
    parser = Reference(state=OPEN, max_size=LIMIT)
    if compressed:
        parser.extensions = [PerMessageDeflate(True, True, 15, 15)]
    parser.receive_data(stream)
    messages: list[tuple[bytes, bool]] = []
    payload, decoder = b"", None
    for event in parser.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY):
            payload = b""
            decoder = codecs.getincrementaldecoder("utf-8")() if event.opcode is Opcode.TEXT else None
        elif event.opcode is not Opcode.CONT:
            continue
        payload += event.data
        if decoder is not None:
            try:
                decoder.decode(bytes(event.data), event.fin)
            except UnicodeDecodeError:
                return messages, [], 1007
        if event.fin:
            messages.append((payload, decoder is None))
    code = parser.close_sent.code if parser.close_sent is not None else None
    return messages, [] if code == 1007 else [data for data in parser.data_to_send() if data], code


def by_connection(reads: list[bytes], compressed: bool) -> Outcome:
    async def run() -> Outcome:
        endpoint = WebSocketEndpoint(TimingWheel(), max_message_size=LIMIT, compression=True)
        offer = {"Sec_WebSocket_Extensions": "permessage-deflate"} if compressed else {}
        connection, transport = connected(Recorder(endpoint), **offer)
        for read in reads:
            while not transport.reading:
                await asyncio.sleep(0)
            connection.data_received(read)
        while not transport.reading:
            await asyncio.sleep(0)
        assert len(connection.closes) <= 1
        assert (connection in endpoint.connections) is (not connection.closes)
        code = connection.closes[0][0] if connection.closes else None
        return connection.messages, [] if code == 1007 else transport.written, code

    return LOOP.run_until_complete(run())


LOOP: asyncio.AbstractEventLoop


@pytest.fixture(autouse=True, scope="module")
def loop() -> Iterator[None]:
    global LOOP
    LOOP = asyncio.new_event_loop()
    yield
    LOOP.close()


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds) if start < end]


texts = st.text(max_size=40).map(str.encode)
payloads = (
    texts | st.binary(max_size=40) | st.integers(120, 130).map(lambda n: b"a" * n) | st.just(b"\xe2\x82\xac" * 400)
)
close_payloads = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason, st.integers(990, 5010), texts
) | st.binary(max_size=4)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A valid message, perhaps compressed, in fragments with control frames in between."""
    payload = draw(texts)
    opcode, rsv = TEXT, 0
    if draw(st.booleans()):
        payload, rsv = deflated(payload), RSV1
    fragments = cut(payload, draw(st.lists(st.integers(0, 50), max_size=3))) or [b""]
    wire = []
    for number, fragment in enumerate(fragments):
        wire.append(frame(fragment, opcode, fin=number == len(fragments) - 1, rsv=rsv))
        opcode, rsv = CONT, 0
        wire.extend(draw(st.lists(st.builds(frame, texts, st.sampled_from([PING, PONG])), max_size=1)))
    return b"".join(wire)


anything = st.builds(
    frame,
    payloads,
    st.sampled_from([TEXT, TEXT, TEXT, 2, CONT, PING, PONG, 3, 11]),
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, RSV1, 0x20]),
    masked=st.sampled_from([True] * 9 + [False]),
    length_bytes=st.sampled_from([None, None, None, 8]),
)
long_forms = st.builds(frame, texts, length_bytes=st.sampled_from([2, 8]))
liars = st.builds(frame, texts, length_bytes=st.just(8), length=st.sampled_from([LIMIT, LIMIT + 1, 2**32, 2**63 - 1]))
closes = st.builds(frame, close_payloads, st.just(CLOSE))
streams = st.lists(
    st.one_of(texts.map(frame), texts.map(frame), messages(), messages(), long_forms, anything, closes, liars),
    max_size=8,
).map(b"".join)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@settings(max_examples=EXAMPLES, deadline=None)
@given(streams, cuts, st.booleans())
def test_streams_of_frames(stream: bytes, places: list[int], compressed: bool) -> None:
    assert by_connection(cut(stream, places), compressed) == by_reference(stream, compressed)


@settings(max_examples=EXAMPLES, deadline=None)
@given(streams, cuts, st.booleans(), st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=4))
def test_damaged_streams(stream: bytes, places: list[int], compressed: bool, damage: list[tuple[int, bytes]]) -> None:
    wire = bytearray(stream)
    for place, patch in damage:
        start = place % (len(wire) + 1)
        wire[start : start + len(patch)] = patch
    damaged = bytes(wire)
    assert by_connection(cut(damaged, places), compressed) == by_reference(damaged, compressed)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=200), cuts, st.booleans())
def test_noise(noise: bytes, places: list[int], compressed: bool) -> None:
    assert by_connection(cut(noise, places), compressed) == by_reference(noise, compressed)


@settings(max_examples=max(EXAMPLES // 10, 10), deadline=None)
@given(streams, st.booleans())
def test_one_byte_at_a_time(stream: bytes, compressed: bool) -> None:
    reads = [stream[place : place + 1] for place in range(len(stream))]
    assert by_connection(reads, compressed) == by_reference(stream, compressed)


@settings(max_examples=max(EXAMPLES // 10, 10), deadline=None)
@given(st.lists(texts, min_size=100, max_size=300), cuts)
def test_many_frames_in_a_read(payloads: list[bytes], places: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    messages, answers, code = by_connection(cut(stream, places), False)
    assert messages == [(payload, False) for payload in payloads]
    assert (answers, code) == ([], None)
