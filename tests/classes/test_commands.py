"""Commands that come twice, or have no effect: everybody is told once, or not at all."""

from __future__ import annotations

from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.classes.room import lesson
from tests.invariants.rawclient import Refused
from tests.lms.school import ok

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


async def test_a_request_that_is_made_again_calls_one_hand(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        for person in (ann, ben):
            await room.do(person, "raise_hand")
        path, headers = f"{room.path}/commands", {"Idempotency-Key": str(uuid4())}
        first = ok(await teacher.http("POST", path, {"do": "call_next"}, headers=headers))
        assert [each for each in first["changes"] if each[0] == "remove"] == [["remove", "hands", ann.id]]
        for node in (0, 1):
            again = await teacher.http("POST", path, {"do": "call_next"}, headers=headers, node=node)
            assert ok(again) == first
        other = await teacher.http("POST", path, {"do": "lower_all"}, headers=headers)
        assert other.status == 422
        state = await room.seen(ben, lambda state: state["called"])
        assert (state["called"]["user"], list(state["hands"])) == (ann.id, [ben.id])
        ok(await teacher.http("POST", path, {"do": "call_next"}, headers={"Idempotency-Key": str(uuid4())}))
        await room.seen(ben, lambda state: state["called"]["user"] == ben.id)


async def test_what_cannot_be_done_so_is_pointed_to_where_it_stands(server: Server) -> None:
    async with lesson(server) as (room, teacher):
        command = {"do": "schedule", "opens_at": 0, "closes_at": 1}
        refused = await teacher.http("POST", f"{room.path}/commands", command)
        assert (refused.status, refused.pointers) == (422, ["/do"])
        with pytest.raises(Refused, match="/command/do"):
            await teacher.rpc("class.do", class_id=room.id, command=command)
        refused = await teacher.http("POST", f"{room.path}/commands", {"do": "strat"})
        assert refused.pointers == ["/do"]
        allowed = refused.body["errors"][0]["detail"]
        assert "call_next" in allowed and "schedule" not in allowed
