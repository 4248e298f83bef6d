"""Cursors and what is beyond them, in PostgreSQL."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from realtime.interfaces import Entry
from storage.database import Database, DatabaseUnavailable
from storage.log import PostgresLog
from storage.reading import Readers, ReadingStore, Standing, Unread
from storage.rooms import Room, RoomStore
from storage.users import UserStore
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration


@pytest.fixture
def reading(database: Database) -> ReadingStore:
    return ReadingStore(database)


@pytest.fixture
async def people(database: Database) -> list[UUID]:
    users = UserStore(database)
    return [(await users.create(f"{name}@example.org", "hash", name=name)).id for name in ("ada", "bob", "eve")]


@pytest.fixture
async def room(database: Database, people: list[UUID]) -> Room:
    """Of ada and bob, in which nobody has said anything."""
    rooms = RoomStore(database)
    room = await rooms.create("Algebra", people[0])
    await rooms.add_member(room.id, people[1], "member")
    return room


async def say(log: PostgresLog, room: Room, count: int = 1, **more: object) -> int:
    """Messages, or with `counted=False` events; returns the last offset."""
    entries: list[Entry] = [entry(room.channel, **more) for _ in range(count)]
    return max(each.offset for each in await asyncio.gather(*(log.append(each) for each in entries)))


async def counts(reading: ReadingStore, user: UUID, ahead: dict[UUID, int] | None = None) -> list[tuple[int, int]]:
    return [(each.unread, each.mentions) for each in await reading.unread(user, ahead or {})]


async def test_how_a_member_stands(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog, database: Database
) -> None:
    ada, bob, eve = people
    assert await reading.standing(room.id, ada) == Standing(0, 0, False)
    assert await reading.standing(room.id, eve) is None
    assert await reading.standing(uuid4(), ada) is None
    await say(log, room, 3)
    await reading.move([(room.id, bob, 2)])
    asked = await asyncio.gather(*(reading.standing(room.id, user) for user in (*people, *people)))
    assert asked == [Standing(3, 0, False), Standing(3, 2, False), None] * 2
    for until, silent in (("infinity", True), ("2020-01-01", False)):
        await database.execute(
            "insert into silenced select id, $2, $3::text::timestamptz from channels where name = $1 "
            "on conflict (channel_id, sender_id) do update set until = excluded.until",
            room.channel,
            str(bob),
            until,
        )
        assert await reading.standing(room.id, bob) == Standing(3, 2, silent)
    await database.execute("update channels set closed = true where name = $1", room.channel)
    assert await reading.standing(room.id, ada) == Standing(3, 0, True)


async def test_thousands_ask_at_once(reading: ReadingStore, people: list[UUID], room: Room) -> None:
    asked = [(room.id if number % 2 else uuid4(), people[0]) for number in range(2000)]
    answers = await asyncio.gather(*(reading.standing(*each) for each in asked))
    assert answers == [None, Standing(0, 0, False)] * 1000


async def test_trouble_reaches_whoever_asked(people: list[UUID], room: Room) -> None:
    reading = ReadingStore(Database("postgresql://nobody@127.0.0.1:1/none", connect_timeout=1))
    answers = await asyncio.gather(*(reading.standing(room.id, user) for user in people), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DatabaseUnavailable}


async def test_a_cursor_moves_forward_and_up_to_the_logs_end(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog
) -> None:
    ada, bob, eve = people
    await reading.move([])
    await reading.move([(room.id, ada, 5)])  # nobody has said anything
    assert await reading.of_room(room.id, 10) == {ada: 0, bob: 0}
    await say(log, room, 4)
    for ahead, stored in ((2, 2), (1, 2), (3, 3), (9, 4)):
        await reading.move([(room.id, ada, ahead), (room.id, eve, ahead), (uuid4(), ada, ahead), (room.id, uuid4(), 1)])
        assert await reading.of_room(room.id, 10) == {ada: stored, bob: 0}, "eve and nobody are no members"
    assert len(await reading.of_room(room.id, 1)) == 1


async def test_nodes_that_move_the_same_cursors_do_not_hinder_each_other(
    reading: ReadingStore, database: Database, people: list[UUID], log: PostgresLog
) -> None:
    rooms = RoomStore(database)
    made = [await rooms.create(str(number), people[0]) for number in range(20)]
    for room in made:
        await rooms.add_member(room.id, people[1], "member")
        await say(log, room, 9)

    async def node(step: int) -> None:
        for offset in range(1, 10):
            await reading.move([(room.id, user, offset) for room in made[::step] for user in people[:2][::step]])

    await asyncio.gather(*(node(step) for step in (1, -1, 1, -1)))
    for room in made:
        assert set((await reading.of_room(room.id, 10)).values()) == {9}


async def test_unread_is_what_people_count_beyond_the_cursor(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog
) -> None:
    ada, bob, eve = people
    assert await reading.unread(ada, {}) == [], "nothing was said"
    await say(log, room, 3)
    await say(log, room, counted=False)  # 4
    await say(log, room, sender=str(bob), mentions=(str(ada),))  # 5
    await say(log, room, 2, counted=False)
    assert await counts(reading, ada) == [(4, 1)]
    assert await counts(reading, eve) == []
    for cursor, unread in ((1, (3, 1)), (3, (1, 1)), (4, (1, 1)), (5, (0, 0)), (7, (0, 0))):
        assert await counts(reading, ada, {room.id: cursor}) == [unread], "the cursor that Redis has"
    assert await counts(reading, ada, {room.id: 8}) == [(4, 1)], "a cursor of another history is not believed"
    await reading.move([(room.id, ada, 2)])
    assert await reading.unread(ada, {room.id: 1, uuid4(): 1}) == [Unread(room.id, 2, 2, 2, 1)]
    assert await reading.unread(ada, {room.id: 4}) == [Unread(room.id, 4, 2, 1, 1)]


async def test_what_was_said_before_one_came_is_not_unread(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog, database: Database
) -> None:
    eve = people[2]
    await say(log, room, 5, mentions=(str(eve),))
    await RoomStore(database).add_member(room.id, eve, "member")
    await database.execute("update room_members set joined_offset = 5 where user_id = $1", eve)
    assert await counts(reading, eve) == [(0, 0)]
    await say(log, room, 2, mentions=(str(eve),))
    assert await counts(reading, eve, {room.id: 3}) == [(2, 2)]


async def test_a_history_that_was_cleared_is_not_unread(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog
) -> None:
    await say(log, room, 5)
    await reading.move([(room.id, people[0], 2)])
    await log.clear(room.channel)
    assert await counts(reading, people[0]) == [(0, 0)]
    await say(log, room, 2)
    assert await counts(reading, people[0]) == [(2, 0)]


async def test_archived_rooms_are_not_counted(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog, database: Database
) -> None:
    await say(log, room)
    assert await counts(reading, people[0]) == [(1, 0)]
    await database.execute("update rooms set archived_at = now() where id = $1", room.id)
    assert await counts(reading, people[0]) == []


async def test_how_many_have_read_the_last_message(
    reading: ReadingStore, people: list[UUID], room: Room, log: PostgresLog
) -> None:
    ada, bob, _ = people
    silent = uuid4()
    assert await reading.readers([room.id]) == {}
    await say(log, room, counted=False)
    assert await reading.readers([room.id]) == {}, "an event is not read"
    await say(log, room, 2)  # 2, 3
    await say(log, room, counted=False)
    assert await reading.readers([silent, room.id]) == {room.id: Readers(3, 0)}
    await reading.move([(room.id, ada, 3), (room.id, bob, 2)])
    assert await reading.readers([silent, room.id]) == {room.id: Readers(3, 1)}
    assert await reading.readers([room.id], 2) == {room.id: Readers(2, 2)}
    await reading.move([(room.id, bob, 4)])
    assert await reading.readers([room.id]) == {room.id: Readers(3, 2)}


async def test_sizes_are_counted_as_far_as_asked(reading: ReadingStore, room: Room) -> None:
    nobody = uuid4()
    assert await reading.sizes([room.id, nobody], 10) == {room.id: 2, nobody: 0}
    assert await reading.sizes([room.id], 1) == {room.id: 1}
