"""Presence on a real Valkey while nodes die and Valkey goes away: no ghost, no double leave, no false one."""

import asyncio
import random
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from signal import Signals
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.embedded import EmbeddedStack
from config.embedded.binaries import find_valkey
from presence import keys
from presence.link import Away, Link
from presence.reaper import ClaimLost, remove
from realtime.interfaces import PresenceUnavailable
from tests.presence.nodes import LEASE, Node, clients, node, until
from tests.stack import short_folder

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


@pytest.fixture
def valkey() -> Iterator[EmbeddedStack]:
    """A Valkey of the test's own."""
    with short_folder() as folder:
        stack = EmbeddedStack(folder / "data", postgres=False, nats=False)
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


def connect(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True, protocol=3)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(redis_url) as client:
        yield client


@pytest.fixture
async def notices(redis_url: str) -> AsyncIterator[list[str]]:
    heard: list[str] = []
    async with connect(redis_url) as client, client.pubsub() as subscription:
        await subscription.subscribe("presence")

        async def listen() -> None:
            async for message in subscription.listen():
                if message["type"] == "message":
                    heard.append(message["data"])  # noqa: PERF401  # as they come

        task = asyncio.create_task(listen())
        yield heard
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def known(*nodes: Node) -> None:
    await until(lambda: all(each.store.available for each in nodes))


def shows(observer: Node, channel: str, wanted: set[str]) -> Callable[[], Any]:
    async def look() -> bool:
        try:
            return await clients(observer, channel) == wanted
        except PresenceUnavailable:
            return False

    return look


class Gate:
    """Stands in a link's way: `shut` makes its next batch wait (as in a process that is stopped) or fail."""

    def __init__(self, link: Link) -> None:
        self._run = link.run
        self._open = asyncio.Event()
        self._open.set()
        self.waiting = False
        self.passes = 0  # batches let through although shut
        self.failure: Away | None = None
        link.run = self._pass  # type: ignore[method-assign]

    async def _pass(self, commands: Any) -> list[Any]:
        if self.passes:
            self.passes -= 1
        elif not self._open.is_set():
            self.waiting = True
            await self._open.wait()
            self.waiting = False
            if self.failure is not None:
                raise self.failure
        return await self._run(commands)

    def shut(self, after: int = 0) -> None:
        self.passes = after
        self._open.clear()

    def open(self) -> None:
        self._open.set()


# --- nodes die --------------------------------------------------------------------------------------------------------


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
        await until(lambda: _only(redis, "user:online:*", {"user:online:user 1"}))
        assert time.monotonic() - died < 1.5 * LEASE + 1  # 15 s of the real lease's 10
        await until(lambda: _only(redis, keys.node_channels(dead.name) + "*", set()))
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


async def _only(redis: Redis, pattern: str, wanted: set[str]) -> bool:
    return set(await redis.keys(pattern.replace("{", "\\{"))) == wanted


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
        await until(lambda: _only(redis, "user:online:*", set()))


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
        await until(lambda: _only(redis, "user:online:*", set()))
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
        await until(lambda: _only(redis, "user:online:*", set()))


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
            await until(lambda: _only(redis, "user:online:*", wanted))
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
            await until(lambda: _only(redis, "user:online:*", {"user:online:ann", "user:online:cy"}))


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
        await until(lambda: _only(redis, "user:online:*", {f"user:online:{user}" for user in ("ann", "cy", "dan")}))
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
            await until(lambda: _only(redis, "user:online:*", online))
        assert one.left + two.left == []


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
        await until(lambda: _only(redis, keys.node_users(dead.name), set()))
        assert here.store.available
        assert len(await redis.keys("*user:online:*")) == 8
