"""A class when a node dies without a word: what was accepted is so for everybody, once, and nobody is out of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.classes.room import lesson
from tests.invariants.rawclient import Lost, Refused
from tests.stack import short_folder

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

BACK = 10.0  # s: what the issue allows


@pytest.fixture
def private_server() -> Iterator[Server]:
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running


async def test_hands_roles_and_mutes_outlive_the_teachers_node(private_server: Server) -> None:
    server = private_server
    async with lesson(server, "ann", "ben", "cleo") as (room, teacher, ann, ben, cleo):
        for person in (ben, ann):
            await room.do(person, "raise_hand")
        await room.do(teacher, "mute", user=ann.id)
        await room.do(teacher, "role", user=cleo.id, role="speaker")
        await room.do(teacher, "set_lock", lock="screen")
        await room.do(cleo, "publish", peer="page", tracks=["camera"])
        before = await room.seen(ben, lambda state: state["sending"])
        node = f"node-{teacher.node + 1}"
        loop = asyncio.get_running_loop()
        killed, began = await asyncio.to_thread(server.kill, node), loop.time()
        for person in (teacher, ann, ben, cleo):
            await person.device.until(lambda person=person: person.device.connected, BACK)  # type: ignore[misc]
            await person.device.until(lambda person=person: person.device.subscriptions[room.channel].live, BACK)  # type: ignore[misc]
        assert loop.time() - began < BACK
        await asyncio.to_thread(server.wait_restarted, node, killed)
        for person in (teacher, ann, ben, cleo):
            state = await room.seen(person, lambda state: state["offset"] >= before["offset"])
            for field in ("hands", "muted", "roles", "locks", "sending", "phase"):
                assert state[field] == before[field], field
            assert list(state["hands"]) == [ben.id, ann.id]
            assert not person.device.subscriptions[room.channel].faults
        await room.do(teacher, "call_next", seen=before["offset"])
        assert (await room.seen(ann, lambda state: state["called"]))["called"]["user"] == ben.id


@pytest.mark.parametrize("round_", range(3))
async def test_each_accepted_command_counts_once_whatever_dies(private_server: Server, round_: int) -> None:
    """Both nodes are killed, one after the other, while everybody raises and lowers hands, each command again with its
    id until there is an answer. The order of the hands is that of the answers."""
    server = private_server
    async with lesson(server, "ann", "ben", "cleo", "dan") as (room, teacher, *students):
        stop = asyncio.Event()
        accepted: list[int] = []

        async def insist(person: object, do: str) -> int:
            id = str(uuid4())
            while True:
                try:
                    answer = await person.rpc("class.do", class_id=room.id, command={"do": do}, id=id)  # type: ignore[attr-defined]
                    return int(answer["offset"])
                except Lost:
                    await asyncio.sleep(0.05)
                except Refused as error:
                    if not error.temporary and error.code != 102:
                        raise
                    await asyncio.sleep(0.05)

        async def fidget(person: object) -> None:
            while not stop.is_set():
                accepted.append(await insist(person, "raise_hand"))
                accepted.append(await insist(person, "lower_hand"))
            await insist(person, "raise_hand")

        work = [asyncio.create_task(fidget(person)) for person in students]
        for node in ("node-1", "node-2"):
            seen = len(accepted)
            while len(accepted) < seen + 20:
                await asyncio.sleep(0.01)
            killed = await asyncio.to_thread(server.kill, node, signal.SIGKILL)
            await asyncio.to_thread(server.wait_restarted, node, killed)
        seen = len(accepted)
        while len(accepted) < seen + 20:
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*work)
        known = [offset for offset in accepted if offset]  # 0: the answer to a retry, which knows no offset
        assert len(set(known)) == len(known)
        await room.do(teacher, "lock")
        states = []
        for person in (teacher, *students):
            await person.device.until(lambda person=person: person.device.connected)  # type: ignore[misc]
            states.append(await room.seen(person, lambda state: state["locked"] and len(state["hands"]) == 4))
        assert all(list(each["hands"].items()) == list(states[0]["hands"].items()) for each in states)
        for person in (teacher, *students):
            assert not person.device.subscriptions[room.channel].faults


async def test_what_is_passing_goes_on_while_postgresql_says_nothing(private_server: Server) -> None:
    """I5: reactions, and signals to whoever sends, on both nodes; what is kept is refused for the time being."""
    server = private_server
    async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
        assert teacher.node != ann.node
        await room.do(teacher, "publish", peer="page", tracks=["camera"])
        await room.seen(ann, lambda state: state["sending"])
        signal = {"class_id": room.id, "peer": "p"}
        with hanging(server, "postgres"):
            await ann.rpc("class.react", class_id=room.id, emoji="👍")
            await ann.rpc("class.signal", to=teacher.id, data={"sdp": "v=0"}, **signal)
            await teacher.rpc("class.signal", to=ben.id, data={"sdp": "v=0"}, **signal)
            for each in (teacher, ben):
                await each.hears(each.channel, type="class_signal")
                await each.hears(room.channel, type="reactions", counts={"👍": 1})
            with pytest.raises(Refused) as refused:
                await room.say(ben, "Are you there?")
            assert refused.value.temporary
        for person in (teacher, ann, ben):
            assert person.device.subscriptions[room.channel].live
            assert person.device.connects == 1


async def test_a_kick_is_heard_on_every_node_while_nats_says_nothing(private_server: Server) -> None:
    """I7: from the log, by the sweep; what is said meanwhile is heard, too."""
    server = private_server
    async with lesson(server, "ann", "ben", "cleo") as (room, teacher, ann, _, cleo):
        assert (teacher.node != ann.node, teacher.node != cleo.node) == (True, True)
        await room.do(ann, "publish", peer="page", tracks=["camera"])
        await room.seen(teacher, lambda state: state["sending"])
        with hanging(server, "nats"):
            await room.do(teacher, "kick", user=ann.id)
            await ann.device.is_out(room.channel)
            await room.seen(cleo, lambda state: not state["sending"])
            await room.say(teacher, "She is out")
            await cleo.hears(room.channel, content="She is out")


@contextmanager
def hanging(server: Server, name: str) -> Iterator[None]:
    """A store keeps its connections and answers nothing for the block."""
    pid = int((server.data_dir / f"{name}.pid").read_text().split()[0])
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            os.kill(each, signal.SIGCONT)


async def test_a_sender_who_is_gone_makes_place(private_server: Server) -> None:
    server = private_server
    async with lesson(server, "ann", "ben") as (room, teacher, ann, _):
        await room.do(ann, "publish", peer="page", tracks=["camera"])
        await room.seen(teacher, lambda state: ann.id in state["sending"])
        await ann.device.close()
        await room.seen_within(teacher, lambda state: ann.id not in state["sending"], 40)
