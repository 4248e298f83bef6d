"""Locks, mutes and roles as the server holds them: on both nodes, for whoever comes later, whatever a page sends."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.classes.room import lesson
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol

pytestmark = pytest.mark.integration

DENIED = 103


async def test_mute_all_is_for_who_comes_later_and_for_who_comes_again(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben), lesson(server, "cleo") as (_, _, cleo):
        sound: dict[str, Any] = {"peer": "page", "tracks": ["microphone"]}
        await room.do(ann, "publish", **sound)
        await room.do(teacher, "mute_all")
        state = await room.seen(ben, lambda state: state["all_muted"])
        assert state["sending"] == {}
        await enrol(cleo, room.course)
        await room.enter(cleo)
        for person in (ann, ben, cleo):
            assert await room.refusal(person, "publish", **sound) == DENIED
        await ann.device.cut_and_return()
        await room.do(teacher, "kick", user=ben.id)
        await ben.device.is_out(room.channel)
        await room.enter(ben)
        for person in (ann, ben, cleo):
            assert await room.refusal(person, "publish", **sound) == DENIED
        await room.do(teacher, "unmute", user=cleo.id)
        await room.do(cleo, "publish", **sound)
        await room.do(teacher, "mute_all")  # once more: without exceptions
        assert await room.refusal(cleo, "publish", **sound) == DENIED
        await room.do(teacher, "mute", user=ann.id)
        await room.do(teacher, "kick", user=ann.id)
        await ann.device.is_out(room.channel)
        await room.enter(ann)
        await room.do(teacher, "unmute_all")
        await room.do(ann, "publish", **sound)


async def test_a_mute_of_one_sticks_whatever_they_try(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(teacher, "mute", user=ann.id)
        other = await ann.another_device(node=1 - ann.node)
        await room.enter(ann, other)
        await ann.device.cut_and_return()
        await room.do(teacher, "kick", user=ann.id)
        await ann.device.is_out(room.channel)
        await room.enter(ann)
        publish = {"class_id": room.id, "command": {"do": "publish", "peer": "page", "tracks": ["microphone"]}}
        for device in (ann.device, other):
            with pytest.raises(Refused) as refused:
                await device.rpc("class.do", **publish)
            assert refused.value.code == DENIED
        assert await room.refusal(ann, "unmute", user=ann.id) == DENIED
        await room.do(ben, "publish", peer="page", tracks=["microphone"])


@pytest.mark.parametrize("track", ["microphone", "camera", "screen"])
async def test_a_lock_of_a_track_ends_it_and_lets_none_come(server: Server, track: str) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        everything: dict[str, Any] = {"peer": "page", "tracks": ["microphone", "camera", "screen"]}
        await room.do(ann, "publish", **everything)
        await room.do(teacher, "set_lock", lock=track)
        state = await room.seen(ben, lambda state: track in state["locks"])
        left = [each for each in everything["tracks"] if each != track]
        assert state["sending"][ann.id]["tracks"] == left
        for person in (ann, ben):
            assert await room.refusal(person, "publish", **everything) == DENIED
            assert await room.refusal(person, "publish", peer="page", tracks=[track]) == DENIED
        await room.do(ben, "publish", peer="page", tracks=left)
        await room.do(teacher, "publish", **everything)  # no lock is for the staff
        await room.do(teacher, "set_lock", lock=track, on=False)
        await room.do(ben, "publish", **everything)


async def test_where_private_chat_is_locked_students_write_to_the_staff_alone(server: Server) -> None:
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        whisper = {"class_id": room.id, "content": "psst"}
        await ann.rpc("class.whisper", to=ben.id, **whisper)
        await ben.hears(ben.channel, type="class_whisper")
        await room.do(teacher, "set_lock", lock="private_chat")
        for one, other in ((ann, ben), (ben, ann)):
            assert await one.refusal("class.whisper", to=other.id, **whisper) == DENIED
        await ann.rpc("class.whisper", to=teacher.id, **whisper)
        await ann.rpc("class.whisper", **whisper)
        await teacher.rpc("class.whisper", to=ben.id, **whisper)
        await room.say(ann, "Aloud I may")
        heard = [each for each in ben.device.heard(ben.channel) if each.get("type") == "class_whisper"]
        assert [each["from"] for each in heard if each["from"] != teacher.id] == [ann.id]


async def test_an_observer_looks_on(server: Server) -> None:
    """No hand, no word to all or to another student, nothing sent, until they are a student again, kicked or not."""
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        await room.do(ann, "raise_hand")
        await room.do(teacher, "role", user=ann.id, role="observer")
        assert (await room.seen(ben, lambda state: state["roles"]))["hands"] == {}
        for again in (False, True):
            if again:
                await room.do(teacher, "kick", user=ann.id)
                await ann.device.is_out(room.channel)
                assert (await room.enter(ann))["role"] == "observer"
            assert await room.refusal(ann, "raise_hand") == DENIED
            for track in ("microphone", "camera", "screen"):
                assert await room.refusal(ann, "publish", peer="page", tracks=[track]) == DENIED
            with pytest.raises(Refused) as refused:
                await room.say(ann, "May I?")
            assert refused.value.code == DENIED
            assert await ann.refusal("class.whisper", class_id=room.id, to=ben.id, content="psst") == DENIED
        await ann.rpc("class.whisper", class_id=room.id, content="To the teachers")
        await ann.rpc("class.react", class_id=room.id, emoji="👍")
        await room.do(teacher, "role", user=ann.id, role="student")
        await room.do(ann, "raise_hand")


async def test_whoever_waits_in_the_lobby_sees_and_does_nothing(server: Server) -> None:
    async with lesson(server, "ann") as (room, teacher, ann):
        await room.do(ann, "raise_hand")
        await room.do(teacher, "lobby")
        await room.do(teacher, "kick", user=ann.id)
        await ann.device.is_out(room.channel)
        assert (await room.enter(ann))["status"] == "waiting"
        asks: dict[str, dict[str, Any]] = {
            "people": {},
            "hands": {},
            "ice": {},
            "react": {"emoji": "👍"},
            "whisper": {"content": "Let me in"},
            "signal": {"to": teacher.id, "peer": "page", "data": {}},
            "watch": {"peer": "page", "user": teacher.id},
            "poll": {"question": "?", "options": ["a", "b"]},
            "vote": {"poll_id": str(uuid4()), "option": 0},
            "results": {"poll_id": str(uuid4())},
        }
        for method, fields in asks.items():
            assert await ann.refusal(f"class.{method}", class_id=room.id, **fields) == DENIED, method
        for do, fields in (("raise_hand", {}), ("publish", {"peer": "page", "tracks": ["camera"]})):
            assert await room.refusal(ann, do, **fields) == DENIED
        with pytest.raises(Refused) as refused:
            await room.say(ann, "Let me in")
        assert refused.value.code == DENIED
        for question in ({"history": {"limit": 10}}, {"presence": {}}, {"presence_stats": {}}):
            [(what, more)] = question.items()
            with pytest.raises(Refused) as refused:
                await ann.device.ask(**{what: {"channel": room.channel, **more}})
            assert refused.value.code == DENIED, what
