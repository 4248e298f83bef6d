"""What people may do with rooms, what is told of it, and what happens when two do it at once. On PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway_node.rpc.rooms import methods
from gateway_node.services.rooms import MAX_MUTE, MAX_PAGE, Rooms
from realtime import codes
from realtime.interfaces import Identity
from realtime.protocol import Publication
from storage.database import Database
from storage.log import LogReader
from storage.log.append import append_batch
from storage.room_changes import RoomChanges
from storage.rooms import RoomStore
from storage.users import UserStore
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration

NAMES = ("owner", "moderator", "member", "stranger", "another owner", "another moderator", "another member")
ID = "00000000-0000-4000-8000-000000000000"
AWAY = "postgresql://nobody@127.0.0.1:1/nothing"


class Forwarder:
    """What the node would tell the others, and its own subscribers."""

    def __init__(self) -> None:
        self.forwarded: list[tuple[str, Publication, str]] = []

    def forward(self, channel: str, publication: Publication, epoch: str) -> None:
        self.forwarded.append((channel, publication, epoch))


@dataclass
class World:
    """People by their names, and a room in which they are what their names say."""

    database: Database
    rpc: Any
    forwarder: Forwarder
    ids: dict[str, str] = field(default_factory=dict)
    room: str = ""

    async def call(self, who: str, method: str, **params: Any) -> Any:
        user = self.ids.get(who, who)
        return json.loads(await self.rpc[method](Identity(user), json.dumps(params).encode()))

    async def code(self, who: str, method: str, **params: Any) -> int:
        """0, or the error's code."""
        try:
            await self.call(who, method, **params)
        except codes.CommandError as error:
            return error.code
        return 0

    async def log(self, channel: str = "") -> list[dict[str, Any]]:
        """What a channel's log holds: of the room, unless another is named. Only what has been forwarded, too."""
        channel = channel or f"room:{self.room}"
        publications = (await LogReader(self.database).read(channel, 0, 1000)).publications
        assert [each for name, each, _ in self.forwarder.forwarded if name == channel] == publications
        return [{**json.loads(bytes(each.data)), "tags": each.tags} for each in publications]

    async def since(self, offset: int) -> list[dict[str, Any]]:
        """The lines of the room beyond an offset, without their ids."""
        lines = (await self.log())[offset:]
        for line in lines:
            UUID(line.pop("id"))
            assert line.pop("type") == "system"
            assert line.pop("room_id") == self.room
        return lines

    async def personal(self, who: str) -> list[tuple[str, str]]:
        """The events of a personal channel, by event and room."""
        events = await self.log(f"user:{self.ids[who]}")
        for each in events:
            assert each["type"] == "event"
            assert each["tags"] == {"event": each["event"], "room": each["room_id"]}
        return [(each["event"], each["room_id"]) for each in events]

    async def roles(self) -> dict[str, str]:
        names = {id: name for name, id in self.ids.items()}
        rows = await self.database.fetch("select user_id, role from room_members where room_id = $1", UUID(self.room))
        return {names[str(row["user_id"])]: row["role"] for row in rows}

    async def head(self) -> int:
        return int(
            await self.database.fetchval("select last_offset from channels where name = $1", f"room:{self.room}")
        )


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    database = Database(database_url, pool_size=20)
    forwarder = Forwarder()
    rooms = Rooms(RoomStore(database), RoomChanges(database), forwarder)  # type: ignore[arg-type]
    world = World(database, methods(rooms), forwarder)
    users = UserStore(database)
    for name in NAMES:
        world.ids[name] = str((await users.create(f"{uuid4()}@example.org", "hash", name=name.title())).id)
    others = [world.ids[name] for name in NAMES if name not in ("owner", "stranger")]
    world.room = (await world.call("owner", "room.create", title="Algebra", members=others))["id"]
    for name in NAMES[1:]:
        if (role := name.split()[-1]) in ("owner", "moderator"):
            await world.call("owner", "room.role", room_id=world.room, user_id=world.ids[name], role=role)
    yield world
    await database.close()


# --- who may ---------------------------------------------------------------------------------------------------------

# A verb, to whom it is done, its parameters, and what it answers to the owner, the moderator, a member, a stranger, and
# one of the two of a direct room.
RIGHTS: list[tuple[str, str, dict[str, Any], tuple[int, int, int, int, int]]] = [
    ("room.get", "", {}, (0, 0, 0, 102, 0)),
    ("room.members", "", {}, (0, 0, 0, 102, 0)),
    ("room.update", "", {"title": "Topology"}, (0, 0, 103, 102, 103)),
    ("room.update", "", {"open": True}, (0, 0, 103, 102, 103)),
    ("room.update", "", {}, (0, 0, 103, 102, 103)),
    ("room.archive", "", {}, (0, 103, 103, 102, 103)),
    ("room.restore", "", {}, (0, 103, 103, 102, 103)),
    ("room.join", "", {}, (0, 0, 0, 102, 0)),
    ("room.leave", "", {}, (0, 0, 0, 102, 103)),
    ("room.invite", "stranger", {}, (0, 0, 103, 102, 103)),
    ("room.invite", "another owner", {}, (0, 0, 103, 102, 103)),
    ("room.remove", "another member", {}, (0, 0, 103, 102, 103)),
    ("room.remove", "another moderator", {}, (0, 103, 103, 102, 103)),
    ("room.remove", "another owner", {}, (103, 103, 103, 102, 103)),
    ("room.role", "another member", {"role": "moderator"}, (0, 103, 103, 102, 103)),
    ("room.role", "another owner", {"role": "member"}, (0, 103, 103, 102, 103)),
    ("room.mute", "another member", {}, (0, 0, 103, 102, 103)),
    ("room.mute", "another moderator", {"seconds": 60}, (0, 103, 103, 102, 103)),
    ("room.mute", "another owner", {}, (103, 103, 103, 102, 103)),
    ("room.unmute", "another member", {}, (0, 0, 103, 102, 103)),
    ("room.unmute", "another moderator", {}, (0, 103, 103, 102, 103)),
    ("room.unmute", "another owner", {}, (103, 103, 103, 102, 103)),
]


@pytest.mark.parametrize(("verb", "whom", "params", "expected"), RIGHTS)
async def test_rights(
    world: World, verb: str, whom: str, params: dict[str, Any], expected: tuple[int, int, int, int, int]
) -> None:
    direct = (await world.call("member", "room.direct", user_id=world.ids["another member"]))["id"]
    params = {**params, **({"user_id": world.ids[whom]} if whom else {})}
    assert await world.code("stranger", verb, room_id=str(uuid4()), **params) == 102, "as where there is no room"
    # Those first who may not: the room is as it was afterwards.
    tried = [
        ("stranger", world.room),
        ("member", direct),
        *((who, world.room) for who in ("member", "moderator", "owner")),
    ]
    for (who, room), code in zip(tried, (expected[3], expected[4], *expected[2::-1]), strict=True):
        before = await world.head()
        assert await world.code(who, verb, room_id=room, **params) == code, who
        if code:
            assert await world.head() == before


@pytest.mark.parametrize("user", ["ann", "", "00000000", ID, "OWNER", "{owner}"])
async def test_rooms_are_for_people_with_an_account(world: World, user: str) -> None:
    """Nor for another spelling of an id, which a mute would not find."""
    user = {"OWNER": world.ids["owner"].upper(), "{owner}": f"{{{world.ids['owner']}}}"}.get(user, user)
    registered = user == ID  # an id, but of nobody
    assert await world.code(user, "room.create", title="x") == 103
    assert await world.code(user, "room.direct", user_id=world.ids["owner"]) == 103
    for verb in ("room.list", "room.find"):
        params = {"query": ""} if verb == "room.find" else {}
        assert await world.code(user, verb, **params) == (0 if registered else 103)
    for verb in ("room.get", "room.members", "room.join", "room.leave"):
        assert await world.code(user, verb, room_id=world.room) == (102 if registered else 103)


async def test_whoever_is_invited_or_written_to_must_be_there(world: World) -> None:
    nobody = str(uuid4())
    await world.database.execute("update users set disabled_at = now() where id = $1", UUID(world.ids["stranger"]))
    for user in (nobody, world.ids["stranger"]):
        assert await world.code("owner", "room.invite", room_id=world.room, user_id=user) == 1002
        assert await world.code("owner", "room.direct", user_id=user) == 1002
        for verb, more in (("room.role", {"role": "member"}), ("room.mute", {}), ("room.unmute", {})):
            assert await world.code("owner", verb, room_id=world.room, user_id=user, **more) == 1002
        assert await world.code("owner", "room.remove", room_id=world.room, user_id=user) == 0, "they are not in it"
    with pytest.raises(codes.NOT_FOUND) as refused:
        await world.call("owner", "room.create", title="x", members=[world.ids["member"], nobody])
    assert refused.value.pointer == "/members/1"
    assert await world.code("owner", "room.direct", user_id=world.ids["owner"]) == 107


async def test_a_disabled_member_can_be_removed(world: World) -> None:
    await world.database.execute("update users set disabled_at = now() where id = $1", UUID(world.ids["member"]))
    await world.call("owner", "room.remove", room_id=world.room, user_id=world.ids["member"])
    assert "member" not in await world.roles()


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_a_new_group_tells_of_its_first_members(world: World) -> None:
    room = await world.call(
        "owner", "room.create", title="  Chess ", open=True, members=[world.ids["member"], world.ids["owner"]] * 2
    )
    assert room == {
        "id": room["id"],
        "kind": "group",
        "title": "Chess",
        "open": True,
        "created_by": world.ids["owner"],
        "created_at": room["created_at"],
        "updated_at": room["updated_at"],
        "role": "owner",
        "members": 2,
        "offset": 1,
        "epoch": room["epoch"],
        "cursor": 0,
        "unread": 0,
        "mentions": 0,
    }
    world.room = room["id"]
    assert await world.since(0) == [
        {
            "from_user_id": world.ids["owner"],
            "content": "Owner added Member",
            "event": "member_added",
            "user_id": world.ids["member"],
            "tags": {"event": "member_added", "user": world.ids["member"]},
        }
    ]
    assert (await world.personal("owner"))[-1] == (await world.personal("member"))[-1] == ("room_added", room["id"])


async def test_a_direct_room_tells_both(world: World) -> None:
    one = await world.call("owner", "room.direct", user_id=world.ids["stranger"])
    other = await world.call("stranger", "room.direct", user_id=world.ids["owner"])
    assert one["peer"] == {"id": world.ids["stranger"], "name": "Stranger"}
    assert other["peer"] == {"id": world.ids["owner"], "name": "Owner"}
    assert (one["id"], one["kind"], one["role"], one["offset"]) == (other["id"], "direct", "member", 0)
    assert await world.personal("stranger") == [("room_added", one["id"])]
    assert (await world.personal("owner"))[-1] == ("room_added", one["id"])


TELLS: list[tuple[str, str, str, dict[str, Any], list[dict[str, Any]]]] = [
    (
        "owner",
        "room.update",
        "",
        {"title": "B"},
        [{"content": "Owner named the group B", "event": "room_updated", "title": "B"}],
    ),
    (
        "owner",
        "room.update",
        "",
        {"open": True},
        [{"content": "Owner let everybody join", "event": "room_updated", "open": True}],
    ),
    (
        "moderator",
        "room.update",
        "",
        {"title": "B", "open": True},
        [
            {
                "content": "Moderator named the group B and let everybody join",
                "event": "room_updated",
                "title": "B",
                "open": True,
            }
        ],
    ),
    ("owner", "room.archive", "", {}, [{"content": "Owner archived the group", "event": "room_archived"}]),
    ("member", "room.leave", "", {}, [{"content": "Member left", "event": "member_removed", "user_id": "member"}]),
    (
        "owner",
        "room.invite",
        "stranger",
        {},
        [{"content": "Owner added Stranger", "event": "member_added", "user_id": "stranger"}],
    ),
    (
        "owner",
        "room.remove",
        "member",
        {},
        [{"content": "Owner removed Member", "event": "member_removed", "user_id": "member"}],
    ),
    (
        "owner",
        "room.role",
        "member",
        {"role": "moderator"},
        [
            {
                "content": "Owner made Member a moderator",
                "event": "member_role",
                "user_id": "member",
                "role": "moderator",
            }
        ],
    ),
    (
        "owner",
        "room.mute",
        "member",
        {},
        [{"content": "Owner muted Member", "event": "member_muted", "user_id": "member"}],
    ),
]


@pytest.mark.parametrize(("who", "verb", "whom", "params", "lines"), TELLS)
async def test_a_change_is_told_once(
    world: World, who: str, verb: str, whom: str, params: dict[str, Any], lines: list[dict[str, Any]]
) -> None:
    """The same again is no change, and says nothing."""
    before = await world.head()
    params = {**params, **({"user_id": world.ids[whom]} if whom else {})}
    await world.call(who, verb, room_id=world.room, **params)
    for line in lines:
        line = {**line, "from_user_id": world.ids[who]}
        if "user_id" in line:
            line["user_id"] = world.ids[line["user_id"]]
        moves = line["event"] in ("member_added", "member_removed")
        line["tags"] = {"event": line["event"], "user": line["user_id"]} if moves else None
        assert (await world.since(before)) == [line]
        if moves:
            event = line["event"].replace("member", "room")
            assert (await world.personal(whom or who))[-1] == (event, world.room)
    personal = [await world.log(f"user:{world.ids[name]}") for name in NAMES]
    await world.code(who, verb, room_id=world.room, **params)
    assert len(await world.since(before)) == len(lines)
    assert [await world.log(f"user:{world.ids[name]}") for name in NAMES] == personal


async def test_the_way_back_is_told_too(world: World) -> None:
    member = world.ids["member"]
    await world.call("owner", "room.archive", room_id=world.room)
    await world.call("owner", "room.mute", room_id=world.room, user_id=member, seconds=3600)
    await world.call("owner", "room.update", room_id=world.room, open=True)
    muted = (await world.log())[-2]
    until = datetime.fromisoformat(muted["until"])
    assert muted["content"] == f"Owner muted Member until {until:%Y-%m-%d %H:%M} UTC"
    assert (await world.call("member", "room.get", room_id=world.room))["muted_until"] == muted["until"]
    assert timedelta(minutes=50) < until - datetime.now(until.tzinfo) <= timedelta(hours=1)
    before = await world.head()
    for _ in range(2):
        await world.call("owner", "room.restore", room_id=world.room)
        await world.call("owner", "room.unmute", room_id=world.room, user_id=member)
        await world.call("owner", "room.update", room_id=world.room, open=False)
    assert [(line["event"], line["content"]) for line in await world.since(before)] == [
        ("room_restored", "Owner restored the group"),
        ("member_unmuted", "Owner unmuted Member"),
        ("room_updated", "Owner closed the group to joiners"),
    ]


async def test_for_ever_is_a_time_that_any_clock_can_be_compared_with(world: World) -> None:
    await world.call("owner", "room.mute", room_id=world.room, user_id=world.ids["member"])
    mine = await world.call("member", "room.get", room_id=world.room)
    listed = await world.call("owner", "room.members", room_id=world.room)
    (entry_,) = [each for each in listed["members"] if each["user_id"] == world.ids["member"]]
    assert mine["muted_until"] == entry_["muted_until"] == "9999-12-31T23:59:59.999999Z"
    assert set(entry_) == {"user_id", "role", "name", "joined_at", "muted_until"}


# --- joining and leaving ---------------------------------------------------------------------------------------------


async def test_anybody_joins_an_open_group_and_is_a_member_from_then_on(world: World) -> None:
    await world.call("owner", "room.update", room_id=world.room, open=True)
    before = await world.head()
    for _ in range(2):
        room = await world.call("stranger", "room.join", room_id=world.room)
        assert (room["role"], room["members"], room["offset"]) == ("member", 7, before + 1)
    assert [line["content"] for line in await world.since(before)] == ["Stranger joined"]
    for verb in ("room.update", "room.invite", "room.archive", "room.leave"):
        outsider = str((await UserStore(world.database).create(f"{uuid4()}@example.org", "hash")).id)
        params = {"user_id": outsider} if verb == "room.invite" else {}
        assert await world.code(outsider, verb, room_id=world.room, **params) == 102, "open is not in"
    await world.call("owner", "room.archive", room_id=world.room)
    await world.call("stranger", "room.leave", room_id=world.room)
    assert await world.code("stranger", "room.join", room_id=world.room) == 102
    assert await world.code("owner", "room.invite", room_id=world.room, user_id=world.ids["stranger"]) == 103


async def test_who_comes_back_has_read_what_was_said_before(world: World) -> None:
    for verb in ("room.remove", "room.invite"):
        await world.call("owner", verb, room_id=world.room, user_id=world.ids["member"])
    room = await world.call("member", "room.get", room_id=world.room)
    row = await world.database.fetchval(
        "select joined_offset from room_members where room_id = $1 and user_id = $2",
        UUID(world.room),
        UUID(world.ids["member"]),
    )
    assert row == room["offset"] == await world.head()


async def test_the_last_owner_hands_over_and_the_last_one_archives(world: World) -> None:
    for hours, name in enumerate(NAMES):  # the later in the list, the longer in the room
        await world.database.execute(
            "update room_members set joined_at = now() - $2 * interval '1 hour' where user_id = $1",
            UUID(world.ids[name]),
            hours,
        )
    before = await world.head()
    for name in ("another owner", "owner", "another moderator", "moderator", "another member", "member"):
        await world.call(name, "room.leave", room_id=world.room)
    assert [line["content"] for line in await world.since(before)] == [
        "Another Owner left",
        "Owner made Another Moderator an owner",
        "Owner left",
        "Another Moderator made Moderator an owner",
        "Another Moderator left",
        "Moderator made Another Member an owner",
        "Moderator left",
        "Another Member made Member an owner",
        "Another Member left",
        "Member archived the group",
        "Member left",
    ]
    row = await world.database.fetchrow(
        "select r.archived_at, r.members, c.closed from rooms r join channels c on c.name = 'room:' || r.id "
        "where r.id = $1",
        UUID(world.room),
    )
    assert row is not None
    assert (row["archived_at"] is not None, row["members"], row["closed"]) == (True, 0, True)


async def test_who_becomes_an_owner_is_not_muted_any_more(world: World) -> None:
    await world.call("owner", "room.mute", room_id=world.room, user_id=world.ids["member"])
    await world.call("owner", "room.role", room_id=world.room, user_id=world.ids["member"], role="owner")
    assert "muted_until" not in await world.call("member", "room.get", room_id=world.room)


async def test_the_last_owner_stays_one(world: World) -> None:
    myself = {"room_id": world.room, "user_id": world.ids["owner"], "role": "member"}
    await world.call("another owner", "room.leave", room_id=world.room)
    with pytest.raises(codes.BAD_REQUEST) as refused:
        await world.call("owner", "room.role", **myself)
    assert refused.value.pointer == "/role"
    await world.call("owner", "room.role", room_id=world.room, user_id=world.ids["member"], role="owner")
    await world.call("owner", "room.role", **myself)
    assert (await world.roles())["owner"] == "member"


# --- two at once -----------------------------------------------------------------------------------------------------


async def test_twenty_who_write_first_open_one_room(world: World) -> None:
    pair = ("owner", "stranger")
    asked = await asyncio.gather(
        *(world.call(pair[n % 2], "room.direct", user_id=world.ids[pair[1 - n % 2]]) for n in range(20))
    )
    assert len({room["id"] for room in asked}) == 1
    assert await world.personal("stranger") == [("room_added", asked[0]["id"])]


async def test_an_invitation_and_a_removal_at_once_leave_what_the_log_says_last(world: World) -> None:
    member = world.ids["member"]
    for _ in range(15):
        before = await world.head()
        await asyncio.gather(
            *(
                world.call(who, verb, room_id=world.room, user_id=member)
                for who in ("owner", "moderator")
                for verb in ("room.remove", "room.invite")
            )
        )
        events = [line["event"] for line in await world.since(before)]
        expected = ["member_removed", "member_added"] * 2
        assert events == expected[: len(events)], "in turn: nobody is removed or added twice"
        assert ("member" in await world.roles()) == (events[-1] == "member_added")
        await world.call("owner", "room.invite", room_id=world.room, user_id=member)


async def test_two_owners_cannot_both_take_the_role_from_the_other(world: World) -> None:
    for _ in range(10):
        done = await asyncio.gather(
            world.code("owner", "room.role", room_id=world.room, user_id=world.ids["another owner"], role="member"),
            world.code("another owner", "room.role", room_id=world.room, user_id=world.ids["owner"], role="member"),
        )
        assert sorted(done) == [0, 103]
        roles = await world.roles()
        (owner,) = [name for name, role in roles.items() if role == "owner"]
        for name in ("owner", "another owner"):
            await world.call(owner, "room.role", room_id=world.room, user_id=world.ids[name], role="owner")


async def test_owners_cannot_remove_each_other(world: World) -> None:
    done = await asyncio.gather(
        world.code("owner", "room.remove", room_id=world.room, user_id=world.ids["another owner"]),
        world.code("another owner", "room.remove", room_id=world.room, user_id=world.ids["owner"]),
    )
    assert list(done) == [103, 103]


async def test_two_last_owners_who_leave_at_once_leave_an_owner_behind(world: World) -> None:
    await asyncio.gather(*(world.call(each, "room.leave", room_id=world.room) for each in ("owner", "another owner")))
    assert [role for role in (await world.roles()).values() if role == "owner"] == ["owner"]


async def test_whoever_leaves_while_the_room_is_handed_to_them_does_not_keep_it(world: World) -> None:
    await world.call("another owner", "room.leave", room_id=world.room)
    await world.call("another moderator", "room.leave", room_id=world.room)
    await asyncio.gather(*(world.call(each, "room.leave", room_id=world.room) for each in ("owner", "moderator")))
    roles = await world.roles()
    assert sorted(roles) == ["another member", "member"]
    assert sorted(roles.values()) == ["member", "owner"]


@pytest.mark.parametrize(("verb", "params"), [("room.update", {"open": False}), ("room.archive", {})])
async def test_who_joins_while_the_group_closes_is_in_before_or_not_at_all(
    world: World, verb: str, params: dict[str, Any]
) -> None:
    await world.call("owner", "room.update", room_id=world.room, open=True)
    users = UserStore(world.database)
    guests = [str((await users.create(f"{uuid4()}@example.org", "hash", name="Guest")).id) for _ in range(10)]
    before = await world.head()
    done = await asyncio.gather(
        *(world.code(guest, "room.join", room_id=world.room) for guest in guests[:5]),
        world.code("owner", verb, room_id=world.room, **params),
        *(world.code(guest, "room.join", room_id=world.room) for guest in guests[5:]),
    )
    came = done.count(0) - 1
    assert done.count(102) == len(guests) - came
    lines = await world.since(before)
    assert len(lines) == came + 1
    assert lines[-1]["event"] in ("room_updated", "room_archived")


async def test_a_key_makes_one_group_however_often_it_is_asked_for(world: World) -> None:
    made = await asyncio.gather(
        *(world.call("owner", "room.create", title="x", key="1", members=[world.ids["member"]]) for _ in range(5))
    )
    assert len({room["id"] for room in made}) == 1
    assert (await world.personal("member")).count(("room_added", made[0]["id"])) == 1
    for who, key in (("owner", "2"), ("member", "1"), ("owner", ""), ("owner", "")):
        assert (await world.call(who, "room.create", title="x", key=key))["id"] not in {room["id"] for room in made}


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_pages_end_where_the_next_one_begins(world: World) -> None:
    for number in range(MAX_PAGE + 1):
        await world.call("stranger", "room.create", title=f"{number:03}", open=True)
    for verb, params in (("room.list", {}), ("room.find", {"query": ""})):
        first = await world.call("stranger", verb, **params)
        second = await world.call("stranger", verb, after=first["next"], **params)
        assert (len(first["rooms"]), len(second["rooms"])) == (MAX_PAGE, 1)
        assert "next" not in second
        titles = [room["title"] for room in first["rooms"] + second["rooms"]]
        assert titles == sorted(titles, reverse=verb == "room.list")


async def test_a_list_shows_the_last_message_as_it_is_read(world: World) -> None:
    async with world.database.acquire() as connection:
        said = entry(f"room:{world.room}", sender=world.ids["owner"], data=b'{"id":"x","content":"hi","type":"text"}')
        await append_batch(connection, [said])
    await world.call("owner", "room.update", room_id=world.room, title="New")
    (room,) = (await world.call("member", "room.list"))["rooms"]
    assert room["last"] == {
        "offset": room["offset"] - 1,
        "id": "x",
        "content": "hi",
        "type": "text",
        "timestamp": room["last"]["timestamp"],
    }
    assert room["unread"] == 1


async def test_a_constant_number_of_statements_answers(world: World, database_url: str) -> None:
    """Whatever the number of rooms and members."""
    database = Database(database_url, pool_size=1)
    rpc = methods(Rooms(RoomStore(database), RoomChanges(database), world.forwarder))  # type: ignore[arg-type]
    statements: list[str] = []
    async with database.acquire() as connection:
        connection.add_query_logger(lambda query: statements.append(query.query))

    async def count() -> list[int]:
        counts = []
        for verb, params in (("room.list", {}), ("room.members", {"room_id": world.room})):
            statements.clear()
            await rpc[verb](Identity(world.ids["owner"]), json.dumps(params).encode())
            counts.append(len([each for each in statements if "select" in each and "pg_advisory" not in each]))
        return counts

    try:
        few = await count()
        for number in range(20):
            await world.call("owner", "room.create", title=str(number), members=[world.ids["member"]])
        assert few == await count() == [1, 2]
    finally:
        await database.close()


# --- bad input -------------------------------------------------------------------------------------------------------


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("room.create", {}, "/title"),
    ("room.create", {"title": 1}, "/title"),
    ("room.create", {"title": ""}, "/title"),
    ("room.create", {"title": " \t "}, "/title"),
    ("room.create", {"title": "x" * 256}, "/title"),
    *(("room.create", {"title": f"a{bad}b"}, "/title") for bad in "\0\n\r\t\x1b\x7f\x85\u2028\u2029"),
    ("room.create", {"title": "x", "open": "yes"}, "/open"),
    ("room.create", {"title": "x", "members": "all"}, "/members"),
    ("room.create", {"title": "x", "members": [ID, "bob"]}, "/members/1"),
    ("room.create", {"title": "x", "key": "k" * 256}, "/key"),
    ("room.direct", {}, "/user_id"),
    ("room.direct", {"user_id": "bob"}, "/user_id"),
    ("room.list", {"archived": 1}, "/archived"),
    *(("room.list", {"after": after}, "/after") for after in ("", "x", "a.b", "é", "WzEsMl0", "\0")),
    ("room.find", {"query": None}, "/query"),
    ("room.find", {"query": "x" * 256}, "/query"),
    ("room.find", {"query": "a\0"}, "/query"),
    ("room.find", {"query": "", "after": "WzEsMl0"}, "/after"),
    (
        "room.find",
        {"query": "", "after": "WyJcdTAwMDAiLCIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDAiXQ"},
        "/after",
    ),
    ("room.update", {"room_id": ID, "title": ""}, "/title"),
    ("room.update", {"room_id": ID, "title": "a\nb"}, "/title"),
    ("room.update", {"room_id": ID, "open": 1}, "/open"),
    ("room.members", {"room_id": ID, "after": 1}, "/after"),
    ("room.invite", {"room_id": ID}, "/user_id"),
    ("room.role", {"room_id": ID, "user_id": ID, "role": "king"}, "/role"),
    ("room.role", {"room_id": ID, "user_id": ID}, "/role"),
    *(("room.mute", {"room_id": ID, "user_id": ID, "seconds": bad}, "/seconds") for bad in (0, -1, MAX_MUTE + 1, 1.5)),
    *(
        (f"room.{verb}", {"room_id": bad}, "/room_id")
        for verb in ("get", "update", "archive", "restore", "join", "leave", "members", "invite", "remove", "mute")
        for bad in ("", 7)
    ),
]


@pytest.mark.parametrize(("verb", "params", "pointer"), BAD)
async def test_bad_input_is_pointed_at(verb: str, params: dict[str, Any], pointer: str) -> None:
    """Before PostgreSQL is asked: there is none here."""
    away = Database(AWAY)
    rpc = methods(Rooms(RoomStore(away), RoomChanges(away), Forwarder()))  # type: ignore[arg-type]
    with pytest.raises(codes.BAD_REQUEST) as refused:
        await rpc[verb](Identity(ID), json.dumps(params).encode())
    assert refused.value.pointer == pointer
    assert refused.value.message.startswith(f"{pointer}: ")


async def test_too_many_at_once(world: World) -> None:
    members = [str(uuid4()) for _ in range(101)]
    assert await world.code("owner", "room.create", title="x", members=members) == 106
    assert await world.code("owner", "room.create", title="x", members=members[:1] * 101) == 1002, "one, often"


async def test_a_title_is_kept_as_it_was_written(world: World) -> None:
    """Marks of direction, emoji and all."""
    for title in ("שלום \u202eabc\u202c", '👩‍👩‍👧 %_\\\' "x"', "x" * 255):
        room = await world.call("owner", "room.create", title=title)
        assert room["title"] == title


async def test_while_postgresql_does_not_answer_the_error_is_a_temporary_one(world: World) -> None:
    away = Database(AWAY)
    world.rpc = methods(Rooms(RoomStore(away), RoomChanges(away), world.forwarder))  # type: ignore[arg-type]
    for verb, params in (
        ("room.create", {"title": "x"}),
        ("room.direct", {"user_id": world.ids["member"]}),
        ("room.list", {}),
        ("room.find", {"query": ""}),
        ("room.get", {"room_id": world.room}),
        ("room.members", {"room_id": world.room}),
        ("room.leave", {"room_id": world.room}),
    ):
        with pytest.raises(codes.INTERNAL) as refused:
            await world.call("owner", verb, **params)
        assert refused.value.temporary
    await away.close()
