"""Classes on two real Janus servers: where each is, what becomes of it when its server dies, and whom it lets go.

No media flow here (`tests/page/class_over_janus.py` has them): Janus has the sessions, rooms and feeds without."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.embedded import EmbeddedStack, has_janus
from gateway_node.services.classes.janus import Handle, JanusClient, Message, attach
from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.chat.person import Person
from tests.classes.room import Room, lesson
from tests.invariants.rawclient import Refused
from tests.lms.school import ok
from tests.stack import short_folder


def has_address() -> bool:
    """Whether there is an interface beside loopback, which Janus's ICE does not use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return False
        return not str(probe.getsockname()[0]).startswith("127.")


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not has_janus(), reason="needs janus: it is not installed"),
    pytest.mark.skipif(not has_address(), reason="needs janus on an interface beside loopback"),
]

PATIENCE = 20.0  # s that anything awaited may take
AT_ONCE = 10.0  # s: whoever is merely gone is kept for 15
OFFER = "\r\n".join(
    [
        *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"),
        *("m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly", "a=rtcp-mux"),
        *("a=ice-ufrag:abcd", f"a=ice-pwd:{'x' * 24}", f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}"),
        *("a=setup:actpass", "a=rtpmap:111 opus/48000/2", ""),
    ]
)


class Farm:
    """Two Janus servers, each of its own stack, and a chat server that knows both."""

    def __init__(self, stacks: list[EmbeddedStack], server: Server) -> None:
        self.stacks = stacks
        self.server = server

    @property
    def urls(self) -> list[str]:
        return [str(stack.urls.janus) for stack in self.stacks]

    @asynccontextmanager
    async def looking(self, number: int) -> AsyncIterator[Witness]:
        client = JanusClient(self.urls[number])
        client.start()
        try:
            yield Witness(client, await attach(client))
        finally:
            await client.stop()

    async def home(self, room: Room) -> int:
        """The number of the one server that has a class's room."""
        found = []
        for number in range(2):
            async with self.looking(number) as witness:
                if await witness.has(room):
                    found.append(number)
        assert len(found) == 1, found
        return found[0]


class Witness:
    """Somebody at Janus itself, by a session of their own."""

    def __init__(self, client: JanusClient, handle: Handle) -> None:
        self._handle = handle
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        client.on_event = lambda number, message: self._events.put_nowait(message)

    async def has(self, room: Room) -> bool:
        data, _ = await self._handle.message({"request": "exists", "room": room.id})
        return bool(data["exists"])

    async def feeds(self, room: Room) -> set[str]:
        """The users who have a feed in the room."""
        data, _ = await self._handle.message({"request": "listparticipants", "room": room.id})
        return {each["id"].partition(".")[0] for each in data["participants"]} - {"witness"}

    async def enter(self, room: Room) -> None:
        """From here on Janus tells who goes."""
        await self._handle.message({"request": "join", "ptype": "publisher", "room": room.id, "id": "witness"})

    async def sees_go(self, user: str) -> None:
        async with asyncio.timeout(AT_ONCE):
            while True:
                data = (await self._events.get()).get("plugindata", {}).get("data", {})
                if str(data.get("leaving", "")).startswith(user):
                    return


@pytest.fixture
def farm() -> Iterator[Farm]:
    with short_folder() as folder:
        stacks = [
            EmbeddedStack(folder / name, postgres=False, valkey=False, nats=False, janus=True) for name in ("a", "b")
        ]
        try:
            for stack in stacks:
                stack.start()
                stack.start_one("janus")
            urls = ",".join(str(stack.urls.janus) for stack in stacks)
            settings = SETTINGS | {"MEDIA__JANUS_URLS": urls}
            with Server(folder / "data", nodes=2, settings=settings) as server:
                yield Farm(stacks, server)
        finally:
            for stack in stacks:
                stack.stop()


async def send(room: Room, *people: Person) -> None:
    """Publish sound, as a page does: again, while Janus is away."""

    async def one(person: Person) -> None:
        offer: dict[str, Any] = {"peer": "page", "sdp": OFFER, "kinds": {"0": "microphone"}}
        while True:
            try:
                answer = await person.rpc("class.offer", class_id=room.id, **offer)
                break
            except Refused as refused:
                assert refused.temporary, refused
        assert answer["type"] == "answer"

    await asyncio.gather(*(room.do(person, "publish", peer="page", tracks=["microphone"]) for person in people))
    await asyncio.gather(*map(one, people))


async def test_a_class_is_on_one_server_whichever_nodes_its_people_are_on(farm: Farm) -> None:
    async with (
        lesson(farm.server, "ann", "ben", media="janus") as (first, *people),
        lesson(farm.server, "cleo", "dan", media="janus") as (second, *others),
    ):
        assert {person.node for person in people} == {0, 1}
        await send(first, *people)
        await send(second, *others)
        homes = [await farm.home(room) for room in (first, second)]
        assert sorted(homes) == [0, 1]  # the second went to the one that had none
        for room, home, everybody in zip((first, second), homes, (people, others), strict=True):
            async with farm.looking(home) as witness:
                assert await witness.feeds(room) == {person.id for person in everybody}


async def test_the_classes_of_a_server_that_is_dead_are_placed_anew(farm: Farm) -> None:
    """They are told by `media`, as by a Janus that is another one."""
    async with lesson(farm.server, "ann", media="janus") as (room, teacher, ann):
        await send(room, teacher, ann)
        home = await farm.home(room)
        farm.stacks[home].kill_one("janus")
        for person in (teacher, ann):
            await person.hears(room.channel, type="media", seconds=PATIENCE)
        await send(room, teacher, ann)
        async with farm.looking(1 - home) as witness:
            assert await witness.feeds(room) == {teacher.id, ann.id}
        farm.stacks[home].start_one("janus")
        await room.do(ann, "unpublish")
        await send(room, ann)  # it stays where it is now
        assert await farm.home(room) == 1 - home


async def test_a_class_stays_where_it_is_while_redis_says_nothing(farm: Farm) -> None:
    async with lesson(farm.server, "ann", media="janus") as (room, teacher, ann):
        await send(room, teacher, ann)
        home = await farm.home(room)
        valkey = await asyncio.to_thread(farm.server.kill, "valkey", signal.SIGSTOP)
        try:
            await room.do(ann, "unpublish")
            await send(room, ann)
            async with farm.looking(home) as witness:
                assert await witness.feeds(room) == {teacher.id, ann.id}
        finally:
            os.kill(valkey, signal.SIGCONT)


async def test_a_class_that_is_over_has_no_room_any_more(farm: Farm) -> None:
    async with lesson(farm.server, "ann", media="janus") as (room, teacher, ann):
        await send(room, teacher, ann)
        async with farm.looking(await farm.home(room)) as witness:
            await witness.enter(room)
            await room.do(teacher, "end")
            async with asyncio.timeout(PATIENCE):
                while await witness.has(room):
                    pass


@pytest.mark.parametrize("how", ["removed", "kicked", "muted"])
async def test_janus_lets_go_of_whoever_is_taken_out(farm: Farm, how: str) -> None:
    async with lesson(farm.server, "ann", media="janus") as (room, teacher, ann):
        await send(room, teacher, ann)
        async with farm.looking(await farm.home(room)) as witness:
            await witness.enter(room)
            if how == "removed":
                path = f"/v1/courses/{room.course['id']}/participants/{ann.id}"
                ok(await teacher.http("DELETE", path), 204)
            else:
                await room.do(teacher, {"kicked": "kick", "muted": "mute"}[how], user=ann.id)
            await witness.sees_go(ann.id)
            assert await witness.feeds(room) == {teacher.id}
