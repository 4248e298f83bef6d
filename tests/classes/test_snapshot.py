"""What somebody sees of a class that they subscribe to, where it is too much to be sent to everybody."""

from __future__ import annotations

import uuid

import pytest

from loadtest.server import Server
from realtime.classroom.commands import SHOWN, Logged, Mute, RaiseHand, SetRole
from tests.classes.room import lesson, write_log

pytestmark = pytest.mark.integration

DENIED = 103


async def test_ones_own_entries_are_in_it_however_many_there_are(server: Server) -> None:
    """Or a page would believe, after a reload, that it may speak."""
    async with lesson(server, "ann", "ben") as (room, _, ann, ben):
        users = [*(str(uuid.uuid4()) for _ in range(SHOWN)), ann.id]

        def logged(user: str, command: Mute | SetRole | RaiseHand) -> Logged:
            by = user if isinstance(command, RaiseHand) else ""
            role = "student" if by else "server"
            about = {"subject_role": None if by else "student"}
            return Logged(id=str(uuid.uuid4()), by=by, role=role, name="x", seat=1, command=command, **about)  # type: ignore[arg-type]

        made = [each for user in users for each in (Mute(user), SetRole(user, "speaker"), RaiseHand())]
        await write_log(server, room, *map(logged, [user for user in users for _ in range(3)], made))
        await room.do(ben, "raise_hand")
        for person in (ann, ben):
            await person.hears(room.channel, by=ben.id)  # by which the nodes know of it
        for person, own in ((ann, {"muted", "roles", "hands"}), (ben, {"hands"})):
            again = await person.another_device()
            await room.enter(person, again)
            state = room.state(again)
            assert state["counts"] == {"roles": SHOWN + 1, "hands": SHOWN + 2, "muted": SHOWN + 1}
            for field in ("muted", "roles", "hands"):
                assert list(state[field])[:SHOWN] == users[:SHOWN]
                assert list(state[field])[SHOWN:] == ([person.id] if field in own else [])
        assert await room.refusal(ann, "publish", peer="page", tracks=["microphone"]) == DENIED
