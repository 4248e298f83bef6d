"""Pins on two whole nodes."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person, people
from tests.chat.test_messages import room_of
from tests.invariants.rawclient import Refused

pytestmark = pytest.mark.integration


async def pinned(person: Person, room: str) -> list[str]:
    return [each["message"]["content"] for each in (await person.rpc("message.pins", room_id=room))["pins"]]


async def code_of(person: Person, method: str, **params: Any) -> int:
    with pytest.raises(Refused) as refused:
        await person.rpc(method, **params)
    return refused.value.code


async def test_pinned_messages_are_listed_as_they_are_now(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        one = await ann.rpc("message.send", room_id=room, content="one")
        two = await ben.rpc("message.send", room_id=room, content="two")
        path = f"/v1/rooms/{room}/pins"
        assert await ann.rpc("message.pin", room_id=room, message_id=one["id"]) == {}
        assert (await ann.http("PUT", f"{path}/{two['id']}")).status == 204
        assert (await ann.http("PUT", f"{path}/{two['id']}")).status == 204
        event = await ben.hears(room, event="message_pinned", message_id=two["id"])
        assert (event["type"], event["from_user_id"]) == ("event", ann.id)
        await ben.rpc("message.edit", room_id=room, message_id=two["id"], content="two, edited")
        answer = await ben.http("GET", path)
        assert [each["message"]["content"] for each in answer.body["pins"]] == ["two, edited", "one"]
        assert answer.body["users"] == {ann.id: "Ann", ben.id: "Ben"}
        first = answer.body["pins"][1]
        assert first["message"] == one
        assert (first["pinned_by"], set(first)) == (ann.id, {"message", "pinned_by", "pinned_at"})
        assert (await ann.http("DELETE", f"{path}/{one['id']}")).status == 204
        assert await ann.rpc("message.unpin", room_id=room, message_id=one["id"]) == {}
        assert await pinned(ben, room) == ["two, edited"]
        await ben.hears(room, event="message_unpinned", message_id=one["id"])
        heard = [each["event"] for each in ben.device.heard(f"room:{room}") if "pinned" in each.get("event", "")]
        assert heard == ["message_pinned", "message_pinned", "message_unpinned"], "what changes nothing is not told"
        await ben.rpc("message.delete", room_id=room, message_id=two["id"])
        assert await pinned(ben, room) == []


async def test_a_room_has_at_most_fifty_also_when_two_pin_at_once(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        await ann.rpc("room.role", room_id=room, user_id=ben.id, role="moderator")
        said = [await ann.rpc("message.send", room_id=room, content=str(number)) for number in range(52)]
        for each in said[:49]:
            await ann.rpc("message.pin", room_id=room, message_id=each["id"])
        results = await asyncio.gather(
            ann.rpc("message.pin", room_id=room, message_id=said[50]["id"]),
            ben.rpc("message.pin", room_id=room, message_id=said[51]["id"]),
            return_exceptions=True,
        )
        refused = [each for each in results if isinstance(each, Refused)]
        assert [each.code for each in refused] == [106]
        assert len(await pinned(ben, room)) == 50
        await ben.rpc("message.pin", room_id=room, message_id=said[0]["id"])  # it is one of them


async def test_in_a_direct_room_both_pin(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        said = await ann.rpc("message.send", to_user_id=ben.id, content="hi")
        await ben.rpc("message.pin", room_id=said["room_id"], message_id=said["id"])
        event = await ann.hears(said["room_id"], event="message_pinned")
        assert (event["from_user_id"], event["to_user_id"]) == (ben.id, ann.id)
        assert await pinned(ann, said["room_id"]) == ["hi"]


async def test_who_may_not_pin(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)), people(server, "Eve") as (eve,):
        said = await ann.rpc("message.send", room_id=room, content="one")
        what = {"room_id": room, "message_id": said["id"]}
        assert await code_of(ben, "message.pin", **what) == 103, "a member"
        assert await code_of(eve, "message.pin", **what) == 102
        assert await code_of(eve, "message.pins", room_id=room) == 102
        assert await code_of(ann, "message.pin", room_id=room, message_id=str(uuid4())) == 1002
        line = (await ann.rpc("message.list", room_id=room))["messages"][0]
        assert await code_of(ann, "message.pin", room_id=room, message_id=line["id"]) == 103
        await ann.rpc("room.role", room_id=room, user_id=ben.id, role="moderator")
        await ann.rpc("room.mute", room_id=room, user_id=ben.id)
        assert await code_of(ben, "message.pin", **what) == 103, "muted"
        await ann.rpc("room.archive", room_id=room)
        assert await code_of(ann, "message.pin", **what) == 103, "archived"
        await ann.rpc("room.restore", room_id=room)
        await ann.rpc("message.delete", **what)
        assert await code_of(ann, "message.pin", **what) == 1003, "deleted"
        assert (await ann.rpc("message.pins", room_id=room)) == {"pins": [], "users": {}}
