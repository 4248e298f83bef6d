"""I7 for every verb: whoever is not in the room gets nowhere with the ids of its messages, members and files.

The verbs are read from the server's own lists: a new one is tried here without being named.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from gateway_node.chat import Chat
from loadtest.server import Server
from tests.chat.person import Person, people
from tests.chat.test_messages import upload
from tests.invariants.rawclient import Refused

pytestmark = pytest.mark.integration

OF_NO_ROOM = {  # methods that are about people, or about all of one's own rooms
    "room.create", "room.direct", "room.list", "room.find", "room.unread", "user.find", "user.status", "user.update",
}  # fmt: skip
OF_MESSAGES = {"get", "edit", "delete", "react", "reactions", "pin", "unpin"}


class Target:
    """A room with a message that carries a file, is pinned and has a reaction, and what is asked of it."""

    def __init__(self, ann: Person, ben: Person) -> None:
        self.ann, self.ben = ann, ben
        self.ids: dict[str, str] = {}

    async def make(self) -> None:
        room = (await self.ann.rpc("room.create", title="Algebra", members=[self.ben.id]))["id"]
        file = (await upload(self.ann, room))["id"]
        said = await self.ann.rpc("message.send", room_id=room, content="hello", type="image", file_id=file)
        self.ids = {"room_id": room, "message_id": said["id"], "file_id": file, "user_id": self.ben.id, "emoji": "👍"}
        await self.ann.rpc("message.pin", room_id=room, message_id=said["id"])
        await self.ann.rpc("message.react", room_id=room, message_id=said["id"], emoji="👍")

    async def seen(self) -> list[Any]:
        """All that a stranger might have changed."""
        room = {"room_id": self.ids["room_id"]}
        return [
            await self.ann.rpc("room.get", **room),
            await self.ann.rpc("room.members", **room),
            await self.ann.rpc("message.list", **room),
            await self.ann.rpc("message.pins", **room),
            (await self.ann.http("GET", f"/v1/files/{self.ids['file_id']}")).status,
        ]


def asked(ids: dict[str, str]) -> dict[str, Any]:
    """A value for every field that some verb wants; methods ignore the others."""
    return {**ids, "content": "mine", "title": "mine", "role": "owner", "query": "hello", "offset": 1}


async def rpc_gets_in(person: Person, ids: dict[str, str], methods: set[str]) -> list[str]:
    """Methods that do not answer as where there is nothing."""
    found = []
    for method in sorted(methods):
        wanted = asked(ids)
        if not method.startswith("file."):
            del wanted["file_id"]  # of a message, it is looked at before the room
        try:
            await person.rpc(method, **wanted)
        except Refused as refused:
            if refused.code not in (102, 1002):
                found.append(f"{method}: {refused}")
        else:
            found.append(method)
    return found


async def http_gets_in(person: Person, ids: dict[str, str], *parts: str) -> list[str]:
    """Operations whose path has one of the `parts`, and that do not answer 404."""
    document = (await person.http("GET", "/schema/openapi.json")).body
    found, tried = [], 0
    for path, verbs in document["paths"].items():
        if not path.startswith("/v1/") or not any(part in path for part in parts):
            continue
        for name, value in ids.items():
            path = path.replace(f"{{{name}}}", quote(value))
        assert "{" not in path, "an id that the test does not know"
        for verb, operation in verbs.items():
            body, content = None, None
            if (request := operation.get("requestBody")) is not None:
                if (form := request["content"].get("application/json")) is None:
                    content = b"hello"
                else:
                    schema = form["schema"]
                    schema = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], schema)
                    fields = schema.get("properties", {}).keys() - {"file_id"}
                    body = {field: value for field, value in asked(ids).items() if field in fields}
            answer = await person.http(verb.upper(), path, body, content=content)
            tried += 1
            if answer.status != 404:
                found.append(f"{verb} {path}: {answer.status} {answer.content!r}")
    assert tried > 5
    return found


async def test_strangers_and_whoever_was_removed_get_nowhere(server: Server) -> None:
    methods = Chat(*[None] * 8).methods().keys() - OF_NO_ROOM  # type: ignore[arg-type]
    async with people(server, "Ann", "Ben", "Eve", "Dan") as (ann, ben, eve, dan):
        target = Target(ann, ben)
        await target.make()
        await ann.rpc("room.invite", room_id=target.ids["room_id"], user_id=dan.id)
        await ann.rpc("room.remove", room_id=target.ids["room_id"], user_id=dan.id)
        before = await target.seen()
        for outsider in (eve, dan):
            assert await rpc_gets_in(outsider, target.ids, methods) == []
            assert await http_gets_in(outsider, target.ids, "{room_id}", "{message_id}", "{file_id}") == []
        assert await target.seen() == before


async def test_a_message_of_another_room_is_none_of_ones_own(server: Server) -> None:
    """Eve names a room that she owns, and Ann's message."""
    async with people(server, "Ann", "Ben", "Eve") as (ann, ben, eve):
        target = Target(ann, ben)
        await target.make()
        before = await target.seen()
        hers = (await eve.rpc("room.create", title="Eve's"))["id"]
        ids = {**target.ids, "room_id": hers}
        assert await rpc_gets_in(eve, ids, {f"message.{verb}" for verb in OF_MESSAGES}) == []
        assert await http_gets_in(eve, ids, "{message_id}") == []
        for more in ({"reply_to": ids["message_id"]}, {"file_id": ids["file_id"], "type": "image"}):
            assert await eve.refusal("message.send", room_id=hers, id=str(uuid4()), content="x", **more) == 107
        assert await target.seen() == before
