"""I5: a store goes away and comes back; what can go on does, the rest fails fast, and all heals by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config.embedded import EmbeddedStack
from loadtest.server import Server
from tests.invariants.conftest import (
    NODES,
    SETTINGS,
    Book,
    call_api,
    poll,
    readiness,
    room,
    whole,
)
from tests.invariants.rawclient import RawClient, Refused, Subscription, raw_client
from tests.stack import short_folder

pytestmark = pytest.mark.chaos

AT_ONCE = 1.0  # seconds for what needs no store that is away
SWEEP = 2.5  # seconds for what the sweep brings: its period of one, the gap's patience and the read
FIRST_REFUSAL = 5.0  # seconds until the first publish is refused: the log writer's own attempts take two


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    """Stores that nobody restarts but the test."""
    with short_folder() as folder:
        stack = EmbeddedStack(folder / "data", max_connections=60)
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


@pytest.fixture(scope="module")
def server(stack: EmbeddedStack) -> Iterator[Server]:
    urls = stack.urls
    addresses = {"DATABASE__URL": urls.database, "REDIS__URL": urls.redis, "NATS__URL": urls.nats}
    settings = SETTINGS | {name: str(url) for name, url in addresses.items()}
    with short_folder() as folder, Server(folder / "data", nodes=NODES, settings=settings) as running:
        yield running


@asynccontextmanager
async def away(stack: EmbeddedStack, server: Server, name: str) -> AsyncIterator[None]:
    """A store is stopped for the block; afterwards it is there again, and both nodes say so."""
    stack.stop_one(name)
    try:
        yield
    finally:
        stack.start_one(name)
        await whole(server)


def processes_of(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


@asynccontextmanager
async def hanging(stack: EmbeddedStack, server: Server, name: str) -> AsyncIterator[None]:
    """A store keeps its connections and answers nothing for the block."""
    pids = processes_of(stack.pids[name])
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        await whole(server)


async def assert_says(server: Server, status: int, word: str, *down: str) -> None:
    """Both nodes tell the truth about what is down."""

    async def told(node: int) -> bool:
        code, answer = await readiness(server, node)
        missing = {name for name, each in answer["dependencies"].items() if each["status"] == "down"}
        return (code, answer["status"], missing) == (status, word, set(down))

    await asyncio.gather(
        *(poll(partial(told, node), f"node {node} says {status} {word}, without {down}", 10) for node in range(NODES))
    )


async def hear(reader: RawClient, subscription: Subscription, what: Any, seconds: float) -> None:
    """Return when the reader was told a message whose data, or their `content`, is `what`."""
    await reader.until(lambda: what in map(content_of, subscription.data), seconds)


def content_of(data: Any) -> Any:
    return data["content"] if isinstance(data, dict) else data


def message(content: str) -> dict[str, str]:
    return {"id": str(uuid.uuid4()), "type": "text", "content": content}


@asynccontextmanager
async def two_on_each(server: Server, channel: str) -> AsyncIterator[list[RawClient]]:
    """People 0 and 1 on the first node, 2 and 3 on the second, all subscribed."""
    async with AsyncExitStack() as exits:
        people = [
            await exits.enter_async_context(raw_client(server.websocket(node), server.token(f"user-{number}")))
            for number, node in enumerate((0, 0, 1, 1))
        ]
        for person in people:
            await person.subscribe(channel)
        yield people


# --- NATS ----------------------------------------------------------------------------------------------------------


async def test_i5_nats_away_same_node_chat_is_unaffected_and_other_nodes_are_late(
    stack: EmbeddedStack, server: Server
) -> None:
    """I5: chat within a node at once, between nodes by the sweep; newcomers are let in; nothing lost or doubled; back
    at full speed afterwards, also for those who came meanwhile."""
    live = f"live:{uuid.uuid4()}"
    async with room(server, nodes=(0, 0, 1)) as people, two_on_each(server, live) as crowd:
        one, neighbour, far = people.people
        book = Book(people.channel)
        await book.talk(one, "before", 5)
        async with away(stack, server, "nats"):
            await assert_says(server, 200, "degraded", "nats")
            async with asyncio.timeout(AT_ONCE):
                await one.publish(people.channel, message("near"))
                await hear(neighbour, people.subscriptions[1], "near", AT_ONCE)
            await hear(far, people.subscriptions[2], "near", SWEEP)
            await far.publish(people.channel, message("back"))
            await hear(one, people.subscriptions[0], "back", SWEEP)
            await asyncio.gather(book.talk(one, "one", 40), book.talk(far, "far", 40))
            await crowd[0].publish(live, "ephemeral")
            await hear(crowd[1], crowd[1].subscriptions[live], "ephemeral", AT_ONCE)
            async with raw_client(server.websocket(1), far.token) as newcomer:
                entered = await newcomer.subscribe(people.channel)
                await one.publish(people.channel, message("welcome"))
                await hear(newcomer, entered, "welcome", SWEEP)
            newcomer = RawClient(server.websocket(1), far.token)
            await newcomer.open()
            await newcomer.subscribe(other := f"live:{uuid.uuid4()}")
        try:
            await crowd[0].publish(live, "the broker is back")
            await hear(crowd[2], crowd[2].subscriptions[live], "the broker is back", AT_ONCE)
            await one.publish(other, "for who came meanwhile")
            await hear(newcomer, newcomer.subscriptions[other], "for who came meanwhile", AT_ONCE)
        finally:
            await newcomer.close()
        await people.settled(server)
        await book.balance(server, *people.subscriptions)
        assert all(person.connects == 1 for person in (*people.people, *crowd))


async def test_i5_nats_hanging_costs_nothing_but_time_between_nodes(stack: EmbeddedStack, server: Server) -> None:
    """I5: NATS keeps its connections and says nothing (SIGSTOP), while people talk."""
    async with room(server, nodes=(0, 0, 1)) as people:
        one, neighbour, far = people.people
        book = Book(people.channel)
        async with hanging(stack, server, "nats"):
            await one.publish(people.channel, message("near"))
            await hear(neighbour, people.subscriptions[1], "near", AT_ONCE)
            await hear(far, people.subscriptions[2], "near", SWEEP)
            await asyncio.gather(book.talk(one, "one", 40), book.talk(far, "far", 40))
        await book.talk(far, "after", 5)
        await people.settled(server)
        await book.balance(server, *people.subscriptions)


# --- Valkey --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [away, hanging])
async def test_i5_redis_away_chat_works_and_presence_says_unknown(
    stack: EmbeddedStack, server: Server, trouble: Any
) -> None:
    """I5: publishing, subscribing and connecting go on; presence is error 1001 at once, and right again afterwards,
    with those who came and without those who went; no false leave is pushed."""
    channel = f"chat:{uuid.uuid4()}"
    async with two_on_each(server, channel) as crowd:
        watch = await crowd[3].subscribe(f"chat:{uuid.uuid4()}", join_leave=True)
        await crowd[0].subscribe(watch.channel)
        first = {each.client for each in crowd}
        await poll(lambda: is_there(crowd[3], channel, first), "all are there")
        leaver = RawClient(server.websocket(0), server.token("leaver"))
        await leaver.open()
        await leaver.subscribe(channel)
        async with trouble(stack, server, "valkey"):
            for person in crowd:
                for verb in ("presence", "presence_stats"):
                    with pytest.raises(Refused) as refused:
                        async with asyncio.timeout(2 * AT_ONCE):
                            await person.ask(**{verb: {"channel": channel}})
                    assert (refused.value.code, refused.value.temporary) == (1001, True)
            await assert_says(server, 200, "degraded", "redis")
            async with asyncio.timeout(AT_ONCE):
                await crowd[0].publish(channel, "without presence")
            for person in crowd:
                await hear(person, person.subscriptions[channel], "without presence", AT_ONCE)
            newcomer = RawClient(server.websocket(1), server.token("newcomer"))
            await newcomer.open()
            await newcomer.subscribe(channel)
            await leaver.close()
            answer = await call_api(server, 0, "publish", channel=channel, data="by the API")
            assert answer["result"]["offset"] == 2
        try:
            await poll(lambda: is_there(crowd[3], channel, first | {newcomer.client}), "presence is known again")
            assert watch.leaves == []
            assert all(person.connects == 1 for person in (*crowd, newcomer))
        finally:
            await newcomer.close()


async def is_there(asker: RawClient, channel: str, clients: set[str]) -> bool:
    try:
        return await asker.members(channel) == clients
    except Refused as error:
        assert error.code == 1001
        return False


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [away, hanging])
async def test_i5_postgresql_away_publishes_fail_fast_and_everything_else_goes_on(
    stack: EmbeddedStack, server: Server, trouble: Any
) -> None:
    """I5: error 100 (temporary), soon for the first and at once for the next; ephemeral traffic crosses the nodes,
    presence answers, connections stay; afterwards the same messages are taken, each once."""
    live = f"live:{uuid.uuid4()}"
    async with room(server) as people, two_on_each(server, live) as crowd:
        one, far = people.people
        book = Book(people.channel)
        await book.talk(one, "before", 5)
        halfway = [message(f"halfway {number}") for number in range(3)]
        async with trouble(stack, server, "postgres"):
            for number, unlucky in enumerate(halfway):
                for sender in people.people:
                    with pytest.raises(Refused) as refused:
                        async with asyncio.timeout(FIRST_REFUSAL if number == 0 else AT_ONCE):
                            await sender.publish(people.channel, unlucky)
                    assert (refused.value.code, refused.value.temporary) == (100, True)
            await crowd[0].publish(live, "ephemeral")
            for person in crowd:
                await hear(person, person.subscriptions[live], "ephemeral", AT_ONCE)
            assert await one.members(people.channel) == {one.client, far.client}
            answer, history, _ = await asyncio.gather(
                call_api(server, 1, "publish", channel=f"chat:{uuid.uuid4()}", data=1),
                one.ask_soon(history={"channel": people.channel, "limit": 10}),
                assert_says(server, 503, "unready", "postgres"),
                return_exceptions=True,
            )
            assert isinstance(answer, dict)
            assert answer["error"]["code"] == 100
            assert isinstance(history, Refused)
            assert history.code == 100
        for unlucky in halfway:
            book.sent[unlucky["id"]] = "halfway", int(unlucky["content"].split()[1])
            await book.publish(one, unlucky["id"], unlucky["content"])
        await book.talk(far, "after", 5)
        await people.settled(server)
        rows = await book.balance(server, *people.subscriptions)
        stored = [str(row.id) for row in rows]
        assert [stored.count(each["id"]) for each in halfway] == [1, 1, 1]
        assert all(person.connects == 1 for person in (*people.people, *crowd))


async def test_i5_all_stores_away_at_once_and_back_in_any_order(stack: EmbeddedStack, server: Server) -> None:
    """I5: people who talk all the while lose nothing, and who connects meanwhile gets in by trying again."""
    async with room(server) as people:
        book = Book(people.channel)
        talking = asyncio.gather(
            *(book.talk(person, f"sender-{number}", 60) for number, person in enumerate(people.people))
        )
        await book.reaches(people.people[1], 20)
        for name in ("postgres", "valkey", "nats"):
            stack.stop_one(name)
        newcomer = RawClient(server.websocket(0), people.people[1].token)
        entering = asyncio.create_task(newcomer.open())
        try:
            await assert_says(server, 503, "unready", "postgres", "redis", "nats")
            for name in ("nats", "valkey", "postgres"):
                stack.start_one(name)
            await talking
            await entering
            await newcomer.subscribe(people.channel)
        finally:
            await newcomer.close()
        await whole(server)
        await people.settled(server)
        await book.balance(server, *people.subscriptions)
        assert len(book.acknowledged) == 120
        assert all(person.connects == 1 for person in people.people)
