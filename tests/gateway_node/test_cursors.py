"""Read cursors of a node on a real PostgreSQL and Valkey: whichever of the three goes, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from config.embedded import EmbeddedStack
from gateway_node.services import cursors as module
from gateway_node.services.cursors import Cursors, TooMany
from presence import Pipe, RedisCursors
from storage.database import Database
from storage.reading import ReadingStore
from tests.presence.nodes import until
from tests.stack import flush
from tests.storage.talk import Talk, talk

pytestmark = pytest.mark.integration


class Node:
    """A node's part of it."""

    def __init__(self, database: Database, redis_url: str) -> None:
        self.pipe = Pipe(redis_url)
        self.saved: list[tuple[str, str, int]] = []
        self.cursors = Cursors(ReadingStore(database), RedisCursors(self.pipe), self._saved)

    def _saved(self, moves: Sequence[tuple[str, str, int]]) -> None:
        self.saved += moves


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, statement_timeout=2, connect_timeout=1)
    yield database
    await database.close()


@pytest.fixture
async def nodes(database: Database, redis_url: str) -> AsyncIterator[list[Node]]:
    made = [Node(database, redis_url), Node(database, redis_url)]
    yield made
    for node in made:
        await node.pipe.close()


@pytest.fixture
async def room(database: Database) -> Talk:
    return await talk(database, 2, said=9)


async def test_the_other_node_sees_it_at_once_and_postgresql_later(nodes: list[Node], room: Talk) -> None:
    here, there = nodes
    ann, ben = room.users
    assert await here.cursors.move(room.room, ann, 4)
    assert await there.cursors.of_user(ann) == {room.room: 4}
    assert await there.cursors.of_members(room.room, [ann, ben]) == {ann: 4}
    assert await room.stored() == {}
    assert await here.cursors.save()
    assert await room.stored() == {ann: 4}
    assert here.saved == [(room.room, ann, 4)]
    assert here.cursors.here(room.room, ann) == 0, "nothing is kept that PostgreSQL has"


async def test_a_cursor_never_goes_back(nodes: list[Node], room: Talk, database: Database) -> None:
    here, there = nodes
    ann = room.users[0]
    assert await here.cursors.move(room.room, ann, 4)
    assert not await here.cursors.move(room.room, ann, 4)
    assert not await here.cursors.move(room.room, ann, 3)
    assert not await there.cursors.move(room.room, ann, 2), "Redis knows better"
    assert await there.cursors.move(room.room, ann, 6)
    await asyncio.gather(there.cursors.save(), here.cursors.save())
    assert await room.stored() == {ann: 6}
    assert await here.cursors.of_user(ann) == {room.room: 6}


async def test_losing_valkeys_data_costs_nothing(nodes: list[Node], room: Talk, stack: EmbeddedStack) -> None:
    here, there = nodes
    ann, ben = room.users
    await here.cursors.move(room.room, ann, 5)
    await here.cursors.save()
    await here.cursors.move(room.room, ben, 6)  # not in PostgreSQL yet
    flush(stack)
    assert await there.cursors.of_user(ben) == {}, "it is gone from Redis"
    assert await here.cursors.of_user(ben) == {room.room: 6}, "and in the node's memory"
    assert await here.cursors.of_members(room.room, [ann, ben]) == {ben: 6}
    await here.cursors.save()
    assert await room.stored() == {ann: 5, ben: 6}


async def test_what_a_killed_node_had_not_saved_is_saved_by_whoever_reads_it(nodes: list[Node], room: Talk) -> None:
    killed, survivor = nodes
    ann = room.users[0]
    await killed.cursors.move(room.room, ann, 7)
    await killed.pipe.close()  # and nothing more is heard of it
    assert await survivor.cursors.of_user(ann) == {room.room: 7}
    survivor.cursors.found(room.room, ann, 7)
    await survivor.cursors.save()
    assert await room.stored() == {ann: 7}


async def test_authors_move_together(nodes: list[Node], room: Talk) -> None:
    here, there = nodes
    ann, ben = room.users
    await here.cursors.start()
    for offset in range(1, 10):
        here.cursors.wrote(room.room, ann, offset)
    here.cursors.wrote(room.room, ben, 3)
    assert await here.cursors.of_user(ann) == {room.room: 9}, "one's own node knows at once"

    async def told() -> bool:
        return await there.cursors.of_members(room.room, [ann, ben]) == {ann: 9, ben: 3}

    await until(told)
    await here.cursors.stop()
    assert await room.stored() == {ann: 9, ben: 3}, "a node that stops leaves nothing behind"


async def test_it_is_saved_by_itself(nodes: list[Node], room: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_PERIOD", 0.05)
    ann = room.users[0]
    await nodes[0].cursors.start()
    await nodes[0].cursors.move(room.room, ann, 2)
    await until(lambda: _stored(room, {ann: 2}))
    await nodes[0].cursors.stop()


async def _stored(room: Talk, wanted: dict[str, int]) -> bool:
    return await room.stored() == wanted


async def test_a_move_while_it_is_saved_is_not_forgotten(nodes: list[Node], room: Talk) -> None:
    ann = room.users[0]
    cursors = nodes[0].cursors
    await cursors.move(room.room, ann, 2)
    saving = asyncio.create_task(cursors.save())
    await asyncio.sleep(0)
    cursors.wrote(room.room, ann, 5)
    await saving
    assert cursors.here(room.room, ann) == 5
    await cursors.save()
    assert await room.stored() == {ann: 5}


async def test_memory_has_an_end(nodes: list[Node], room: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSAVED", 1)
    cursors = nodes[0].cursors
    ann, ben = room.users
    await cursors.move(room.room, ann, 2)
    with pytest.raises(TooMany):
        await cursors.move(room.room, ben, 2)
    cursors.wrote(room.room, ben, 3)
    cursors.found(room.room, ben, 3)
    assert await cursors.move(room.room, ann, 3), "who is known may go on"
    await cursors.save()
    assert await cursors.move(room.room, ben, 2)
    await cursors.save()
    assert await room.stored() == {ann: 3, ben: 2}


@pytest.mark.chaos
async def test_without_redis_there_is_memory_and_without_postgresql_redis(private_stack: EmbeddedStack) -> None:
    from storage.migrate import migrate

    await migrate(str(private_stack.urls.database))
    database = Database(str(private_stack.urls.database), statement_timeout=2, connect_timeout=1)
    here = Node(database, str(private_stack.urls.redis))
    room = await talk(database, 2, said=9)
    ann, ben = room.users
    private_stack.stop_one("valkey")
    assert await here.cursors.move(room.room, ann, 3)
    assert await here.cursors.of_user(ann) == {room.room: 3}
    await here.cursors.save()
    assert await room.stored() == {ann: 3}
    private_stack.start_one("valkey")

    private_stack.stop_one("postgres")
    assert await here.cursors.move(room.room, ben, 4)
    assert not await here.cursors.save()
    assert await here.cursors.of_user(ben) == {room.room: 4}
    private_stack.start_one("postgres")
    await until(here.cursors.save)
    assert await room.stored() == {ann: 3, ben: 4}
    await here.pipe.close()
    await database.close()
