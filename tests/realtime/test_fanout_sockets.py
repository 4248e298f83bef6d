"""Fan-out to the transports of real sockets, on uvloop as nodes run."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest
import uvloop

from realtime.fanout import Batch
from realtime.websocket import Transport


class Plain(asyncio.Protocol):
    """Notes when its transport has gone."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def _write_past_a_closed_one() -> bytes:
    loop = asyncio.get_running_loop()
    transports, ends = [], []
    for _ in range(3):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        transports.append(await loop.connect_accepted_socket(Plain, ours))
        ends.append(theirs)
    try:
        closed, protocol = transports[1]
        batch = Batch(b"frame", [cast(Transport, transport) for transport, _ in transports])
        closed.abort()
        await protocol.lost.wait()
        await asyncio.sleep(0)  # now the handle is gone as well
        assert batch.write_slice()
        return await loop.sock_recv(ends[2], 100)
    finally:
        for end, (transport, each) in zip(ends, transports, strict=True):
            transport.abort()
            await each.lost.wait()
            end.close()


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_a_reader_that_closed_while_a_batch_is_written_costs_nobody_else(run: object) -> None:
    assert run(asyncio.wait_for(_write_past_a_closed_one(), 10)) == b"frame"  # type: ignore[operator]
