"""Nodes die, stall and come back, on a real Valkey: no ghost, no double leave, no false one."""

import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.embedded.binaries import find_valkey
from presence import keys
from presence.link import Link
from presence.reaper import ClaimLost, remove
from realtime.interfaces import PresenceUnavailable
from tests.presence.nodes import LEASE, Gate, Node, clients, connect, known, node, only, shows, until
from tests.stack import short_folder

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


async def test_a_dead_nodes_people_leave_once_and_go_offline(redis_url: str, redis: Redis, notices: list[str]) -> None:
    async with node(redis_url) as one, node(redis_url) as two, node(redis_url) as three:
        dead = Node(redis_url)
        await dead.store.start()
        gone = {(f"room:{n % 40}", dead.enter(f"user {n}", f"room:{n % 40}")) for n in range(1200)}
        kept = one.enter("user 1", "room:1")  # a second device elsewhere
        await dead.store.members("room:1")
        await one.store.members("room:1")
        died = time.monotonic()
        await dead.die()
        await until(lambda: only(redis, "user:online:*", {"user:online:user 1"}))
        assert time.monotonic() - died < 1.5 * LEASE + 1  # 15 s of the real lease's 10
        await until(lambda: only(redis, keys.node_channels(dead.name) + "*", set()))
        left = one.left + two.left + three.left
        await until(lambda: len(one.left + two.left + three.left) >= len(gone))
        left = Counter(one.left + two.left + three.left)
        assert left == Counter(gone)
        assert await clients(two, "room:1") == {kept}
        assert await redis.zcard(keys.NODES) == 3
        said = Counter(notices)
        assert said["offline:user 1"] == 0
        assert all(said[f"offline:user {n}"] == 1 for n in range(2, 1200))
        assert max(said.values()) == 1


async def test_two_at_once_and_nobody_who_lives(redis_url: str) -> None:
    async with node(redis_url) as here:
        staying = here.enter("ann", "room:1")
        dead = [Node(redis_url), Node(redis_url)]
        for each in dead:
            await each.store.start()
            each.enter("bob", "room:1")
            await each.store.members("room:1")
        for each in dead:
            await each.die()
        await until(lambda: len(here.left) == 2)
        assert await clients(here, "room:1") == {staying}


async def test_everything_dies_and_a_new_node_cleans_up(redis_url: str, redis: Redis) -> None:
    dead = Node(redis_url)
    await dead.store.start()
    client = dead.enter("ann", "room:1")
    await dead.store.members("room:1")
    await dead.die()
    async with node(redis_url) as here:
        await until(lambda: here.left == [("room:1", client)])
        await until(lambda: only(redis, "user:online:*", set()))


async def test_the_reaper_dies_halfway(redis_url: str, redis: Redis) -> None:
    dead, reaper = Node(redis_url), Node(redis_url)
    await dead.store.start()
    everybody = {(f"room:{n}", dead.enter(f"user {n}", f"room:{n}")) for n in range(300)}
    await dead.store.members("room:1")
    await reaper.store.start()
    gate = Gate(reaper.store._reaping)
    gate.shut(after=6)  # claim, list, look, claim again, remove, strike off the list
    await dead.die()
    await until(lambda: gate.waiting)
    half = len(reaper.left)
    assert 0 < half < 300
    await reaper.die()
    async with node(redis_url) as heir:
        await until(lambda: len(heir.left) >= 300 - half)
        await until(lambda: only(redis, "user:online:*", set()))
        assert Counter(reaper.left + heir.left) == Counter(everybody)


async def test_a_stalled_node_comes_back(redis_url: str, redis: Redis, notices: list[str]) -> None:
    async with node(redis_url) as here, node(redis_url) as stalled:
        before = stalled.enter("ann", "room:1")
        await until(shows(here, "room:1", {before}))
        gate = Gate(stalled.store._writing)
        gate.shut()
        await until(lambda: here.left == [("room:1", before)])
        await until(lambda: notices == ["online:ann", "offline:ann"])
        meanwhile = stalled.enter("bob", "room:1")
        gate.open()
        await until(shows(here, "room:1", {before, meanwhile}))
        await until(lambda: sorted(notices[2:]) == ["online:ann", "online:bob"])
        assert here.left == [("room:1", before)]
        assert stalled.left == []


async def test_coming_back_while_being_removed_waits_for_the_end(redis_url: str) -> None:
    async with node(redis_url) as here, node(redis_url) as stalled:
        everybody = {stalled.enter(f"user {n}", "room:1") for n in range(700)}
        await until(shows(here, "room:1", everybody))
        reaping, writing = Gate(here.store._reaping), Gate(stalled.store._writing)
        reaping.shut(after=5)  # the first 500 are removed, the rest is not yet
        writing.shut()
        await until(lambda: reaping.waiting)
        assert 0 < len(here.left) < 700
        writing.open()
        await until(lambda: not stalled.store.available)
        with pytest.raises(PresenceUnavailable, match="other nodes"):
            await stalled.store.members("room:1")
        reaping.open()
        await until(shows(here, "room:1", everybody))
        assert len(here.left) == len(set(here.left))


async def test_a_reaper_that_stalls_comes_too_late(redis_url: str) -> None:
    """Its claim ends, the owner comes back, and only then does the reaper go on: nothing may be removed."""
    async with node(redis_url) as here, node(redis_url) as stalled:
        everybody = {stalled.enter(f"user {n}", f"room:{n}") for n in range(3)}
        await stalled.store.members("room:1")
        reaping, writing = Gate(here.store._reaping), Gate(stalled.store._writing)
        reaping.shut(after=4)  # stopped between its claim and the removal
        writing.shut()
        await until(lambda: reaping.waiting)
        writing.open()
        await until(lambda: not stalled.store.available)
        await known(stalled)
        reaping.open()
        await until(lambda: here.store._reaper.done())  # type: ignore[union-attr]
        assert here.left == []
        assert {client for n in range(3) for client in await clients(here, f"room:{n}")} == everybody


async def test_a_removal_after_its_deadline_does_nothing(redis_url: str) -> None:
    async with node(redis_url) as here:
        client = here.enter("ann", "room:1")
        await here.store.members("room:1")
        link = Link(redis_url, 1)

        async def long_ago() -> int:
            return 1

        with pytest.raises(ClaimLost):
            await remove(link, here.name, long_ago, here._on_leave)
        await link.close()
        assert await clients(here, "room:1") == {client}
        assert here.left == []


async def test_a_failing_announcement_does_not_stop_the_others(redis_url: str, redis: Redis) -> None:
    heard: list[str] = []

    def on_leave(channel: str, info: object) -> None:
        heard.append(channel)
        raise RuntimeError("a handler's mistake")

    async with node(redis_url) as here:
        here.store._on_leave = on_leave
        dead = Node(redis_url)
        await dead.store.start()
        for number in range(5):
            dead.enter("ann", f"room:{number}")
        await dead.store.members("room:1")
        await dead.die()
        await until(lambda: len(heard) == 5)
        await until(lambda: only(redis, "user:online:*", set()))


# --- Redis Cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def cluster_url() -> AsyncIterator[str]:
    """A cluster of one that owns all slots: it refuses a script whose keys belong to different ones."""
    with short_folder() as folder:
        port, bus = _free_ports()
        options = ["--bind", "127.0.0.1", "--port", port, "--cluster-enabled", "yes", "--cluster-port", bus]
        url = f"redis://127.0.0.1:{port}"
        process = subprocess.Popen(
            [find_valkey(), *options, "--dir", folder, "--save", ""], stdout=subprocess.DEVNULL, cwd=folder
        )
        try:
            async with connect(url) as redis:

                async def up() -> bool:
                    try:
                        return bool(await redis.ping())
                    except RedisError:
                        return False

                await until(up)
                await redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
                await until(lambda: _ready(redis))
            yield url
        finally:
            process.kill()
            process.wait()


def _free_ports() -> tuple[str, str]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1]), str(other.getsockname()[1])


async def _ready(redis: Redis) -> bool:
    info = await redis.execute_command("CLUSTER INFO")
    return "cluster_state:ok" in str(info) or dict(info).get("cluster_state") == "ok"


async def test_scripts_keep_to_one_slot(cluster_url: str) -> None:
    async with node(cluster_url) as here, connect(cluster_url) as redis:
        dead = Node(cluster_url)
        await dead.store.start()
        for name in ("ann", "{a}", "a{b}c", "}{"):
            dead.enter(name, name)
            here.enter(name, name)
        await dead.store.members("ann")
        await dead.die()
        await until(lambda: len(here.left) == 4)
        await until(lambda: only(redis, keys.node_users(dead.name), set()))
        assert here.store.available
        assert len(await redis.keys("*user:online:*")) == 8
