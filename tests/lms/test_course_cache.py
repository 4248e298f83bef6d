"""Courses in the cache: read once, never older than somebody knows, and there while Redis is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from redis.asyncio import Redis

from gateway_node.services.lms import course_cache
from gateway_node.services.lms.course_cache import FRESH, CourseCache, Kept, key
from storage.database import Database
from storage.lms.courses import Course, CourseStore

pytestmark = pytest.mark.integration


class CountingDatabase(Database):
    """Counts statements, and holds them back until `go` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statements = 0
        self.go = asyncio.Event()
        self.go.set()
        self.held = asyncio.Event()  # one has read its row

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        self.statements += 1
        return await super().fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        self.statements += 1
        row = await super().fetchrow(query, *args)
        self.held.set()
        await self.go.wait()
        return row


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[CountingDatabase]:
    database = CountingDatabase(database_url)
    yield database
    await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def cache(redis: Redis, database: CountingDatabase) -> CourseCache:
    return CourseCache(redis, CourseStore(database))


@pytest.fixture
async def course(database: CountingDatabase) -> UUID:
    rows = await database.fetch("insert into courses (title, status) values ('First', 'published') returning id")
    database.statements = 0
    course: UUID = rows[0]["id"]
    return course


async def rename(database: Database, course: UUID, title: str) -> int:
    """As a node does it that then dies, or cannot reach Redis. Returns the version."""
    rows = await database.fetch(
        "update courses set title = $2, version = version + 1 where id = $1 returning version", course, title
    )
    return int(rows[0]["version"])


async def get(cache: CourseCache, course: UUID, version: int = 0) -> Course:
    found = await cache.get(course, version)
    assert found is not None
    return found


async def kept(redis: Redis, course: UUID) -> Kept:
    value = await redis.get(key(course))
    assert isinstance(value, bytes)
    return msgspec.msgpack.decode(value, type=Kept)


async def test_many_readers_are_one_question(cache: CourseCache, database: CountingDatabase, course: UUID) -> None:
    database.go.clear()
    readers = [asyncio.create_task(get(cache, course)) for _ in range(50)]
    await database.held.wait()
    database.go.set()
    assert {each.title for each in await asyncio.gather(*readers)} == {"First"}
    assert database.statements == 1


async def test_another_node_finds_it_in_redis(
    cache: CourseCache, redis: Redis, database: CountingDatabase, course: UUID
) -> None:
    await get(cache, course)
    assert 3500 < await redis.ttl(key(course)) <= 3600
    other = CourseCache(redis, CourseStore(database))
    assert (await get(other, course, 1)).title == "First"
    assert database.statements == 1


async def test_who_knows_the_version_is_not_given_an_older_one(
    cache: CourseCache, redis: Redis, database: CountingDatabase, course: UUID
) -> None:
    """Though Redis still has it and this node remembers it: whoever changed the course could not tell them."""
    assert (await get(cache, course, 1)).title == "First"
    version = await rename(database, course, "Second")
    assert (await get(cache, course, version)).title == "Second"
    assert (await kept(redis, course)).course.title == "Second"


async def test_a_question_that_began_before_the_change_is_asked_again(
    cache: CourseCache, database: CountingDatabase, course: UUID
) -> None:
    database.go.clear()
    early = asyncio.create_task(get(cache, course, 1))
    await database.held.wait()
    version = await rename(database, course, "Second")
    late = asyncio.create_task(get(cache, course, version))
    await asyncio.sleep(0)
    database.go.set()
    await early
    assert (await late).title == "Second"


async def test_what_a_node_remembers_needs_no_redis(cache: CourseCache, redis: Redis, course: UUID) -> None:
    first = await get(cache, course, 1)
    await redis.delete(key(course))
    assert await get(cache, course, 1) is first
    assert await redis.exists(key(course)) == 0


async def test_a_node_remembers_the_latest(
    cache: CourseCache, course: UUID, database: CountingDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course_cache, "NEAR", 2)
    rows = await database.fetch("insert into courses (title) values ('a'), ('b'), ('c') returning id")
    a, b, c = [await get(cache, row["id"], 1) for row in rows]
    assert await get(cache, c.id, 1) is c
    assert await get(cache, b.id, 1) is b
    assert await get(cache, a.id, 1) is not a


async def test_an_old_one_is_given_at_once_and_read_again(
    cache: CourseCache, redis: Redis, database: CountingDatabase, course: UUID
) -> None:
    await get(cache, course)
    await rename(database, course, "Second")
    old = await kept(redis, course)
    await redis.set(key(course), msgspec.msgpack.encode(Kept(old.at - FRESH - 1, old.course)), ex=60)
    assert (await get(cache, course)).title == "First"
    async with asyncio.timeout(10):
        while (await get(cache, course)).title != "Second":
            await asyncio.sleep(0)


async def test_a_slow_reader_does_not_put_back_what_was_changed(
    cache: CourseCache, redis: Redis, database: CountingDatabase, course: UUID
) -> None:
    database.go.clear()
    slow = asyncio.create_task(get(cache, course))
    await database.held.wait()
    await cache.forget(course)
    database.go.set()
    await slow
    assert await redis.get(key(course)) == b""


async def test_with_redis_away_postgresql_answers(database: CountingDatabase, course: UUID) -> None:
    async with Redis.from_url("unix:///nowhere/valkey.sock") as away:
        cache = CourseCache(away, CourseStore(database))
        assert (await get(cache, course)).title == "First"
        await cache.forget(course)
        version = await rename(database, course, "Second")
        assert (await get(cache, course, version)).title == "Second"


async def test_there_is_no_such_course(cache: CourseCache) -> None:
    assert await cache.get(uuid4()) is None


async def test_standings_share_a_statement_and_keep_their_order(database: CountingDatabase, course: UUID) -> None:
    store = CourseStore(database)
    rows = await database.fetch(
        "insert into users (email, password_hash, name, role) select n || '@example.org', '', n, 'student' "
        "from unnest('{in,out,gone}'::text[]) n returning id"
    )
    inside, outside, gone = [row["id"] for row in rows]
    await database.fetch(
        "insert into enrollments (user_id, course_id, role, status) "
        "values ($1, $3, 'assistant', 'active'), ($2, $3, 'student', 'removed')",
        *(inside, gone, course),
    )
    database.statements = 0
    questions = [(inside, course), (uuid4(), course), (outside, course), (gone, course), (inside, None)]
    questions.append((inside, uuid4()))
    found = await asyncio.gather(*(store.standing(*each) for each in questions))
    assert database.statements == 1
    assert [each and each[:4] for each in found] == [
        ("student", "assistant", "published", "code"),
        None,
        ("student", None, "published", "code"),
        ("student", None, "published", "code"),
        ("student", None, None, None),
        ("student", None, None, None),
    ]
    version = await rename(database, course, "Second")
    standing = await store.standing(outside, course)
    assert standing is not None and standing.version == version
