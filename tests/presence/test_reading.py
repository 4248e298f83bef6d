"""Cursors, typing, turns and who is online, on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from config.embedded import EmbeddedStack
from presence import Away, Online, Pipe, RedisCursors, RedisTyping, Turns
from presence.cursors import TTL_SECONDS
from presence.link import BATCH
from tests.presence.nodes import Node, node, until

pytestmark = pytest.mark.integration


@pytest.fixture
async def pipe(redis_url: str) -> AsyncIterator[Pipe]:
    pipe = Pipe(redis_url)
    yield pipe
    await pipe.close()


# --- the pipe ---------------------------------------------------------------------------------------------------------


async def test_everybody_gets_their_own_answers(pipe: Pipe) -> None:
    async def ask(number: int) -> list[object]:
        return await pipe.run([("SET", f"key {number}", number), ("GET", f"key {number}")])

    answers = await asyncio.gather(*(ask(number) for number in range(3 * BATCH)))
    assert [int(answer[1]) for answer in answers] == list(range(3 * BATCH))  # type: ignore[call-overload]


async def test_a_key_that_is_not_ours_fails_its_caller_alone(pipe: Pipe, redis: Redis) -> None:
    await redis.set("cursors:ann", "a string")
    cursors = RedisCursors(pipe)
    ann, ben = await asyncio.gather(
        cursors.move([("room", "ann", 1)]), cursors.move([("room", "ben", 1)]), return_exceptions=True
    )
    assert isinstance(ann, Away)
    assert ben == [True]


async def test_who_gives_up_waiting_disturbs_nobody(pipe: Pipe) -> None:
    gone = asyncio.create_task(pipe.run([("PING",)]))
    staying = asyncio.create_task(pipe.run([("ECHO", "here")]))
    await asyncio.sleep(0)
    gone.cancel()
    assert await staying == [b"here"]


@pytest.mark.chaos
async def test_a_redis_that_is_away_says_so_at_once_and_heals(valkey: EmbeddedStack) -> None:
    pipe = Pipe(str(valkey.urls.redis))
    cursors = RedisCursors(pipe)
    assert await cursors.move([("room", "ann", 3)]) == [True]
    valkey.stop_one("valkey")
    with pytest.raises(Away):
        await cursors.of_user("ann")
    loop = asyncio.get_running_loop()
    asked = loop.time()
    for _ in range(100):
        with pytest.raises(Away):
            await cursors.of_user("ann")
    assert loop.time() - asked < 0.5, "nobody waits for what is known to be away"
    valkey.start_one("valkey")

    async def back() -> bool:
        try:
            return await cursors.move([("room", "ann", 4)]) == [True]
        except Away:
            return False

    await until(back)
    await pipe.close()
    with pytest.raises(Away, match="closed"):
        await cursors.of_user("ann")


# --- cursors ----------------------------------------------------------------------------------------------------------


async def test_a_cursor_goes_forward_only(pipe: Pipe, redis: Redis) -> None:
    cursors = RedisCursors(pipe)
    assert await cursors.move([("one", "ann", 5), ("two", "ann", 7), ("one", "ben", 1)]) == [True, True, True]
    assert await cursors.move([("one", "ann", 4), ("one", "ann", 5), ("two", "ann", 8)]) == [False, False, True]
    assert await cursors.of_user("ann") == {"one": 5, "two": 8}
    assert await cursors.of_user("nobody") == {}
    assert await cursors.of_members("one", ["ann", "ben", "cy"]) == {"ann": 5, "ben": 1}
    assert TTL_SECONDS - 60 < await redis.ttl("cursors:ann") <= TTL_SECONDS


async def test_offsets_are_exact(pipe: Pipe) -> None:
    cursors = RedisCursors(pipe)
    most = (1 << 53) - 1  # of a double: a room with a million messages a second gets there in 285 years
    await cursors.move([("one", "ann", most - 1)])
    assert await cursors.move([("one", "ann", most)]) == [True]
    assert await cursors.of_user("ann") == {"one": most}


# --- typing -----------------------------------------------------------------------------------------------------------


async def test_who_types_until_they_stop(pipe: Pipe, redis: Redis) -> None:
    typing = RedisTyping(pipe)
    for user in ("ann", "ben", "cy", "dee"):
        await typing.start("one", user)
        await asyncio.sleep(0.002)
    await typing.start("two", "ann")
    assert await typing.who(["one", "two", "three"], 3) == [(["ann", "ben", "cy"], 4), (["ann"], 1), ([], 0)]
    await typing.stop([("one", "ann"), ("two", "ann")])
    assert await typing.who(["one", "two"], 3) == [(["ben", "cy", "dee"], 3), ([], 0)]
    assert 0 < await redis.ttl("typing:one") <= 6


async def test_who_says_nothing_more_has_stopped(pipe: Pipe, redis: Redis) -> None:
    typing = RedisTyping(pipe, ttl=0.2)
    await typing.start("one", "ann")
    await asyncio.sleep(0.15)
    await typing.start("one", "ben")
    await until(lambda: _who(typing, ["ben"]))
    await until(lambda: _who(typing, []))
    await until(lambda: _gone(redis, "typing:one"))


async def _who(typing: RedisTyping, wanted: list[str]) -> bool:
    return (await typing.who(["one"], 10))[0][0] == wanted


async def _gone(redis: Redis, key: str) -> bool:
    return not await redis.exists(key)


# --- turns ------------------------------------------------------------------------------------------------------------


async def test_one_of_all_nodes_has_the_turn(pipe: Pipe, redis_url: str) -> None:
    other = Pipe(redis_url)
    one, two = Turns(pipe), Turns(other)
    answers = await asyncio.gather(one.take(["a", "b"], 30), two.take(["a", "b"], 30))
    for name in range(2):
        assert [answer[name] for answer in answers].count(None) == 1
        (age,) = [answer[name] for answer in answers if answer[name] is not None]
        assert age is not None
        assert 0 <= age < 15
    assert await two.take(["c"], 0.05) == [None]
    await until(lambda: _free(one, "c"))
    await other.close()


async def _free(turns: Turns, name: str) -> bool:
    return await turns.take([name], 0.05) == [None]


# --- online -----------------------------------------------------------------------------------------------------------


async def test_who_is_online_over_devices_and_nodes(pipe: Pipe, redis_url: str) -> None:
    gone: list[tuple[str, str]] = []
    here_said, there_said = (lambda user: gone.append(("here", user))), (lambda user: gone.append(("there", user)))
    async with node(redis_url, on_offline=here_said) as here, node(redis_url, on_offline=there_said) as there:
        online = Online(pipe)
        phone, laptop, tablet = here.connect("ann"), here.connect("ann"), there.connect("ann")
        ben = there.connect("ben")
        await until(lambda: _which(online, [True, True, False]))
        here.disconnect(phone)
        here.disconnect(laptop)
        there.disconnect(ben)
        await until(lambda: gone)
        assert gone == [("there", "ben")], "ann has one more device"
        assert await online.which(["ann", "ben", "cy"]) == [True, False, False]
        there.disconnect(tablet)
        await until(lambda: len(gone) == 2)
        assert gone[1] == ("there", "ann")
        here.connect("cy")
        await until(lambda: _which(online, [False, False, True]))
    assert gone[2:] == [("here", "cy")], "a node that stops takes its people away"


async def _which(online: Online, wanted: list[bool]) -> bool:
    return await online.which(["ann", "ben", "cy"]) == wanted


@pytest.mark.chaos
async def test_a_dead_nodes_people_are_said_to_be_gone_once(redis_url: str) -> None:
    gone: list[str] = []
    async with node(redis_url, on_offline=gone.append) as one, node(redis_url, on_offline=gone.append):
        dead = Node(redis_url, on_offline=gone.append)
        await dead.store.start()
        for number in range(300):
            dead.connect(f"user {number}")
        one.connect("user 7")
        await dead.store.members("room:1")
        await one.store.members("room:1")
        await dead.die()
        await until(lambda: len(gone) >= 299)
        assert sorted(gone) == sorted(f"user {number}" for number in range(300) if number != 7)


async def test_a_listener_that_fails_stops_nothing(redis_url: str) -> None:
    heard: list[str] = []

    def fails(user: str) -> None:
        heard.append(user)
        raise RuntimeError("a handler's mistake")

    async with node(redis_url, on_offline=fails) as here:
        for user in ("ann", "ben"):
            here.disconnect(here.connect(user))
            connected = here.connect(user)
            await here.store.members("room:1")
            here.disconnect(connected)
        await until(lambda: sorted(heard) == ["ann", "ben"])
        assert here.store.available
