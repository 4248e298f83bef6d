"""Membership, messages, connections and losses in any order: what a client is told has no hole and nothing double, is
never of a time when its user was out, and in the end it is in its user's rooms."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import realtime.hub
import realtime.membership
from realtime.protocol import Publication
from tests.realtime.harness import Client, Cluster

EXAMPLES = int(os.environ.get("CHALKWIRE_TEST_EXAMPLES", "150"))
ROOMS = [f"room:7d2b3a44-0000-4000-8000-00000000000{number}" for number in (1, 2)]
USERS = ["ana", "ben"]
DEVICES = [("ana", 0), ("ana", 1), ("ben", 0)]  # user and node

rooms, users, devices, nodes = (st.integers(0, 1), st.integers(0, 1), st.integers(0, 2), st.integers(0, 1))
ACTIONS = st.lists(
    st.one_of(  # one user and one room have more of everything, so that things meet
        st.tuples(st.just("change"), users, rooms),
        *[st.tuples(st.just("change"), st.just(0), st.just(0))] * 3,
        st.tuples(st.just("say"), rooms, st.integers(1, 3)),
        *[st.tuples(st.just("tell"), nodes, st.integers(0, 5))] * 3,
        st.tuples(st.just("lose"), nodes, st.integers(0, 5)),
        st.tuples(st.just("whisper"), st.just(0), st.just(0)),
        st.tuples(st.just("connect"), devices, st.integers(0, 1)),
        st.tuples(st.just("connect"), st.just(0), st.integers(0, 1)),
        st.tuples(st.just("subscribe"), devices, rooms),
        st.tuples(st.just("subscribe"), st.just(0), st.just(0)),
        st.tuples(st.just("sweep"), st.just(0), st.just(0)),
        *[st.tuples(st.just("wait"), st.integers(1, 20), st.just(0))] * 3,
        *[st.tuples(st.just("gate"), st.integers(0, 3), st.just(0))] * 2,
    ),
    max_size=50,
)


LATE = ("read", "subscribe", "admit")  # what stores answer as things stand, and callers hear when a gate opens


def _late(ask: Callable[..., Awaitable[Any]], gate: asyncio.Event) -> Callable[..., Awaitable[Any]]:
    async def answer(*args: Any, **more: Any) -> Any:
        found = await ask(*args, **more)
        await gate.wait()
        return found

    return answer


class Device:
    """A client, and what it makes of what it is told."""

    def __init__(self, world: World, user: str, node: int) -> None:
        self.world = world
        self.user = user
        self.node = node
        self.client: Client | None = None
        self.live: dict[str, int] = {}  # channel -> the offset up to which everything came
        self.known: dict[str, int] = {}  # the same, of the connection before
        self.asked: dict[int, tuple[str, int]] = {}  # subscribes under way: channel and position
        self.read = 0

    def connect(self, recover: bool) -> None:
        if self.client is None:
            self.client = self.world.cluster.nodes[self.node].client()
            subs = {name: {"recover": True, "offset": at, "epoch": "e1"} for name, at in self.known.items()}
            self.client.send(connect={"token": self.user, "subs": subs if recover else {}})
            self.read = 0

    def cut(self) -> None:
        if self.client is not None:
            self.listen()
            self.client.connection.connection_lost(None)
            self.client, self.known, self.live, self.asked = None, self.live, {}, {}

    def subscribe(self, room: str) -> None:
        if self.client is not None:
            self.listen()
            at = self.live.get(room, 0)
            number = self.client.send(subscribe={"channel": room, "recover": True, "offset": at, "epoch": "e1"})
            self.asked[number] = room, at

    def listen(self) -> None:
        """Take in what came, in its order."""
        if self.client is None:
            return
        self.client.pull()
        assert self.client.close is None, self.client.close
        for message in self.client.received[self.read :]:
            self._hear(message)
        self.read = len(self.client.received)

    def _hear(self, message: dict[str, Any]) -> None:
        if "connect" in message:
            for channel, result in message["connect"]["subs"].items():
                self._begin(channel, result, self.known.get(channel, 0))
        elif message.get("id") in self.asked:
            channel, at = self.asked.pop(message["id"])
            if "error" in message:
                assert message["error"]["code"] in {103, 105}, message
            else:
                self.live.pop(channel, None)
                self._begin(channel, message["subscribe"], at)
        elif "push" in message:
            push, channel = message["push"], message["push"]["channel"]
            if "subscribe" in push:
                self._begin(channel, push["subscribe"], 0)
            elif "unsubscribe" in push:
                assert push["unsubscribe"]["code"] == 2000, push
                self.live.pop(channel)
            elif "pub" in push:
                self._take(channel, push["pub"]["offset"])
                self.world.check_was_in(self.user, channel, push["pub"]["offset"])

    def _begin(self, channel: str, result: dict[str, Any], at: int) -> None:
        assert channel not in self.live, "subscribed twice"
        self.live[channel] = result.get("offset", 0)
        if result.get("recovered"):
            self.live[channel] = at
            for publication in result.get("publications", ()):
                self._take(channel, publication["offset"])
            assert self.live[channel] == result.get("offset", 0)

    def _take(self, channel: str, offset: int) -> None:
        assert self.live[channel] + 1 == offset, f"{offset} after {self.live[channel]} in {channel}"
        self.live[channel] = offset


class World:
    def __init__(self) -> None:
        self.cluster = Cluster(2)
        self.devices = [Device(self, user, node) for user, node in DEVICES]
        self.untold: list[list[tuple[str, Publication]]] = [[], []]  # of each node
        self.stays: dict[tuple[str, str], list[list[int]]] = defaultdict(list)  # (user, room) -> [since, until]
        self.whispering = False  # the nodes are not told at once
        self.gates = [self.cluster.log.gate, *(asyncio.Event() for _ in range(3))]
        log, authoriser = self.cluster.log, self.cluster.authoriser
        for gate, owner, name in zip(self.gates[1:], (log, authoriser, authoriser), LATE, strict=True):
            gate.set()
            setattr(owner, name, _late(getattr(owner, name), gate))

    def act(self, action: tuple[str, int, int]) -> None:
        verb, one, other = action
        if verb == "change":
            self._change(USERS[one], ROOMS[other])
        elif verb == "whisper":
            self.whispering = not self.whispering
        elif verb == "say":
            for _ in range(other):
                self._announce(ROOMS[one], self.cluster.store(ROOMS[one]))
        elif verb in {"tell", "lose"} and self.untold[one]:
            channel, publication = self.untold[one].pop(other % len(self.untold[one]))
            if verb == "tell":
                self.cluster.tell(channel, publication, self.cluster.nodes[one])
        elif verb == "connect":
            self.devices[one].cut()
            self.devices[one].connect(bool(other))
        elif verb == "subscribe":
            self.devices[one].subscribe(ROOMS[other])
        elif verb == "sweep":
            self.cluster.sweep()
        elif verb == "gate":
            gate = self.gates[one]
            gate.clear() if gate.is_set() else gate.set()

    def _change(self, user: str, room: str) -> None:
        joins = user not in self.cluster.authoriser.members.get(room, ())
        in_room, personal = (self.cluster.add if joins else self.cluster.remove)(user, room)
        if joins:
            self.stays[user, room].append([in_room.offset, 1 << 60])
        else:
            self.stays[user, room][-1][1] = in_room.offset
        self._announce(room, in_room)
        self._announce(f"user:{user}", personal)

    def _announce(self, channel: str, publication: Publication) -> None:
        if not self.whispering:
            self.cluster.tell(channel, publication)
            return
        for queue in self.untold:
            queue.append((channel, publication))

    def check_was_in(self, user: str, channel: str, offset: int) -> None:
        if channel in ROOMS:
            assert any(since <= offset <= until for since, until in self.stays[user, channel]), (user, channel, offset)

    async def settle(self) -> None:
        for gate in self.gates:
            gate.set()
        for _ in range(4):
            for _ in range(60):
                await asyncio.sleep(0)
            self.cluster.sweep()
            await asyncio.sleep(0.002)
            for device in self.devices:
                device.listen()


async def play(actions: list[tuple[str, int, int]]) -> None:
    world = World()
    for user in (0, 1):
        world.act(("change", user, 0))
    for device in world.devices:
        device.connect(recover=False)
    await world.settle()
    try:
        for action in actions:
            world.act(action)
            for _ in range(action[1] if action[0] == "wait" else 0):
                await asyncio.sleep(0)
        await world.settle()
        for device in world.devices:
            if device.client is not None:
                mine = {room for room in ROOMS if device.user in world.cluster.authoriser.members.get(room, ())}
                expected = {name: world.cluster.log.head(name).offset for name in (*mine, f"user:{device.user}")}
                assert device.live == expected
            device.cut()
        assert all(not node.hub.channels for node in world.cluster.nodes)
        assert not any(world.cluster.presence.channels.values())
    finally:
        for node in world.cluster.nodes:
            await node.hub.close()


@given(ACTIONS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_in_whatever_order(monkeypatch: pytest.MonkeyPatch, actions: list[Any]) -> None:
    monkeypatch.setattr(realtime.hub, "GAP_PATIENCE", 0)
    monkeypatch.setattr(realtime.membership, "RETRY_FIRST", 0)
    asyncio.run(play(actions))
