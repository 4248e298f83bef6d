"""Messages on two whole nodes: said, listed, edited, deleted, by RPC, HTTP and publish alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person, people
from tests.invariants.rawclient import Refused
from tests.stack import short_folder

pytestmark = pytest.mark.integration

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\x00\x00\x00\n"
    b"IDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
)


@asynccontextmanager
async def room_of(server: Server, *names: str) -> AsyncIterator[tuple[str, list[Person]]]:
    """A group, owned by the first."""
    async with people(server, *names) as everybody:
        owner, *others = everybody
        room = await owner.rpc("room.create", title="Algebra", members=[each.id for each in others])
        for each in everybody:
            await each.device.is_in(f"room:{room['id']}")
        yield room["id"], everybody


async def contents(person: Person, room: str, **window: int) -> list[str]:
    talk = await person.rpc("message.list", room_id=room, **window)
    return [each["content"] for each in talk["messages"] if each["type"] != "system"]


# --- sending ---------------------------------------------------------------------------------------------------------


async def test_a_message_is_the_same_however_it_was_sent(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        first = await ann.rpc("message.send", room_id=room, content="by RPC")
        answer = await ann.http("POST", f"/v1/rooms/{room}/messages", {"content": "by HTTP"})
        assert answer.status == 201
        assert answer.headers["location"] == f"/v1/rooms/{room}/messages/{answer.body['id']}"
        await ann.say(room, "by publish")
        assert await ben.hears(room, content="by publish")
        talk = await ben.rpc("message.list", room_id=room)
        assert talk["messages"][-3:-1] == [first, answer.body]
        for said in talk["messages"][-3:]:
            assert set(said) == {"offset", "id", "from_user_id", "room_id", "content", "type", "timestamp"}
            heard = await ben.hears(room, id=said["id"])
            assert {"offset": said["offset"], **heard} == said
        assert talk["users"] == {ann.id: "Ann", ben.id: "Ben"}
        assert talk["offset"] == talk["messages"][-1]["offset"]
        assert talk["messages"][0]["type"] == "system"
        one = await ben.http("GET", answer.headers["location"])
        assert (one.status, one.body) == (200, answer.body)
        assert await ben.rpc("message.get", room_id=room, message_id=first["id"]) == first


async def test_a_retry_is_the_same_message(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        path, key = f"/v1/rooms/{room}/messages", {"Idempotency-Key": "one key"}
        answers = [await ann.http("POST", path, {"content": "hi"}, headers=key, node=n % 2) for n in range(3)]
        assert [each.status for each in answers] == [201, 200, 200]
        assert answers[0].body == answers[1].body == answers[2].body
        other = await ann.http("POST", path, {"content": "ho"}, headers=key)
        assert (other.status, other.pointers) == (422, ["Idempotency-Key"])
        assert (await ben.http("POST", path, {"content": "hi"}, headers=key)).status == 201, "everybody has their own"

        id = str(uuid4())
        sent = [await ann.rpc("message.send", room_id=room, id=id, content="hello") for _ in range(2)]
        assert sent[0] == sent[1]
        assert await ann.refusal("message.send", room_id=room, id=id, content="other") == 107
        assert await ben.refusal("message.send", room_id=room, id=id, content="hello") == 107
        await ann.rpc("message.edit", room_id=room, message_id=id, content="hello!")
        again = await ann.rpc("message.send", room_id=room, id=id, content="hello")  # it was said; then edited
        assert again["content"] == "hello!"
        assert await contents(ann, room) == ["hi", "hi", "hello!"]


async def test_both_write_first_and_are_in_one_room(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        said = await asyncio.gather(
            *(
                one.http("POST", "/v1/messages", {"to_user_id": other.id, "content": f"{one.name} {n}"}, node=n % 2)
                for n in range(4)
                for one, other in ((ann, ben), (ben, ann))
            )
        )
        assert {each.status for each in said} == {201}
        [room] = {each.body["room_id"] for each in said}
        assert all({each.body["from_user_id"], each.body["to_user_id"]} == {ann.id, ben.id} for each in said)
        assert sorted(await contents(ann, room)) == sorted(f"{one} {n}" for n in range(4) for one in ("Ann", "Ben"))
        await ben.device.is_in(f"room:{room}")
        await ben.say(room, "by publish")
        heard = await ann.hears(room, content="by publish")
        assert heard["to_user_id"] == ann.id
        again = await ben.rpc("message.send", to_user_id=ann.id, content="once more")
        assert (again["room_id"], again["to_user_id"]) == (room, ann.id)


async def test_nobody_writes_to_nobody(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        unknown = str(uuid4())
        assert await ann.refusal("message.send", to_user_id=unknown, content="hi") == 1002
        assert (await ann.http("POST", "/v1/messages", {"to_user_id": unknown, "content": "hi"})).status == 404
        oneself = await ann.http("POST", "/v1/messages", {"to_user_id": ann.id, "content": "hi"})
        assert (oneself.status, oneself.pointers) == (422, ["/to_user_id"])
        assert await ann.refusal("message.send", content="hi") == 107
        assert await ann.refusal("message.send", room_id=unknown, to_user_id=ben.id, content="hi") == 107
        bad = await ann.http("POST", "/v1/messages", {"to_user_id": ben.id, "content": " "})
        assert (bad.status, bad.pointers) == (422, ["/content"])
        assert (await ann.rpc("room.list"))["rooms"] == [], "what is refused opens no room"


@pytest.mark.parametrize(
    "content",
    [
        "x" + "\n" * 10_000 + "y",
        "\u202egnp.exe\u202c \u2066\u200f",
        "<script>alert(1)</script><img src=x onerror=alert(1)> ${7*7} {{7*7}} '; drop table messages; --",
        "a\u0000b \u0007 \ufffe \u2028 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \u0bb8\u0bcd",
        '"event":"message_edited"',
        "w" * 16_384,
        "\U0001f600" * 16_384,
    ],
    ids=["10,000 lines", "right to left", "scripts", "odd characters", "like an event", "one word", "64 KiB"],
)
async def test_text_stays_what_it_is(server: Server, content: str) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content=content[:4000])
        answer = await ann.http("POST", f"/v1/rooms/{room}/messages", {"content": content})
        assert answer.status == 201, answer.body
        assert (await ben.hears(room, id=answer.body["id"]))["content"] == content
        assert (await contents(ben, room))[-1] == content
        edited = await ann.rpc("message.edit", room_id=room, message_id=said["id"], content=content[:4000] + "!")
        assert edited["content"] == content[:4000] + "!"


async def test_what_does_not_fit_is_refused_with_its_place(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, _)):
        id = str(uuid4())
        for message, pointer in (
            ({"content": ""}, "/content"),
            ({}, "/content"),
            ({"content": "x" * 16_385}, "/content"),
            ({"content": 5}, "/content"),
            ({"content": "x", "type": "system"}, "/type"),
            ({"content": "x", "type": "image"}, "/file_id"),
            ({"content": "x", "type": "file", "file_id": id}, "/file_id"),
            ({"content": "x", "file_id": id}, "/file_id"),
            ({"content": "x", "reply_to": id}, "/reply_to"),
            ({"content": "x", "reply_to": "../../x"}, "/reply_to"),
            ({"content": "x", "mentions": [ann.id, id]}, "/mentions/1"),
            ({"content": "x", "mentions": [id] * 51}, "/mentions"),
            ({"content": "x", "id": "1"}, "/id"),
        ):
            answer = await ann.http("POST", f"/v1/rooms/{room}/messages", message)
            assert (answer.status, answer.pointers) == (422, [pointer]), message
            with pytest.raises(Refused, match=f"107: {pointer}: "):
                await ann.rpc("message.send", room_id=room, **message)
            with pytest.raises(Refused, match=f"107: {pointer}: "):
                await ann.device.publish(f"room:{room}", {"id": str(uuid4()), **message})
        unknown = await ann.http("POST", f"/v1/rooms/{room}/messages", {"content": "x", "colour": "red"})
        assert (unknown.status, unknown.pointers) == (422, ["/colour"])
        for body in (b"{", b'{"content": "\xff"}', b"[" * 1000, b'{"content": "\\ud800"}'):
            headers = {"Content-Type": "application/json"}
            answer = await ann.http("POST", f"/v1/rooms/{room}/messages", content=body, headers=headers)
            assert answer.status == 400
        assert await contents(ann, room) == []


async def test_nobody_says_something_under_the_id_of_anothers_message(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        id = (await ann.rpc("message.send", room_id=room, content="hello"))["id"]
        answer = await ben.http("POST", f"/v1/rooms/{room}/messages", {"id": id, "content": "hello"})
        assert (answer.status, answer.pointers) == (422, ["/id"])
        with pytest.raises(Refused, match="107: /id: "):
            await ben.rpc("message.send", room_id=room, id=id, content="hello")
        with pytest.raises(Refused, match="107: /id: "):
            await ben.device.publish(f"room:{room}", {"id": id, "content": "hello"})
        assert await contents(ann, room) == ["hello"]


async def test_who_floods_is_refused_and_nothing_acknowledged_is_lost() -> None:
    settings = {"CLIENT__PUBLISHES_PER_SECOND": "20", "CLIENT__PUBLISHES_BURST": "30"}
    with short_folder() as folder, Server(folder / "data", nodes=1, settings=settings) as server:
        async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
            sends = [ann.say(room, f"p{n}") for n in range(60)]
            sends += [ann.rpc("message.send", room_id=room, content=f"r{n}") for n in range(60)]
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            refused = [each for each in outcomes if isinstance(each, Refused)]
            assert {each.code for each in refused} == {111}
            assert len(outcomes) - len(refused) <= 60, "by publish and by RPC together"
            assert await ben.rpc("message.send", room_id=room, content="not me")
            assert len(await contents(ben, room)) == len(outcomes) - len(refused) + 1


# --- what a message names --------------------------------------------------------------------------------------------


async def test_a_message_answers_another_and_mentions_people(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        first = await ann.rpc("message.send", room_id=room, content="hi")
        named = {"reply_to": first["id"], "mentions": [ann.id, ann.id]}
        await ben.say(room, "ho", **named)
        heard = await ann.hears(room, content="ho")
        assert (heard["reply_to"], heard["mentions"]) == (first["id"], [ann.id])
        assert (await ann.rpc("room.get", room_id=room))["mentions"] == 1
        elsewhere = await ann.rpc("room.create", title="Other")
        assert await ann.refusal("message.send", room_id=elsewhere["id"], content="x", reply_to=first["id"]) == 107
        assert await ann.refusal("message.send", room_id=elsewhere["id"], content="x", mentions=[ben.id]) == 107
        system = (await ann.rpc("message.list", room_id=room))["messages"][0]
        assert await ann.refusal("message.send", room_id=room, content="x", reply_to=system["id"]) == 107


async def upload(person: Person, room: str, content: bytes = PNG, name: str = "dot.png") -> dict[str, Any]:
    headers = {"Content-Type": "application/octet-stream"}
    answer = await person.http("POST", f"/v1/rooms/{room}/files?name={name}", content=content, headers=headers)
    assert answer.status == 201, answer.body
    body: dict[str, Any] = answer.body
    return body


async def test_a_file_is_sent_by_its_owner_once_and_goes_with_its_message(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        file = await upload(ann, room)
        path = f"/v1/rooms/{room}/messages"
        of_others = await ben.http("POST", path, {"type": "image", "file_id": file["id"]})
        assert (of_others.status, of_others.pointers) == (422, ["/file_id"])
        key = {"Idempotency-Key": "k"}
        sent = [await ann.http("POST", path, {"type": "image", "file_id": file["id"]}, headers=key) for _ in range(2)]
        assert [each.status for each in sent] == [201, 200]
        assert sent[0].body["content"] == ""
        assert {name: sent[0].body["file"][name] for name in ("id", "name", "content_type", "width", "height")} == {
            "id": file["id"], "name": "dot.png", "content_type": "image/png", "width": 1, "height": 1,
        }  # fmt: skip
        twice = await ann.http("POST", path, {"type": "image", "file_id": file["id"]})
        assert (twice.status, twice.pointers) == (422, ["/file_id"])
        text = await upload(ann, room, b"hello", "a.txt")
        no_image = await ann.http("POST", path, {"type": "image", "file_id": text["id"]})
        assert (no_image.status, no_image.pointers) == (422, ["/file_id"])
        elsewhere = await ann.rpc("room.create", title="Other")
        assert await ann.refusal(
            "message.send", room_id=elsewhere["id"], type="file", file_id=text["id"], content="x"
        ) == 107  # fmt: skip

        assert (await ben.http("GET", f"/v1/files/{file['id']}")).content == PNG
        captioned = await ann.rpc("message.edit", room_id=room, message_id=sent[0].body["id"], content="a dot")
        assert captioned["file"] == sent[0].body["file"]
        await ann.rpc("message.delete", room_id=room, message_id=sent[0].body["id"])
        assert "file" not in await ben.rpc("message.get", room_id=room, message_id=sent[0].body["id"])
        assert (await ben.http("GET", f"/v1/files/{file['id']}")).status == 404


async def test_a_refused_message_keeps_its_file_free(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        file = await upload(ben, room)
        await ann.rpc("room.mute", room_id=room, user_id=ben.id)
        assert await ben.refusal("message.send", room_id=room, type="image", file_id=file["id"]) == 103
        await ann.rpc("room.unmute", room_id=room, user_id=ben.id)
        assert (await ben.rpc("message.send", room_id=room, type="image", file_id=file["id"]))["file"]["id"] == file[
            "id"
        ]


# --- reading on ------------------------------------------------------------------------------------------------------


async def test_pages_lead_through_the_whole_talk(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = [f"m{n}" for n in range(25)]
        for content in said:
            message = await ann.rpc("message.send", room_id=room, content=content)
            if content in ("m3", "m4", "m20"):
                await ann.rpc("message.edit", room_id=room, message_id=message["id"], content=content + "!")
        said = [each + "!" if each in ("m3", "m4", "m20") else each for each in said]
        back: list[str] = []
        path: str | None = f"/v1/rooms/{room}/messages?limit=7"
        while path:
            answer = await ben.http("GET", path, node=random.randrange(2))
            assert answer.status == 200
            assert len(answer.body["messages"]) <= 7
            back = [each["content"] for each in answer.body["messages"] if each["type"] == "text"] + back
            link = answer.headers.get("link")
            path = link.partition(">")[0].removeprefix("<") if link else None
        assert back == said
        forth: list[str] = []
        offset = 0
        while page := (await ben.rpc("message.list", room_id=room, after=offset, limit=6))["messages"]:
            forth += [each["content"] for each in page if each["type"] == "text"]
            offset = page[-1]["offset"]
        assert forth == said
        middle = (await ben.rpc("message.list", room_id=room))["messages"][12]
        around = (await ben.rpc("message.list", room_id=room, around=middle["offset"], limit=5))["messages"]
        assert [each["content"] for each in around] == said[9:14]
        assert middle == around[2]
        beyond = await ben.rpc("message.list", room_id=room, after=10**9)
        assert (beyond["messages"], beyond["users"]) == ([], {})


async def test_a_page_of_long_messages_fits_the_outbox(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        long = "\U0001f600" * 16_000  # 64 KB
        for n in range(20):
            answer = await ann.http("POST", f"/v1/rooms/{room}/messages", {"content": f"{n} {long}"})
            assert answer.status == 201
        found: list[str] = []
        before = 10**9
        while page := await ben.rpc("message.list", room_id=room, before=before):
            if not page["messages"]:
                break
            assert len(page["messages"]) < 10
            found = [each["content"].partition(" ")[0] for each in page["messages"]] + found
            before = page["messages"][0]["offset"]
        assert found[-20:] == [str(n) for n in range(20)]


async def test_questions_that_make_no_sense(server: Server) -> None:
    async with room_of(server, "Ann") as (room, (ann,)):
        for window in (
            {"before": 1, "after": 1},
            {"before": -1},
            {"around": 2**63},
            {"limit": 0},
            {"limit": 101},
            {"limit": "many"},
        ):
            assert await ann.refusal("message.list", room_id=room, **window) == 107
            query = "&".join(f"{name}={value}" for name, value in window.items())
            assert (await ann.http("GET", f"/v1/rooms/{room}/messages?{query}")).status in (400, 422)


# --- changing --------------------------------------------------------------------------------------------------------


async def test_an_edit_is_seen_by_all_and_in_the_history(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="helo")
        edited = await ann.rpc("message.edit", room_id=room, message_id=said["id"], content="hello")
        assert (edited["content"], edited["offset"], edited["timestamp"]) == (
            "hello",
            said["offset"],
            said["timestamp"],
        )
        event = await ben.hears(room, event="message_edited")
        assert (event["message_id"], event["content"], event["edited_at"]) == (said["id"], "hello", edited["edited_at"])
        assert (event["type"], event["from_user_id"], event["room_id"]) == ("event", ann.id, room)
        assert await ben.rpc("message.get", room_id=room, message_id=said["id"]) == edited
        again = await ann.rpc("message.edit", room_id=room, message_id=said["id"], content="hello")
        assert again == edited, "nothing changed, so nothing is told"
        assert (await ann.rpc("room.get", room_id=room))["offset"] == said["offset"] + 1


async def test_an_edit_is_based_on_what_was_seen(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, _)):
        said = await ann.rpc("message.send", room_id=room, content="one")
        path = f"/v1/rooms/{room}/messages/{said['id']}"
        tag = (await ann.http("GET", path)).headers["etag"]
        first = await ann.http("PATCH", path, {"content": "two"}, headers={"If-Match": tag})
        assert (first.status, first.body["content"]) == (200, "two")
        late = await ann.http("PATCH", path, {"content": "three"}, headers={"If-Match": tag})
        assert late.status == 412
        assert late.headers["etag"] == first.headers["etag"] != tag
        fresh = await ann.http("PATCH", path, {"content": "three"}, headers={"If-Match": first.headers["etag"]})
        assert fresh.status == 200
        assert (await ann.http("PATCH", path, {"content": "four"}, headers={"If-Match": "*"})).status == 200


async def test_edits_on_two_nodes_at_once_agree_in_the_end(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="0")
        path = f"/v1/rooms/{room}/messages/{said['id']}"
        answers = await asyncio.gather(*(ann.http("PATCH", path, {"content": str(n)}, node=n % 2) for n in range(1, 7)))
        assert {each.status for each in answers} <= {200, 409}
        done = {each.body["content"] for each in answers if each.status == 200}
        await ben.device.until(
            lambda: (
                {each["content"] for each in ben.device.heard(f"room:{room}") if each.get("event") == "message_edited"}
                == done
            )
        )
        last = [each for each in ben.device.heard(f"room:{room}") if each.get("event") == "message_edited"][-1]
        assert (await ben.rpc("message.get", room_id=room, message_id=said["id"]))["content"] == last["content"]


async def test_what_happens_while_somebody_is_away_is_recovered_exactly_once(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        subscription = await ben.subscribe(room)
        kept = await ann.rpc("message.send", room_id=room, content="one")
        gone = await ann.rpc("message.send", room_id=room, content="secret")
        await ben.hears(room, content="secret")
        await ben.device.close()
        await ann.rpc("message.edit", room_id=room, message_id=kept["id"], content="two")
        await ann.rpc("message.react", room_id=room, message_id=kept["id"], emoji="👍")
        await ann.rpc("message.pin", room_id=room, message_id=kept["id"])
        await ann.rpc("room.update", room_id=room, title="Renamed")
        await ann.rpc("message.edit", room_id=room, message_id=gone["id"], content="secret, too")
        await ann.http("DELETE", f"/v1/rooms/{room}/messages/{gone['id']}", node=1)
        new = await ann.rpc("message.send", room_id=room, content="secret three")
        await ann.rpc("message.delete", room_id=room, message_id=new["id"])
        seen = len(subscription.publications)
        await ben.device.open()
        await ben.hears(room, event="message_deleted", message_id=new["id"])
        assert (subscription.faults, subscription.recoveries) == ([], 1)
        recovered = subscription.data[seen:]
        assert [(each.get("event"), each.get("message_id"), each["content"]) for each in recovered] == [
            ("message_edited", kept["id"], "two"),
            ("reaction_added", kept["id"], ""),
            ("message_pinned", kept["id"], ""),
            ("room_updated", None, "Ann named the group Renamed"),
            ("message_edited", gone["id"], ""),  # its content is gone, its place is not
            ("message_deleted", gone["id"], ""),
            (None, None, ""),
            ("message_deleted", new["id"], ""),
        ]
        assert recovered[6]["deleted_at"]


async def test_what_was_deleted_is_nowhere_any_more(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ann.rpc("message.send", room_id=room, content="xyzzy", mentions=[ben.id])
        await ann.rpc("message.edit", room_id=room, message_id=said["id"], content="xyzzy two")
        path = f"/v1/rooms/{room}/messages/{said['id']}"
        assert [(await ann.http("DELETE", path)).status for _ in range(2)] == [204, 204]
        await ann.rpc("message.delete", room_id=room, message_id=said["id"])
        left = await ben.rpc("message.get", room_id=room, message_id=said["id"])
        assert left["content"] == ""
        assert left["deleted_at"] > left["edited_at"]
        assert set(left) == {
            "offset", "id", "from_user_id", "room_id", "content", "type", "timestamp", "edited_at", "deleted_at",
        }  # fmt: skip
        history = await ben.device.ask(history={"channel": f"room:{room}", "limit": 100})
        assert "xyzzy" not in str(history)
        assert "xyzzy" not in str(await ben.rpc("message.list", room_id=room))
        events = [each["data"].get("event") for each in history["publications"]]
        assert events.count("message_deleted") == 1, "deleting twice is told once"
        assert (await ben.rpc("room.get", room_id=room))["mentions"] == 0
        assert await ann.refusal("message.edit", room_id=room, message_id=said["id"], content="back") == 1003
        again = await ann.rpc("message.send", room_id=room, id=said["id"], content="xyzzy")  # a late retry
        assert again == left


async def test_only_authors_edit_and_moderators_delete(server: Server) -> None:
    async with room_of(server, "Ann", "Ben", "Cid") as (room, (ann, ben, cid)):
        said = await ben.rpc("message.send", room_id=room, content="hi")
        path = f"/v1/rooms/{room}/messages/{said['id']}"
        for other in (ann, cid):
            assert await other.refusal("message.edit", room_id=room, message_id=said["id"], content="x") == 103
            assert (await other.http("PATCH", path, {"content": "x"})).status == 403
        assert await cid.refusal("message.delete", room_id=room, message_id=said["id"]) == 103
        assert (await cid.http("DELETE", path)).status == 403
        assert (await ben.rpc("message.get", room_id=room, message_id=said["id"])) == said
        await ann.rpc("message.delete", room_id=room, message_id=said["id"])
        system = (await ann.rpc("message.list", room_id=room))["messages"][0]["id"]
        assert await ann.refusal("message.edit", room_id=room, message_id=system, content="x") == 103
        assert await ann.refusal("message.delete", room_id=room, message_id=system) == 103
        event = (await ben.hears(room, event="message_deleted"))["id"]
        assert await ann.refusal("message.get", room_id=room, message_id=event) == 1002
        assert await ann.refusal("message.delete", room_id=room, message_id=event) == 1002

        direct = await ben.rpc("message.send", to_user_id=ann.id, content="between us")
        where = {"room_id": direct["room_id"], "message_id": direct["id"]}
        assert await ann.refusal("message.delete", **where) == 103, "nobody moderates two"
        for bad in ({"content": ""}, {"content": "x" * 16_385}, {}):
            answer = await ben.http("PATCH", f"/v1/rooms/{direct['room_id']}/messages/{direct['id']}", bad)
            assert (answer.status, answer.pointers) == (422, ["/content"])


async def test_strangers_learn_nothing(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)), people(server, "Eve") as (eve,):
        said = await ann.rpc("message.send", room_id=room, content="hi")
        hers = await eve.rpc("room.create", title="Eve's")
        for asked, code, status in (
            ({"room_id": room, "message_id": said["id"]}, 102, 404),
            ({"room_id": str(uuid4()), "message_id": said["id"]}, 102, 404),
            ({"room_id": hers["id"], "message_id": said["id"]}, 1002, 404),
        ):
            assert await eve.refusal("message.get", **asked) == code
            assert await eve.refusal("message.edit", **asked, content="x") == code
            assert await eve.refusal("message.delete", **asked) == code
            path = f"/v1/rooms/{asked['room_id']}/messages/{asked['message_id']}"
            assert (await eve.http("GET", path)).status == status
            assert (await eve.http("PATCH", path, {"content": "x"})).status == status
            assert (await eve.http("DELETE", path)).status == status
        for unknown in (room, str(uuid4())):
            assert await eve.refusal("message.list", room_id=unknown) == 102
            assert await eve.refusal("message.send", room_id=unknown, content="hi") == 102
            assert (await eve.http("GET", f"/v1/rooms/{unknown}/messages")).status == 404
            assert (await eve.http("POST", f"/v1/rooms/{unknown}/messages", {"content": "x"})).status == 404
            with pytest.raises(Refused, match="103"):
                await eve.say(unknown, "hi")
        await ann.rpc("room.remove", room_id=room, user_id=ben.id)
        assert await ben.refusal("message.get", room_id=room, message_id=said["id"]) == 102
        assert await ben.refusal("message.send", room_id=room, content="hi") == 102
        assert await contents(ann, room) == ["hi"]


async def test_who_is_muted_reads_only(server: Server) -> None:
    async with room_of(server, "Ann", "Ben") as (room, (ann, ben)):
        said = await ben.rpc("message.send", room_id=room, content="hi")
        await ann.rpc("room.mute", room_id=room, user_id=ben.id, seconds=3600)
        with pytest.raises(Refused, match="103: muted until 2"):
            await ben.rpc("message.send", room_id=room, content="x")
        with pytest.raises(Refused, match="103: muted until 2"):
            await ben.say(room, "x")
        with pytest.raises(Refused, match="103: muted until 2"):
            await ben.rpc("message.edit", room_id=room, message_id=said["id"], content="x")
        assert (await ben.http("POST", f"/v1/rooms/{room}/messages", {"content": "x"})).status == 403
        assert await contents(ben, room) == ["hi"]
        assert await ben.rpc("message.send", room_id=room, id=said["id"], content="hi") == said, (
            "a retry of what was said"
        )
        await ann.rpc("room.unmute", room_id=room, user_id=ben.id)
        await ben.rpc("message.edit", room_id=room, message_id=said["id"], content="ho")
        await ann.rpc("room.archive", room_id=room)
        for writer in (ann, ben):
            with pytest.raises(Refused, match="103: the room is archived"):
                await writer.rpc("message.send", room_id=room, content="x")
        with pytest.raises(Refused, match="103: the room is archived"):
            await ben.rpc("message.edit", room_id=room, message_id=said["id"], content="x")
        assert await contents(ben, room) == ["ho"]
        await ben.rpc("message.delete", room_id=room, message_id=said["id"])  # that is still theirs to do
