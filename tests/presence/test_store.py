"""Presence on a real Valkey: who is where, while everything works."""

import asyncio

import pytest
from msgspec import Raw
from redis.asyncio import Redis

from realtime.interfaces import PresenceStats
from realtime.protocol import ClientInfo
from tests.presence.nodes import Node, clients, node, until

pytestmark = pytest.mark.integration


async def test_members_of_all_nodes(redis_url: str) -> None:
    async with node(redis_url) as here, node(redis_url) as there:
        one = here.enter("ann", "room:1")
        other = there.enter("bob", "room:1")
        there.enter("cy", "room:2")
        assert one in await clients(here, "room:1")  # one's own join is seen at once
        await until(lambda: _equal(clients(here, "room:1"), {one, other}))
        here.leave("room:1", one)
        assert await clients(here, "room:1") == {other}
        assert await clients(here, "nobody's") == set()


async def _equal(found: object, wanted: object) -> bool:
    return await found == wanted  # type: ignore[misc]


async def test_info_comes_back_as_it_was(redis_url: str) -> None:
    async with node(redis_url) as here:
        client = here.connect("ann")
        info = ClientInfo("ann", client, Raw(b'{"name":"Ann \\u00e9"}'), Raw(b"[1,null]"))
        here.store.join("room:1", info)
        plain = here.connect("名")
        here.join("room:1", plain)
        found = {each.client: each for each in await here.store.members("room:1")}
        assert bytes(found[client].conn_info) == b'{"name":"Ann \\u00e9"}'
        assert bytes(found[client].chan_info) == b"[1,null]"
        assert found[plain] == ClientInfo("名", plain)


async def test_stats_count_connections_and_people(redis_url: str) -> None:
    async with node(redis_url) as here, node(redis_url) as there:
        here.enter("ann", "room:1")
        here.enter("ann", "room:1")
        there.enter("ann", "room:1")
        there.enter("bob", "room:1")
        await there.store.members("room:1")
        assert await here.store.stats("room:1") == PresenceStats(4, 2)
        assert await here.store.stats("room:2") == PresenceStats(0, 0)


async def test_thousands_in_one_channel(redis_url: str) -> None:
    async with node(redis_url) as here:
        entered = {here.enter(f"user {number % 1500}", "room:1") for number in range(3000)}
        assert await clients(here, "room:1") == entered
        assert await here.store.stats("room:1") == PresenceStats(3000, 1500)


async def test_many_questions_at_once(redis_url: str) -> None:
    async with node(redis_url) as here:
        for number in range(300):
            here.enter("ann", f"room:{number}")
        answers = await asyncio.gather(*(here.store.stats(f"room:{number % 300}") for number in range(3000)))
        assert answers == [PresenceStats(1, 1)] * 3000


async def test_online_is_said_once_over_devices_and_nodes(redis_url: str, redis: Redis, notices: list[str]) -> None:
    async with node(redis_url) as here, node(redis_url) as there:
        phone, laptop = here.connect("ann"), here.connect("ann")
        await until(lambda: notices == ["online:ann"])
        assert await redis.get("user:online:ann") == "1"
        assert 0 < await redis.ttl("user:online:ann") <= 300
        tablet = there.connect("ann")
        await until(lambda: redis.sismember("{user:online:ann}:nodes", there.name))
        here.disconnect(phone)
        here.disconnect(laptop)
        await until(lambda: _equal(redis.smembers("{user:online:ann}:nodes"), {there.name}))
        assert await redis.get("user:online:ann") == "1"
        there.disconnect(tablet)
        await until(lambda: notices == ["online:ann", "offline:ann"])
        assert await redis.keys("*online*") == []


async def test_a_blink_within_a_tick_is_no_transition(redis_url: str, notices: list[str]) -> None:
    async with node(redis_url) as here:
        client = here.connect("ann")
        await until(lambda: notices)
        here.disconnect(client)
        here.connect("ann")
        here.disconnect(here.connect("bob"))
        here.connect("cy")
        await until(lambda: "online:cy" in notices)
        assert notices == ["online:ann", "online:cy"]


async def test_nobody_in_particular_is_never_online(redis_url: str, redis: Redis) -> None:
    async with node(redis_url) as here:
        client = here.enter("", "room:1")
        assert await clients(here, "room:1") == {client}
        assert await redis.keys("user:online*") == []


@pytest.mark.parametrize("name", ["a b", "{x}", "a{b}c", "a}b{", "%7B", "é", "*", "\r\n", "x" * 300])
async def test_odd_names(redis_url: str, name: str, notices: list[str]) -> None:
    async with node(redis_url) as here, node(redis_url) as there:
        client = here.enter(name, name)
        other = there.enter(name, name)
        assert client in await clients(here, name)
        assert other in await clients(there, name)
        here.disconnect(client)
        await here.store.members(name)
    await until(lambda: notices == [f"online:{name}", f"offline:{name}"])


async def test_changes_that_follow_each_other_are_written_together(redis_url: str, redis: Redis) -> None:
    """54 nodes that each wrote a hundred times a second would take a core."""
    async with node(redis_url) as here:
        began = asyncio.get_running_loop().time()
        await redis.config_resetstat()
        for number in range(60):
            here.enter(f"user {number}", "room:1")
            await asyncio.sleep(0.01)

        async def all_written() -> bool:
            return await redis.hlen("presence:channel:room:1") == 60

        await until(all_written)
        writes = (await redis.info("commandstats"))["cmdstat_hset"]["calls"]
        assert writes <= (asyncio.get_running_loop().time() - began) / 0.1 * 2


async def test_every_key_has_a_time_to_live(redis_url: str, redis: Redis) -> None:
    async with node(redis_url) as here:
        for number in range(20):
            here.enter(f"user {number}", f"room:{number}")
        await here.store.members("room:1")
        await asyncio.sleep(0.3)  # a renewal later
        names = await redis.keys("*")
        assert len(names) == 20 * 3 + 3
        assert all([await redis.ttl(name) > 0 for name in names])


async def test_keys_are_kept_alive(redis_url: str, redis: Redis) -> None:
    async with node(redis_url, ttl=2) as here:
        client = here.enter("ann", "room:1")
        await here.store.members("room:1")
        await asyncio.sleep(3)
        assert await clients(here, "room:1") == {client}
        assert await redis.get("user:online:ann") == "1"


async def test_a_clean_stop_removes_everything_at_once(redis_url: str, redis: Redis, notices: list[str]) -> None:
    async with node(redis_url) as there:
        async with node(redis_url) as here:
            clients_here = [here.enter(f"user {number}", f"room:{number % 3}") for number in range(10)]
            await here.store.members("room:1")
        assert sorted(here.left) == sorted((f"room:{number % 3}", client) for number, client in enumerate(clients_here))
        assert await clients(there, "room:1") == set()
        assert there.left == []
        assert await redis.keys("user:*") == []
        assert await redis.zrange("{presence}:nodes", 0, -1) == [there.name]
        await until(
            lambda: sorted(notices) == sorted(f"{way}:user {n}" for n in range(10) for way in ("online", "offline"))
        )


async def test_strangers_in_our_keys_cost_only_themselves(redis_url: str, redis: Redis) -> None:
    async with node(redis_url) as here:
        await redis.set("presence:channel:room:1", "not a hash")
        await redis.hset("presence:channel:room:2", mapping={"x": "not ours", "y": "[1,2]"})
        here.enter("ann", "room:1")
        client = here.enter("ann", "room:2")
        assert await clients(here, "room:2") == {client}
        assert await clients(here, "room:1") == set()
        assert here.store.available


@pytest.mark.parametrize("name", ["", "a.b", "a*", "x" * 65])
def test_names_of_nodes_are_plain(name: str) -> None:
    from presence import RedisPresence

    with pytest.raises(ValueError, match="no name of a node"):
        RedisPresence("redis://localhost", name, Node.__new__(Node), lambda *_: None)
