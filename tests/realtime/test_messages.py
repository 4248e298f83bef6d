from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime import codes
from realtime.core import ClientLimits
from realtime.messages import (
    MAX_CONTENT,
    AttachedFile,
    MessageEvent,
    SentMessage,
    StoredMessage,
    compose,
    decode,
    event_about,
    names_something,
)
from realtime.protocol import ClientInfo
from tests.realtime.harness import Client, Cluster, Node

ROOM = "room:2f1c5d4e-8a44-4a6b-9f0e-0d7c1a2b3c4d"
ID = "11111111-2222-4333-8444-555555555555"


class Desk:
    """References that answer when they are told to."""

    def __init__(self) -> None:
        self.asked: list[SentMessage] = []
        self.answer = asyncio.Event()
        self.file: AttachedFile | None = None

    async def of(self, channel: str, sender: str, sent: SentMessage) -> AttachedFile | None:
        self.asked.append(sent)
        await self.answer.wait()
        if sent.reply_to == UUID(ID):
            raise codes.BAD_REQUEST.at("/reply_to", "the room has no such message")
        return self.file


@pytest.fixture
def node() -> Node:
    return Cluster(1).nodes[0]


@pytest.fixture
def desk(node: Node) -> Desk:
    node.core.publisher._references = desk = Desk()
    return desk


async def in_room(node: Node, user: str) -> Client:
    """Somebody who is in the room; the server subscribes them."""
    node.authoriser.members.setdefault(ROOM, set()).add(user)
    client = await node.connected(user)
    assert client.connection.channel(ROOM) is not None
    return client


def message(content: str = "hi", **more: Any) -> dict[str, Any]:
    return {"channel": ROOM, "data": {"id": str(uuid4()), "content": content, **more}}


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({}, "/id"),
        ({"id": "1", "content": "x"}, "/id"),
        ({"id": ID}, "/content"),
        ({"id": ID, "content": " \n\t"}, "/content"),
        ({"id": ID, "content": 1}, "/content"),
        ({"id": ID, "content": "x" * (MAX_CONTENT + 1)}, "/content"),
        ({"id": ID, "content": "x", "type": "system"}, "/type"),
        ({"id": ID, "content": "x", "type": "event"}, "/type"),
        ({"id": ID, "content": "x", "type": "image"}, "/file_id"),
        ({"id": ID, "content": "x", "file_id": ID}, "/file_id"),
        ({"id": ID, "content": "x", "type": "file", "file_id": "../x"}, "/file_id"),
        ({"id": ID, "content": "x", "reply_to": "x"}, "/reply_to"),
        ({"id": ID, "content": "x", "mentions": [ID, 5]}, "/mentions/1"),
        ({"id": ID, "content": "x", "mentions": [ID] * 51}, "/mentions"),
        ({"id": ID, "content": "x", "mentions": ID}, "/mentions"),
        ([], ""),
    ],
)
def test_what_is_no_message_is_error_107_with_the_place(data: object, pointer: str) -> None:
    with pytest.raises(codes.BAD_REQUEST) as refused:
        decode(json.dumps(data).encode())
    assert refused.value.pointer == pointer
    assert refused.value.message.startswith(f"{pointer}: ")


@given(
    st.dictionaries(
        st.sampled_from(["id", "content", "type", "reply_to", "mentions", "file_id", "from_user_id"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(ID), st.lists),
    )
)
def test_a_message_is_taken_or_refused_and_nothing_else(data: dict[str, Any]) -> None:
    try:
        sent = decode(json.dumps(data).encode())
    except codes.BAD_REQUEST:
        return
    stored = json.loads(compose(ROOM, "ann", sent).data)
    assert (stored["id"], stored["from_user_id"], stored["content"]) == (str(sent.id), "ann", sent.content)


def test_no_json_at_all_has_no_place() -> None:
    with pytest.raises(codes.BAD_REQUEST) as refused:
        decode(b"{")
    assert refused.value.pointer is None


def test_the_form_in_which_a_message_is_kept() -> None:
    friend = uuid4()
    file = AttachedFile(uuid4(), "a.png", 7, "image/png", 3, 4, True)
    sent = decode(
        json.dumps(
            {
                "id": ID,
                "from_user_id": "somebody else",
                "to_user_id": "x",
                "content": "look",
                "type": "image",
                "file_id": str(file.id),
                "reply_to": str(friend),
                "mentions": [str(friend), str(friend)],
                "edited_at": "yesterday",
                "reactions": {"x": 1},
            }
        ).encode()
    )
    entry = compose(ROOM, "ann", sent, to="ben", file=file)
    stored = json.loads(entry.data)
    assert list(stored) == [
        "id", "from_user_id", "to_user_id", "room_id", "content", "type", "reply_to", "mentions", "file",
    ]  # fmt: skip
    assert (stored["from_user_id"], stored["to_user_id"], stored["room_id"]) == ("ann", "ben", ROOM[5:])
    assert stored["mentions"] == [str(friend)]
    assert stored["file"] == {
        "id": str(file.id), "name": "a.png", "size": 7, "content_type": "image/png", "width": 3, "height": 4,
        "thumbnail": True,
    }  # fmt: skip
    assert (entry.mentions, entry.search, entry.type, entry.counted) == ((str(friend),), "look\na.png", "image", True)
    plain = json.loads(compose(ROOM, "ann", SentMessage(UUID(ID), "hi")).data)
    assert list(plain) == ["id", "from_user_id", "room_id", "content", "type"]


def test_an_event_in_a_direct_room_is_for_the_other_one() -> None:
    def to(actor: str, message: StoredMessage) -> str:
        event: MessageEvent = event_about(message, actor, "reaction_added")
        return event.to_user_id

    kept = StoredMessage(id=uuid4(), from_user_id="ann", to_user_id="ben", room_id="r", content="x", type="text")
    assert (to("ann", kept), to("ben", kept)) == ("ben", "ann")
    kept.to_user_id = ""
    assert (to("ann", kept), to("ben", kept)) == ("", "")


def test_only_what_names_something_may_have_to_wait() -> None:
    assert names_something(b'{"id": "x", "reply_to" : "y"}')
    assert not names_something(b'{"id": "x", "content": "\\"reply_to\\": y"}')


async def test_nothing_overtakes_a_message_that_is_looked_up(node: Node, desk: Desk) -> None:
    ann = await in_room(node, "ann")
    first = ann.send(publish=message("first"))
    ann.send(publish=message("named", mentions=[ID]))
    ann.send(publish=message("behind"))
    last = ann.send(history={"channel": ROOM, "limit": 10})
    await ann.until(lambda c: any(reply.get("id") == first for reply in c.received))
    await ann.until(lambda c: desk.asked)
    assert [each["data"]["content"] for each in ann.publications] == ["first"]
    desk.answer.set()
    history = await ann.until(lambda c: next((r for r in c.received if r.get("id") == last), None))
    assert [each["data"]["content"] for each in history["history"]["publications"]] == ["first", "named", "behind"]
    assert [each["data"]["content"] for each in ann.publications] == ["first", "named", "behind"]


async def test_a_plain_message_is_not_looked_up(node: Node, desk: Desk) -> None:
    ann = await in_room(node, "ann")
    assert "publish" in await ann.ask(publish=message())
    assert "publish" in await ann.ask(publish=message(mentions=[], reply_to=None))
    assert not desk.asked


async def test_what_is_named_wrongly_is_not_stored(node: Node, desk: Desk) -> None:
    desk.answer.set()
    ann = await in_room(node, "ann")
    reply = await ann.ask(publish=message(reply_to=ID))
    assert reply["error"] == {"code": 107, "message": "/reply_to: the room has no such message"}
    assert ann.publications == []
    desk.file = AttachedFile(uuid4(), "a.png", 7, "image/png")
    assert "publish" in await ann.ask(publish=message("", type="file", file_id=str(desk.file.id)))
    [publication] = await ann.until(lambda c: c.publications)
    assert publication["data"]["file"]["name"] == "a.png"


async def test_without_rooms_nothing_can_be_named(node: Node) -> None:
    ann = await in_room(node, "ann")
    assert (await ann.ask(publish=message(reply_to=ID)))["error"]["code"] == 108


async def test_who_wrote_what_is_told(node: Node) -> None:
    told: list[tuple[str, str, int]] = []
    node.core.publisher.on_message = lambda *args: told.append(args)
    ann = await in_room(node, "ann")
    ben = await in_room(node, "ben")
    first = message()
    for sender, what in ((ann, first), (ben, message()), (ann, first)):
        assert "publish" in await sender.ask(publish=what)
    assert "error" in await ann.ask(publish=message(" "))
    chat = await node.subscribed("ann", "chat:x")
    await chat.ask(publish={"channel": "chat:x", "data": {}})
    assert told == [(ROOM, "ann", 1), (ROOM, "ben", 2), (ROOM, "ann", 1)]


async def test_sending_again_tells_what_is_stored(node: Node) -> None:
    publisher = node.core.publisher
    sent = SentMessage(UUID(ID), "one")
    info = ClientInfo("ann", "")
    first = await publisher.send(ROOM, sent, "ann", info=info)
    again = await publisher.send(ROOM, SentMessage(UUID(ID), "two"), "ann", info=info)
    assert (first.again, again.again) == (False, True)
    assert again.publication.offset == first.publication.offset == first.position.offset == 1
    assert json.loads(bytes(again.publication.data))["content"] == "one"


async def test_methods_that_write_cost_a_publication() -> None:
    node = Cluster(1, ClientLimits(publishes_per_second=1, publishes_burst=3)).nodes[0]

    async def nothing(*_: object) -> bytes:
        return b"{}"

    methods: dict[str, Callable[..., Awaitable[bytes]]] = {"write": nothing, "read": nothing}
    node.core.rpc = methods
    node.core.writes = frozenset({"write"})
    ann = await in_room(node, "ann")
    for _ in range(3):
        assert "rpc" in await ann.ask(rpc={"method": "write"})
    assert (await ann.ask(rpc={"method": "write"}))["error"]["code"] == 111
    assert (await ann.ask(publish=message()))["error"]["code"] == 111
    assert "rpc" in await ann.ask(rpc={"method": "read"})


async def test_in_a_direct_room_a_message_is_for_the_other_one(node: Node) -> None:
    node.authoriser.pairs[ROOM] = ("ann", "ben")
    ann = await in_room(node, "ann")
    ben = await in_room(node, "ben")
    for sender in (ann, ben):
        assert "publish" in await sender.ask(publish=message(to_user_id="eve"))
    await ann.until(lambda c: len(c.publications) == 2)
    told = [(each["data"]["from_user_id"], each["data"]["to_user_id"]) for each in ann.publications]
    assert told == [("ann", "ben"), ("ben", "ann")]
