"""Two nodes to be ill-treated, people on both, and what PostgreSQL holds in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import asyncpg
import pytest

from config.embedded.stack import read_urls
from gateway_node.process_list import read_processes
from loadtest.server import Server
from tests.invariants.rawclient import PATIENCE, Lost, RawClient, Refused, Subscription, raw_client
from tests.stack import short_folder

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NODES = 2
LOOK = 0.02  # seconds between two looks at what has no event (a process, a row, a key)
OPEN = {
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
    "allow_presence_for_subscriber": True,
    "allow_history_for_subscriber": True,
}
DURABLE = {**OPEN, "history_size": 10_000, "history_ttl": 3600, "force_recovery": True, "force_positioning": True}
NAMESPACES = {
    "chat": {**DURABLE, "presence": True, "join_leave": True, "force_push_join_leave": True},
    "live": OPEN,
}
SETTINGS = {
    "CHANNEL__NAMESPACES": json.dumps(NAMESPACES),
    "CLIENT__PUBLISHES_PER_SECOND": "0",
    "CLIENT__COMMANDS_PER_SECOND": "0",
    "LIMITS__REGISTRATIONS_PER_ADDRESS": "0",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two nodes and a stack for the tests of a file. Each leaves everything running, and ready."""
    with short_folder() as folder, Server(folder / "data", nodes=NODES, settings=SETTINGS) as running:
        yield running


async def poll(look: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true value that `look` gives (awaited, where it is awaitable); AssertionError after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(LOOK)


# --- processes -----------------------------------------------------------------------------------------------------


def pid_of(server: Server, name: str) -> int:
    """A process of the server, 0 for one that is on its way back."""
    if name == "supervisor":
        return server.pid
    found = read_processes(server.data_dir)
    assert found is not None, "no supervisor runs"
    return next((each["pid"] for each in found["nodes"] + found["others"] if each["name"] == name), 0)


def strike(server: Server, name: str, number: int = signal.SIGKILL) -> int:
    """Send a signal to a process; returns its id."""
    pid = pid_of(server, name)
    assert pid, f"{name} does not run"
    os.kill(pid, number)
    return pid


async def healed(server: Server, name: str, old_pid: int) -> None:
    """Return when another process has taken the place of one that ended, and both nodes say that they are ready."""
    await replaced(server, name, old_pid)
    await whole(server)


async def replaced(server: Server, name: str, old_pid: int) -> None:
    """Return when another process has taken the place of one that ended."""
    await poll(lambda: pid_of(server, name) not in (0, old_pid), f"{name} comes back")


async def whole(server: Server) -> None:
    """Return when both nodes say that they and all their stores are ready."""
    for node in range(NODES):
        await poll(partial(is_whole, server, node), f"node {node} is ready")


async def is_whole(server: Server, node: int) -> bool:
    status, answer = await readiness(server, node)
    return status == 200 and answer["status"] == "ready"


async def readiness(server: Server, node: int) -> tuple[int, dict[str, Any]]:
    """What a node says of itself: the HTTP status (0: nothing) and the answer."""

    def ask() -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(server.url("/health/ready", node), timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    return await asyncio.to_thread(ask)


async def call_api(server: Server, node: int, method: str, **params: Any) -> dict[str, Any]:
    """A method of the server API on one node, with the whole answer. Raises OSError when the node does not answer."""

    def ask() -> dict[str, Any]:
        headers = {"X-API-Key": server.api_key, "Content-Type": "application/json"}
        request = urllib.request.Request(server.url(f"/api/{method}", node), json.dumps(params).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    return await asyncio.to_thread(ask)


# --- the database --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    offset: int
    id: uuid.UUID
    sender: str
    data: Any


@asynccontextmanager
async def database(server: Server) -> AsyncIterator[Connection]:
    urls = read_urls(server.data_dir)
    url = server.environment.get("CHALKWIRE_DATABASE__URL") or (urls.database if urls else None)
    assert url is not None
    connection = await asyncpg.connect(url, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def rows_of(connection: Connection, channel: str) -> list[Row]:
    """What PostgreSQL holds of a channel, by offset."""
    rows = await connection.fetch(
        'select m."offset", m.id, m.sender_id, m.data from messages m join channels c on c.id = m.channel_id '
        'where c.name = $1 order by m."offset"',
        channel,
    )
    return [Row(row[0], row[1], row[2], json.loads(row[3])) for row in rows]


async def head_of(server: Server, channel: str) -> int:
    """The channel's last offset in PostgreSQL."""
    async with database(server) as connection:
        return int(await connection.fetchval("select last_offset from channels where name = $1", channel))


@asynccontextmanager
async def locked(server: Server, channel: str) -> AsyncIterator[None]:
    """Keep a channel's row locked: an append to it waits for the end of the block (2 s at most, then it is tried
    again), between having been sent and having been committed."""
    async with database(server) as connection, connection.transaction():
        assert await connection.fetchval("select id from channels where name = $1 for update", channel)
        yield


# A change of a room takes the channel's lock before it appends.
_WAITING = "from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'append_messages|lock_room|change_message'"


async def append_waits(server: Server, count: int = 1) -> None:
    """Return when so many appends wait for a lock."""

    async def waiting() -> bool:
        return bool(await connection.fetchval(f"select count(*) >= $1 {_WAITING}", count))

    async with database(server) as connection:
        await poll(waiting, f"{count} appends wait")


async def end_waiting_append(server: Server) -> None:
    """End an append that waits for a lock, and return when it is gone: it will not be committed."""
    async with database(server) as connection:
        assert await connection.fetchval(f"select pg_terminate_backend(pid, 5000) {_WAITING}")


# --- people --------------------------------------------------------------------------------------------------------


@dataclass
class Book:
    """What was sent into a channel and acknowledged, by message id."""

    channel: str
    sent: dict[str, tuple[str, int]] = field(default_factory=dict)  # id -> (sender, number)
    acknowledged: set[str] = field(default_factory=set)
    attempts: int = 0

    async def reaches(self, sender: RawClient, count: int) -> None:
        """Return when so many messages are acknowledged, as one of the senders hears."""
        await sender.until(lambda: len(self.acknowledged) >= count)

    async def talk(self, sender: RawClient, name: str, count: int, pause: float = 0.005) -> None:
        """Publish `count` messages, each when the one before is acknowledged; what got no answer is sent again."""
        for number in range(count):
            id = str(uuid.uuid4())
            self.sent[id] = name, number
            await self.publish(sender, id, f"{name} {number}")
            await asyncio.sleep(pause)  # a bound on the load, so that a recovery stays within its limit

    async def talk_until(self, done: asyncio.Event, sender: RawClient, name: str) -> None:
        """Publish one after the other for as long as something takes."""
        number = 0
        while not done.is_set():
            id = str(uuid.uuid4())
            self.sent[id] = name, number
            await self.publish(sender, id, f"{name} {number}")
            number += 1
            await asyncio.sleep(0.01)

    async def publish(self, sender: RawClient, id: str, content: str) -> None:
        while id not in self.acknowledged:
            self.attempts += 1
            try:
                await sender.until(lambda: sender.subscriptions[self.channel].live)
                await sender.publish(self.channel, {"id": id, "type": "text", "content": content})
            except Lost:
                continue
            except Refused as error:
                assert error.temporary, f"{error} is no answer to a member's message"
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.add(id)

    async def balance(self, server: Server, *readers: Subscription) -> list[Row]:
        """I1-I4: everything acknowledged is stored once, offsets have no hole, and every reader saw every row beyond
        its first subscribe once and in order. Returns the rows."""
        async with database(server) as connection:
            rows = await rows_of(connection, self.channel)
        assert [row.offset for row in rows] == list(range(1, len(rows) + 1))
        ids = [str(row.id) for row in rows]
        assert self.acknowledged <= set(ids), "acknowledged, but not in PostgreSQL"
        told = [self.sent[id] for id in ids if id in self.sent]
        for name in {sender for sender, _ in told}:
            numbers = [number for sender, number in told if sender == name]
            assert numbers == sorted(numbers), f"messages of {name} changed places"
        for reader in readers:
            assert reader.faults == []
            assert reader.offsets == list(range(reader.start + 1, len(rows) + 1))
            assert [data["id"] for data in reader.data] == ids[reader.start :]
        return rows


@dataclass
class Room:
    """A room with people on both nodes: who created it, and the others; all are subscribed."""

    id: str
    people: list[RawClient]
    users: list[str]

    @property
    def channel(self) -> str:
        return f"room:{self.id}"

    @property
    def subscriptions(self) -> list[Subscription]:
        return [person.subscriptions[self.channel] for person in self.people]

    async def settled(self, server: Server) -> None:
        """Return when everybody was told everything that PostgreSQL holds."""
        offset = await head_of(server, self.channel)
        for person in self.people:
            await person.told(self.channel, offset)


async def register(server: Server) -> str:
    return await asyncio.to_thread(server.register)


@asynccontextmanager
async def room(server: Server, nodes: tuple[int, ...] = (0, 1), **options: Any) -> AsyncIterator[Room]:
    """A room of new users, one on each of the nodes listed, the first its owner."""
    async with contextlib.AsyncExitStack() as stack:
        users = [await register(server) for _ in nodes]
        people = [
            await stack.enter_async_context(raw_client(server.websocket(node), server.token(user)))
            for node, user in zip(nodes, users, strict=True)
        ]
        id = (await people[0].rpc("room.create", title="A room"))["id"]
        for user in users[1:]:
            await people[0].rpc("room.invite", room_id=id, user_id=user)
        made = Room(id, people, users)
        for person in people:
            await person.subscribe(made.channel, **options)
        yield made
