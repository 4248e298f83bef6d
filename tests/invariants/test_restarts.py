"""I9: draining or rolling all nodes loses nothing that was acknowledged, and people come back a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from loadtest.server import Server
from tests.invariants.conftest import (
    Book,
    Room,
    append_waits,
    database,
    locked,
    pid_of,
    replaced,
    room,
    rows_of,
    strike,
    whole,
)
from tests.invariants.rawclient import Lost, RawClient

pytestmark = pytest.mark.chaos

CROWD = 200  # idle connections of one node: enough to be sent away in several steps
SHUTDOWN = 3001


async def talk_during(people: Room, act: Callable[[], Awaitable[None]]) -> Book:
    """Everybody publishes without a pause from before `act` to after it."""
    book = Book(people.channel)
    done = asyncio.Event()

    async def acting() -> None:
        try:
            await book.reaches(people.people[0], 20)
            await act()
        finally:
            done.set()

    async with asyncio.TaskGroup() as tasks:
        for number, person in enumerate(people.people):
            tasks.create_task(book.talk_until(done, person, f"sender-{number}"))
        tasks.create_task(acting())
    return book


async def assert_all_came_back(server: Server, people: Room, book: Book) -> None:
    """Each was sent away once with 3001, came back, and missed nothing."""
    await people.settled(server)
    await book.balance(server, *people.subscriptions)
    assert book.acknowledged == set(book.sent)
    for person in people.people:
        assert [code for code, _ in person.closes] == [SHUTDOWN]
        assert person.subscriptions[people.channel].recoveries == 1


async def is_back(person: RawClient) -> None:
    await person.until(lambda: person.connects == 2)


@contextlib.asynccontextmanager
async def crowd_of(server: Server, node: int, count: int) -> AsyncIterator[list[RawClient]]:
    people = [RawClient(server.websocket(node), server.token(f"idle-{number}")) for number in range(count)]
    try:
        for start in range(0, count, 20):
            await asyncio.gather(*(person.open() for person in people[start : start + 20]))
        yield people
    finally:
        await asyncio.gather(*(person.close() for person in people))


async def test_i9_a_rolling_restart_in_mid_traffic_loses_nothing_and_spreads_reconnects(server: Server) -> None:
    """I9: SIGHUP replaces both nodes while people on both talk; a crowd on the first is sent away in steps."""
    async with room(server, nodes=(0, 1, 0, 1)) as people, crowd_of(server, 0, CROWD) as crowd:
        old = {name: pid_of(server, name) for name in ("node-1", "node-2", "log-writer", "supervisor")}

        async def roll() -> None:
            strike(server, "supervisor", signal.SIGHUP)
            for name in ("node-1", "node-2"):
                await replaced(server, name, old[name])
            for person in people.people:
                await is_back(person)

        book = await talk_during(people, roll)
        await assert_all_came_back(server, people, book)
        for name in ("log-writer", "supervisor"):
            assert pid_of(server, name) == old[name]
        for person in crowd:
            await is_back(person)
            assert [code for code, _ in person.closes] == [SHUTDOWN]
    await whole(server)


async def test_i9_a_node_that_is_told_to_end_sends_its_people_away_and_they_recover(server: Server) -> None:
    """I9: SIGTERM to one node; the supervisor starts another, and its people wait for it."""
    async with room(server, nodes=(0, 1)) as people:

        async def end() -> None:
            pid = strike(server, "node-1", signal.SIGTERM)
            await replaced(server, "node-1", pid)
            await is_back(people.people[0])

        book = await talk_during(people, end)
        await people.settled(server)
        await book.balance(server, *people.subscriptions)
        assert book.acknowledged == set(book.sent)
        assert [code for code, _ in people.people[0].closes] == [SHUTDOWN]
        assert people.people[1].connects == 1
    await whole(server)


async def test_i9_stop_and_start_in_mid_traffic_keeps_everything(server: Server) -> None:
    """I9, I1, I4: SIGTERM to the supervisor: exit status 0, and after the next start everything is there; people
    recover across it, and what had no answer is sent again."""
    async with room(server) as people:
        statuses: list[int | None] = []

        async def restart() -> None:
            statuses.append(await asyncio.to_thread(server.stop))
            await asyncio.to_thread(server.start)

        book = await talk_during(people, restart)
        assert statuses == [0]
        await assert_all_came_back(server, people, book)


async def test_i9_an_append_that_waits_is_committed_before_the_server_ends(server: Server) -> None:
    """I9, I3: a message is on its way to the log when SIGTERM comes. Its sender has no answer, sends it again after
    the restart, and it is there once."""
    async with room(server) as people:
        sender, _ = people.people
        book = Book(people.channel)
        await book.talk(sender, "sender", 1)
        id = str(uuid.uuid4())
        data = {"id": id, "type": "text", "content": "on its way"}
        async with locked(server, people.channel):
            attempt = sender.ask_soon(publish={"channel": people.channel, "data": data})
            await append_waits(server)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            with contextlib.suppress(Lost):
                await attempt
        assert await stopping == 0
        await asyncio.to_thread(server.start)
        async with database(server) as connection:
            rows = await rows_of(connection, people.channel)
        assert [str(row.id) for row in rows].count(id) == 1, "it was not committed before the end"
        book.sent[id] = "sender", 1
        await book.publish(sender, id, "on its way")
        await book.talk(sender, "after", 1)
        await people.settled(server)
        after = await book.balance(server, *people.subscriptions)
        assert len(after) == len(rows) + 1
