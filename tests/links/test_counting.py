"""From a click to a row, each once, whatever dies on the way: the parts by themselves, on real stores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway_node.services.links import clicks as buffering
from gateway_node.services.links import counting as worker
from gateway_node.services.links.clicks import STREAM, ClickBuffer
from gateway_node.services.links.counting import GROUP, Counting
from gateway_node.services.links.visitors import Visitors, agent_of, host_of
from presence import Pipe
from storage.database import Database
from storage.links.clicks import ClickStore, Counted
from tests.links.visitor import BROWSER, CRAWLER

pytestmark = pytest.mark.integration

CLIENT = ("192.0.2.7", 50000)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.execute(
        "insert into urls (short_code, original_url) values ('a', 'https://example.org/'), ('b', 'https://example.org/')"
    )
    yield database
    await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
async def buffer(redis_url: str, redis: Redis) -> AsyncIterator[ClickBuffer]:
    pipe = Pipe(redis_url)
    yield ClickBuffer(pipe)
    await pipe.close()


class Workers:
    """Workers of one group, of which each is begun by hand."""

    def __init__(self, redis_url: str, database: Database) -> None:
        self._url = redis_url
        self._database = database
        self._made: list[Counting] = []
        self.told: list[Counted] = []

    async def new(self) -> Counting:
        made = Counting(
            self._url, ClickStore(self._database), Visitors(), f"worker-{len(self._made)}", self.told.extend
        )
        self._made.append(made)
        await made._join()
        return made

    async def close(self) -> None:
        for each in self._made:
            await each.stop()


@pytest.fixture
async def workers(redis_url: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workers]:
    monkeypatch.setattr(worker, "BLOCK", 0.01)
    monkeypatch.setattr(worker, "IDLE", 0.0)
    monkeypatch.setattr(worker, "LOOK", 0.0)
    monkeypatch.setattr(worker, "FORGET", 0.0)
    made = Workers(redis_url, database)
    yield made
    await made.close()


def note(buffer: ClickBuffer, code: str, number: int, agent: str = BROWSER) -> None:
    for n in range(number):
        headers = [(b"user-agent", agent.encode()), (b"referer", b"https://site%d.example/" % n)]
        buffer.note(code, time.time(), CLIENT, headers)


async def numbers(database: Database, code: str) -> tuple[int, int, int, int]:
    """Rows, people, bots, and what hours add up to."""
    row = await database.fetchrow(
        "select (select count(*) from clicks where short_code = $1), click_count, bot_count, "
        "(select coalesce(sum(clicks + bots), 0)::bigint from link_times where url_id = u.id and unit = 'hour') "
        "from urls u where short_code = $1",
        code,
    )
    assert row is not None
    return tuple(row)  # type: ignore[return-value]


async def test_clicks_become_rows_and_counts(
    buffer: ClickBuffer, workers: Workers, database: Database, redis: Redis
) -> None:
    note(buffer, "a", 2500)
    note(buffer, "b", 3, CRAWLER)
    note(buffer, "gone", 2)
    await buffer.flush()
    counting = await workers.new()
    await counting.round()
    assert await numbers(database, "a") == (2500, 2500, 0, 2500)
    assert await numbers(database, "b") == (3, 0, 3, 3)
    assert await redis.xlen(STREAM) == 0
    assert (await redis.xpending(STREAM, GROUP))["pending"] == 0
    assert counting.stored == 2503
    assert {(each.code, each.new_clicks, each.new_bots) for each in workers.told} == {("a", 2500, 0), ("b", 0, 3)}


@pytest.mark.parametrize("moment", ["before it stores", "before it acknowledges"])
async def test_a_worker_that_dies(
    moment: str, buffer: ClickBuffer, workers: Workers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(Exception):
        pass

    def die(*args: Any, **options: Any) -> Any:
        raise Died

    note(buffer, "a", 1500)
    await buffer.flush()
    first = await workers.new()
    if moment == "before it stores":
        monkeypatch.setattr(first._store, "store", die)
    else:
        monkeypatch.setattr(first._redis, "pipeline", die)
    with pytest.raises(Died):
        await first.round()
    assert (await numbers(database, "a"))[0] == (0 if moment == "before it stores" else 1500)
    note(buffer, "a", 10)
    await buffer.flush()
    second = await workers.new()
    await second.round()
    await second.round()
    assert await numbers(database, "a") == (1510, 1510, 0, 1510)


async def test_two_workers_with_the_same_entries(
    buffer: ClickBuffer, workers: Workers, database: Database, redis: Redis
) -> None:
    """One was slow, and the other took its entries over: both store them at the same time."""
    note(buffer, "a", 3000)
    note(buffer, "b", 3000)
    await buffer.flush()
    entries = await redis.xrange(STREAM)
    one, two = await workers.new(), await workers.new()
    await asyncio.gather(one._take(entries), two._take(entries[::-1]), one._take(entries[1:]))
    assert await numbers(database, "a") == (3000, 3000, 0, 3000)
    assert await numbers(database, "b") == (3000, 3000, 0, 3000)


async def test_a_batch_that_was_sent_twice(
    buffer: ClickBuffer, workers: Workers, database: Database, redis: Redis
) -> None:
    """Nobody knew whether the first attempt had arrived. It comes once more even after the first one was stored."""
    note(buffer, "a", 5)
    await buffer.flush()
    ((_, fields),) = await redis.xrange(STREAM)
    await redis.xadd(STREAM, fields)
    counting = await workers.new()
    await counting.round()
    await redis.xadd(STREAM, fields)
    await counting.round()
    assert await numbers(database, "a") == (5, 5, 0, 5)


async def test_what_cannot_be_read_holds_up_nothing(
    buffer: ClickBuffer, workers: Workers, database: Database, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await redis.xadd(STREAM, {"batch": b"\xc1"})
    await redis.xadd(STREAM, {"other": b""})
    note(buffer, "a", 2)
    buffer.note("b", 1e18, CLIENT, ())  # a time that there is not
    await buffer.flush()
    note(buffer, "a", 4)
    await buffer.flush()
    counting = await workers.new()
    await counting.round()
    assert (await numbers(database, "a"))[1] == 4  # what was in one batch with it is lost
    assert counting.lost == 3
    assert await redis.xlen(STREAM) == 0


async def test_redis_lost_its_data(buffer: ClickBuffer, workers: Workers, database: Database, redis: Redis) -> None:
    counting = await workers.new()
    await counting.start()
    await redis.flushall()
    note(buffer, "a", 3)
    await buffer.flush()
    async with asyncio.timeout(10):
        while await numbers(database, "a") != (3, 3, 0, 3):
            await asyncio.sleep(0.02)


async def test_a_buffer_has_a_bound(buffer: ClickBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is away; what does not fit is dropped, and counted."""
    monkeypatch.setattr(buffering, "MAX_WAITING", 2000)
    away = ClickBuffer(Pipe("unix:///nowhere.sock"))
    note(away, "a", 1500)
    await away.flush()
    note(away, "a", 700)
    await away.flush()
    assert (away.noted, away.dropped) == (2200, 200)
    away._pipe = buffer._pipe  # Redis is back
    await away.flush()
    note(away, "a", 1)
    await away.stop()
    assert (away._waiting, away.dropped) == (0, 200)


async def test_a_buffer_waits_while_the_stream_is_full(
    buffer: ClickBuffer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has been away for long: Redis has other things to keep."""
    monkeypatch.setattr(buffering, "MAX_STREAM", 2)
    for _ in range(3):
        note(buffer, "a", 1)
        await buffer.flush()
    assert await redis.xlen(STREAM) == 2
    await redis.delete(STREAM)
    await buffer.flush()
    assert await redis.xlen(STREAM) == 1


async def test_a_buffer_waits_while_the_stream_is_big(
    buffer: ClickBuffer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few batches can be much, too: each has up to a thousand clicks."""
    monkeypatch.setattr(buffering, "MAX_BYTES", 10_000)
    for _ in range(3):
        note(buffer, "a", 500)
        await buffer.flush()
    assert await redis.xlen(STREAM) == 1
    await redis.delete(STREAM)
    await buffer.flush()
    assert await redis.xlen(STREAM) == 1


async def test_ids_of_batches_are_kept_while_they_can_come_again(database: Database) -> None:
    """For an hour, and for as long as the stream has an entry of their time."""
    await database.execute(
        "insert into click_batches (id, streamed_at, stored_at) "
        "select gen_random_uuid(), now() + streamed, now() + stored "
        "from (values (interval '-3 hours', interval '-2 hours'), ('-3 hours', '-1 minute'), ('-2 hours', '-2 hours')) "
        "v (streamed, stored)"
    )
    store, now = ClickStore(database), datetime.now(UTC)
    for oldest, left in ((now - timedelta(hours=4), 3), (now - timedelta(hours=2.5), 2), (now, 1)):
        await store.forget_batches(oldest)
        assert await database.fetchval("select count(*) from click_batches") == left


@pytest.mark.parametrize(
    ("agent", "bot"),
    [
        (BROWSER, None),
        (CRAWLER, "crawler"),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "preview"),
        ("WhatsApp/2.23.20.0", "preview"),
        ("python-requests/2.32", "tool"),
        ("curl/8.5.0", "tool"),
        ("", "no user agent"),
        ("   ", "no user agent"),
        ("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36", None),
        ("\ufffd\x01 what is this", None),
    ],
)
def test_what_a_user_agent_says(agent: str, bot: str | None) -> None:
    assert agent_of(agent).bot == bot


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        (b"https://www.Example.org:8080/path?q#f", "example.org"),
        (b"http://user:secret@example.org/", "example.org"),
        (b"android-app://com.example.mail/", "com.example.mail"),
        (b"javascript:alert(1)", ""),
        (b"https://<script>/", ""),
        (b"https://[::1", ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_where_somebody_came_from(referrer: bytes, host: str) -> None:
    assert host_of(referrer) == host


def test_countries_and_addresses() -> None:
    plain = Visitors()
    assert plain.describe("8.8.8.8", b"", BROWSER, False).country == "US"
    assert plain.describe("2001:4860:4860::8888", b"", BROWSER, False).country == "US"
    for nowhere in ("127.0.0.1", "10.0.0.1", "", "unix:", "999.1.1.1"):
        assert plain.describe(nowhere, b"", BROWSER, False).country is None
    assert plain.describe("8.8.8.8", b"", BROWSER, False).address is None
    kept = {"8.8.4.7": "8.8.4.0", "2001:db8:1:2::3": "2001:db8:1::", "::ffff:8.8.4.7": "8.8.4.0", "?": "None"}
    for given, truncated in kept.items():
        assert str(Visitors(store_ip="truncated").describe(given, b"", "", False).address) == truncated
    assert str(Visitors(store_ip="full").describe("8.8.4.7", b"", "", False).address) == "8.8.4.7"
