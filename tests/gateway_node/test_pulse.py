"""What rooms are told of reading and typing, by two nodes on a real PostgreSQL and Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest

from gateway_node.services import pulse as module
from gateway_node.services.pulse import Pulse
from presence import Pipe, RedisTyping, Turns
from storage.database import Database
from storage.reading import ReadingStore
from tests.presence.nodes import until
from tests.storage.talk import Talk, talk

pytestmark = pytest.mark.integration

SECONDS = 0.2


class Node:
    def __init__(self, database: Database, redis_url: str, seconds: float = SECONDS, typing: float = 6) -> None:
        self.pipe = Pipe(redis_url)
        self.pushes: list[tuple[float, str, Any]] = []  # when, where, what
        self.pulse = Pulse(
            self._push,
            ReadingStore(database),
            RedisTyping(self.pipe, typing),
            Turns(self.pipe),
            small_room=3,
            seconds=seconds,
        )

    def _push(self, channel: str, data: bytes) -> None:
        self.pushes.append((asyncio.get_running_loop().time(), channel, msgspec.json.decode(data)))

    def heard(self, channel: str) -> list[Any]:
        return [data for _, where, data in self.pushes if where == channel]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def nodes(database: Database, redis_url: str) -> AsyncIterator[list[Node]]:
    made = [Node(database, redis_url), Node(database, redis_url)]
    for node in made:
        await node.pulse.start()
    yield made
    for node in made:
        await node.pulse.stop()
        await node.pipe.close()


async def small(database: Database) -> Talk:
    return await talk(database, 3, said=9)


async def big(database: Database) -> Talk:
    return await talk(database, 4, said=9)


def gaps(nodes: list[Node], channel: str) -> list[float]:
    """The seconds between what a channel was told, by whichever node."""
    moments = sorted(at for node in nodes for at, where, _ in node.pushes if where == channel)
    return [later - earlier for earlier, later in pairwise(moments)]


async def read(node: Node, database: Database, room: Talk, user: str, offset: int) -> None:
    """As a cursor moves: noted, told, saved."""
    node.pulse.moved(room.room, user, offset)
    await ReadingStore(database).move([(UUID(room.room), UUID(user), offset)])
    node.pulse.saved([(room.room, user, offset)])


async def test_a_small_room_hears_who_has_read_what(nodes: list[Node], database: Database) -> None:
    room = await small(database)
    here = nodes[0]
    ann, ben, cy = room.users
    channel = f"room:{room.room}"
    for offset in range(1, 9):
        for user in (ann, ben):
            await read(here, database, room, user, offset)
            await asyncio.sleep(SECONDS / 20)
    await read(here, database, room, cy, 2)
    await until(lambda: here.heard(channel)[-1:] and cy in here.heard(channel)[-1]["cursors"])
    heard = here.heard(channel)
    assert len(heard) < 8, "what comes together is told together"
    assert min(gaps(nodes, channel)) >= SECONDS
    assert all(each["type"] == "read" for each in heard)
    final: dict[str, int] = {}
    for each in heard:
        final |= each["cursors"]
    assert final == {ann: 8, ben: 8, cy: 2}
    assert here.heard(f"user:{ann}")[-1] == {"type": "read", "room_id": room.room, "offset": 8}


async def test_a_big_room_hears_how_many(nodes: list[Node], database: Database) -> None:
    room = await big(database)
    channel = f"room:{room.room}"
    await asyncio.gather(*(read(nodes[n % 2], database, room, user, 9) for n, user in enumerate(room.users)))

    def told() -> list[Any]:
        return [each for node in nodes for each in node.heard(channel)]

    await until(lambda: {"type": "read", "offset": 9, "readers": 4} in told())
    assert {each["type"] for each in told()} == {"read"}
    assert not any("cursors" in each for each in told())
    assert all(gap > SECONDS * 0.9 for gap in gaps(nodes, channel)), "one node at a time"
    assert nodes[0].heard(f"user:{room.users[0]}"), "one's own devices hear of it in any room"


async def test_whoever_comes_late_has_their_turn_later(nodes: list[Node], database: Database) -> None:
    """The last reader is counted, although another node has just told how many there were."""
    room = await big(database)
    here, there = nodes
    channel = f"room:{room.room}"
    await read(here, database, room, room.users[0], 9)
    await until(lambda: here.heard(channel))
    await read(there, database, room, room.users[1], 9)
    await until(lambda: there.heard(channel))
    assert here.heard(channel) == [{"type": "read", "offset": 9, "readers": 1}]
    assert there.heard(channel) == [{"type": "read", "offset": 9, "readers": 2}]
    assert gaps(nodes, channel)[0] > SECONDS * 0.9


async def test_what_another_node_told_already_is_not_told_again(nodes: list[Node], database: Database) -> None:
    room = await big(database)
    here, there = nodes
    now = asyncio.get_running_loop().time()
    assert await here.pulse._turns_of("read", {room.room: now}) == ([room.room], {})
    assert await there.pulse._turns_of("read", {room.room: now - 5}) == ([], {}), "it was known before that turn"
    late = asyncio.get_running_loop().time() + 5
    assert await there.pulse._turns_of("read", {room.room: late}) == ([], {room.room: late})


async def test_a_number_waits_until_postgresql_has_it(nodes: list[Node], database: Database) -> None:
    room = await big(database)
    here = nodes[0]
    here.pulse.moved(room.room, room.users[0], 9)
    await until(lambda: here.heard(f"user:{room.users[0]}"))
    here.pulse.saved([(room.room, room.users[1], 9)])  # an author's, of whom nobody is told
    assert here.pulse._saved == {}
    here.pulse.saved([(room.room, room.users[0], 8)])  # it moved on while it was saved
    assert here.pulse._unsaved
    here.pulse.saved([(room.room, room.users[0], 9)])
    assert not here.pulse._unsaved
    await until(lambda: here.heard(f"room:{room.room}"))


async def test_who_types_by_name_in_a_small_room(nodes: list[Node], database: Database) -> None:
    room = await small(database)
    here, there = nodes
    ann, ben, _ = room.users
    channel = f"room:{room.room}"
    await here.pulse.typing(room.room, ann)
    assert here.pulse.is_typing(room.room, ann, 3)
    assert not here.pulse.is_typing(room.room, ben, 3)
    await there.pulse.typing(room.room, ben)

    def told() -> list[Any]:
        return [each for node in nodes for each in node.heard(channel)]

    await until(lambda: told() and any(each["count"] == 2 for each in told()))
    assert told()[-1] == {"type": "typing", "users": [ann, ben], "count": 2, "ttl": 6}
    assert all(gap > SECONDS * 0.9 for gap in gaps(nodes, channel))
    assert await there.pulse.typists(room.room, 3) == ([ann, ben], 2)

    here.pulse.wrote(room.room, ann)
    assert not here.pulse.is_typing(room.room, ann, 3)
    await until(lambda: _typists(there, room.room, [ben]))


async def _typists(node: Node, room: str, wanted: list[str]) -> bool:
    return (await node.pulse.typists(room, 3))[0] == wanted


async def test_whoever_wrote_is_not_told_as_typing_by_another_node(
    nodes: list[Node], database: Database, redis_url: str
) -> None:
    """Their own node may be between two pulses, when another has its turn."""
    room = await small(database)
    slow, there = Node(database, redis_url, seconds=600, typing=600), nodes[0]
    await slow.pulse.start()
    await slow.pulse.typing(room.room, room.users[0])
    await until(lambda: slow.heard(f"room:{room.room}"))
    slow.pulse.wrote(room.room, room.users[0])
    await until(lambda: _typists(there, room.room, []))
    await slow.pulse.stop()
    await slow.pipe.close()


async def test_who_types_in_a_big_room(nodes: list[Node], database: Database) -> None:
    room = await big(database)
    for user in room.users:
        await nodes[0].pulse.typing(room.room, user)
    await until(lambda: nodes[0].heard(f"room:{room.room}"))
    heard = nodes[0].heard(f"room:{room.room}")[-1]
    assert heard["count"] == 4
    assert len(heard["users"]) == 3


async def test_without_redis_each_node_tells_what_it_knows(database: Database) -> None:
    node = Node(database, "redis://127.0.0.1:1")
    await node.pulse.start()
    few, many = await small(database), await big(database)
    await node.pulse.typing(few.room, few.users[0])
    await read(node, database, many, many.users[0], 9)
    await until(lambda: len(node.heard(f"room:{few.room}") + node.heard(f"room:{many.room}")) == 2)
    assert node.heard(f"room:{few.room}")[0]["users"] == [few.users[0]]
    assert node.heard(f"room:{many.room}")[0]["readers"] == 1
    await node.pulse.stop()
    await node.pipe.close()


async def test_without_postgresql_nothing_is_told_and_the_next_is(
    nodes: list[Node], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await small(database)
    here = nodes[0]
    away = ReadingStore(Database("postgresql://nobody@127.0.0.1:1/none", connect_timeout=1))
    there = here.pulse._store
    monkeypatch.setattr(here.pulse, "_store", away)
    here.pulse.moved(room.room, room.users[0], 1)
    await until(lambda: here.heard(f"user:{room.users[0]}"))
    monkeypatch.setattr(here.pulse, "_store", there)
    here.pulse.moved(room.room, room.users[0], 2)
    await until(lambda: here.heard(f"room:{room.room}"))
    assert here.heard(f"room:{room.room}")[-1]["cursors"] == {room.users[0]: 2}


async def test_a_size_is_asked_for_once_a_minute(nodes: list[Node], database: Database) -> None:
    room = await small(database)
    pulse = nodes[0].pulse
    assert await pulse._small([room.room]) == {room.room}
    await database.execute("delete from room_members")
    await database.execute("delete from rooms")
    assert await pulse._small([room.room, room.room]) == {room.room}, "as it was"


async def test_memory_has_an_end(nodes: list[Node], database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    monkeypatch.setattr(module, "SIZES", 2)
    pulse = nodes[0].pulse
    rooms = [await small(database) for _ in range(4)]
    for number, room in enumerate(rooms):
        pulse.moved(room.room, room.users[0], 1)
        await pulse.typing(room.room, room.users[0])
        assert len(pulse._moved) <= 2
        assert len(pulse._typists) == min(number + 1, 2)
    assert len(await pulse._small([room.room for room in rooms])) == 4
    assert len(pulse._sizes) == 2
    pulse._typists[rooms[0].room][rooms[0].users[0]] = 0.0  # they stopped long ago
    await pulse.typing(rooms[3].room, rooms[3].users[0])
    assert pulse.is_typing(rooms[3].room, rooms[3].users[0], 3)
