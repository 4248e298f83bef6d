"""The connection without sockets: hooks, ends, flow control, turns, pings, and what an idle one holds."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref

import pytest
from websockets.frames import Close

from realtime.codes import NO_PONG, SERVER_ERROR, SLOW
from realtime.endpoint import STALL_TICKS
from realtime.frames import close_frame, deflated_text_frame, text_frame
from realtime.websocket import CLOSE_TIMEOUT, FRAMES_A_TURN, SINK, WebSocketConnection, WebSocketEndpoint
from realtime.wheel import TimingWheel
from tests.realtime.wire import BINARY, CLOSE, CONT, PING, Recorder, connected, deflated, frame


@pytest.fixture
def endpoint() -> WebSocketEndpoint:
    return WebSocketEndpoint(TimingWheel(ping_interval=5, pong_timeout=2), max_message_size=1000)


def advance(endpoint: WebSocketEndpoint, ticks: int) -> None:
    for _ in range(ticks):
        endpoint.wheel.advance()


def last_close(written: list[bytes]) -> Close:
    *_, wire = written
    assert wire[0] == 0x88
    return Close.parse(wire[2:])


def test_opens_once_and_is_registered(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    assert connection.opens == 1
    assert endpoint.connections == {connection}
    assert endpoint.accepted == 1


def test_counts_what_comes_in(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    wire = frame(b"one") + frame(b"two", BINARY) + frame(b"th", fin=False) + frame(b"ree", CONT)
    connection.data_received(wire)
    assert endpoint.messages_in == 3
    assert endpoint.bytes_in == len(wire)


def test_disconnect_says_why_and_half_closes(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.disconnect(3005, "connection expired")
    connection.disconnect(3000, "again")
    assert transport.written == [close_frame(3005, "connection expired")]
    assert transport.eof_written
    assert connection.closes == [(3005, "connection expired")]
    assert not endpoint.connections
    assert endpoint.closes == {3005: 1}


def test_writing_after_the_end_is_harmless(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.disconnect(3000)
    before = list(transport.written)
    connection.write(text_frame(b"late"))
    connection.send_text(b"late")
    connection.transport.write(b"late")
    connection.pause_reading()
    connection.resume_reading()
    assert connection.transport is SINK
    assert connection.transport.get_write_buffer_size() == 0
    assert connection.transport.is_closing()
    assert transport.written == before


def test_what_comes_after_the_end_is_dropped(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    connection.disconnect(3000)
    connection.data_received(frame(b"late") + frame(b"", CLOSE))
    connection.eof_received()
    connection.connection_lost(None)
    assert connection.messages == []
    assert connection.closes == [(3000, "")]


def test_a_peer_that_does_not_hang_up_is_cut_off(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.disconnect(3000)
    advance(endpoint, CLOSE_TIMEOUT - 1)
    assert not transport.aborted
    advance(endpoint, 1)
    assert transport.aborted


def test_the_peers_close_is_echoed(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.data_received(frame(close_frame(4000, "bye")[2:], CLOSE))
    assert last_close(transport.written) == Close(4000, "bye")
    assert connection.closes == [(4000, "bye")]


def test_a_close_amid_fragments_is_echoed(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.data_received(frame(b"part", fin=False) + frame(close_frame(1000)[2:], CLOSE))
    assert last_close(transport.written).code == 1000
    assert connection.closes == [(1000, "")]


@pytest.mark.parametrize("end", ["eof_received", "connection_lost"])
def test_a_peer_that_just_goes_away(endpoint: WebSocketEndpoint, end: str) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.eof_received() if end == "eof_received" else connection.connection_lost(OSError())
    connection.connection_lost(None)
    assert connection.closes == [(1006, "")]
    assert transport.written == []


@pytest.mark.parametrize("lane", ["whole", "fragment", "long"])
def test_invalid_text_ends_with_1007(endpoint: WebSocketEndpoint, lane: str) -> None:
    connection, transport = connected(Recorder(endpoint))
    bad = b"ok \xff"
    connection.data_received(
        {"whole": frame(bad), "fragment": frame(bad, fin=False), "long": frame(bad, length_bytes=8)}[lane]
    )
    assert last_close(transport.written).code == 1007
    assert connection.messages == []


def test_text_cut_inside_a_character_is_whole_again(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    euro = "€".encode()
    connection.data_received(frame(euro[:1], fin=False) + frame(euro[1:2], CONT, fin=False) + frame(euro[2:], CONT))
    assert connection.messages == [(euro, False)]


@pytest.mark.parametrize(
    "wire",
    [
        frame(b"x" * 1001),
        frame(b"x" * 600, fin=False) + frame(b"x" * 401, CONT),
        frame(length_bytes=8, length=2**62)[:10],
        frame(length_bytes=2, length=1001)[:4],
    ],
    ids=["text", "fragments", "64-bit header alone", "16-bit header alone"],
)
def test_too_big_ends_with_1009_before_it_is_held(endpoint: WebSocketEndpoint, wire: bytes) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.data_received(wire)
    assert last_close(transport.written).code == 1009
    assert connection.messages == []


def test_zip_bombs_end_with_1009() -> None:
    endpoint = WebSocketEndpoint(TimingWheel(), max_message_size=1000, compression=True)
    connection, transport = connected(Recorder(endpoint), Sec_WebSocket_Extensions="permessage-deflate")
    connection.data_received(frame(deflated(b"a" * 100_000), rsv=0x40))
    assert last_close(transport.written).code == 1009


def test_empty_fragments_do_not_pile_up(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    connection.data_received(frame(b"a", fin=False))
    empty = frame(b"", CONT, fin=False)
    connection.data_received(empty)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        connection.data_received(empty)
    assert len(gc.get_objects()) - before < 50
    connection.data_received(frame(b"b", CONT))
    assert connection.messages == [(b"ab", False)]


def test_pings_are_answered(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.data_received(frame(b"a", PING) + frame(b"", PING))
    assert transport.written == [b"\x8a\x01a", b"\x8a\x00"]


def test_a_failing_handler_ends_only_its_connection(
    endpoint: WebSocketEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        __slots__ = ()

        def message_received(self, payload: bytes, binary: bool) -> None:
            raise ZeroDivisionError

    connection, transport = connected(Broken(endpoint))
    with caplog.at_level(logging.ERROR):
        connection.data_received(frame(b"x") * 2)
    assert last_close(transport.written).code == SERVER_ERROR.code
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


# --- pausing ----------------------------------------------------------------------------------------------------


class Pausing(Recorder):
    """Takes one message and then wants no more until told."""

    __slots__ = ()

    def message_received(self, payload: bytes, binary: bool) -> None:
        super().message_received(payload, binary)
        self.pause_reading()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("wire", [frame(b"x"), frame(b"x", BINARY), frame(b"x", fin=False) + frame(b"", CONT)])
async def test_nothing_is_delivered_while_paused(endpoint: WebSocketEndpoint, wire: bytes) -> None:
    connection, transport = connected(Pausing(endpoint))
    connection.data_received(wire * 3 + wire[:5])
    assert len(connection.messages) == 1
    assert not transport.reading
    for delivered in (2, 3):
        connection.resume_reading()
        assert len(connection.messages) == delivered - 1, "delivered from the loop, not from the call"
        await settle()
        assert len(connection.messages) == delivered
    connection.resume_reading()
    await settle()
    assert transport.reading
    connection.data_received(wire[5:])
    assert len(connection.messages) == 4


async def test_reasons_to_pause_nest(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    connection.pause_reading()
    connection.pause_writing()
    connection.data_received(frame(b"waits"))
    connection.resume_reading()
    await settle()
    assert not transport.reading
    assert connection.messages == []
    connection.resume_writing()
    await settle()
    assert transport.reading
    assert connection.messages == [(b"waits", False)]


async def test_a_pause_within_a_handler_may_end_within_it(endpoint: WebSocketEndpoint) -> None:
    class Brief(Pausing):
        __slots__ = ()

        def message_received(self, payload: bytes, binary: bool) -> None:
            super().message_received(payload, binary)
            self.resume_reading()

    connection, transport = connected(Brief(endpoint))
    connection.data_received(frame(b"x") * 3 + b"\x81")
    assert len(connection.messages) == 3
    assert transport.reading


async def test_the_end_forgets_what_waited(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Pausing(endpoint))
    connection.data_received(frame(b"x") * 3)
    connection.resume_reading()
    connection.disconnect(3000)
    await settle()
    assert len(connection.messages) == 1


async def test_a_flood_takes_turns(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    count = 10 * FRAMES_A_TURN + 1
    connection.data_received(frame(b"x") * count)
    assert len(connection.messages) == FRAMES_A_TURN
    assert not transport.reading
    await asyncio.sleep(0)
    assert len(connection.messages) == 2 * FRAMES_A_TURN
    while not transport.reading:
        await asyncio.sleep(0)
    assert len(connection.messages) == count


async def test_a_long_held_read_is_not_copied_for_every_message(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Pausing(endpoint))
    connection.data_received(frame(b"x" * 900) * 1000)
    rest = connection._rest
    connection.resume_reading()
    await settle()
    assert connection._rest is rest


# --- slow readers -----------------------------------------------------------------------------------------------


def test_a_slow_reader_is_disconnected_above_its_outbox(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    other, _ = connected(Recorder(endpoint))
    transport.stuck = True
    connection.pause_writing()
    endpoint.outbox_limit = 100
    connection.write(b"x" * 100)
    endpoint.check_congested()
    assert connection.closes == []
    connection.write(b"x")
    endpoint.check_congested()
    assert connection.closes == [(SLOW.code, SLOW.reason)]
    assert not endpoint.congested
    assert other.closes == []
    advance(endpoint, CLOSE_TIMEOUT)
    assert transport.aborted


def test_a_reader_that_recovers_is_forgiven(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    connection.pause_writing()
    assert list(endpoint.congested) == [connection]
    connection.resume_writing()
    assert not endpoint.congested
    assert not connection.paused


def test_a_reader_that_stays_congested_is_disconnected(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    connection.pause_writing()
    advance(endpoint, STALL_TICKS)
    assert connection.closes == []
    advance(endpoint, 1)
    assert connection.closes == [(SLOW.code, SLOW.reason)]


def test_the_farewell_to_a_slow_reader_does_not_congest_it_again(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    connection.disconnect(3000)
    connection.pause_writing()
    assert not endpoint.congested


# --- pings ------------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_pinged_then_disconnected(endpoint: WebSocketEndpoint) -> None:
    connection, transport = connected(Recorder(endpoint))
    advance(endpoint, 5)
    assert transport.written[0] == b"\x89\x00"
    advance(endpoint, 2)
    assert connection.closes == [(NO_PONG.code, NO_PONG.reason)]


def test_any_bytes_are_a_sign_of_life(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(Recorder(endpoint))
    for _ in range(30):
        advance(endpoint, 1)
        connection.data_received(frame(b"x" * 30)[:1])
        connection._rest = None
    assert connection.closes == []


# --- compression ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "agreed", "compressed"),
    [
        ("permessage-deflate", "server_no_context_takeover; client_no_context_takeover", True),
        ("permessage-deflate; client_max_window_bits", "server_no_context_takeover; client_no_context_takeover", True),
        (
            "permessage-deflate; server_max_window_bits=10",
            "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10",
            False,  # the frames made for everyone look back 4 KiB; this client still may compress its own
        ),
        ("x-unknown", None, False),
        ("", None, False),
    ],
)
def test_compression_is_agreed_without_context(offer: str, agreed: str | None, compressed: bool) -> None:
    from tests.realtime.wire import MemoryTransport, handshake

    endpoint = WebSocketEndpoint(TimingWheel(), compression=True)
    connection, transport = Recorder(endpoint), MemoryTransport()
    connection.upgrade(transport, handshake(Sec_WebSocket_Extensions=offer))  # type: ignore[arg-type]
    answer = transport.written.pop().decode()
    assert ("Sec-WebSocket-Extensions" in answer) is (agreed is not None)
    if agreed:
        assert f"Sec-WebSocket-Extensions: permessage-deflate; {agreed}\r\n" in answer
        connection.data_received(frame(deflated(b"a" * 500), rsv=0x40))
        assert connection.messages == [(b"a" * 500, False)]
    assert connection.deflate is compressed
    connection.send_text(b"b" * 500)
    assert transport.written == [(deflated_text_frame if compressed else text_frame)(b"b" * 500)]


# --- memory -----------------------------------------------------------------------------------------------------


def test_an_idle_connection_holds_nothing(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(WebSocketConnection(endpoint))
    partial = frame(b"x" * 500)
    for wire in (
        partial[:50],
        partial[50:],
        frame(b"", PING),
        frame(b"binary", BINARY),
        frame(b"a", fin=False),
        frame(b"", PING),
        frame(b"b", CONT),
    ):
        connection.data_received(wire)
    assert connection._rest is None
    assert connection._message is None
    assert not hasattr(connection, "__dict__")
    assert sys.getsizeof(connection) <= 112


def test_what_is_pending_is_held_and_no_more(endpoint: WebSocketEndpoint) -> None:
    connection, _ = connected(WebSocketConnection(endpoint))
    connection.data_received(frame(b"x" * 900)[:10])
    assert connection._rest is not None
    assert len(connection._rest) == 10


def test_a_closed_connection_is_freed_without_the_cycle_collector(endpoint: WebSocketEndpoint) -> None:
    class Referable(Recorder):
        pass

    connection, _ = connected(Referable(endpoint))
    connection.data_received(frame(b"a", fin=False))
    gone = weakref.ref(connection)
    gc.disable()
    try:
        connection.disconnect(3000)
        del connection
        assert gone() is None
    finally:
        gc.enable()
