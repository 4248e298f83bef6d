"""Whoever connects is in their rooms, and whoever is added or removed follows at once: on two whole nodes."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from loadtest.raw import Readers
from loadtest.server import Server
from tests.chat.person import Person, people
from tests.invariants.attack import Peer, peers
from tests.invariants.conftest import database, poll
from tests.invariants.rawclient import Refused

pytestmark = pytest.mark.integration


async def make_room(owner: Person, *others: Person) -> str:
    """A group; returns its channel when everybody's device is in it."""
    made = await owner.rpc("room.create", title="Algebra", members=[each.id for each in others])
    channel = f"room:{made['id']}"
    for person in (owner, *others):
        await person.device.is_in(channel)
    return channel


def texts(device: Any, channel: str) -> list[str]:
    return [data["content"] for data in device.heard(channel) if data["type"] == "text"]


async def test_a_device_is_in_its_rooms_from_the_connect_on(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room, archived = await make_room(ann, ben), await make_room(ann, ben)
        await ann.rpc("room.archive", room_id=archived[5:])
        late = await ben.another_device(0)
        assert set(late.subs) == {room, ben.channel}
        assert late.subs[room]["recoverable"]
        await ann.say(room[5:], "hello")
        for device in (ben.device, late):
            await device.hears(room, content="hello")
            assert device.given[room].faults == []


async def test_who_comes_back_recovers_its_rooms_by_the_connect(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await make_room(ann, ben)
        await ann.say(room[5:], "before")
        await ben.hears(room[5:], content="before")
        seen = ben.device.given[room]
        position = {"recover": True, "offset": seen.offset, "epoch": seen.epoch}
        for number in range(20):
            await ann.say(room[5:], str(number))
        async with peers(Peer.upgraded(server.node_port_base)) as (peer,):
            reply = await peer.ask(connect={"token": ben.token, "subs": {room: position}})
            result = reply["connect"]["subs"][room]
            assert result["recovered"]
            assert [each["data"]["content"] for each in result["publications"]] == [str(n) for n in range(20)]
            assert result["offset"] == seen.offset


async def test_who_is_added_hears_everything_said_since_on_every_device(server: Server) -> None:
    """Nothing missed, nothing doubled, while the room talks."""
    async with people(server, "Ann", "Ben", "Cem", nodes=(0, 1, 1)) as (ann, ben, cem):
        room = await make_room(ann, ben)
        other_device = await cem.another_device(0)
        devices = (cem.device, other_device)
        done = asyncio.Event()
        said: list[str] = []

        async def talk(person: Person) -> None:
            while not done.is_set():
                content = str(uuid.uuid4())
                await person.say(room[5:], content)
                said.append(content)

        talks = [asyncio.create_task(talk(person)) for person in (ann, ben)]
        await ann.device.until(lambda: len(said) > 10)
        await ann.rpc("room.invite", room_id=room[5:], user_id=cem.id)
        for device in devices:
            await device.is_in(room)
        so_far = len(said)
        await ann.device.until(lambda: len(said) > so_far + 10)
        done.set()
        await asyncio.gather(*talks)
        await ann.say(room[5:], "last")
        for device in devices:
            await device.hears(room, content="last")
            given = device.given[room]
            assert given.faults == []
            assert given.offsets == list(range(given.start + 1, given.offset + 1))
        async with database(server) as connection:
            since = await connection.fetchval(
                "select joined_offset from room_members where room_id = $1 and user_id = $2",
                uuid.UUID(room[5:]),
                uuid.UUID(cem.id),
            )
        assert {device.given[room].start for device in devices} == {since}


async def test_who_is_removed_and_added_again_and_again_ends_where_membership_says(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await make_room(ann, ben)
        there = await ben.another_device(0)
        for _ in range(15):
            await ann.rpc("room.remove", room_id=room[5:], user_id=ben.id)
            await ann.rpc("room.invite", room_id=room[5:], user_id=ben.id)
        await ann.say(room[5:], "in again")
        for device in (ben.device, there):
            await device.hears(room, content="in again")
            assert device.given[room].faults == []
        await ann.rpc("room.remove", room_id=room[5:], user_id=ben.id)
        for device in (ben.device, there):
            await device.is_out(room)
        await ann.say(room[5:], "secret")
        for device in (ben.device, there):
            await device.in_step()
            assert "secret" not in texts(device, room)


async def test_who_is_added_while_connecting_is_in_the_room(server: Server) -> None:
    """The two cross in every order: nobody stays outside by arriving in between."""
    async with people(server, "Ann", "Ben") as (ann, ben):
        rooms = []
        for number in range(20):
            made = (await ann.rpc("room.create", title=f"Room {number}"))["id"]
            rooms.append(f"room:{made}")
            adding = asyncio.create_task(ann.rpc("room.invite", room_id=made, user_id=ben.id))
            device = await ben.another_device(number % 2)
            await adding
            for room in rooms:
                await device.is_in(room)
            await ann.device.is_in(rooms[-1])
            await ann.say(made, "welcome")
            await device.hears(rooms[-1], content="welcome")
            assert all(given.faults == [] for given in device.given.values())
            await device.close()


async def test_a_client_takes_a_room_over_while_it_is_talked_in(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await make_room(ann, ben)
        done = asyncio.Event()

        async def talk() -> None:
            while not done.is_set():
                await ann.say(room[5:], "hm")

        talking = asyncio.create_task(talk())
        for _ in range(20):
            taken = await ben.device.subscribe(room)
            await ben.device.told(room, taken.start + 3)
            assert taken.faults == []
            with pytest.raises(Refused) as refused:
                await ben.device.ask(subscribe={"channel": room})
            assert refused.value.code == 105
            await ben.device.cut_and_return()
            await ben.device.told(room, taken.offset + 1)
            assert (taken.faults, taken.recoveries) == ([], 1)
            await ben.device.unsubscribe(room)
            await ben.device.cut_and_return()
        done.set()
        await talking


async def test_direct_rooms_show_the_other_come_and_go(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        made = await ann.rpc("room.direct", user_id=ben.id)
        channel = f"room:{made['id']}"
        for person in (ann, ben):
            await person.device.is_in(channel)
        device = await ben.another_device(1)
        seen = ann.device.given[channel]
        await ann.device.until(lambda: device.client in {each["client"] for each in seen.joins})
        gone = device.client
        device.cut()
        await ann.device.until(lambda: gone in {each["client"] for each in seen.leaves})


async def test_a_big_room_hears_how_many_are_there(server: Server) -> None:
    """201 devices on a node are a crowd: it is counted, once for both nodes, and nobody is told who came."""
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await make_room(ann, ben)
        token = server.token(ben.id)
        crowd = await asyncio.to_thread(Readers.of_protocol, server.node_port_base + 1, [token] * 202)
        try:
            for person in (ann, ben):
                await person.hears(room, type="presence", num_clients=204, num_users=2)
            stats = await ann.device.ask(presence_stats={"channel": room})
            assert stats == {"num_clients": 204, "num_users": 2}
        finally:
            await asyncio.to_thread(crowd.close)


async def test_presence_is_there_without_a_subscribe_of_ones_own(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await make_room(ann, ben)

        async def both() -> bool:
            return {ann.device.client, ben.device.client} == await ann.device.members(room)

        await poll(both, "both are present")
