"""What `NatsConnection` relies upon in nats-py's inside; a new version of nats-py has to pass this."""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version

import pytest
from nats.aio.client import Client

from config.embedded import EmbeddedStack
from gateway_node.nats_client import NATS_PY, UNREACHABLE, NatsConnection

pytestmark = pytest.mark.integration

Received = list[tuple[int, bytes]]


@pytest.fixture
def received() -> Received:
    return []


@pytest.fixture
async def connection(nats_url: str, received: Received) -> AsyncIterator[NatsConnection]:
    made = NatsConnection(lambda sid, message: received.append((sid, message)))
    await made.open([nats_url], "test")
    yield made
    await made.abort()


async def answered(connection: NatsConnection) -> bool:
    pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    connection.ping(pong)
    async with asyncio.timeout(5):
        return await pong


def test_the_methods_overridden_exist_and_the_version_is_pinned() -> None:
    assert version("nats-py") == NATS_PY
    overridden = [name for name in vars(NatsConnection) if name.startswith("_process") or name == "_read_loop"]
    assert len(overridden) == 6
    assert all(name in vars(Client) for name in overridden)


async def test_no_task_or_queue_a_subscription(connection: NatsConnection) -> None:
    before = len(asyncio.all_tasks())
    connection.send(b"".join(b"SUB s.%d  %d\r\n" % (sid, sid) for sid in range(1, 1001)))
    assert await answered(connection)
    assert len(asyncio.all_tasks()) == before
    assert not connection._subs


async def test_messages_come_with_their_subscription_in_order(
    connection: NatsConnection, received: Received, nats_url: str
) -> None:
    other = NatsConnection(lambda *_: None)
    await other.open([nats_url], "other")
    connection.send(b"SUB a  7\r\nSUB b  8\r\n")
    assert await answered(connection)
    other.send(b"PUB a 1\r\nx\r\nPUB b 0\r\n\r\nHPUB a 12 13\r\nNATS/1.0\r\n\r\ny\r\n")
    assert await answered(other)
    assert await answered(connection)
    assert received == [(7, b"x"), (8, b""), (7, b"y")]
    await other.abort()


async def test_a_ping_given_up_does_not_end_the_reading(connection: NatsConnection) -> None:
    pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    connection.ping(pong)
    pong.cancel()
    assert await answered(connection)
    assert not connection.lost.is_set()


async def test_the_server_finds_us_alive(connection: NatsConnection) -> None:
    await connection._process_ping()  # as at a PING of the server, which comes every two minutes
    assert await answered(connection)


async def test_an_error_of_the_protocol_loses_the_connection_once(connection: NatsConnection) -> None:
    connection.send(b"NONSENSE\r\n")
    async with asyncio.timeout(5):
        await connection.lost.wait()
    assert "unknown protocol" in connection.reason
    assert not await answered(connection)
    connection.send(b"PING\r\n")  # dropped, not raised


async def test_an_unexpected_exception_while_reading_loses_the_connection(
    connection: NatsConnection, nats_url: str
) -> None:
    def broken(sid: int, message: bytes) -> None:
        raise RuntimeError

    connection._deliver = broken
    connection.send(b"SUB cw.test  9\r\n")
    assert await answered(connection)
    other = NatsConnection(lambda *_: None)
    await other.open([nats_url], "other")
    other.send(b"PUB cw.test 1\r\nx\r\n")
    async with asyncio.timeout(5):
        await connection.lost.wait()
    await other.abort()


async def test_pings_under_way_end_with_the_connection(nats_url: str) -> None:
    connection = NatsConnection(lambda *_: None)
    await connection.open([nats_url], "test")
    pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    connection._pongs.append(pong)  # one that the server does not know of
    await connection.abort()
    assert pong.result() is False


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {\r\n", b"INFO {}\r\nINFO {}\r\n"])
async def test_a_server_that_is_no_nats_is_a_failure_not_a_hang(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = NatsConnection(lambda *_: None)
        with pytest.raises(UNREACHABLE):
            async with asyncio.timeout(10):
                await connection.open([f"nats://127.0.0.1:{port}"], "test")
        await connection.abort()
        assert connection.lost.is_set()


async def test_a_wrong_token_is_a_failure_with_its_reason(stack: EmbeddedStack) -> None:
    url = str(stack.urls.nats)
    wrong = "nats://wrong@" + url.rpartition("@")[2]
    connection = NatsConnection(lambda *_: None)
    with pytest.raises(UNREACHABLE, match="Authorization"):
        await connection.open([wrong], "test")
    await connection.abort()
