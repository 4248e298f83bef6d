"""Search on two whole nodes: what is found, where, in which order, and what strange queries answer."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person, people
from tests.chat.test_messages import room_of
from tests.invariants.rawclient import Refused

pytestmark = pytest.mark.integration


async def found(person: Person, query: str, **more: Any) -> list[str]:
    answer = await person.rpc("message.search", query=query, **more)
    return [each["content"] for each in answer["messages"]]


async def test_words_phrases_alternatives_and_beginnings(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        lines = ["The Eagle has landed", "an eagle's nest", "land ahoy", "Übung macht den Meister", "a-b test v1.2"]
        for content in lines:
            await ann.rpc("message.send", room_id=room, content=content)
        assert await found(ben, "EAGLE") == [lines[1], lines[0]]
        assert await found(ben, "landed eagle") == [lines[0]]
        assert await found(ben, '"has landed"') == [lines[0]]
        assert await found(ben, '"landed has"') == []
        assert await found(ben, "eagle -nest") == [lines[0]]
        assert await found(ben, "nest or ahoy") == [lines[2], lines[1]]
        assert await found(ben, "lan") == [lines[2], lines[0]], "the last word may be unfinished"
        assert await found(ben, "la") == [], "after three letters"
        assert await found(ben, "lan ahoy") == [], "the others may not"
        assert await found(ben, '"lan') == []
        assert await found(ben, "eagle lan") == [lines[0]]
        assert await found(ben, "übung meis") == [lines[3]]
        assert await found(ben, "a-b") == [lines[4]]


async def test_hits_are_messages_newest_first_page_by_page(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        other = (await ben.rpc("room.create", title="Other", members=[ann.id]))["id"]
        said = []
        for number in range(9):
            person, where = (ann, room) if number % 2 else (ben, other)
            said.append(await person.rpc("message.send", room_id=where, content=f"needle {number}"))
        answer = await ann.rpc("message.search", query="needle", limit=4)
        assert answer["messages"] == said[:4:-1]
        assert answer["users"] == {ann.id: "Ann", ben.id: "Ben"}
        rest = await ann.rpc("message.search", query="needle", limit=5, before=answer["next"])
        assert rest["messages"] == said[4::-1]
        assert rest["next"] == ""
        in_room = await ann.rpc("message.search", query="needle", room_id=room, limit=3)
        assert in_room["messages"] == said[7:2:-2]
        last = await ann.rpc("message.search", query="needle", room_id=room, limit=3, before=in_room["next"])
        assert (last["messages"], last["next"]) == (said[1:2], "")

        path = "/v1/search?query=needle&limit=8"
        page = await ben.http("GET", path)
        assert page.body["messages"] == said[:0:-1]
        link = page.headers["link"].partition(">")[0].removeprefix("<")
        rest = await ben.http("GET", link)
        assert rest.body["messages"] == said[:1]
        assert "link" not in rest.headers
        assert (await ben.http("GET", f"/v1/search?query=needle&room_id={other}")).body["messages"] == said[::-2]


async def test_what_is_edited_deleted_told_and_elsewhere(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)), people(server, "Eve") as (eve,):
        said = await ann.rpc("message.send", room_id=room, content="before haystack")
        gone = await ann.rpc("message.send", room_id=room, content="haystack gone")
        await ann.rpc("message.edit", room_id=room, message_id=said["id"], content="after haystack")
        await ann.rpc("message.delete", room_id=room, message_id=gone["id"])
        await ann.rpc("room.update", room_id=room, title="haystack")  # a line of the system
        assert await found(ben, "haystack") == ["after haystack"]
        assert await found(ben, "before") == []
        assert await found(eve, "haystack") == []
        assert (await ben.rpc("message.search", query="haystack"))["messages"][0]["edited_at"]
        await ann.rpc("room.archive", room_id=room)
        assert await found(ben, "haystack") == ["after haystack"], "archived rooms too"
        for where in (room, str(uuid4())):
            with pytest.raises(Refused) as refused:
                await eve.rpc("message.search", query="haystack", room_id=where)
            assert refused.value.code == 102
        await ann.rpc("room.restore", room_id=room)
        await ann.rpc("room.remove", room_id=room, user_id=ben.id)
        assert await found(ben, "haystack") == []


@pytest.mark.parametrize(
    "query",
    ["", " ", '"', '""', '"""', "-", "or", "-or-", "- or -", "-pizza", "pizza or -pizza", "&|!()<->:*'\\", "%",
     "\0", "\0" * 256, "'; drop table messages --", "a" * 256, '"a' * 128, "a " * 128, "-" * 256, "👍", "\u202e"],
)  # fmt: skip
async def test_any_query_has_an_answer(server: Server, query: str) -> None:
    async with room_of(server, "Ann") as (room, (ann,)):
        await ann.rpc("message.send", room_id=room, content="pizza")
        assert await found(ann, query) == []
        answer = await ann.http("GET", f"/v1/search?{urlencode({'query': query})}")
        assert (answer.status, answer.body["messages"]) == (200, [])


@pytest.mark.parametrize(
    ("pointer", "parameters"),
    [
        ("/query", {"query": "a" * 257}),
        ("/query", {"query": "pizza " * 1_667}),
        ("/limit", {"query": "a", "limit": 0}),
        ("/limit", {"query": "a", "limit": 101}),
        ("/before", {"query": "a", "before": "nonsense"}),
        ("/before", {"query": "a", "before": "WzEsMl0"}),  # [1,2]
        ("/before", {"query": "a", "before": "WzEsMiwtM10"}),  # [1,2,-3]
        ("/before", {"query": "a", "before": "é"}),
        ("/room_id", {"query": "a", "room_id": "1"}),
    ],
)
async def test_bad_requests_name_the_field(server: Server, pointer: str, parameters: dict[str, Any]) -> None:
    async with people(server, "Ann") as (ann,):
        with pytest.raises(Refused, match=f"{pointer}: ") as refused:
            await ann.rpc("message.search", **parameters)
        assert refused.value.code == 107
        answer = await ann.http("GET", f"/v1/search?{urlencode(parameters)}")
        assert (answer.status, answer.pointers) == (400, [pointer[1:]])


async def test_a_query_is_wanted(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        assert (await ann.http("GET", "/v1/search")).status in (400, 422)
        with pytest.raises(Refused) as refused:
            await ann.rpc("message.search")
        assert refused.value.code == 107
