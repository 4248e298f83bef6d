"""The connection on real sockets and the production loop: what others do badly, and what it costs them."""

from __future__ import annotations

import asyncio
import socket

import pytest
from websockets.exceptions import ConnectionClosed

from realtime.codes import NO_PONG, SLOW
from realtime.frames import text_frame
from realtime.websocket import CLOSE_TIMEOUT, WebSocketConnection
from tests.gateway_node.serving import Echo, on_uvloop, read_close, served
from tests.realtime.wire import CONT, PING, frame


@pytest.mark.parametrize("compression", [None, "deflate"])
@on_uvloop
async def test_messages_of_every_size_come_back(compression: str | None) -> None:
    async with (
        served(max_message_size=2**21, outbox_limit=2**24, compression=True) as node,
        node.client(compression=compression, max_size=None) as client,
    ):
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            await client.send("é" * (size // 2))
            assert await client.recv() == "é" * (size // 2)
        await client.send(["in ", "three ", "fragments"])
        assert await client.recv() == "in three fragments"


@on_uvloop
async def test_a_frame_byte_by_byte() -> None:
    async with served() as node:
        reader, writer = await node.websocket()
        for byte in frame(b"a" * 200) + frame(b"b", fin=False) + frame(b"c", CONT):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await reader.readexactly(4 + 200 + 2 + 2) == text_frame(b"a" * 200) + text_frame(b"bc")
        writer.close()


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(b"\xff"), 1007),
        (frame(b"x" * 1001), 1009),
        (frame(length_bytes=8, length=2**63)[:10], 1009),
        (frame(b"x", masked=False), 1002),
        (frame(b"x", 5), 1002),
        (frame(b"x", CONT), 1002),
    ],
)
@on_uvloop
async def test_a_breach_is_told_its_code_even_with_megabytes_behind_it(wire: bytes, code: int) -> None:
    async with served(max_message_size=1000) as node:
        reader, writer = await node.websocket()
        writer.write(wire + b"\x00" * 3_000_000)
        assert (await read_close(reader)).code == code
        assert not node.endpoint.connections
        writer.close()


@on_uvloop
async def test_a_slow_reader_costs_at_most_its_outbox_and_delays_nobody() -> None:
    limit = 256 * 1024
    async with served(outbox_limit=limit) as node:
        _, slow = await node.websocket()
        slow.transport.pause_reading()
        async with node.client() as quick:
            publication = text_frame(b"x" * 10_000)
            received = 0
            largest = 0
            while len(node.endpoint.connections) == 2:
                for connection in list(node.endpoint.connections):
                    connection.transport.write(publication)
                largest = max([largest, *(c.transport.get_write_buffer_size() for c in node.endpoint.congested)])
                node.endpoint.check_congested()
                await quick.recv()
                received += 1
            assert largest <= limit + len(publication)
            assert received > 20
            assert node.endpoint.closes == {SLOW.code: 1}
            await quick.send("still here")
            assert await quick.recv() == "still here"
        slow.close()


@on_uvloop
async def test_a_reader_that_never_reads_its_close_is_aborted() -> None:
    lost = asyncio.Event()

    class Watched(Echo):
        __slots__ = ()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async with served(connection=Watched, outbox_limit=64 * 1024) as node:
        _, writer = await node.websocket()
        writer.transport.pause_reading()
        (connection,) = node.endpoint.connections
        while node.endpoint.connections:
            connection.transport.write(b"\x00" * 65536)
            node.endpoint.check_congested()
            await asyncio.sleep(0)
        assert not lost.is_set()
        node.advance(CLOSE_TIMEOUT)
        await lost.wait()
        writer.close()


@on_uvloop
async def test_a_ping_flood_that_does_not_read_is_paused_and_others_go_on() -> None:
    async with served() as node:
        _, flooder = await node.websocket()
        flooder.transport.pause_reading()
        flood = frame(b"x" * 100, PING) * 500

        async def keep_flooding() -> None:
            while True:
                flooder.write(flood)
                await flooder.drain()

        flooding = asyncio.ensure_future(keep_flooding())
        async with node.client() as client:
            while not node.endpoint.congested:
                await client.send("meanwhile")
                assert await client.recv() == "meanwhile"
            (congested,) = node.endpoint.congested
            assert congested.paused
            assert congested.transport.get_write_buffer_size() < 256 * 1024
            await client.send("after")
            assert await client.recv() == "after"
        flooding.cancel()
        await asyncio.wait([flooding])
        flooder.transport.abort()


@on_uvloop
async def test_a_silent_peer_is_disconnected_and_a_living_one_is_not() -> None:
    async with served() as node:
        reader, writer = await node.websocket()  # reads its pings and does not answer
        async with node.client(ping_interval=None) as client:
            for _ in range(node.wheel.ping_interval + node.wheel.pong_timeout):
                node.advance(1)
                await (await client.ping())  # what it has sent until now has been read
            assert (await read_close(reader)).code == NO_PONG.code
            assert len(node.endpoint.connections) == 1
        writer.close()


@on_uvloop
async def test_a_peer_that_vanishes_is_noticed() -> None:
    async with served() as node:
        _, writer = await node.websocket()
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()  # with a reset
        await node.until(lambda: not node.endpoint.connections)
        assert node.endpoint.closes == {1006: 1}


@on_uvloop
async def test_writing_to_a_peer_that_vanished_is_harmless() -> None:
    async with served() as node:
        _, writer = await node.websocket()
        (connection,) = node.endpoint.connections
        writer.transport.abort()
        while node.endpoint.connections:
            connection.transport.write(text_frame(b"x" * 1000))
            await asyncio.sleep(0)
        connection.transport.write(text_frame(b"x"))


@on_uvloop
async def test_a_mass_disconnect_reaches_everyone_with_its_code() -> None:
    async with served() as node:
        peers = [await node.websocket() for _ in range(50)]
        for connection in list(node.endpoint.connections):
            connection.disconnect(3001, "shutdown")
        assert not node.endpoint.connections
        for reader, writer in peers:
            assert (await read_close(reader)).code == 3001
            writer.close()


@on_uvloop
async def test_a_paused_session_takes_its_commands_one_by_one_in_order() -> None:
    order: list[bytes] = []

    class Serial(WebSocketConnection):
        __slots__ = ("tasks",)

        def message_received(self, payload: bytes, binary: bool) -> None:
            self.pause_reading()
            self.tasks = asyncio.ensure_future(self.handle(payload))

        async def handle(self, payload: bytes) -> None:
            await asyncio.sleep(0)
            order.append(payload)
            self.send_text(payload)
            self.resume_reading()

    async with served(connection=Serial) as node, node.client() as client:
        for number in range(300):
            await client.send(str(number))
        for number in range(300):
            assert await client.recv() == str(number)
        assert order == [b"%d" % number for number in range(300)]


@on_uvloop
async def test_the_client_sees_our_close_code_and_reason() -> None:
    async with served() as node, node.client() as client:
        (connection,) = node.endpoint.connections
        connection.disconnect(4500, "because")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4500, "because")
