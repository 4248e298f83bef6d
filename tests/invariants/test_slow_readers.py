"""I6: a slow or silent reader delays nobody, and costs at most its outbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from statistics import median

import pytest

from loadtest.server import Server
from tests.invariants.attack import (
    Peer,
    bystanders,
    command,
    complaints,
    frame,
    memory_of_nodes,
    peers,
    samples,
)
from tests.invariants.conftest import DURABLE, OPEN, poll
from tests.invariants.rawclient import RawClient, Subscription, raw_client
from tests.stack import short_folder

pytestmark = pytest.mark.chaos

MIB = 1024 * 1024
OUTBOX = 256 * 1024
SLOW_READERS = 20
PUBLICATIONS, SIZE = 400, 32_000  # 12.8 MB: more than the kernel's buffers take of one connection (4 to 6 MB)
SLACK = 8 * MIB  # of a node's memory: the allocator's own
SLOW = 3008
NAMESPACES = {"chat": DURABLE, "loud": OPEN, "past": {**DURABLE, "allow_history_for_client": True}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    more = {
        "CHANNEL__NAMESPACES": json.dumps(NAMESPACES),
        "CLIENT__OUTBOX": str(OUTBOX),
        "CLIENT__PUBLISHES_PER_SECOND": "0",
        "CLIENT__COMMANDS_PER_SECOND": "0",
        "LIMITS__REQUESTS_PER_ADDRESS": "0",
    }
    with short_folder() as folder, Server(folder / "data", settings=more) as running:
        yield running
        assert list(complaints(running)) == []


async def deaf(server: Server, user: str) -> Peer:
    """A connected client with the smallest receive buffer that there is. It reads when it is asked to."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before the connection: it bounds the window
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", server.node_port_base))
    peer = await Peer.upgraded_on(plain)
    assert "connect" in await peer.ask(connect={"token": server.token(user)})
    return peer


@asynccontextmanager
async def deaf_readers(server: Server, count: int) -> AsyncIterator[list[Peer]]:
    async with peers(*(deaf(server, f"deaf-{number}") for number in range(count))) as slow:
        yield slow


async def shout(server: Server, channel: str) -> None:
    """Publish faster than anybody without a reader's diligence can follow."""
    data = "x" * SIZE
    async with peers(Peer.connected(server.node_port_base, server.token("shouter"))) as (peer,):
        for number in range(2, PUBLICATIONS + 2):
            peer.send(frame(command(number, publish={"channel": channel, "data": data})))
            await peer.writer.drain()
            await asyncio.sleep(0.002)
        await peer.answer_to(PUBLICATIONS + 1)


def _ends_with(heard: Subscription, data: object) -> bool:
    return bool(heard.data) and heard.data[-1] == data


async def latencies(speaker: RawClient, listener: RawClient, channel: str, busy: asyncio.Task[None]) -> list[float]:
    """From a publish to its arrival at somebody else, for as long as something else goes on."""
    found: list[float] = []
    heard = listener.subscriptions[channel]
    while not busy.done():
        began = time.perf_counter()
        await speaker.publish(channel, {"at": began})
        await listener.until(partial(_ends_with, heard, {"at": began}))
        found.append(time.perf_counter() - began)
        await asyncio.sleep(0.01)
    await busy
    return found


async def test_i6_who_reads_slowly_is_cut_off_and_delays_nobody(server: Server) -> None:
    """Others' latency during a flood is compared with the same flood without slow readers; they are cut off with 3008,
    who reads in time gets everything, and the memory comes back."""
    async with contextlib.AsyncExitStack() as stack:
        two = await stack.enter_async_context(bystanders(server, "chat:quiet"))
        near = await stack.enter_async_context(raw_client(server.websocket(0), server.token("eve")))
        await near.subscribe("chat:quiet")
        quick = [
            await stack.enter_async_context(raw_client(server.websocket(node), server.token(f"quick-{node}")))
            for node in (0, 0, 1)
        ]
        for each in quick:
            await each.subscribe("loud:x")

        async def flood(listener: RawClient) -> list[float]:
            shouting = asyncio.create_task(shout(server, "loud:x"))
            return await latencies(two.people[0], listener, "chat:quiet", shouting)

        cut_before = sum((await samples(server, "chalkwire_slow_disconnects_total")).values())
        alone = {listener: median(await flood(listener)) for listener in (near, two.people[1])}
        before = memory_of_nodes(server)

        async with deaf_readers(server, SLOW_READERS) as slow:
            for peer in slow:
                assert "subscribe" in await peer.ask(subscribe={"channel": "loud:x"})
            assert median(await flood(near)) < 4 * alone[near] + 0.05
            during = memory_of_nodes(server)
            codes = await asyncio.gather(*(peer.end() for peer in slow))
        assert set(codes) == {SLOW}
        for name, now in during.items():
            assert now - before[name] < SLOW_READERS * OUTBOX + SLACK, name

        async with deaf_readers(server, SLOW_READERS) as slow:
            for peer in slow:
                assert "subscribe" in await peer.ask(subscribe={"channel": "loud:x"})
            assert median(await flood(two.people[1])) < 4 * alone[two.people[1]] + 0.05
        for each in quick:
            heard = each.subscriptions["loud:x"]
            await each.until(partial(_has, heard, 4 * PUBLICATIONS))
            assert each.connects == 1

        async def all_counted() -> bool:
            cut = sum((await samples(server, "chalkwire_slow_disconnects_total")).values())
            return cut == cut_before + 2 * SLOW_READERS

        await poll(all_counted, "the metrics tell of every slow reader")
        await poll(
            lambda: all(now - before[name] < SLACK for name, now in memory_of_nodes(server).items()), "memory is back"
        )


def _has(heard: Subscription, count: int) -> bool:
    return len(heard.data) == count


async def test_i6_who_does_not_read_the_answers_gets_no_more_of_them(server: Server) -> None:
    """60 questions for 12.8 MB of history each, from 10 connections that never read: 7.7 GB, were all answered."""
    channel = "past:long"
    async with bystanders(server, "chat:quiet") as two:
        await shout(server, channel)
        before = memory_of_nodes(server)
        async with deaf_readers(server, 10) as slow:
            for peer in slow:
                peer.replies.clear()
                for number in range(60):
                    peer.send(
                        frame(
                            command(number + 2, history={"channel": channel, "limit": -1, "reverse": number % 2 == 1})
                        )
                    )
            for _ in range(20):
                await two.exchange()
                await asyncio.sleep(0.1)
                for name, now in memory_of_nodes(server).items():
                    assert now - before[name] < len(slow) * 2 * OUTBOX + SLACK, name
            answer = await slow[0].answer_to(2)  # and who begins to read gets its answers
            assert len(answer["history"]["publications"]) == OUTBOX // 2 // SIZE
            assert "history" in await slow[0].answer_to(61)
