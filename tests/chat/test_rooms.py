"""Rooms on two whole nodes: what one does is seen on the other, over RPC and HTTP alike."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from loadtest.server import Server
from tests.chat.person import Answer, Person, people
from tests.invariants.rawclient import Refused

pytestmark = pytest.mark.integration

PROMPT = 1.0  # seconds for a removal to take effect on every node
SOMEBODY = "00000000-0000-4000-8000-000000000000"


def channel_of(room: dict[str, Any]) -> str:
    return f"room:{room['id']}"


async def refused_to_say(person: Person, room_id: str) -> str:
    """What somebody is told who may not write; error 103."""
    with pytest.raises(Refused) as refused:
        await person.say(room_id, "let me speak")
    assert refused.value.code == 103
    return str(refused.value)


def told(person: Person, room: dict[str, Any]) -> list[str]:
    return [data["content"] for data in person.device.heard(channel_of(room))]


# --- a life of a room ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["rpc", "http"])
async def test_each_verb_shows_on_the_other_node(server: Server, over: str) -> None:
    """Ann changes the room on node 0, Ben and Cem hear of it on node 1."""
    async with people(server, "Ann", "Ben", "Cem", nodes=(0, 1, 1)) as (ann, ben, cem):

        async def do(verb: str, method: str, path: str, body: Any = None, **params: Any) -> Any:
            if over == "rpc":
                return await ann.rpc(f"room.{verb}", **params)
            answer = await ann.http(method, f"/v1/rooms{path}", body)
            assert answer.status < 300, answer.content
            return answer.body

        new = {"title": "Algebra", "members": [ben.id]}
        room = await do("create", "POST", "", new, **new)
        id = room["id"]
        await ben.device.is_in(f"room:{id}")
        assert (await ben.hears(ben.channel, event="room_added"))["room_id"] == id
        assert id in [each["id"] for each in (await ben.rpc("room.list"))["rooms"]]

        await do("invite", "PUT", f"/{id}/members/{cem.id}", room_id=id, user_id=cem.id)
        line = await ben.hears(id, event="member_added", user_id=cem.id)
        assert line["content"] == "Ann added Cem"
        assert (line["type"], line["from_user_id"], line["room_id"]) == ("system", ann.id, id)
        assert line["timestamp"].endswith("Z")
        await cem.device.is_in(f"room:{id}")

        change = {"title": "Topology", "open": True}
        await do("update", "PATCH", f"/{id}", change, room_id=id, **change)
        line = await ben.hears(id, event="room_updated")
        assert (line["title"], line["open"]) == ("Topology", True)

        await do(
            "role",
            "PUT",
            f"/{id}/members/{cem.id}/role",
            {"role": "moderator"},
            room_id=id,
            user_id=cem.id,
            role="moderator",
        )
        assert (await cem.hears(id, event="member_role"))["role"] == "moderator"

        await do(
            "mute", "PUT", f"/{id}/members/{ben.id}/mute", {"seconds": 600}, room_id=id, user_id=ben.id, seconds=600
        )
        until = (await ben.hears(id, event="member_muted"))["until"]
        assert (await ben.rpc("room.get", room_id=id))["muted_until"] == until
        assert "muted until" in await refused_to_say(ben, id)
        answer = await ben.http("POST", f"/v1/rooms/{id}/messages", {"content": "hi"})
        assert (answer.status, "muted until" in answer.body["detail"]) == (403, True)
        await do("unmute", "DELETE", f"/{id}/members/{ben.id}/mute", room_id=id, user_id=ben.id)
        await ben.hears(id, event="member_unmuted")
        await ben.say(id, "I am back")
        await ann.hears(id, content="I am back")

        await do("archive", "PUT", f"/{id}/archive", room_id=id)
        await ben.hears(id, event="room_archived")
        for person in (ann, ben, cem):
            assert "archived" in await refused_to_say(person, id)
        assert (await ann.http("POST", f"/v1/rooms/{id}/messages", {"content": "hi"})).status == 403
        assert (await ben.rpc("room.list"))["rooms"] == []
        assert [each["id"] for each in (await ben.rpc("room.list", archived=True))["rooms"]] == [id]
        assert (await ben.rpc("room.get", room_id=id))["archived_at"]
        await do("restore", "DELETE", f"/{id}/archive", room_id=id)
        await ben.hears(id, event="room_restored")
        await ben.say(id, "again")

        await do("remove", "DELETE", f"/{id}/members/{ben.id}", room_id=id, user_id=ben.id)
        assert (await cem.hears(id, event="member_removed"))["content"] == "Ann removed Ben"
        await ben.hears(ben.channel, event="room_removed", room_id=id)
        await ben.device.is_out(f"room:{id}", PROMPT)

        await do("leave", "POST", f"/{id}/leave", room_id=id)
        await cem.hears(id, content="Ann made Cem an owner")
        await cem.hears(id, content="Ann left")
        await ann.device.is_out(f"room:{id}", PROMPT)
        assert (await cem.rpc("room.get", room_id=id))["role"] == "owner"
        page = await cem.rpc("room.members", room_id=id)
        assert [(each["user_id"], each["role"], each["name"]) for each in page["members"]] == [(cem.id, "owner", "Cem")]


async def test_a_direct_room_opens_for_both_and_stays_as_it_is(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        devices = [await person.another_device(node) for person in (ann, ben) for node in (0, 1)]
        made = await asyncio.gather(
            *(
                one.http("POST", "/v1/rooms/direct", {"user_id": other.id}, node=node)
                for one, other in ((ann, ben), (ben, ann))
                for node in (0, 1)
            )
        )
        assert sorted(answer.status for answer in made) == [200, 200, 200, 201]
        (id,) = {answer.body["id"] for answer in made}
        for device in (*devices, ann.device, ben.device):
            await device.is_in(f"room:{id}")
        await ann.say(id, "hi")
        heard = await ben.hears(id, content="hi")
        assert (heard["from_user_id"], heard["to_user_id"]) == (ann.id, ben.id)
        assert (await ben.rpc("room.direct", user_id=ann.id))["last"]["content"] == "hi"
        for verb, more in (("leave", {}), ("archive", {}), ("update", {"title": "x"}), ("remove", {"user_id": ben.id})):
            assert await ann.refusal(f"room.{verb}", room_id=id, **more) == 103


async def test_who_comes_in_hears_all_from_then_on(server: Server) -> None:
    """Also what is said between the invitation and the moment in which the other node acts on it."""
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await ann.rpc("room.create", title="Algebra")
        await ann.device.is_in(channel_of(room))
        await ann.say(room["id"], "before")
        await ann.rpc("room.invite", room_id=room["id"], user_id=ben.id)
        for number in range(20):
            await ann.say(room["id"], f"{number}")
        await ben.hears(room["id"], content="19")
        assert [content for content in told(ben, room) if content.isdigit()] == [str(number) for number in range(20)]
        assert "before" not in told(ben, room)
        seen = await ben.rpc("room.get", room_id=room["id"])
        assert (seen["unread"], seen["last"]["content"]) == (20, "19")


async def test_joining_an_open_group_from_another_node(server: Server) -> None:
    async with people(server, "Ann", "Ben", "Cem") as (ann, ben, cem):
        mark = secrets.token_hex(8)
        room = await ann.rpc("room.create", title=f"{mark} Chess", open=True)
        await ann.rpc("room.create", title=f"{mark} Secret")
        found = await ben.http("GET", f"/v1/rooms/open?query={mark.upper()}")
        assert found.body == {
            "rooms": [
                {"id": room["id"], "title": f"{mark} Chess", "members": 1, "created_at": room["created_at"]},
            ]
        }
        assert await ben.rpc("room.find", query=mark) == found.body
        joined = await ben.http("POST", f"/v1/rooms/{room['id']}/join")
        assert (joined.status, joined.body["members"], joined.body["role"]) == (200, 2, "member")
        assert (await ann.hears(room["id"], event="member_added"))["content"] == "Ben joined"
        await ben.device.is_in(channel_of(room))
        await ann.rpc("room.update", room_id=room["id"], open=False)
        assert await cem.refusal("room.join", room_id=room["id"]) == 102
        assert (await cem.http("GET", f"/v1/rooms/open?query={mark}")).body == {"rooms": []}


# --- removal and refusal ---------------------------------------------------------------------------------------------


async def test_no_message_reaches_who_was_removed_in_the_middle_of_a_flood(server: Server) -> None:
    """I7: nothing beyond the removal, on any node, on any device."""
    async with people(server, "Ann", "Ben", "Cem", "Dan", nodes=(0, 1, 1, 0)) as (ann, ben, cem, dan):
        room = await ann.rpc("room.create", title="Flood", members=[ben.id, cem.id, dan.id])
        devices = [ben.device, await ben.another_device(0), await ben.another_device(1)]
        for device in (*devices, cem.device, dan.device):
            await device.is_in(channel_of(room))
        done = asyncio.Event()

        async def flood(person: Person) -> int:
            number = 0
            while not done.is_set():
                await person.say(room["id"], f"{person.name} {number}")
                number += 1
            return number

        floods = [asyncio.create_task(flood(person)) for person in (cem, dan)]
        try:
            for device in devices:
                await device.until(lambda device=device: len(device.heard(channel_of(room))) > 20)  # type: ignore[misc]
            await ann.rpc("room.remove", room_id=room["id"], user_id=ben.id)
            for device in devices:
                await device.is_out(channel_of(room), PROMPT)
            said = len(cem.device.heard(channel_of(room)))
            await cem.device.until(lambda: len(cem.device.heard(channel_of(room))) > said + 50)
            assert "103" in await refused_to_say(ben, room["id"])
        finally:
            done.set()
            sent = await asyncio.gather(*floods)
        await cem.hears(room["id"], content=f"Dan {sent[1] - 1}")
        (removed,) = [
            each["offset"]
            for each in cem.device.publications(channel_of(room))
            if each["data"].get("event") == "member_removed"
        ]
        for device in devices:
            await device.in_step()
            offsets = [each["offset"] for each in device.publications(channel_of(room)) if "offset" in each]
            assert offsets == list(range(offsets[0], offsets[-1] + 1))
            assert offsets[-1] <= removed
        with pytest.raises(Refused) as refused:
            await ben.subscribe(room["id"])
        assert refused.value.code == 103


async def test_a_muted_one_stays_muted_who_leaves_and_comes_back(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await ann.rpc("room.create", title="Open", open=True, members=[ben.id])
        await ann.rpc("room.mute", room_id=room["id"], user_id=ben.id)
        await ben.rpc("room.leave", room_id=room["id"])
        await ben.rpc("room.join", room_id=room["id"])
        await ben.device.is_in(channel_of(room))
        assert "muted" in await refused_to_say(ben, room["id"])
        await ann.say(room["id"], "but you hear")
        await ben.hears(room["id"], content="but you hear")


async def test_nobody_learns_of_anothers_room(server: Server) -> None:
    """I7: each verb answers as where there is no room."""
    async with people(server, "Ann", "Ben", "Eve") as (ann, ben, eve):
        mark = secrets.token_hex(8)
        group = await ann.rpc("room.create", title=mark, members=[ben.id])
        direct = await ann.rpc("room.direct", user_id=ben.id)
        nothing = {"id": str(uuid.uuid4())}
        answers: dict[str, list[Any]] = {}
        for name, room in (("group", group), ("direct", direct), ("nothing", nothing)):
            answers[name] = [await _said(call) for call in _everything(eve, room["id"], ben.id)]
        assert answers["group"] == answers["direct"] == answers["nothing"]
        assert {code for code, _ in answers["group"]} == {102, 404}
        assert (await eve.rpc("room.find", query=mark)) == {"rooms": []}
        assert (await eve.rpc("room.find", query=""))["rooms"].count(group["id"]) == 0
        assert (await eve.rpc("room.list")) == {"rooms": [], "users": {}}
        assert eve.device.heard(channel_of(group)) == []
        for room in (group, direct):
            assert (await ann.rpc("room.get", room_id=room["id"]))["updated_at"] == room["updated_at"]


def _everything(eve: Person, id: str, victim: str) -> list[Callable[[], Awaitable[Any]]]:
    """Every verb about a room, over RPC and HTTP."""
    member = {"room_id": id, "user_id": victim}
    myself = {"room_id": id, "user_id": eve.id}
    rpcs: list[tuple[str, dict[str, Any]]] = [
        *((verb, {"room_id": id}) for verb in ("get", "archive", "restore", "join", "leave", "members")),
        ("update", {"room_id": id, "title": "mine"}),
        *((verb, who) for verb in ("invite", "remove", "mute", "unmute") for who in (member, myself)),
        ("role", {**myself, "role": "owner"}),
    ]
    https: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PATCH", "", {"title": "mine"}),
        ("PUT", "/archive", None),
        ("DELETE", "/archive", None),
        ("POST", "/join", None),
        ("POST", "/leave", None),
        ("GET", "/members", None),
        ("PUT", f"/members/{eve.id}", None),
        ("DELETE", f"/members/{victim}", None),
        ("PUT", f"/members/{eve.id}/role", {"role": "owner"}),
        ("PUT", f"/members/{victim}/mute", {}),
        ("DELETE", f"/members/{victim}/mute", None),
    ]
    calls: list[Callable[[], Awaitable[Any]]] = []
    calls += [lambda verb=verb, params=params: eve.rpc(f"room.{verb}", **params) for verb, params in rpcs]  # type: ignore[misc]
    calls += [
        lambda method=method, path=path, body=body: eve.http(method, f"/v1/rooms/{id}{path}", body)  # type: ignore[misc]
        for method, path, body in https
    ]
    return calls


async def _said(call: Callable[[], Awaitable[Any]]) -> tuple[int, str]:
    """Code and text of a refusal."""
    try:
        answer = await call()
    except Refused as refused:
        return refused.code, str(refused)
    assert isinstance(answer, Answer), "an RPC succeeded"
    return answer.status, answer.body["detail"]


# --- over HTTP -------------------------------------------------------------------------------------------------------


async def test_two_who_rename_at_once_do_not_undo_each_other(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        made = await ann.http("POST", "/v1/rooms", {"title": "A", "members": [ben.id]})
        id = made.body["id"]
        assert made.status == 201
        assert made.headers["location"] == f"/v1/rooms/{id}"
        got = await ben.http("GET", f"/v1/rooms/{id}")
        assert got.headers["etag"] == made.headers["etag"]
        await ann.rpc("room.role", room_id=id, user_id=ben.id, role="owner")
        both = await asyncio.gather(
            *(
                person.http(
                    "PATCH", f"/v1/rooms/{id}", {"title": person.name}, headers={"If-Match": made.headers["etag"]}
                )
                for person in (ann, ben)
            )
        )
        assert sorted(answer.status for answer in both) == [200, 412]
        (won,) = [answer for answer in both if answer.status == 200]
        (lost,) = [answer for answer in both if answer.status == 412]
        assert lost.headers["etag"] == won.headers["etag"] != made.headers["etag"]
        now = await ann.http("GET", f"/v1/rooms/{id}")
        assert (now.body["title"], now.headers["etag"]) == (won.body["title"], won.headers["etag"])
        again = await ann.http(
            "PATCH", f"/v1/rooms/{id}", {"title": "C"}, headers={"If-Match": f'"x", {now.headers["etag"]}'}
        )
        assert (again.status, again.body["title"]) == (200, "C")
        unchanged = await ann.http("PATCH", f"/v1/rooms/{id}", {"title": "C"})
        assert unchanged.headers["etag"] == again.headers["etag"]


async def test_an_idempotency_key_makes_one_group_on_both_nodes(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        made = await asyncio.gather(
            *(
                ann.http(
                    "POST",
                    "/v1/rooms",
                    {"title": "A", "members": [ben.id]},
                    node=node,
                    headers={"Idempotency-Key": "1"},
                )
                for node in (0, 1, 0, 1)
            )
        )
        assert sorted(answer.status for answer in made) == [200, 200, 200, 201]
        assert len({answer.body["id"] for answer in made}) == 1
        assert len((await ben.rpc("room.list"))["rooms"]) == 1
        other = await ben.http("POST", "/v1/rooms", {"title": "A"}, headers={"Idempotency-Key": "1"})
        assert other.status == 201


async def test_pages_are_linked(server: Server) -> None:
    async with people(server, "Ann", "Ben", "Cem") as (ann, ben, cem):
        ids = [(await ann.rpc("room.create", title=f"{number}", members=[ben.id, cem.id]))["id"] for number in range(5)]
        await ann.device.is_in(f"room:{ids[2]}")
        await ann.say(ids[2], "the newest")
        rooms = await _walk(ann, "/v1/rooms?limit=2", "rooms")
        assert [room["id"] for room in rooms] == [ids[2], ids[4], ids[3], ids[1], ids[0]]
        members = await _walk(ann, f"/v1/rooms/{ids[0]}/members?limit=1", "members")
        assert [member["user_id"] for member in members] == sorted([ann.id, ben.id, cem.id])
        mark = secrets.token_hex(8)
        for number in range(3):
            await ann.rpc("room.create", title=f"{mark} {number}", open=True)
        found = await _walk(ben, f"/v1/rooms/open?query={mark}%20&limit=1", "rooms")
        assert [room["title"] for room in found] == [f"{mark} {number}" for number in range(3)]


async def _walk(person: Person, path: str, what: str) -> list[Any]:
    items = []
    while path:
        answer = await person.http("GET", path)
        assert answer.status == 200, answer.content
        items += answer.body[what]
        link = answer.headers.get("link", "")
        assert bool(link) == ("next" in answer.body)
        path = link.partition(">")[0].removeprefix("<")
    return items


BAD: list[tuple[str, str, Any, int, list[str]]] = [
    ("POST", "", {}, 422, ["/title"]),
    ("POST", "", {"title": "x", "size": 3}, 422, ["/size"]),
    ("POST", "", {"title": "a\u0000b"}, 422, ["/title"]),
    ("POST", "", {"title": "x", "members": ["bob"]}, 422, ["/members/0"]),
    ("POST", "", {"title": "x", "members": [SOMEBODY]}, 422, ["/members/0"]),
    ("POST", "", {"title": "x", "members": [str(uuid.UUID(int=n)) for n in range(101)]}, 409, []),
    ("POST", "", [], 422, [""]),
    ("POST", "/direct", {"user_id": 7}, 422, ["/user_id"]),
    ("POST", "/direct", {"user_id": SOMEBODY}, 404, []),
    ("POST", "/direct", {"user_id": SOMEBODY, "title": "x"}, 422, ["/title"]),
    ("PATCH", "/{id}", {"title": ""}, 422, ["/title"]),
    ("PATCH", "/{id}", {"open": "yes"}, 422, ["/open"]),
    ("PATCH", "/{id}", {"kind": "direct"}, 422, ["/kind"]),
    ("PUT", "/{id}/members/{me}/role", {"role": "king"}, 422, ["/role"]),
    ("PUT", "/{id}/members/{me}/role", {"role": "member"}, 422, ["/role"]),
    ("PUT", "/{id}/members/{me}/mute", {"seconds": 0}, 422, ["/seconds"]),
    ("PUT", "/{id}/members/{me}/mute", {"until": 0}, 422, ["/until"]),
    ("PUT", "/{id}/members/{me}/mute", {}, 403, []),
    ("PUT", "/{id}/members/" + SOMEBODY, None, 404, []),
    ("PUT", "/{id}/members/bob", None, 404, []),
    ("GET", "/bob", None, 404, []),
    ("GET", "?after=x", None, 400, ["after"]),
    ("GET", "?archived=maybe", None, 400, ["archived"]),
    ("GET", "?limit=0", None, 400, ["limit"]),
    ("GET", "?limit=101", None, 400, ["limit"]),
    ("GET", "/open?query=a%00", None, 400, ["query"]),
    ("GET", "/open?query=a&after=x", None, 400, ["after"]),
    ("GET", "/{id}/members?after=bob", None, 400, ["after"]),
]


async def test_bad_requests_are_answered_with_the_place_of_the_trouble(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        room = await ann.rpc("room.create", title="Algebra")
        for method, path, body, status, pointers in BAD:
            path = path.format(id=room["id"], me=ann.id)
            answer = await ann.http(method, f"/v1/rooms{path}", body)
            said = (method, path, body, answer.content)
            assert answer.status == status, said
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.pointers == pointers, said
        for headers in ({"Authorization": ""}, {"Authorization": "Bearer x"}):
            assert (await ann.http("GET", "/v1/rooms", headers=headers)).status == 401
        assert (await ann.rpc("room.get", room_id=room["id"]))["offset"] == 0
