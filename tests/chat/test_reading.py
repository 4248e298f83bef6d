"""Who has read what, on two whole nodes: one reads here, the others see it there."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.chat.person import Person, people
from tests.invariants.conftest import poll
from tests.invariants.rawclient import Refused
from tests.stack import redis_of, short_folder

pytestmark = pytest.mark.integration


async def room_of(owner: Person, *others: Person) -> str:
    """A group in which everybody is, with all their devices."""
    room = await owner.rpc("room.create", title="Algebra", members=[each.id for each in others])
    room_id = str(room["id"])
    for each in (owner, *others):
        await each.device.is_in(f"room:{room_id}")
    return room_id


async def send(person: Person, room_id: str, content: str, **more: Any) -> dict[str, Any]:
    """A message, with its offset."""
    sent = await person.rpc("message.send", room_id=room_id, content=content, id=str(uuid.uuid4()), **more)
    return dict(sent)


async def counts(person: Person, room_id: str) -> tuple[int, int]:
    """Unread messages and mentions of one room."""
    answer = await person.rpc("room.unread")
    found = answer["rooms"].get(room_id, {"unread": 0, "mentions": 0})
    assert answer["unread"] >= found["unread"]
    return found["unread"], found["mentions"]


async def cursors(person: Person, room_id: str) -> dict[str, int]:
    answer = await person.rpc("room.receipts", room_id=room_id)
    return dict(answer["cursors"])


async def settled(look: Callable[[], Any], wanted: Any) -> None:
    async def same() -> bool:
        return bool(await look() == wanted)

    await poll(same, f"{wanted}")


def receipts(person: Person, room_id: str) -> list[Any]:
    """What a device has heard of reading in a room."""
    return [each for each in person.device.heard(f"room:{room_id}") if each["type"] == "read"]


# --- unread -----------------------------------------------------------------------------------------------------------


async def test_unread_grows_with_messages_and_ends_with_reading(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        assert await counts(ben, room) == (0, 0), "who came in is no message"
        first = await send(ann, room, "one")
        await send(ann, room, "two", mentions=[ben.id])
        last = await send(ann, room, "three")
        assert await counts(ben, room) == (3, 1)
        assert await counts(ann, room) == (0, 0), "one's own messages are not unread"
        assert (await ben.http("GET", "/v1/unread")).body["rooms"] == {room: {"unread": 3, "mentions": 1}}
        await ben.rpc("room.read", room_id=room, offset=first["offset"])
        assert await counts(ben, room) == (2, 1)
        listed = (await ben.rpc("room.list"))["rooms"][0]
        assert (listed["unread"], listed["mentions"], listed["cursor"]) == (2, 1, first["offset"])
        answer = await ben.http("PUT", f"/v1/rooms/{room}/cursor", {"offset": last["offset"]}, node=0)
        assert (answer.status, answer.content) == (204, b"")
        assert await counts(ben, room) == (0, 0)
        assert await cursors(ann, room) == {ann.id: last["offset"], ben.id: last["offset"]}


async def test_what_is_published_is_read_by_its_author(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        await send(ben, room, "hello")
        await ann.say(room, "hi")
        heard = await ben.hears(room, content="hi")
        assert heard["from_user_id"] == ann.id
        assert await counts(ann, room) == (0, 0), "who writes has read up to it"
        assert await counts(ben, room) == (1, 0)
        assert receipts(ben, room) == [], "and nobody needs to be told"


async def test_edits_and_deletes_are_not_unread(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        one = await send(ann, room, "one", mentions=[ben.id])
        two = await send(ann, room, "two")
        await ann.rpc("message.edit", room_id=room, message_id=two["id"], content="Two")
        assert await counts(ben, room) == (2, 1)
        await ann.rpc("message.delete", room_id=room, message_id=one["id"])
        assert await counts(ben, room) == (2, 0), "a deleted message has its place, and mentions nobody"
        await ben.rpc("room.read", room_id=room, offset=two["offset"])
        await ann.rpc("message.edit", room_id=room, message_id=two["id"], content="TWO")
        await ann.rpc("message.delete", room_id=room, message_id=two["id"])
        assert await counts(ben, room) == (0, 0)


async def test_reactions_are_not_unread(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        one = await send(ann, room, "one")
        await ben.rpc("room.read", room_id=room, offset=one["offset"])
        await ben.rpc("message.react", room_id=room, message_id=one["id"], emoji="👍")
        assert await counts(ann, room) == (0, 0)
        await ann.rpc("message.react", room_id=room, message_id=one["id"], emoji="👍")
        assert await counts(ben, room) == (0, 0)
        await send(ann, room, "two")
        assert await counts(ben, room) == (1, 0)


async def test_what_was_said_before_one_came_is_not_unread(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann)
        for content in ("one", "two"):
            await send(ann, room, content)
        await ann.rpc("room.invite", room_id=room, user_id=ben.id)
        assert await counts(ben, room) == (0, 0)
        await send(ann, room, "three")
        assert await counts(ben, room) == (1, 0)
        await ann.rpc("room.remove", room_id=room, user_id=ben.id)
        assert await counts(ben, room) == (0, 0)
        assert room not in (await ben.rpc("room.unread"))["rooms"]


# --- receipts ---------------------------------------------------------------------------------------------------------


async def test_everybody_in_a_small_room_sees_who_has_read(server: Server) -> None:
    async with people(server, "Ann", "Ben", "Cy") as (ann, ben, cy):
        room = await room_of(ann, ben, cy)
        offsets = [(await send(ann, room, str(number)))["offset"] for number in range(20)]
        for offset in offsets:
            await ben.rpc("room.read", room_id=room, offset=offset)
        for person in (ann, cy, ben):
            told = await person.hears(
                room, lambda data: data.get("cursors", {}).get(ben.id) == offsets[-1], type="read"
            )
            assert set(told) == {"type", "cursors"}
        assert len(receipts(ann, room)) < len(offsets), "moves that come together are told together"
        assert await cursors(cy, room) == {ann.id: offsets[-1], ben.id: offsets[-1], cy.id: 0}


async def test_a_cursor_never_goes_back_nor_beyond_the_log(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        offsets = [(await send(ann, room, str(number)))["offset"] for number in range(3)]
        await ben.rpc("room.read", room_id=room, offset=offsets[1])
        await ben.rpc("room.read", room_id=room, offset=offsets[0])
        await ben.http("PUT", f"/v1/rooms/{room}/cursor", {"offset": offsets[0]}, node=0)
        assert (await cursors(ann, room))[ben.id] == offsets[1]
        await ben.rpc("room.read", room_id=room, offset=2**63 - 1)
        assert (await cursors(ann, room))[ben.id] == offsets[2], "cut to the log's end"
        await send(ann, room, "more")
        assert await counts(ben, room) == (1, 0)
        seen = [each["cursors"][ben.id] for each in receipts(ann, room)]
        assert seen == sorted(seen)


async def test_a_big_room_sees_how_many_have_read(server: Server) -> None:
    names = ("Ann", "Ben", "Cy", "Dee", "Eve")
    async with people(server, *names) as everybody:
        ann, *others = everybody
        room = await room_of(ann, *others)
        sent = await send(ann, room, "hello")
        for person in others:
            await person.rpc("room.read", room_id=room, offset=sent["offset"])
        for person in (ann, others[0]):
            await person.hears(room, type="read", offset=sent["offset"], readers=5)
            assert not any("cursors" in each for each in receipts(person, room))
        assert await ann.rpc("room.receipts", room_id=room) == {"offset": sent["offset"], "readers": 5}
        later = await send(ann, room, "more")
        answer = await others[0].http("PUT", f"/v1/rooms/{room}/cursor", {"offset": later["offset"]})
        assert answer.status == 204
        await ann.hears(room, type="read", offset=later["offset"], readers=2)
        path = f"/v1/rooms/{room}/receipts"
        assert (await ann.http("GET", f"{path}?offset={sent['offset']}")).body["readers"] == 5
        joining = await ann.rpc("room.create", title="Big", members=[each.id for each in others[:-1]])
        assert "readers" not in await ann.rpc("room.receipts", room_id=joining["id"]), "four are few"
        await ann.rpc("room.update", room_id=room, open=True)
        for person in others[2:]:  # and come back, so that the room stays a big one
            await person.rpc("room.leave", room_id=room)
            await person.rpc("room.join", room_id=room)
        assert (await ann.rpc("room.receipts", room_id=room, offset=sent["offset"]))["readers"] == 3


async def test_ones_other_device_hears_that_one_has_read_on(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        other = await ben.another_device(0)
        assert ben.node == 1
        sent = await send(ann, room, "hello")
        await ben.rpc("room.read", room_id=room, offset=sent["offset"])
        told = await other.hears(ben.channel, type="read")
        assert told == {"type": "read", "room_id": room, "offset": sent["offset"]}
        assert not [each for each in ann.device.heard(ann.channel) if each["type"] == "read"]


# --- typing -----------------------------------------------------------------------------------------------------------


async def test_who_types_is_told_on_the_other_node(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        for _ in range(30):
            await ann.rpc("room.typing", room_id=room)
        told = await ben.hears(room, type="typing")
        assert told == {"type": "typing", "users": [ann.id], "count": 1, "ttl": 6}
        answer = await ben.http("POST", f"/v1/rooms/{room}/typing", node=0)
        assert (answer.status, answer.content) == (204, b"")
        for person in (ann, ben):
            await person.hears(room, lambda data: data.get("users") == [ann.id, ben.id], type="typing")
        heard = [each for each in ben.device.heard(f"room:{room}") if each["type"] == "typing"]
        assert len(heard) == 2, "saying it again costs nobody anything"
        await ann.say(room, "done")
        await ben.hears(room, content="done")
        listed = await ben.rpc("message.list", room_id=room)
        assert "typing" not in {each["type"] for each in listed["messages"]}, "and it is in no history"


async def test_of_whoever_cannot_write_nobody_is_told(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        await ann.rpc("room.mute", room_id=room, user_id=ben.id)
        await ben.rpc("room.typing", room_id=room)
        await ann.rpc("room.typing", room_id=room)
        told = await ben.hears(room, type="typing")
        assert told["users"] == [ann.id]
        other = await room_of(ann, ben)
        await ann.rpc("room.archive", room_id=other)
        await ann.rpc("room.typing", room_id=other)
        assert not [each for each in ben.device.heard(f"room:{other}") if each["type"] == "typing"]


# --- who may not, and what makes no sense -----------------------------------------------------------------------------


async def test_somebody_elses_room_is_unknown(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann)
        sent = await send(ann, room, "hello")
        for room_id in (room, str(uuid.uuid4())):
            assert await ben.refusal("room.read", room_id=room_id, offset=sent["offset"]) == 102
            assert await ben.refusal("room.read", room_id=room_id, offset=0) == 102
            assert await ben.refusal("room.receipts", room_id=room_id) == 102
            assert await ben.refusal("room.typing", room_id=room_id) == 102
            assert (await ben.http("PUT", f"/v1/rooms/{room_id}/cursor", {"offset": 1})).status == 404
            assert (await ben.http("GET", f"/v1/rooms/{room_id}/receipts")).status == 404
            assert (await ben.http("POST", f"/v1/rooms/{room_id}/typing")).status == 404
        assert await cursors(ann, room) == {ann.id: sent["offset"]}


async def test_whoever_was_removed_reads_on_no_more(server: Server) -> None:
    """Also what their node still remembers that they have read."""
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        sent = await send(ann, room, "hello")
        await ben.rpc("room.read", room_id=room, offset=sent["offset"])
        await ann.rpc("room.remove", room_id=room, user_id=ben.id)
        assert await ben.refusal("room.read", room_id=room, offset=sent["offset"]) == 102
        assert await cursors(ann, room) == {ann.id: sent["offset"]}


@pytest.mark.parametrize(
    ("method", "params", "pointer"),
    [
        ("room.read", {"room_id": "nonsense", "offset": 1}, "/room_id"),
        ("room.read", {"room_id": str(uuid.UUID(int=1)), "offset": -1}, "/offset"),
        ("room.read", {"room_id": str(uuid.UUID(int=1)), "offset": 2**63}, "/offset"),
        ("room.read", {"room_id": str(uuid.UUID(int=1)), "offset": 1.5}, "/offset"),
        ("room.read", {"room_id": str(uuid.UUID(int=1))}, "/offset"),
        ("room.receipts", {"room_id": str(uuid.UUID(int=1)), "offset": "1"}, "/offset"),
        ("room.typing", {}, "/room_id"),
    ],
)
async def test_bad_parameters_are_refused_where_they_are(
    server: Server, method: str, params: dict[str, Any], pointer: str
) -> None:
    async with people(server, "Ann") as (ann,):
        with pytest.raises(Refused, match=pointer) as refused:
            await ann.rpc(method, **params)
        assert refused.value.code == 107


async def test_bad_requests_over_http(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        room = await room_of(ann)
        path = f"/v1/rooms/{room}/cursor"
        for body, pointers in (({"offset": -1}, ["/offset"]), ({}, ["/offset"]), ({"offset": 1, "x": 1}, ["/x"])):
            answer = await ann.http("PUT", path, body)
            assert (answer.status, answer.pointers) == (422, pointers)
        assert (await ann.http("GET", f"/v1/rooms/{room}/receipts?offset=-1")).status == 400
        assert (await ann.http("GET", "/v1/rooms/nonsense/receipts")).status in {400, 404}
        assert (await ann.http("GET", "/v1/unread", headers={"Authorization": "Bearer x"})).status == 401


async def test_a_flood_costs_its_sender_only(server: Server) -> None:
    """Thousands of moves and of typing: the others hear a push a pulse, and get their answers."""
    async with people(server, "Ann", "Ben", "Cy") as (ann, ben, cy):
        room = await room_of(ann, ben, cy)
        sent = [await send(ann, room, str(number)) for number in range(50)]
        flood = [
            ben.rpc(what, room_id=room, **more)
            for each in sent * 20
            for what, more in (("room.read", {"offset": each["offset"]}), ("room.typing", {}))
        ]
        before = len(cy.device.heard(f"room:{room}"))
        answers = asyncio.gather(*flood)
        await send(ann, room, "still here")
        await cy.hears(room, content="still here")
        assert await counts(cy, room) == (51, 0)
        await answers
        await cy.hears(room, lambda data: data.get("cursors", {}).get(ben.id) == sent[-1]["offset"])
        pushes = len(cy.device.heard(f"room:{room}")) - before
        assert pushes < len(flood) / 10


# --- what dies --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragile() -> Iterator[Server]:
    """A server of this file's own, to be ill-treated."""
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running


@pytest.mark.chaos
async def test_valkey_emptied_between_reading_and_asking(fragile: Server) -> None:
    async with people(fragile, "Ann", "Ben") as (ann, ben), redis_of(fragile) as valkey:
        room = await room_of(ann, ben)
        sent = [await send(ann, room, str(number)) for number in range(3)]
        await ben.rpc("room.read", room_id=room, offset=sent[1]["offset"])
        await valkey.flushall()
        assert await counts(ben, room) == (1, 0), "their node remembers"
        await settled(lambda: cursors(ann, room), {ann.id: sent[2]["offset"], ben.id: sent[1]["offset"]})
        await valkey.flushall()
        assert await cursors(ann, room) == {ann.id: sent[2]["offset"], ben.id: sent[1]["offset"]}, "PostgreSQL has it"
        assert await counts(ben, room) == (1, 0)


@pytest.mark.chaos
async def test_a_node_killed_before_postgresql_has_it(fragile: Server) -> None:
    async with people(fragile, "Ann", "Ben") as (ann, ben), redis_of(fragile) as valkey:
        room = await room_of(ann, ben)
        sent = await send(ann, room, "hello")
        await ben.rpc("room.read", room_id=room, offset=sent["offset"])
        pid = fragile.kill("node-2")
        assert (await cursors(ann, room))[ben.id] == sent["offset"], "the other node sees it in Redis"
        answer = await ben.http("GET", "/v1/unread", node=0)
        assert answer.body["rooms"] == {}, "and writes what it has seen of its user"
        await asyncio.to_thread(fragile.wait_restarted, "node-2", pid)
        await asyncio.to_thread(fragile.wait_ready, 1)
        await asyncio.sleep(2.5)  # a period of writing, which has no event
        await valkey.flushall()
        assert (await cursors(ann, room))[ben.id] == sent["offset"]


@pytest.mark.chaos
async def test_a_server_that_stops_leaves_nothing_behind(fragile: Server) -> None:
    async with people(fragile, "Ann", "Ben") as (ann, ben):
        room = await room_of(ann, ben)
        sent = await send(ann, room, "hello")
        await ben.rpc("room.read", room_id=room, offset=sent["offset"])

        async def is_online() -> bool:
            answer = await ann.http("GET", f"/v1/users/status?id={ben.id}")
            return bool(answer.body["users"][ben.id]["online"])

        await settled(is_online, True)  # a visit of less than the 0.1 s between two writes is nobody's last
        ben.device.comes_back = False
        await asyncio.to_thread(fragile.stop)
        await asyncio.to_thread(fragile.start)
        async with redis_of(fragile) as valkey:
            await valkey.flushall()
        answer = await ann.http("GET", f"/v1/rooms/{room}/receipts")
        assert answer.body["cursors"] == {ann.id: sent["offset"], ben.id: sent["offset"]}
        answer = await ann.http("GET", f"/v1/users/status?id={ben.id}")
        assert "last_seen" in answer.body["users"][ben.id]
