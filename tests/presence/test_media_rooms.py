"""Which media server a class is on: one for all nodes, the one with the fewest classes, until it is down."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from presence import Condition, Pipe, RedisMediaRooms

pytestmark = pytest.mark.integration

UP: dict[str, Condition] = {"one": "up", "two": "up", "three": "up"}


@pytest.fixture
async def nodes(redis_url: str, redis: Redis) -> AsyncIterator[list[RedisMediaRooms]]:
    """Those of three nodes, in a Redis that knows of no class."""
    for key in await redis.keys("{media}:*"):
        await redis.delete(key)
    pipes = [Pipe(redis_url) for _ in range(3)]
    yield [RedisMediaRooms(pipe) for pipe in pipes]
    for pipe in pipes:
        await pipe.close()


async def test_nodes_at_once_choose_the_same_and_the_least_loaded(nodes: list[RedisMediaRooms]) -> None:
    asked = [(node, f"class {i}") for i in range(30) for node in nodes]
    found = await asyncio.gather(*(node.place(id, UP) for node, id in asked))
    places = {(id, placed.server) for (_, id), placed in zip(asked, found, strict=True)}
    assert len(places) == 30
    assert Counter(server for _, server in places) == {"one": 10, "two": 10, "three": 10}
    assert not any(placed.moved for placed in found)


async def test_a_class_stays_until_its_server_is_down(nodes: list[RedisMediaRooms]) -> None:
    first, second, _ = nodes
    home = (await first.place("class", UP)).server
    assert await second.place("class", UP | {home: "late"}) == (home, False)
    moved = await second.place("class", UP | {home: "down"})
    assert moved.moved and moved.server != home
    assert await first.place("class", UP) == (moved.server, False)  # who still reaches the old one goes along
    for name in ("another", "one more"):  # the old one has none, and is chosen first
        assert (await first.place(name, UP)).server != moved.server


async def test_nothing_goes_to_a_server_that_is_not_up(nodes: list[RedisMediaRooms]) -> None:
    conditions: dict[str, Condition] = {"one": "late", "two": "down"}
    assert await nodes[0].place("class", conditions) == ("", False)
    assert await nodes[0].place("class", {**conditions, "two": "up"}) == ("two", False)
    assert await nodes[0].place("class", conditions) == ("two", False)  # all are down: it stays


async def test_whoever_has_a_class_says_where_when_redis_has_lost_it(
    nodes: list[RedisMediaRooms], redis: Redis
) -> None:
    await nodes[0].place("another", UP)
    home = (await nodes[0].place("class", UP)).server
    for key in await redis.keys("{media}:*"):
        await redis.delete(key)
    assert await nodes[1].place("class", UP, home) == (home, False)
    assert await nodes[2].place("class", UP) == (home, False)


async def test_a_class_that_is_over_leaves_nothing(nodes: list[RedisMediaRooms], redis: Redis) -> None:
    await nodes[0].place("class", UP)
    for key in await redis.keys("{media}:*"):
        assert 0 < await redis.pttl(key) <= 300_000
    await nodes[1].release("class", UP)
    assert await redis.keys("{media}:*") == []
