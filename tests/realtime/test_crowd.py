"""Big channels: counted instead of listed, and told by one node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import realtime.crowd
import realtime.namespaces
from realtime.interfaces import PresenceStats, PresenceUnavailable
from realtime.protocol import ClientInfo
from tests.realtime.harness import Client, Cluster

ROOM = "room:7d2b3a44-0000-4000-8000-000000000001"


class Turns:
    """As Redis gives them: whoever asks first, until the time is over."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}
        self.away = False

    async def take(self, names: Sequence[str], seconds: float) -> Sequence[float | None]:
        if self.away:
            raise PresenceUnavailable
        now = asyncio.get_running_loop().time()
        answers: list[float | None] = []
        for name in names:
            taken = name in self.taken and now < self.taken[name] + seconds
            answers.append(now - self.taken[name] if taken else None)
            if not taken:
                self.taken[name] = now
        return answers


@pytest.fixture
async def turns() -> Turns:
    return Turns()


@pytest.fixture
async def cluster(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """Two nodes on which five are a crowd."""
    monkeypatch.setattr(realtime.crowd, "PAUSE", 0.01)
    options = realtime.namespaces.BUILT_IN["room"]
    monkeypatch.setitem(realtime.namespaces.BUILT_IN, "room", replace(options, join_leave_limit=4))
    made = Cluster(2)
    made.authoriser.members[ROOM] = {f"u{number}" for number in range(100)}
    tasks = []
    for node in made.nodes:
        node.core.crowds.take_turns = turns.take
        tasks.append(asyncio.create_task(node.core.crowds.run()))
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def crowd(cluster: Cluster, node: int, start: int, count: int) -> list[Client]:
    return [await cluster.nodes[node].connected(f"u{number}") for number in range(start, start + count)]


def told(client: Client) -> list[dict[str, Any]]:
    return [each["data"] for each in client.publications if each["data"]["type"] == "presence"]


def numbers(users: int, clients: int) -> dict[str, Any]:
    return {"type": "presence", "num_users": users, "num_clients": clients}


def joins(client: Client) -> int:
    return sum("join" in push or "leave" in push for push in client.pushes)


async def test_a_crowd_is_told_how_many_it_is_instead_of_who_came(cluster: Cluster) -> None:
    people = await crowd(cluster, 0, 0, 4)
    assert "subscribe" in await people[0].ask(subscribe={"channel": ROOM, "join_leave": True})
    people += await crowd(cluster, 0, 4, 1)
    await people[0].until(lambda c: told(c) == [numbers(5, 5)])
    assert joins(people[0]) == 0
    for person in people[1:]:
        await person.until(lambda c: told(c) == [numbers(5, 5)])
    people += await crowd(cluster, 0, 4, 1)  # a second device
    await people[0].until(lambda c: told(c)[-1:] == [numbers(5, 6)])
    people.pop().connection.connection_lost(None)
    await people[0].until(lambda c: told(c)[-1:] == [numbers(5, 5)])
    people.pop().connection.connection_lost(None)  # four are no crowd: this one is seen to go
    await people[0].until(lambda c: joins(c) == 1)


async def test_numbers_that_did_not_change_are_not_told_again(cluster: Cluster) -> None:
    people = await crowd(cluster, 0, 0, 6)
    await people[0].until(lambda c: told(c)[-1:] == [numbers(6, 6)])
    before = len(told(people[0]))
    people.pop().connection.connection_lost(None)
    people += await crowd(cluster, 0, 5, 1)
    await asyncio.sleep(0.05)
    assert len(told(people[0])) == before


async def test_one_node_tells_for_all_and_counts_all(cluster: Cluster) -> None:
    here, there = await crowd(cluster, 0, 0, 6), await crowd(cluster, 1, 10, 6)
    for person in (here[0], there[0]):
        await person.until(lambda c: told(c))
    here += await crowd(cluster, 0, 20, 1)
    there += await crowd(cluster, 1, 30, 1)
    for person in (here[0], there[0]):
        await person.until(lambda c: told(c)[-1] == numbers(14, 14))
    assert told(there[0]) == told(here[0])[-len(told(there[0])) :]
    assert all(one != next_ for one, next_ in pairwise(told(here[0])))


async def test_a_leave_of_a_dead_node_is_counted_in_a_crowd(cluster: Cluster) -> None:
    people = await crowd(cluster, 0, 0, 6)
    await people[0].until(lambda c: told(c)[-1:] == [numbers(6, 6)])
    ghost = ClientInfo("u50", "dead.1")
    cluster.presence.join(ROOM, ghost)
    cluster.nodes[1].core.publisher.presence_changed(ROOM, ghost, joined=False)
    await people[0].until(lambda c: told(c)[-1:] == [numbers(7, 7)])
    assert joins(people[0]) == 0


async def test_while_presence_is_unknown_nothing_is_told(cluster: Cluster, turns: Turns) -> None:
    turns.away = True
    people = await crowd(cluster, 0, 0, 6)
    await asyncio.sleep(0.05)
    assert told(people[0]) == []
    turns.away = False
    people += await crowd(cluster, 0, 6, 1)
    await people[0].until(lambda c: told(c)[-1:] == [numbers(7, 7)])


async def test_who_is_in_a_big_channel_is_counted_not_listed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ana = await cluster.nodes[0].connected("u1")
    for number in range(999):
        cluster.presence.join(ROOM, ClientInfo("crowd", f"x.{number}"))
    assert len((await ana.ask(presence={"channel": ROOM}))["presence"]["presence"]) == 1000
    cluster.presence.join(ROOM, ClientInfo("crowd", "x.1000"))
    reads = 0
    members = cluster.presence.members

    async def counted(channel: str) -> list[ClientInfo]:
        nonlocal reads
        reads += 1
        return await members(channel)

    monkeypatch.setattr(cluster.presence, "members", counted)
    for _ in range(3):
        error = (await ana.ask(presence={"channel": ROOM}))["error"]
        assert (error["code"], "presence_stats" in error["message"]) == (106, True)
        stats = (await ana.ask(presence_stats={"channel": ROOM}))["presence_stats"]
        assert stats == {"num_clients": 1001, "num_users": 2}
    assert reads == 1
    monkeypatch.setattr(realtime.crowd, "FRESH", 0.0)
    cluster.nodes[0].core.crowds._counted.clear()
    await ana.ask(presence_stats={"channel": ROOM})
    await ana.ask(presence_stats={"channel": ROOM})
    assert reads == 3


async def test_small_channels_are_counted_anew_each_time(cluster: Cluster) -> None:
    crowds = cluster.nodes[0].core.crowds
    await crowd(cluster, 0, 0, 1)
    assert await crowds.stats(ROOM) == PresenceStats(1, 1)
    await crowd(cluster, 0, 1, 1)
    assert await crowds.stats(ROOM) == PresenceStats(2, 2)
