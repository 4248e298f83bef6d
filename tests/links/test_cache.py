"""Links in the cache: one question for all who ask at once, nothing old after a change, nothing beyond its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from gateway_node.http.redirects import redirect_to
from gateway_node.limits import Buckets, Limit
from gateway_node.passwords import Passwords
from gateway_node.services.links import cache as caching
from gateway_node.services.links.cache import FRESH, MARK, TTL, LinkCache, key
from gateway_node.services.links.code import Codes
from gateway_node.services.links.links import LinkFields, Links, Origin
from gateway_node.services.links.target import Targets
from presence import Pipe
from realtime import codes
from storage.database import Database, DatabaseUnavailable
from storage.links.links import LinkChange, LinkStore

pytestmark = pytest.mark.integration

OLD, NEW = "https://example.org/old", "https://example.org/new"


class CountingDatabase(Database):
    """Counts looks for a link, and holds them back until `go` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.looks = 0
        self.go = asyncio.Event()
        self.go.set()
        self.held = asyncio.Event()  # one has read its row

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        self.looks += 1
        row = await super().fetchrow(query, *args)
        self.held.set()
        await self.go.wait()
        return row


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[CountingDatabase]:
    database = CountingDatabase(database_url)
    await database.execute("insert into urls (short_code, original_url) values ('a', $1)", OLD)
    yield database
    await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


class Nodes:
    """Caches of several nodes, which hear of each other's changes while `connected`."""

    def __init__(self, redis_url: str, database: Database) -> None:
        self._url = redis_url
        self._store = LinkStore(database)
        self._caches: list[tuple[LinkCache, Pipe]] = []
        self.connected = True

    def new(self) -> LinkCache:
        def tell(changed: Sequence[str]) -> None:
            for each, _ in self._caches if self.connected else ():
                if each is not made:
                    each.forget_here(changed)

        pipe = Pipe(self._url)
        made = LinkCache(pipe, self._store, Targets(), redirect_to(302), tell)
        self._caches.append((made, pipe))
        return made

    async def close(self) -> None:
        for cache, pipe in self._caches:
            await cache.close()
            await pipe.close()


@pytest.fixture
async def nodes(redis_url: str, redis: Redis, database: CountingDatabase) -> AsyncIterator[Nodes]:
    made = Nodes(redis_url, database)
    yield made
    await made.close()


async def retarget(database: Database, url: str = NEW) -> None:
    await database.execute("update urls set original_url = $1 where short_code = 'a'", url)


async def leads(cache: LinkCache, code: str = "a") -> str:
    return (await cache.get(code)).entry.url


async def test_one_question_for_all_who_ask_at_once(nodes: Nodes, database: CountingDatabase) -> None:
    cache = nodes.new()
    database.go.clear()
    asking = [asyncio.create_task(leads(cache)) for _ in range(100)]
    await database.held.wait()
    database.go.set()
    assert await asyncio.gather(*asking) == [OLD] * 100
    assert database.looks == 1
    assert await leads(nodes.new()) == OLD  # another node has it from Redis
    assert database.looks == 1


async def test_a_code_that_nobody_has_is_not_asked_for_again_and_again(
    nodes: Nodes, database: CountingDatabase, redis: Redis
) -> None:
    cache = nodes.new()
    for _ in range(3):
        assert (await cache.get("nobody")).entry.kind == "missing"
    assert database.looks == 1
    assert not await redis.exists(key("nobody"))  # strangers do not fill it


async def test_redis_keeps_a_link_for_a_day_and_never_beyond_its_end(
    nodes: Nodes, database: CountingDatabase, redis: Redis
) -> None:
    cache = nodes.new()
    await leads(cache)
    assert TTL - 5 < await redis.ttl(key("a")) <= TTL == 86400
    end = datetime.now(UTC) + timedelta(seconds=100)
    await database.execute("insert into urls (short_code, original_url, expires_at) values ('b', $1, $2)", OLD, end)
    near = await cache.get("b")
    assert 90 < await redis.ttl(key("b")) <= 100
    assert near.until <= end.timestamp()
    await database.execute(
        "insert into urls (short_code, original_url, expires_at) values ('c', $1, now() - interval '1 second')", OLD
    )
    gone = await cache.get("c")
    assert gone.start is None
    assert not await redis.exists(key("c"))


async def test_a_change_is_seen_by_all_at_once(nodes: Nodes, database: CountingDatabase) -> None:
    one, other = nodes.new(), nodes.new()
    assert [await leads(each) for each in (one, other)] == [OLD, OLD]
    await retarget(database)
    await one.forget(["a"])
    assert [await leads(each) for each in (one, other)] == [NEW, NEW]


async def test_a_reader_that_was_slow_puts_nothing_old_back(
    nodes: Nodes, database: CountingDatabase, redis: Redis
) -> None:
    """It has read the row, then the link changes, then it writes what it has read: to Redis, and near itself."""
    slow, other = nodes.new(), nodes.new()
    database.go.clear()
    reading = asyncio.create_task(leads(slow))
    await database.held.wait()
    await retarget(database)
    await other.forget(["a"])
    database.go.set()
    assert await reading == OLD  # it asked before the change
    assert await redis.get(key("a")) == b""
    assert 0 < await redis.ttl(key("a")) <= MARK
    assert [await leads(each) for each in (slow, other)] == [NEW, NEW]


async def test_a_node_that_is_not_told_is_wrong_for_seconds(
    nodes: Nodes, database: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = nodes.new(), nodes.new()
    await leads(other)
    nodes.connected = False
    await retarget(database)
    await one.forget(["a"])
    assert await leads(other) == OLD
    other.near["a"].until = time.time() - 0.001  # `NEAR_TTL` later
    assert await leads(other) == NEW
    assert caching.NEAR_TTL <= 5


async def test_what_redis_had_for_long_is_read_again(
    nodes: Nodes, database: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changed it could not reach Redis, and died."""
    await leads(nodes.new())
    await retarget(database)
    monkeypatch.setattr(caching, "FRESH", 0.0)
    assert await leads(nodes.new()) == OLD
    assert FRESH <= 60
    async with asyncio.timeout(5):
        while await leads(nodes.new()) != NEW:
            await asyncio.sleep(0.01)


async def test_a_near_cache_has_a_bound(
    nodes: Nodes, database: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "NEAR", 3)
    cache = nodes.new()
    for code in ("a", "x1", "x2", "x3", "x4"):
        await cache.get(code)
    assert list(cache.near) == ["x2", "x3", "x4"]


async def test_links_that_decide_are_not_let_through_by_a_cache(nodes: Nodes, database: CountingDatabase) -> None:
    await database.execute(
        "insert into urls (short_code, original_url, max_visits, password_hash, disabled_at) values "
        "('limited', $1, 1, null, null), ('secret', $1, null, 'x', null), ('off', $1, null, null, now())",
        OLD,
    )
    cache = nodes.new()
    found = {code: await cache.get(code) for code in ("limited", "secret", "off")}
    assert {code: near.entry.kind for code, near in found.items()} == {
        "limited": "decides",
        "secret": "decides",
        "off": "disabled",
    }
    assert all(near.start is None and near.entry.url == "" for near in found.values())


async def test_a_target_that_was_blocked_since(
    redis_url: str, redis: Redis, nodes: Nodes, database: CountingDatabase
) -> None:
    """Redis has it as it was before the operator's list had its domain: nobody is led there any more."""
    assert await leads(nodes.new()) == OLD
    pipe = Pipe(redis_url)
    cache = LinkCache(pipe, LinkStore(database), Targets(blocked=frozenset({"example.org"})), redirect_to(302))
    near = await cache.get("a")
    assert (near.entry.kind, near.start) == ("disabled", None)
    await cache.close()
    await pipe.close()


async def test_long_targets_fill_no_memory(nodes: Nodes, database: CountingDatabase) -> None:
    cache, long = nodes.new(), "https://example.org/" + "x" * 8000
    await retarget(database, long)
    assert await leads(cache) == await leads(cache) == long
    assert database.looks == 1  # Redis has it
    assert not cache.near


async def test_a_change_whose_answer_was_lost(nodes: Nodes, database: CountingDatabase) -> None:
    """It is committed, but nobody here knows: the caches must not go on with what was before."""

    class Unlucky(LinkStore):
        @asynccontextmanager
        async def changing(self, code: str) -> AsyncIterator[LinkChange | None]:
            async with super().changing(code) as change:
                yield change
            raise DatabaseUnavailable("the connection ended")

    cache, other = nodes.new(), nodes.new()
    assert await leads(cache) == await leads(other) == OLD
    limit = Limit(Buckets(None), "links", 0)
    passwords = Passwords()
    links = Links(Unlucky(database), cache, passwords, Targets(), makes=Codes("secret"), creations=limit)
    admin = Origin(None, "https://go.example.org", "go.example.org", is_admin=True)
    with pytest.raises(codes.CommandError):
        await links.update(admin, "a", LinkFields(url=NEW), lambda version: None)
    assert await leads(cache) == await leads(other) == NEW
    with pytest.raises(codes.CommandError):
        await links.delete(admin, "a")
    assert (await cache.get("a")).entry.kind == (await other.get("a")).entry.kind == "deleted"
    passwords.close()
