"""Reactions on two whole nodes: given, taken back, summed up, and many at once."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person, people
from tests.chat.test_messages import room_of
from tests.invariants.rawclient import Refused

pytestmark = pytest.mark.integration

KINDS = [chr(0x1F600 + number) for number in range(21)]


async def react(person: Person, room: str, message: dict[str, Any], emoji: str, **more: Any) -> None:
    assert await person.rpc("message.react", room_id=room, message_id=message["id"], emoji=emoji, **more) == {}


async def summary(person: Person, room: str, message: dict[str, Any]) -> Any:
    return (await person.rpc("message.get", room_id=room, message_id=message["id"])).get("reactions")


def events(person: Person, room: str) -> list[tuple[str, str, int]]:
    """Of reactions: what, which emoji, how many have given it now."""
    heard = person.device.heard(f"room:{room}")
    return [(each["event"], each["emoji"], each["count"]) for each in heard if "emoji" in each]


async def refusal(person: Person, method: str, **params: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        await person.rpc(method, **params)
    return refused.value.code, str(refused.value)


async def test_everybody_sees_who_gave_what(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="pizza?")
        await react(ben, room, said, "👍")
        await react(ben, room, said, "👍")  # changes nothing, and nobody is told
        await react(ann, room, said, "👍")
        await react(ann, room, said, "❤️")
        await react(ben, room, said, "👍", remove=True)
        await react(ben, room, said, "👍", remove=True)
        await react(ben, room, said, "😀", remove=True)
        told = [("reaction_added", "👍", 1), ("reaction_added", "👍", 2), ("reaction_added", "❤️", 1),
                ("reaction_removed", "👍", 1)]  # fmt: skip
        for person in (ann, ben):
            await person.hears(room, event="reaction_removed")
            assert events(person, room) == told
        event = await ann.hears(room, event="reaction_added", emoji="👍", count=1)
        assert event == {
            **event, "type": "event", "message_id": said["id"], "from_user_id": ben.id, "room_id": room, "content": "",
        }  # fmt: skip
        expected = {"👍": {"count": 1, "users": [ann.id]}, "❤️": {"count": 1, "users": [ann.id]}}
        assert await summary(ben, room, said) == expected
        talk = await ben.rpc("message.list", room_id=room)
        assert talk["messages"][-1]["reactions"] == expected
        counts = await ben.rpc("room.unread")
        assert counts["rooms"][room]["unread"] == 1, "a reaction is nothing to read"


async def test_over_http_any_emoji_fits_into_a_path(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="pizza?")
        path = f"/v1/rooms/{room}/messages/{said['id']}/reactions"
        kinds = ["👍🏽", "#️⃣", "*️⃣", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
        for emoji in kinds:
            assert (await ben.http("PUT", f"{path}/{quote(emoji)}")).status == 204
        assert (await ben.http("DELETE", f"{path}/{quote('👍🏽')}")).status == 204
        page = await ann.http("GET", f"{path}?limit=3")
        assert [each["emoji"] for each in page.body["reactions"]] == sorted(kinds[1:])[:3]
        assert page.body["reactions"][0].items() >= {"user_id": ben.id, "name": "Ben"}.items()
        assert page.headers["link"] == f'<{path}?limit=3&after={page.body["next"]}>; rel="next"'
        rest = await ann.http("GET", f"{path}?after={page.body['next']}")
        assert ([each["emoji"] for each in rest.body["reactions"]], rest.body["next"]) == (sorted(kinds[1:])[3:], "")
        assert "link" not in rest.headers
        wrong = await ben.http("PUT", f"{path}/{quote('no/emoji', safe='')}")
        assert wrong.status in (404, 422)
        wrong = await ben.http("PUT", f"{path}/ok")
        assert (wrong.status, wrong.pointers) == (422, ["/emoji"])
        wrong = await ben.http("GET", f"{path}?after=nonsense")
        assert (wrong.status, wrong.pointers) == (400, ["after"])


async def test_a_message_has_at_most_twenty_different_ones(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="pizza?")
        for emoji in KINDS[:20]:
            await react(ann, room, said, emoji)
        code, message = await refusal(ben, "message.react", room_id=room, message_id=said["id"], emoji=KINDS[20])
        assert (code, "at most 20" in message) == (106, True)
        await react(ben, room, said, KINDS[0])  # one that is there already
        await react(ann, room, said, KINDS[1], remove=True)
        await react(ben, room, said, KINDS[20])
        assert len(await summary(ann, room, said)) == 20


async def test_many_at_once_are_all_counted(server: Server) -> None:
    """More than a message names: who is named is first come, and moves up when somebody takes theirs back."""
    async with people(server, *(f"Person {number}" for number in range(30))) as everybody:
        ann, *others = everybody
        made = await ann.rpc("room.create", title="Many", members=[each.id for each in others])
        room = made["id"]
        said = await ann.rpc("message.send", room_id=room, content="pizza?")
        await asyncio.gather(*(react(each, room, said, emoji) for each in everybody for emoji in ("👍", "❤️")))
        found = await summary(ann, room, said)
        for emoji in ("👍", "❤️"):
            assert found[emoji]["count"] == 30
            assert len(set(found[emoji]["users"])) == 20
        named = found["👍"]["users"]
        by_id = {each.id: each for each in everybody}
        unnamed = [each for each in everybody if each.id not in named]
        await react(unnamed[0], room, said, "👍")  # not named, and has given it all the same
        await asyncio.gather(*(react(by_id[user], room, said, "👍", remove=True) for user in named[:3]))
        await react(unnamed[1], room, said, "👍", remove=True)
        found = await summary(ann, room, said)
        assert found["👍"]["count"] == 26
        assert found["👍"]["users"][:17] == named[3:]
        assert len(found["👍"]["users"]) == 20
        assert unnamed[1].id not in found["👍"]["users"]
        listed = await ann.rpc("message.reactions", room_id=room, message_id=said["id"], limit=100)
        givers = {each["user_id"] for each in listed["reactions"] if each["emoji"] == "👍"}
        assert len(givers) == 26
        assert givers >= set(found["👍"]["users"])
        await asyncio.gather(*(react(each, room, said, "👍", remove=True) for each in everybody))
        assert list(await summary(ann, room, said)) == ["❤️"]
        await ann.hears(room, event="reaction_removed", emoji="👍", count=0)
        last = [count for event, emoji, count in events(ann, room) if (event, emoji) == ("reaction_removed", "👍")]
        assert sorted(last, reverse=True) == list(range(29, -1, -1))


async def test_an_edit_and_a_reaction_at_once_both_hold(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="pizza?")
        for number in range(10):
            await asyncio.gather(
                ann.rpc("message.edit", room_id=room, message_id=said["id"], content=f"pizza {number}"),
                react(ben, room, said, KINDS[number]),
            )
        now = await ann.rpc("message.get", room_id=room, message_id=said["id"])
        assert now["content"] == "pizza 9"
        assert set(now["reactions"]) == set(KINDS[:10])


async def test_who_may_not_react(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)), people(server, "Eve") as (eve,):
        said = await ann.rpc("message.send", room_id=room, content="pizza?")
        await react(ben, room, said, "😀")
        what = {"room_id": room, "message_id": said["id"], "emoji": "👍"}
        assert (await refusal(eve, "message.react", **what))[0] == 102
        assert (await refusal(eve, "message.reactions", room_id=room, message_id=said["id"]))[0] == 102
        assert (await refusal(ben, "message.react", **{**what, "message_id": str(uuid4())}))[0] == 1002
        assert (await refusal(ben, "message.react", **{**what, "emoji": "ok"}))[0] == 107
        line = (await ann.rpc("message.list", room_id=room))["messages"][0]
        assert line["type"] == "system"
        assert (await refusal(ben, "message.react", **{**what, "message_id": line["id"]}))[0] == 103
        await ann.rpc("room.mute", room_id=room, user_id=ben.id)
        assert (await refusal(ben, "message.react", **what))[0] == 103
        assert (await refusal(ben, "message.react", **{**what, "emoji": "😀"}, remove=True))[0] == 103
        await react(ben, room, said, "😀")  # it is given already
        await ann.rpc("room.unmute", room_id=room, user_id=ben.id)
        await react(ben, room, said, "👍")
        await ann.rpc("room.archive", room_id=room)
        code, message = await refusal(ann, "message.react", **what)
        assert (code, "archived" in message) == (103, True)
        await ann.rpc("room.restore", room_id=room)
        await ann.rpc("message.delete", room_id=room, message_id=said["id"])
        assert (await refusal(ben, "message.react", **what))[0] == 1003
        assert await ben.rpc("message.reactions", room_id=room, message_id=said["id"]) == {"reactions": [], "next": ""}
