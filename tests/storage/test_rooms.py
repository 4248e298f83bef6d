from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from realtime.interfaces import IdTaken
from storage.database import Database
from storage.log import LogReader
from storage.rooms import NoSuchRoom, Room, RoomStore
from storage.users import UserStore
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration


@pytest.fixture
def rooms(database: Database) -> RoomStore:
    return RoomStore(database)


@pytest.fixture
async def people(database: Database) -> list[UUID]:
    users = UserStore(database)
    return [(await users.create(f"{name}@example.org", "hash", name=name)).id for name in ("ada", "bob", "eve")]


async def test_a_group_begins_with_its_owner(rooms: RoomStore, people: list[UUID]) -> None:
    room = await rooms.create("Algebra", people[0])
    assert (room.kind, room.title, room.created_by, room.channel) == ("group", "Algebra", people[0], f"room:{room.id}")
    assert await rooms.get(room.id) == room
    assert await rooms.get(uuid4()) is None
    assert [(each.user_id, each.role, each.name) for each in await rooms.members(room.id)] == [
        (people[0], "owner", "ada")
    ]


async def test_two_people_have_one_direct_room(rooms: RoomStore, people: list[UUID]) -> None:
    ada, bob, eve = people
    asked = await asyncio.gather(rooms.direct(ada, bob), rooms.direct(bob, ada), rooms.direct(ada, bob))
    assert len({room.id for room, _ in asked}) == 1
    assert sum(new for _, new in asked) == 1
    assert {each.user_id for each in await rooms.members(asked[0][0].id)} == {ada, bob}
    assert (await rooms.direct(ada, eve))[0].id != asked[0][0].id
    assert len(await rooms.members((await rooms.direct(ada, ada))[0].id)) == 1
    with pytest.raises(NoSuchRoom):
        await rooms.direct(ada, uuid4())


async def test_membership(rooms: RoomStore, people: list[UUID]) -> None:
    ada, bob, _ = people
    room = await rooms.create("Algebra", ada)
    assert await rooms.role(room.id, bob) is None
    assert not await rooms.is_member(room.id, str(bob))
    assert not await rooms.is_member(room.id, "none of ours")
    assert await rooms.add_member(room.id, bob, "member")
    assert not await rooms.add_member(room.id, bob, "member")
    assert await rooms.add_member(room.id, bob, "moderator")
    assert await rooms.role(room.id, bob) == "moderator"
    assert await rooms.is_member(room.id, str(bob))
    assert await rooms.remove_member(room.id, bob)
    assert not await rooms.remove_member(room.id, bob)
    for room_id, user_id in ((uuid4(), bob), (room.id, uuid4())):
        with pytest.raises(NoSuchRoom):
            await rooms.add_member(room_id, user_id, "member")


async def test_lists_go_on_after_their_last(rooms: RoomStore, people: list[UUID]) -> None:
    created = [await rooms.create(str(number), people[0]) for number in range(5)]
    archived = await rooms.archive(created[2].id)
    assert archived is not None
    assert archived.archived_at is not None
    found: list[Room] = []
    while page := await rooms.list_for_user(people[0], after=found[-1] if found else None, limit=2):
        found += page
    assert found == [room for room in reversed(created) if room != created[2]]
    assert await rooms.list_for_user(people[1]) == []

    for user in people:
        await rooms.add_member(created[0].id, user, "member")
    first = await rooms.members(created[0].id, limit=2)
    rest = await rooms.members(created[0].id, after=first[-1].user_id)
    assert [each.user_id for each in first + rest] == sorted(people)


async def test_a_change_of_membership_is_a_row_of_the_rooms_log(
    rooms: RoomStore, people: list[UUID], database: Database
) -> None:
    ada, bob, _ = people
    room = await rooms.create("Algebra", ada)
    joined = entry(room.channel, sender=str(ada), data=b'{"type":"joined"}', type="member", counted=False)
    change = await rooms.change_membership(room.id, bob, "member", joined)
    assert change is not None
    appended, publication = change
    assert (appended.offset, appended.duplicate) == (1, None)
    assert await rooms.role(room.id, bob) == "member"
    page = await LogReader(database).read(room.channel, 0, 10)
    assert page.publications == [publication]
    assert page.head.epoch == appended.epoch

    assert await rooms.change_membership(room.id, bob, "member", entry(room.channel)) is None, "nothing changed"
    again = await rooms.change_membership(room.id, bob, "member", joined)  # after an unknown outcome
    assert again is not None
    assert again == (again[0], publication)
    assert again[0].offset == 1

    left = await rooms.change_membership(room.id, bob, None, entry(room.channel, sender=str(ada)))
    assert left is not None
    assert left[0].offset == 2
    assert await rooms.role(room.id, bob) is None
    assert await rooms.change_membership(room.id, bob, None, entry(room.channel)) is None


async def test_a_change_that_the_log_refuses_did_not_happen(rooms: RoomStore, people: list[UUID]) -> None:
    ada, bob, eve = people
    room = await rooms.create("Algebra", ada)
    event = entry(room.channel, sender=str(ada))
    await rooms.change_membership(room.id, bob, "member", event)
    with pytest.raises(IdTaken):
        await rooms.change_membership(room.id, eve, "member", entry(room.channel, sender=str(eve), id=event.id))
    assert await rooms.role(room.id, eve) is None
    with pytest.raises(NoSuchRoom):
        await rooms.change_membership(uuid4(), eve, "member", event)
