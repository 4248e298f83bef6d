"""I1, I2, I4: what is acknowledged is in PostgreSQL, offsets have no hole, and everybody sees everything once, in
order, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from loadtest.server import Server
from tests.invariants.conftest import (
    Book,
    append_waits,
    database,
    end_waiting_append,
    healed,
    locked,
    room,
    rows_of,
    strike,
)
from tests.invariants.rawclient import Lost

pytestmark = pytest.mark.chaos

MESSAGES = 120  # of each of four senders; together with the room's own below 1,000, the most that a recovery carries
BLOW = 100  # acknowledgements before something is killed


@pytest.mark.parametrize("victim", ["node-1", "log-writer", "postgres", "nats", "valkey"])
async def test_i1_i2_i4_nothing_acknowledged_is_lost_when_a_process_is_killed(server: Server, victim: str) -> None:
    """I1, I2, I4: kill -9 in mid-traffic; four senders on two nodes repeat what got no answer."""
    async with room(server, nodes=(0, 1, 0, 1)) as people:
        book = Book(people.channel)

        async def blow() -> None:
            await book.reaches(people.people[1], BLOW)
            pid = strike(server, victim)
            await healed(server, victim, pid)

        async with asyncio.TaskGroup() as tasks:
            for number, person in enumerate(people.people):
                tasks.create_task(book.talk(person, f"sender-{number}", MESSAGES))
            tasks.create_task(blow())
        await people.settled(server)
        rows = await book.balance(server, *people.subscriptions)
        assert len(book.acknowledged) == 4 * MESSAGES
        assert {str(row.id) for row in rows} >= set(book.sent)
        if victim == "node-1":
            assert people.subscriptions[0].recoveries == 1, "the victim's people have not recovered"
        else:
            assert all(person.connects == 1 for person in people.people), "a connection was lost"


async def test_i1_nothing_is_acknowledged_before_its_commit(server: Server) -> None:
    """I1: an append waits for a lock; the node and the log writer are killed and the statement is ended, so that it
    is never committed. Its sender must have heard nothing; the repetition is stored."""
    async with room(server) as people:
        sender, _ = people.people
        book = Book(people.channel)
        await book.talk(sender, "sender", 3)
        id = str(uuid.uuid4())
        data = {"id": id, "type": "text", "content": "too early"}
        async with locked(server, people.channel):
            attempt = sender.ask_soon(publish={"channel": people.channel, "data": data})
            await append_waits(server)
            victims = {name: strike(server, name) for name in ("log-writer", "node-1")}
            await end_waiting_append(server)
        with pytest.raises(Lost):
            await attempt
        for name, pid in victims.items():
            await healed(server, name, pid)
        async with database(server) as connection:
            assert id not in [str(row.id) for row in await rows_of(connection, people.channel)]
        book.sent[id] = "sender", 3
        await book.publish(sender, id, "too early")
        await people.settled(server)
        await book.balance(server, *people.subscriptions)


async def test_i1_i4_i9_killing_everything_at_once_costs_nothing_acknowledged(server: Server) -> None:
    """I1, I4: the supervisor is killed with -9, and with it the nodes, the log writer and the stores; the next start
    finds everything, and people recover across it. (I9: data are kept over a restart.)"""
    async with room(server) as people:
        book = Book(people.channel)

        async def blow() -> None:
            await book.reaches(people.people[1], BLOW)
            strike(server, "supervisor")
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)

        async with asyncio.TaskGroup() as tasks:
            for number, person in enumerate(people.people):
                tasks.create_task(book.talk(person, f"sender-{number}", MESSAGES))
            tasks.create_task(blow())
        await people.settled(server)
        await book.balance(server, *people.subscriptions)
        assert len(book.acknowledged) == 2 * MESSAGES
        assert all(subscription.recoveries == 1 for subscription in people.subscriptions)
