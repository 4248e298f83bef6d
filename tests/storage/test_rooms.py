"""Rooms in PostgreSQL: what can be asked, and changes under the lock of the room's log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from realtime.interfaces import Entry, IdTaken, Refused
from storage.database import Database
from storage.log import LogReader
from storage.log.append import append_batch, result_of
from storage.room_changes import NoSuchUser, RoomChange, RoomChanges, personal_channel, room_channel
from storage.rooms import FOR_EVER, OpenRoom, Role, RoomStore, Summary
from storage.users import UserStore
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def rooms(database: Database) -> RoomStore:
    return RoomStore(database)


@pytest.fixture
def changes(database: Database) -> RoomChanges:
    return RoomChanges(database)


@pytest.fixture
async def people(database: Database) -> list[UUID]:
    users = UserStore(database)
    return [(await users.create(f"{name}@example.org", "hash", name=name)).id for name in ("ada", "bob", "eve")]


def line(change: RoomChange, **more: Any) -> Entry:
    return entry(change.room.channel, sender=str(change.actor.id), type="system", counted=False, **more)


async def group(
    changes: RoomChanges,
    owner: UUID,
    *members: UUID,
    title: str = "Algebra",
    open: bool = False,
    id: UUID | None = None,
) -> UUID:
    """A new group, its members added with an event each."""
    async with changes.new("group", owner, members, id=id, title=title, open=open) as new:
        if new.change is not None:
            offsets = [new.change.tell(line(new.change)) for _ in members]
            pairs = zip(members, offsets, strict=True)
            added: list[tuple[UUID, Role, int]] = [(each, "member", offset) for each, offset in pairs]
            await new.change.add([(owner, "owner", 0), *added])
    return new.id


async def direct(changes: RoomChanges, one: UUID, other: UUID) -> tuple[UUID, bool]:
    async with changes.new("direct", one, [other]) as new:
        if new.change is not None:
            await new.change.add([(one, "member", 0), (other, "member", 0)])
            for each in (one, other):
                new.change.tell(entry(personal_channel(each), counted=False))
    return new.id, new.change is not None


async def say(database: Database, room_id: UUID, sender: UUID, content: str = "hi", **more: object) -> int:
    """A message; returns its offset, or raises what the log says against it."""
    async with database.acquire() as connection:
        said = entry(room_channel(room_id), sender=str(sender), data=b'{"content":"%s"}' % content.encode(), **more)
        result = result_of((await append_batch(connection, [said]))[0])
    if isinstance(result, Exception):
        raise result
    return result.offset


async def seen(rooms: RoomStore, room_id: UUID, user_id: UUID, cursor: int = 0) -> Summary:
    found = await rooms.summary(room_id, user_id, {room_id: cursor} if cursor else {})
    assert found is not None
    return found


# --- making ----------------------------------------------------------------------------------------------------------


async def test_a_group_begins_with_its_owner_and_others(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID]
) -> None:
    ada, bob, eve = people
    id = await group(changes, ada, bob, eve)
    assert {(each.user_id, each.role, each.name) for each in await rooms.members(id)} == {
        (ada, "owner", "ada"),
        (bob, "member", "bob"),
        (eve, "member", "eve"),
    }
    room = await seen(rooms, id, ada)
    assert (room.kind, room.title, room.open, room.created_by, room.members) == ("group", "Algebra", False, ada, 3)
    assert (room.role, room.offset, room.archived_at, room.muted_until, room.peer) == ("owner", 2, None, None, None)
    assert await rooms.summary(uuid4(), ada, {}) is None


async def test_whom_there_is_not_nobody_adds(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, _ = people
    nobody = uuid4()
    for others in ([nobody], [bob, nobody]):
        with pytest.raises(NoSuchUser) as refused:
            await group(changes, ada, *others)
        assert refused.value.users == [nobody]
    with pytest.raises(NoSuchUser):
        await group(changes, nobody)
    with pytest.raises(NoSuchUser):
        await direct(changes, ada, nobody)
    await UserStore(database).disable(bob)
    with pytest.raises(NoSuchUser):
        await direct(changes, ada, bob)
    assert await rooms.summaries(ada, {}) == []
    assert await database.fetchval("select count(*) from rooms") == 0


async def test_an_id_makes_one_group_however_often_it_is_made(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID]
) -> None:
    id = uuid4()
    made = await asyncio.gather(*(group(changes, people[0], people[1], id=id) for _ in range(5)))
    assert set(made) == {id}
    assert len(await rooms.summaries(people[0], {})) == 1
    assert (await seen(rooms, id, people[1])).offset == 1


async def test_two_people_have_one_direct_room(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    """Both write first, twenty at once."""
    ada, bob, eve = people
    pairs = [(ada, bob) if number % 2 else (bob, ada) for number in range(20)]
    asked = await asyncio.gather(*(direct(changes, *pair) for pair in pairs))
    assert len({id for id, _ in asked}) == 1
    assert sum(new for _, new in asked) == 1
    assert {each.user_id for each in await rooms.members(asked[0][0])} == {ada, bob}
    for user, peer in ((ada, (bob, "bob")), (bob, (ada, "ada"))):
        room = await seen(rooms, asked[0][0], user)
        assert (room.kind, room.title, room.peer, room.members) == ("direct", "", peer, 2)
        assert len((await LogReader(database).read(personal_channel(user), 0, 10)).publications) == 1
    assert (await direct(changes, ada, eve))[0] != asked[0][0]


async def test_many_pairs_that_write_to_each_other_do_not_wait_in_a_circle(
    changes: RoomChanges, database: Database
) -> None:
    users = UserStore(database)
    crowd = [(await users.create(f"{number}@example.org", "hash")).id for number in range(6)]
    pairs = [(one, other) for one in crowd for other in crowd if one != other]
    asked = await asyncio.gather(*(direct(changes, *pair) for pair in pairs))
    assert sum(new for _, new in asked) == len(pairs) / 2


# --- changing --------------------------------------------------------------------------------------------------------


async def test_a_change_tells_the_room_and_the_personal_channel_in_one_transaction(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, _ = people
    id = await group(changes, ada)
    await say(database, id, ada)
    async with changes.of(id, ada, bob, personal=[bob]) as change:
        assert change is not None
        assert (change.actor.name, change.actor.role) == ("ada", "owner")
        assert change.subject is not None
        assert (change.subject.name, change.subject.role) == ("bob", None)
        added = change.tell(line(change, tags=b'{"event":"member_added"}'))
        change.tell(entry(personal_channel(bob), counted=False, history_size=1000, history_ttl=60))
        await change.add([(bob, "member", added)])
    assert [told.channel for told in change.told] == [room_channel(id), personal_channel(bob)]
    reader = LogReader(database)
    for told in change.told:
        page = await reader.read(told.channel, 0, 10)
        assert page.publications[-1] == told.publication
        assert page.head.epoch == told.epoch
    assert added == change.told[0].publication.offset == 2
    assert await database.fetchval("select joined_offset from room_members where user_id = $1", bob) == 2
    row = await database.fetchrow("select * from channels where name = $1", personal_channel(bob))
    assert row is not None
    assert (row["history_size"], row["history_ttl"], row["last_count"]) == (1000, 60, 0)
    assert (await seen(rooms, id, bob)).members == 2


async def test_a_change_that_tells_nothing_writes_nothing(
    changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    id = await group(changes, people[0])
    async with changes.of(id, people[0], people[1], personal=[people[1]]) as change:
        assert change is not None
    assert change.told == []
    assert await database.fetchval("select count(*) from messages") == 0


async def test_a_change_that_fails_did_not_happen(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, eve = people
    id = await group(changes, ada, bob)
    taken = uuid4().bytes
    await say(database, id, bob, id=taken)
    with pytest.raises(IdTaken):
        async with changes.of(id, ada, eve) as change:
            assert change is not None
            await change.add([(eve, "member", change.tell(line(change, id=taken)))])
    assert await rooms.role(id, eve) is None
    with pytest.raises(ZeroDivisionError):
        async with changes.of(id, ada, bob, personal=[bob]) as change:
            assert change is not None
            change.tell(line(change))
            await change.remove(bob)
            raise ZeroDivisionError
    assert await rooms.role(id, bob) == "member"
    assert (await seen(rooms, id, ada)).offset == 2


async def test_a_stranger_locks_nothing(changes: RoomChanges, people: list[UUID], connection: Connection) -> None:
    """Whoever knows a room's id cannot hold it up, nor make channels of rooms that are not there."""
    ada, bob, _ = people
    id = await group(changes, ada)
    async with connection.transaction():
        await connection.execute("select from channels where name = $1 for update", room_channel(id))
        async with asyncio.timeout(2), changes.of(id, bob) as change:
            assert change is None
    async with changes.of(uuid4(), bob, personal=[bob]) as change:
        assert change is None
    assert await connection.fetchval("select count(*) from channels where name <> $1", room_channel(id)) == 1  # ada's


async def test_who_may_join_an_open_room_may_change_it(changes: RoomChanges, people: list[UUID]) -> None:
    id = await group(changes, people[0], open=True)
    async with changes.of(id, people[1]) as change:
        assert change is not None
        assert change.actor.role is None


async def test_the_heir_is_the_moderator_else_the_member_who_came_first(
    changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, eve = people
    id = await group(changes, ada, bob, eve)
    await database.execute("update room_members set joined_at = joined_at - interval '1 hour' where user_id = $1", eve)
    async with changes.of(id, ada) as change:
        assert change is not None
        assert not await change.has_other_owner(ada)
        assert (heir := await change.heir(ada)) is not None
        assert heir.name == "eve"
        await change.set_role(bob, "moderator")
        assert (heir := await change.heir(ada)) is not None
        assert heir.name == "bob"
        await change.set_role(eve, "owner")
        assert await change.has_other_owner(ada)
    await UserStore(database).disable(bob)
    await database.execute("update room_members set role = 'member' where user_id = $1", eve)
    async with changes.of(id, ada) as change:
        assert change is not None
        assert (heir := await change.heir(ada)) is not None
        assert heir.name == "eve", "whoever may not come in is the last one"


async def test_an_archived_room_takes_its_own_events_and_no_messages(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada = people[0]
    id = await group(changes, ada)
    for archived in (True, False):
        async with changes.of(id, ada) as change:
            assert change is not None
            await change.archive(archived=archived)
            change.tell(line(change))
        assert ((await seen(rooms, id, ada)).archived_at is not None) == archived
        if archived:
            with pytest.raises(Refused):
                await say(database, id, ada)
    assert await say(database, id, ada) == 3


async def test_messages_that_cross_the_archiving_come_before_it_or_are_refused(
    changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada = people[0]
    id = await group(changes, ada)

    async def talk() -> list[int]:
        said = []
        while True:
            try:
                said.append(await say(database, id, ada))
            except Refused:
                return said

    talking = asyncio.create_task(talk())
    while not await database.fetchval("select last_offset from channels where name = $1", room_channel(id)):
        await asyncio.sleep(0)
    async with changes.of(id, ada) as change:
        assert change is not None
        await change.archive(archived=True)
        archived = change.tell(line(change))
    said = await talking
    assert said == list(range(1, archived))


async def test_a_mute_outlasts_leaving_and_ends_by_itself_or_by_an_owners_role(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, _ = people
    id = await group(changes, ada, bob)
    async with changes.of(id, ada, bob) as change:
        assert change is not None
        assert await change.mute(bob, None) == FOR_EVER
    with pytest.raises(Refused):
        await say(database, id, bob)
    async with changes.of(id, ada, bob) as change:
        assert change is not None
        assert change.muted_until == FOR_EVER
        await change.remove(bob)
    async with changes.of(id, ada, bob) as change:
        assert change is not None
        await change.add([(bob, "member", change.tell(line(change)))])
    with pytest.raises(Refused):
        await say(database, id, bob)
    assert (await seen(rooms, id, bob)).muted_until == FOR_EVER
    assert {each.name: each.muted_until for each in await rooms.members(id)} == {"ada": None, "bob": FOR_EVER}

    async with changes.of(id, ada, bob) as change:
        assert change is not None
        until = await change.mute(bob, 60)
    assert abs(until - datetime.now(UTC) - timedelta(seconds=60)) < timedelta(seconds=30)
    assert (await seen(rooms, id, bob)).muted_until == until
    await database.execute("update silenced set until = now() - interval '1 second'")
    assert (await seen(rooms, id, bob)).muted_until is None
    assert [each.muted_until for each in await rooms.members(id)] == [None, None]

    async with changes.of(id, ada, bob) as change:
        assert change is not None
        assert change.muted_until is None
        await change.mute(bob, 60)
        await change.set_role(bob, "owner")
    assert await say(database, id, bob)


# --- asking ----------------------------------------------------------------------------------------------------------


async def test_membership(rooms: RoomStore, changes: RoomChanges, people: list[UUID]) -> None:
    ada, bob, _ = people
    id = await group(changes, ada)
    assert await rooms.role(id, ada) == "owner"
    assert await rooms.role(id, bob) is None


async def test_the_list_has_the_newest_talk_first_and_goes_on_after_its_last(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, _ = people
    made = [await group(changes, ada, bob, title=str(number)) for number in range(5)]
    for number in (3, 0):
        await say(database, made[number], bob, f"in {number}")
    async with changes.of(made[1], ada, people[2]) as change:  # an event is no talk
        assert change is not None
        await change.add([(people[2], "member", change.tell(line(change)))])
    async with changes.of(made[2], ada) as change:
        assert change is not None
        await change.archive(archived=True)
    found: list[Summary] = []
    while page := await rooms.summaries(ada, {}, after=(found[-1].talked_at, found[-1].id) if found else None, limit=2):
        assert len(page) <= 2
        found += page
    assert [room.title for room in found] == ["0", "3", "4", "1"]
    assert [room.last and (room.last.offset, room.last.data) for room in found] == [
        (2, b'{"content":"in 0"}'),
        (2, b'{"content":"in 3"}'),
        None,
        None,
    ]
    assert [room.last and room.last.author for room in found[:2]] == [(bob, "bob")] * 2
    assert [room.title for room in await rooms.summaries(ada, {}, archived=True)] == ["2"]
    assert [room.title for room in await rooms.summaries(people[2], {})] == ["1"]


async def test_unread_counts_messages_beyond_the_cursor_and_since_one_came(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ada, bob, eve = people
    id = await group(changes, ada, bob)  # offset 1
    for _ in range(3):
        await say(database, id, ada, mentions=(str(bob),))  # 2, 3, 4
    async with changes.of(id, ada, eve) as change:
        assert change is not None
        await change.add([(eve, "member", change.tell(line(change)))])  # 5
    await say(database, id, ada, mentions=(str(bob), str(eve)))  # 6

    def numbers(room: Summary) -> tuple[int, int, int, int]:
        return room.offset, room.cursor, room.unread, room.mentions

    assert numbers(await seen(rooms, id, bob)) == (6, 0, 4, 4)
    assert numbers(await seen(rooms, id, eve)) == (6, 0, 1, 1), "what was said before is not unread"
    await database.execute(
        'insert into read_cursors (channel_id, user_id, "offset") select id, $2, 3 from channels where name = $1',
        room_channel(id),
        bob,
    )
    assert numbers(await seen(rooms, id, bob)) == (6, 3, 2, 2)
    assert numbers(await seen(rooms, id, bob, 2)) == (6, 3, 2, 2), "the higher cursor holds"
    assert numbers(await seen(rooms, id, bob, 5)) == (6, 5, 1, 1)
    assert numbers(await seen(rooms, id, bob, 6)) == (6, 6, 0, 0)
    assert numbers(await seen(rooms, id, bob, 7)) == (6, 3, 2, 2), "beyond the log's end: of another history"
    assert numbers((await rooms.summaries(bob, {id: 5}))[0]) == (6, 5, 1, 1)


async def test_open_groups_are_found_by_the_beginning_of_their_title(
    rooms: RoomStore, changes: RoomChanges, people: list[UUID]
) -> None:
    ada = people[0]
    titles = ["Chess", "chess for children", "CHESS", "Cheese", "100%", "Chess_", "Ünder"]
    ids = {title: await group(changes, ada, title=title, open=True) for title in titles}
    await group(changes, ada, title="Chess, secretly")
    async with changes.of(ids["CHESS"], ada) as change:
        assert change is not None
        await change.archive(archived=True)

    async def find(beginning: str) -> list[str]:
        return [room.title for _, room in await rooms.find(beginning)]

    assert await find("chess") == ["Chess", "chess for children", "Chess_"]
    assert await find("CHE") == ["Cheese", "Chess", "chess for children", "Chess_"]
    assert await find("100%") == ["100%"]
    assert await find("1_") == []
    assert await find("ün") == ["Ünder"]
    assert len(await find("")) == 6

    found: list[tuple[str, OpenRoom]] = []
    while page := await rooms.find("", after=(found[-1][0], found[-1][1].id) if found else None, limit=2):
        found += page
    assert [room.title for _, room in found] == await find("")


async def test_members_go_on_after_their_last(rooms: RoomStore, changes: RoomChanges, people: Sequence[UUID]) -> None:
    id = await group(changes, people[0], *people[1:])
    first = await rooms.members(id, limit=2)
    rest = await rooms.members(id, after=first[-1].user_id)
    assert [each.user_id for each in first + rest] == sorted(people)


async def test_the_number_of_members_is_kept_whoever_writes_the_rows(
    changes: RoomChanges, people: list[UUID], database: Database
) -> None:
    ids = [await group(changes, people[0]) for _ in range(2)]
    await database.execute(
        "insert into room_members (room_id, user_id, role) select r, u, 'member' "
        "from unnest($1::uuid[]) r, unnest($2::uuid[]) u on conflict do nothing",
        ids,
        people,
    )
    await database.execute("delete from room_members where user_id = $1 and room_id = $2", people[2], ids[0])
    numbers = {row["id"]: row["members"] for row in await database.fetch("select id, members from rooms")}
    assert [numbers[id] for id in ids] == [2, 3]
