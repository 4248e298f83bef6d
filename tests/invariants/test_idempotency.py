"""I3: the same message again has the first offset, and is seen once, also when the first attempt died halfway."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import pytest

from loadtest.server import Server
from storage.database import TROUBLE
from tests.invariants.conftest import (
    Book,
    Connection,
    Row,
    append_waits,
    call_api,
    database,
    healed,
    locked,
    poll,
    room,
    rows_of,
    strike,
)
from tests.invariants.rawclient import Lost, Refused, raw_client

pytestmark = pytest.mark.chaos


def message(content: str = "once") -> dict[str, str]:
    return {"id": str(uuid.uuid4()), "type": "text", "content": content}


async def test_i3_a_message_sent_again_has_the_first_offset_and_is_seen_once(server: Server) -> None:
    """I3: on the same connection, on another node, pipelined, and side by side from two devices."""
    async with room(server) as people:
        sender, _ = people.people
        async with raw_client(server.websocket(1), sender.token) as device:
            await device.subscribe(people.channel)
            first = message()
            await sender.publish(people.channel, first)
            for again in (sender, device, sender):
                await again.publish(people.channel, first)
            second = message("twenty at once")
            command = {"channel": people.channel, "data": second}
            await asyncio.gather(*(each.ask(publish=command) for each in (sender, device) for _ in range(10)))
            await sender.publish(people.channel, message("last"))
            await people.settled(server)
            async with database(server) as connection:
                rows = await rows_of(connection, people.channel)
            contents = [row.data["content"] for row in rows][-3:]
            assert contents == ["once", "twenty at once", "last"]
            await device.told(people.channel, len(rows))
            for subscription in (*people.subscriptions, device.subscriptions[people.channel]):
                assert [data["content"] for data in subscription.data] == contents
                assert subscription.faults == []


async def test_i3_an_id_belongs_to_its_first_sender(server: Server) -> None:
    """I3: somebody else cannot take, double or hide a message by using its id."""
    async with room(server) as people:
        sender, thief = people.people
        first = message("mine")
        await sender.publish(people.channel, first)
        with pytest.raises(Refused) as refused:
            await thief.publish(people.channel, {**first, "content": "stolen"})
        assert refused.value.code == 107
        await people.settled(server)
        for subscription in people.subscriptions:
            assert [data["content"] for data in subscription.data] == ["mine"]


async def test_i3_a_message_whose_node_died_between_commit_and_telling_is_seen_once(server: Server) -> None:
    """I3, I1: the node is killed while its append waits for a lock; the commit follows, and nobody is told but by the
    sweep. The retry on the other node gets the first offset."""
    async with room(server) as people:
        sender, other = people.people
        first, halfway = message("first"), message("halfway")
        await sender.publish(people.channel, first)
        async with locked(server, people.channel):
            attempt = sender.ask_soon(publish={"channel": people.channel, "data": halfway})
            await append_waits(server)
            pid = strike(server, "node-1")
        with pytest.raises(Lost):
            await attempt
        async with database(server) as connection:
            rows = await poll(lambda: rows_with(connection, people.channel, halfway["id"]), "it is committed")
            await other.told(people.channel, rows[0].offset, 5)  # by the sweep
            async with raw_client(server.websocket(1), sender.token) as device:
                await device.subscribe(people.channel)
                await device.publish(people.channel, halfway)
                await device.publish(people.channel, message("last"))
            await healed(server, "node-1", pid)
            await people.settled(server)
            assert len(await rows_with(connection, people.channel, halfway["id"])) == 1
        for subscription in people.subscriptions:
            assert [data["content"] for data in subscription.data] == ["first", "halfway", "last"]
            assert subscription.faults == []


@pytest.mark.parametrize("victim", ["log-writer", "postgres"])
async def test_i3_an_append_of_unknown_outcome_is_stored_once_and_acknowledged(server: Server, victim: str) -> None:
    """I3, I1: the log writer or PostgreSQL is killed under a waiting append; whether it was committed is unknown, and
    it is sent again, by the server or by the sender."""
    async with room(server) as people:
        sender, _ = people.people
        book = Book(people.channel)
        await book.talk(sender, "sender", 1)
        id = str(uuid.uuid4())
        book.sent[id] = "sender", 1
        with contextlib.suppress(*TROUBLE):  # PostgreSQL takes the lock with it
            async with locked(server, people.channel):
                publishing = asyncio.create_task(book.publish(sender, id, "unknown"))
                await append_waits(server)
                pid = strike(server, victim)
                if victim == "log-writer":  # its backend still waits for the lock
                    await healed(server, victim, pid)
        await healed(server, victim, pid)
        await publishing
        await book.talk(sender, "sender after", 3)
        await people.settled(server)
        rows = await book.balance(server, *people.subscriptions)
        assert [str(row.id) for row in rows].count(id) == 1


async def test_i3_the_server_api_publishes_an_idempotency_key_once(server: Server) -> None:
    """I3: whichever node takes the retry, also at once and after that node was killed; another channel is another
    place."""
    channel, key = f"chat:{uuid.uuid4()}", str(uuid.uuid4())
    async with raw_client(server.websocket(1), server.token("ana")) as ana:
        heard = await ana.subscribe(channel)

        async def publish(node: int, key: str, channel: str = channel) -> int:
            answer = await call_api(server, node, "publish", channel=channel, data={"key": key}, idempotency_key=key)
            return int(answer["result"]["offset"])

        assert await asyncio.gather(*(publish(node, key) for node in (0, 1) * 5)) == [1] * 10
        pid = strike(server, "node-1")
        await healed(server, "node-1", pid)
        assert await publish(0, key) == 1
        assert await publish(0, "another") == 2
        assert await publish(1, key, f"chat:{uuid.uuid4()}") == 1
        await ana.until(lambda: heard.offset == 2)
        assert heard.data == [{"key": key}, {"key": "another"}]


async def rows_with(connection: Connection, channel: str, id: str) -> list[Row]:
    return [row for row in await rows_of(connection, channel) if str(row.id) == id]
