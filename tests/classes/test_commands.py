"""Commands that come twice, or have no effect: everybody is told once, or not at all."""

from __future__ import annotations

from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.classes.room import lesson

pytestmark = pytest.mark.integration

NOTHING = {"offset": 0, "changes": []}


async def test_what_changes_nothing_is_told_to_nobody(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(teacher, "mute", user=ann.id)
        await room.do(ann, "publish", peer="page", tracks=["camera"])
        for person, do, more in (
            (ben, "lower_hand", {}),  # of the other node
            (ben, "unpublish", {}),
            (ben, "dismiss", {}),
            (ann, "publish", {"peer": "page", "tracks": ["camera"]}),
            (teacher, "mute", {"user": ann.id}),
            (teacher, "unban", {"user": ann.id}),
            (teacher, "role", {"user": ann.id, "role": "student"}),
            (teacher, "set_lock", {"lock": "screen", "on": False}),
        ):
            assert await room.do(person, do, **more) == NOTHING
        await room.do(teacher, "lock")
        await room.seen(ben, lambda state: state["locked"])
        published, locked = [
            (each["offset"], each["data"]["do"])
            for each in ben.device.publications(room.channel)
            if each["data"].get("type") == "command"
        ][-2:]
        assert (published[1], locked) == ("publish", (published[0] + 1, "lock"))


async def test_what_another_node_has_changed_meanwhile_is_of_effect(server: Server) -> None:
    """Whatever this node has heard yet: the last word is that of the log."""
    async with lesson(server, "ann") as (room, teacher, ann):
        there = await teacher.another_device(node=1)
        unmute = {"class_id": room.id, "command": {"do": "unmute", "user": ann.id}}
        for _ in range(20):
            await room.do(teacher, "mute", user=ann.id)
            assert (await there.rpc("class.do", **unmute))["changes"] == [["remove", "muted", ann.id]]


async def test_the_same_id_again_has_the_same_answer_on_either_node(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, _):
        other = await ann.another_device(node=0)
        command = {"class_id": room.id, "command": {"do": "raise_hand"}, "id": str(uuid4())}
        first = await ann.rpc("class.do", **command)
        await room.do(teacher, "lower_all")
        await room.seen(ann, lambda state: not state["hands"])
        for device in (ann.device, other):
            assert await device.rpc("class.do", **command) == first
        assert first["changes"] and not room.state(ann)["hands"]
