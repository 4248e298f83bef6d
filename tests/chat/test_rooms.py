"""Rooms on two whole nodes: what one does is seen on the other."""

from __future__ import annotations

import pytest

from loadtest.server import Server
from tests.chat.person import people

pytestmark = pytest.mark.integration


async def test_a_group_with_two_people_on_two_nodes(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        room = await ann.rpc("room.create", title="Algebra")
        await ann.subscribe(room["id"])
        await ann.rpc("room.invite", room_id=room["id"], user_id=ben.id)
        await ben.subscribe(room["id"])
        await ann.say(room["id"], "hi")
        heard = await ben.hears(room["id"], content="hi")
        assert heard["from_user_id"] == ann.id
