"""Acknowledgements of one turn of the loop: together, before the messages they are about, and each for its own."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from realtime import codes
from tests.realtime.harness import Client, Cluster


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster(1)


def publish(client: Client, times: int) -> list[int]:
    return [client.send(publish={"channel": "chat:a", "data": n}) for n in range(times)]


async def acknowledged(client: Client, numbers: list[int]) -> None:
    await client.until(lambda c: set(numbers) <= {each.get("id") for each in c.received})


async def test_share_a_write(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    ana.pull()
    numbers = publish(ana, 5)
    while not ana.transport.written:
        await asyncio.sleep(0)
    written = ana.transport.written[0]
    assert [orjson.loads(line)["id"] for line in written[2:].split(b"\n")] == numbers


async def test_come_before_the_messages_and_in_order(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    ben = await node.subscribed("ben", "chat:a")
    ana.pull()
    before = len(ana.received)
    theirs = publish(ben, 3)  # in the same turn: its fan-out may not get between
    numbers = publish(ana, 5)
    await ana.until(lambda c: len(c.offsets) == 8)
    await acknowledged(ben, theirs)
    seen = ana.received[before:]
    replies = [at for at, each in enumerate(seen) if each.get("id") in numbers]
    own = [
        at for at, each in enumerate(seen) if each.get("push", {}).get("pub", {}).get("info", {}).get("user") == "ana"
    ]
    assert len(replies) == len(own) == 5
    assert all(reply < push for reply, push in zip(replies, own, strict=True))
    assert [seen[at]["id"] for at in replies] == numbers


async def test_come_before_a_later_commands_reply(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    numbers = publish(ana, 3)
    last = ana.send(ping={})
    await acknowledged(ana, [last])
    assert [each["id"] for each in ana.received if each.get("id", 0) >= numbers[0]] == [*numbers, last]


async def test_one_broken_transport_costs_nobody_elses(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = cluster.nodes[0]
    ana, ben = await node.subscribed("ana", "chat:a"), await node.subscribed("ben", "chat:a")

    def write(data: bytes) -> None:
        raise RuntimeError("broken transport")

    monkeypatch.setattr(ana.transport, "write", write)
    publish(ana, 2)
    await acknowledged(ben, publish(ben, 2))
    assert ana.connection.transport.is_closing()


async def test_are_written_before_the_connection_ends(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].connected("ana")
    replies = cluster.nodes[0].hub.fanout.replies
    replies.add(ana.connection, b'{"id":99,"publish":{}}')
    ana.connection.end(codes.SHUTDOWN)
    await ana.closing()
    assert ana.received[-1]["id"] == 99
