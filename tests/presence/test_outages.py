"""Valkey is slow, full, empty or gone: presence is unknown for as long, and then the truth again."""

import asyncio
import random
import time
from collections import Counter
from signal import Signals
from typing import Any

import pytest
from redis.asyncio import Redis

from config.embedded import EmbeddedStack
from presence import keys
from presence.link import Link
from realtime.interfaces import PresenceUnavailable
from tests.presence.nodes import LEASE, Gate, clients, connect, known, node, only, shows, until

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


# --- what is under way ------------------------------------------------------------------------------------------------


async def test_a_join_being_written_is_waited_for(redis_url: str) -> None:
    async with node(redis_url) as here:
        gate = Gate(here.store._writing)
        gate.shut()
        client = here.enter("ann", "room:1")
        await until(lambda: gate.waiting)
        asked = asyncio.create_task(clients(here, "room:1"))
        await asyncio.sleep(0.05)
        assert not asked.done()
        gate.open()
        assert await asked == {client}


async def test_a_busy_node_does_not_take_redis_for_dead(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with node(redis_url, timeout=0.1, lease=10) as here:
        here.enter("bob", "room:1")
        await here.store.members("room:1")
        for link in (here.store._writing, here.store._reading):
            keep_busy_during(link)
        client = here.enter("ann", "room:2")
        assert await clients(here, "room:2") == {client}
        assert here.store.available
    assert "unknown" not in caplog.text


def keep_busy_during(link: Link) -> None:
    """Each batch is followed by a quarter of a second in which the loop does something else."""
    run = link.run

    async def slowly(commands: Any) -> list[Any]:
        asyncio.get_running_loop().call_soon(time.sleep, 0.25)
        return await run(commands)

    link.run = slowly  # type: ignore[method-assign]


async def test_a_mistake_in_the_roster_is_survived(redis_url: str, redis: Redis, caplog: Any) -> None:
    async with node(redis_url) as here:
        client = here.enter("ann", "room:1")
        await here.store.members("room:1")
        members, here.members = here.members, None  # type: ignore[assignment]
        await redis.flushall()
        await until(lambda: "starting over" in caplog.text)
        with pytest.raises(PresenceUnavailable, match="internal error"):
            await here.store.members("room:1")
        here.members = members
        await until(shows(here, "room:1", {client}))


# --- Redis loses everything -------------------------------------------------------------------------------------------


async def test_an_emptied_redis_is_told_again(redis_url: str, redis: Redis, notices: list[str]) -> None:
    async with node(redis_url) as here, node(redis_url) as there:
        everybody = {each.enter(f"user {n}", "room:1") for n in range(700) for each in (here, there)}
        await until(shows(here, "room:1", everybody))
        assert len(notices) == 700
        await redis.flushall()
        await until(lambda: not here.store.available or not there.store.available)
        await until(shows(here, "room:1", everybody))
        await until(lambda: _equal_size(redis, "user:online:*", 700))
        here.disconnect(here.enter("last", "room:1"))
        await redis.publish("presence", "mark")
        await until(lambda: "mark" in notices)
        assert here.left + there.left == []
        assert [each for each in notices if each.startswith("offline:user")] == []
        assert Counter(notices).most_common(1)[0][1] == 1  # nobody saw them leave, nobody is told that they came


async def _equal_size(redis: Redis, pattern: str, size: int) -> bool:
    return len(await redis.keys(pattern)) == size


async def test_one_deleted_channel_comes_back(redis_url: str, redis: Redis) -> None:
    async with node(redis_url, ttl=2) as here:
        client = here.enter("ann", "room:1")
        assert await clients(here, "room:1") == {client}
        await redis.delete("presence:channel:room:1")
        await until(shows(here, "room:1", {client}))


async def test_changes_during_the_comparison_are_kept(redis_url: str, redis: Redis, monkeypatch: Any) -> None:
    monkeypatch.setattr("presence.store.COMPARED_A_SECOND", 2000)
    async with node(redis_url) as here:
        pick = random.Random(1)
        everybody = [here.enter(f"user {n}", f"room:{n % 7}") for n in range(1500)]
        await here.store.members("room:1")
        await redis.flushall()
        await until(lambda: not here.store.available)
        for _ in range(300):  # people come and go while the node is put together again
            here.disconnect(everybody.pop(pick.randrange(len(everybody))))
            everybody.append(here.enter("new", f"room:{pick.randrange(7)}"))
            await asyncio.sleep(0.001)
        await known(here)
        for number in range(7):
            assert await clients(here, f"room:{number}") == set(here.members[f"room:{number}"])
        online = {keys.online(user)[0] for user in here.users.values()}
        assert set(await redis.keys("user:online:*")) == online


# --- Redis goes away --------------------------------------------------------------------------------------------------


async def test_redis_stops_and_starts(valkey: EmbeddedStack) -> None:
    url = str(valkey.urls.redis)
    async with node(url) as here, node(url) as there:
        staying, leaving = here.enter("ann", "room:1"), here.enter("bob", "room:1")
        remote = there.enter("cy", "room:1")
        await until(shows(here, "room:1", {staying, leaving, remote}))
        valkey.stop_one("valkey")
        await until(lambda: not here.store.available and not there.store.available)
        with pytest.raises(PresenceUnavailable):
            await here.store.members("room:1")
        with pytest.raises(PresenceUnavailable):
            await here.store.stats("room:1")
        here.disconnect(leaving)
        coming = here.enter("dan", "room:1")
        await asyncio.sleep(1.5 * LEASE)  # long enough for every lease to end
        valkey.start_one("valkey")
        await until(shows(there, "room:1", {staying, coming, remote}))
        async with connect(url) as redis:
            wanted = {f"user:online:{user}" for user in ("ann", "cy", "dan")}
            await until(lambda: only(redis, "user:online:*", wanted))
        await asyncio.sleep(LEASE)
        assert here.left + there.left == []


async def test_starts_without_redis(valkey: EmbeddedStack) -> None:
    valkey.stop_one("valkey")
    async with node(str(valkey.urls.redis)) as here:
        client = here.enter("ann", "room:1")
        with pytest.raises(PresenceUnavailable):
            await here.store.members("room:1")
        valkey.start_one("valkey")
        await until(shows(here, "room:1", {client}))


async def test_stops_without_redis(valkey: EmbeddedStack) -> None:
    async with node(str(valkey.urls.redis)) as here:
        here.enter("ann", "room:1")
        await here.store.members("room:1")
        valkey.stop_one("valkey")
    with pytest.raises(PresenceUnavailable, match="stopped"):
        await here.store.members("room:1")


async def test_a_silent_redis_is_noticed_and_then_costs_no_time(valkey: EmbeddedStack) -> None:
    async with node(str(valkey.urls.redis), timeout=0.3, lease=20) as here:
        client = here.enter("ann", "room:1")
        await here.store.members("room:1")
        valkey.kill_one("valkey", Signals.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(PresenceUnavailable, match="no answer"):
            await here.store.members("room:1")
        assert time.monotonic() - started < 5
        await until(lambda: not here.store.available)
        waiting = [asyncio.ensure_future(here.store.members("room:1")) for _ in range(1000)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert all(isinstance(each.exception(), PresenceUnavailable) for each in waiting)
        valkey.kill_one("valkey", Signals.SIGCONT)
        await until(shows(here, "room:1", {client}))


async def test_an_old_copy_of_the_data_leaves_no_ghost(valkey: EmbeddedStack) -> None:
    """A crash loses the last second of the append-only file: joins and leaves that were written are not there."""
    url = str(valkey.urls.redis)
    async with node(url) as here:
        staying, leaving = here.enter("ann", "room:1"), here.enter("bob", "room:1")
        await here.store.members("room:1")
        async with connect(url) as redis:
            await redis.config_set("appendfsync", "always")
            await redis.set("mark", "1")
            await redis.config_set("appendonly", "no")
        here.disconnect(leaving)
        coming = here.enter("cy", "room:1")
        await until(shows(here, "room:1", {staying, coming}))
        valkey.kill_one("valkey")
        await until(lambda: not here.store.available)
        valkey.start_one("valkey")
        await until(shows(here, "room:1", {staying, coming}))
        async with connect(url) as redis:
            await until(lambda: only(redis, "user:online:*", {"user:online:ann", "user:online:cy"}))


async def test_full_memory_is_unknown_not_a_leave(valkey: EmbeddedStack) -> None:
    url = str(valkey.urls.redis)
    async with node(url) as here, node(url) as there, connect(url) as redis:
        before = here.enter("ann", "room:1")
        leaving = here.enter("bob", "room:1")
        remote = there.enter("cy", "room:1")
        await until(shows(here, "room:1", {before, leaving, remote}))
        await redis.config_set("maxmemory", "1")
        coming = here.enter("dan", "room:1")
        await until(lambda: not here.store.available)
        with pytest.raises(PresenceUnavailable):
            await here.store.members("room:1")
        here.disconnect(leaving)
        await until(lambda: _lacks(redis, "presence:channel:room:1", leaving))  # what makes room is still done
        await asyncio.sleep(2 * LEASE)
        assert here.left + there.left == []  # nobody is taken for dead meanwhile
        await redis.config_set("maxmemory", "1gb")
        await until(shows(there, "room:1", {before, coming, remote}))
        await until(shows(here, "room:1", {before, coming, remote}))
        await until(lambda: only(redis, "user:online:*", {f"user:online:{user}" for user in ("ann", "cy", "dan")}))
        assert here.left + there.left == []


async def _lacks(redis: Redis, key: str, field: str) -> bool:
    return not await redis.hexists(key, field)


async def test_whatever_happens_ends_with_the_truth(valkey: EmbeddedStack) -> None:
    url = str(valkey.urls.redis)
    pick = random.Random(7)
    async with node(url) as one, node(url) as two:
        for _ in range(6):
            for _ in range(40):
                each = pick.choice((one, two))
                if each.users and pick.random() < 0.45:
                    each.disconnect(pick.choice(list(each.users)))
                else:
                    each.enter(f"user {pick.randrange(15)}", f"room:{pick.randrange(4)}")
                await asyncio.sleep(0.002)
            trouble = pick.choice(["restart", "crash", "flush", "cut", "scripts"])
            if trouble == "restart":
                valkey.stop_one("valkey")
                valkey.start_one("valkey")
            elif trouble == "crash":
                valkey.kill_one("valkey")
                valkey.start_one("valkey")
            else:
                commands = {"flush": "FLUSHALL", "cut": "CLIENT KILL TYPE normal SKIPME yes", "scripts": "SCRIPT FLUSH"}
                async with connect(url) as redis:
                    await redis.execute_command(*commands[trouble].split())
        await known(one, two)
        for number in range(4):
            channel = f"room:{number}"
            wanted = {*one.members.get(channel, {}), *two.members.get(channel, {})}
            await until(shows(one, channel, wanted))
            await until(shows(two, channel, wanted))
        online = {f"user:online:{user}" for each in (one, two) for user in each.users.values()}
        async with connect(url) as redis:
            await until(lambda: only(redis, "user:online:*", online))
        assert one.left + two.left == []
