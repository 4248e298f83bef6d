"""Cursors and what is beyond them, in PostgreSQL."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from storage.database import Database, DatabaseUnavailable
from storage.log import LogReader
from storage.reading import Readers, ReadingStore, Standing, Unread
from tests.storage.talk import Talk, talk, user

pytestmark = pytest.mark.integration


@pytest.fixture
def reading(database: Database) -> ReadingStore:
    return ReadingStore(database)


@pytest.fixture
async def room(database: Database) -> Talk:
    """Of two people, in which nobody has said anything."""
    return await talk(database, 2)


@pytest.fixture
async def people(database: Database, room: Talk) -> list[UUID]:
    """Ada and Bob, who are in the room, and Eve."""
    return [*room.user_ids, await user(database)]


async def counts(reading: ReadingStore, user: UUID, ahead: dict[UUID, int] | None = None) -> list[tuple[int, int]]:
    return [(each.unread, each.mentions) for each in await reading.unread(user, ahead or {})]


async def test_how_a_member_stands(reading: ReadingStore, people: list[UUID], room: Talk, database: Database) -> None:
    ada, bob, eve = people
    assert await reading.standing(room.room_id, ada) == Standing(0, 0, False)
    assert await reading.standing(room.room_id, eve) is None
    assert await reading.standing(uuid4(), ada) is None
    await room.say(3)
    await reading.move([(room.room_id, bob, 2)])
    asked = await asyncio.gather(*(reading.standing(room.room_id, user) for user in (*people, *people)))
    assert asked == [Standing(3, 0, False), Standing(3, 2, False), None] * 2
    for until, silent in (("infinity", True), ("2020-01-01", False)):
        await database.execute(
            "insert into silenced select id, $2, $3::text::timestamptz from channels where name = $1 "
            "on conflict (channel_id, sender_id) do update set until = excluded.until",
            room.channel,
            str(bob),
            until,
        )
        assert await reading.standing(room.room_id, bob) == Standing(3, 2, silent)
    await database.execute("update channels set closed = true where name = $1", room.channel)
    assert await reading.standing(room.room_id, ada) == Standing(3, 0, True)


async def test_thousands_ask_at_once(reading: ReadingStore, people: list[UUID], room: Talk) -> None:
    asked = [(room.room_id if number % 2 else uuid4(), people[0]) for number in range(2000)]
    answers = await asyncio.gather(*(reading.standing(*each) for each in asked))
    assert answers == [None, Standing(0, 0, False)] * 1000


async def test_trouble_reaches_whoever_asked(people: list[UUID], room: Talk) -> None:
    reading = ReadingStore(Database("postgresql://nobody@127.0.0.1:1/none", connect_timeout=1))
    answers = await asyncio.gather(*(reading.standing(room.room_id, user) for user in people), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DatabaseUnavailable}


async def test_a_cursor_moves_forward_and_up_to_the_logs_end(
    reading: ReadingStore, people: list[UUID], room: Talk
) -> None:
    ada, bob, eve = people
    await reading.move([])
    await reading.move([(room.room_id, ada, 5)])  # nobody has said anything
    assert await reading.of_room(room.room_id, 10) == {ada: 0, bob: 0}
    await room.say(4)
    for ahead, stored in ((2, 2), (1, 2), (3, 3), (9, 4)):
        await reading.move(
            [(room.room_id, ada, ahead), (room.room_id, eve, ahead), (uuid4(), ada, ahead), (room.room_id, uuid4(), 1)]
        )
        assert await reading.of_room(room.room_id, 10) == {ada: stored, bob: 0}, "eve and nobody are no members"
    assert len(await reading.of_room(room.room_id, 1)) == 1


async def test_nodes_that_move_the_same_cursors_do_not_hinder_each_other(
    reading: ReadingStore, database: Database
) -> None:
    made = [await talk(database, 2, said=9) for _ in range(20)]

    async def node(step: int) -> None:
        for offset in range(1, 10):
            await reading.move(
                [(room.room_id, user_id, offset) for room in made[::step] for user_id in room.user_ids[::step]]
            )

    await asyncio.gather(*(node(step) for step in (1, -1, 1, -1)))
    for room in made:
        assert set((await reading.of_room(room.room_id, 10)).values()) == {9}


async def test_unread_is_what_people_count_beyond_the_cursor(
    reading: ReadingStore, people: list[UUID], room: Talk
) -> None:
    ada, bob, eve = people
    assert await reading.unread(ada, {}) == [], "nothing was said"
    await room.say(3)
    await room.say(counted=False)  # 4
    await room.say(sender=str(bob), mentions=(str(ada),))  # 5
    await room.say(2, counted=False)
    assert await counts(reading, ada) == [(4, 1)]
    assert await counts(reading, eve) == []
    for cursor, unread in ((1, (3, 1)), (3, (1, 1)), (4, (1, 1)), (5, (0, 0)), (7, (0, 0))):
        assert await counts(reading, ada, {room.room_id: cursor}) == [unread], "the cursor that Redis has"
    assert await counts(reading, ada, {room.room_id: 8}) == [(4, 1)], "a cursor of another history is not believed"
    await reading.move([(room.room_id, ada, 2)])
    assert await reading.unread(ada, {room.room_id: 1, uuid4(): 1}) == [Unread(room.room_id, 2, 2, 2, 1)]
    assert await reading.unread(ada, {room.room_id: 4}) == [Unread(room.room_id, 4, 2, 1, 1)]


async def test_what_was_said_before_one_came_is_not_unread(
    reading: ReadingStore, people: list[UUID], room: Talk, database: Database
) -> None:
    eve = people[2]
    await room.say(5, mentions=(str(eve),))
    await room.join(eve, offset=5)
    assert await counts(reading, eve) == [(0, 0)]
    await room.say(2, mentions=(str(eve),))
    assert await counts(reading, eve, {room.room_id: 3}) == [(2, 2)]


async def test_a_history_that_was_cleared_is_not_unread(reading: ReadingStore, people: list[UUID], room: Talk) -> None:
    await room.say(5)
    await reading.move([(room.room_id, people[0], 2)])
    await LogReader(room.database).clear(room.channel)
    assert await counts(reading, people[0]) == [(0, 0)]
    await room.say(2)
    assert await counts(reading, people[0]) == [(2, 0)]


async def test_archived_rooms_are_not_counted(
    reading: ReadingStore, people: list[UUID], room: Talk, database: Database
) -> None:
    await room.say()
    assert await counts(reading, people[0]) == [(1, 0)]
    await database.execute("update rooms set archived_at = now() where id = $1", room.room_id)
    assert await counts(reading, people[0]) == []


async def test_how_many_have_read_the_last_message(reading: ReadingStore, people: list[UUID], room: Talk) -> None:
    ada, bob, _ = people
    silent = uuid4()
    assert await reading.readers([room.room_id]) == {}
    await room.say(counted=False)
    assert await reading.readers([room.room_id]) == {}, "an event is not read"
    await room.say(2)  # 2, 3
    await room.say(counted=False)
    assert await reading.readers([silent, room.room_id]) == {room.room_id: Readers(3, 0)}
    await reading.move([(room.room_id, ada, 3), (room.room_id, bob, 2)])
    assert await reading.readers([silent, room.room_id]) == {room.room_id: Readers(3, 1)}
    assert await reading.readers([room.room_id], 2) == {room.room_id: Readers(2, 2)}
    await reading.move([(room.room_id, bob, 4)])
    assert await reading.readers([room.room_id]) == {room.room_id: Readers(3, 2)}


async def test_whoever_wrote_it_has_read_it(reading: ReadingStore, people: list[UUID], room: Talk) -> None:
    ada, bob, eve = people
    for sender, offset, readers in ((ada, 1, 1), (eve, 2, 0), (bob, 3, 1)):
        await room.say(sender=str(sender))
        assert await reading.readers([room.room_id]) == {room.room_id: Readers(offset, readers)}, "eve is no member"
    await reading.move([(room.room_id, bob, 3), (room.room_id, ada, 2)])
    assert await reading.readers([room.room_id]) == {room.room_id: Readers(3, 1)}
    assert await reading.readers([room.room_id], 2) == {room.room_id: Readers(2, 2)}


async def test_sizes_are_counted_as_far_as_asked(reading: ReadingStore, room: Talk) -> None:
    nobody = uuid4()
    assert await reading.sizes([room.room_id, nobody], 10) == {room.room_id: 2, nobody: 0}
    assert await reading.sizes([room.room_id], 1) == {room.room_id: 1}
