"""Token buckets: in this process, in Valkey, and the way from one to the other and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from gateway_node import limits
from gateway_node.limits import PERIOD, REDIS_PAUSE, Buckets, Limit, LimitExceeded, LocalBuckets, subject_of
from presence import Pipe
from presence.link import Command


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_its_size_and_refills_evenly() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    assert [buckets.take("a", 3) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 3) == pytest.approx(PERIOD / 3)
    clock.now += PERIOD / 3 - 1
    assert buckets.take("a", 3) == pytest.approx(1)
    clock.now += 1.001
    assert buckets.take("a", 3) == 0
    assert buckets.take("a", 3) > 0
    clock.now += 1000 * PERIOD
    assert [buckets.take("a", 3) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 3) > 0


def test_asking_while_empty_does_not_make_it_longer() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    buckets.take("a", 1)
    for _ in range(100):
        assert buckets.take("a", 1) == pytest.approx(PERIOD)


def test_buckets_are_apart() -> None:
    buckets = LocalBuckets(Clock())
    assert buckets.take("a", 1) == 0
    assert buckets.take("b", 1) == 0
    assert buckets.take("a", 1) > 0


def test_the_longest_unused_bucket_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCAL_BUCKETS", 2)
    buckets = LocalBuckets(Clock())
    buckets.take("a", 1)
    buckets.take("b", 1)
    buckets.take("a", 1)
    buckets.take("c", 1)
    assert buckets.take("a", 1) > 0, "kept: it was asked for after b"
    assert buckets.take("b", 1) == 0, "forgotten"


async def test_a_limit_of_zero_is_none() -> None:
    limit = Limit(Buckets(None), "x", 0)
    for _ in range(10_000):
        await limit.spend("a")


async def test_a_limit_says_how_long_to_wait() -> None:
    limit = Limit(Buckets(None, Clock()), "x", 2)
    await limit.spend("a")
    await limit.spend("a")
    with pytest.raises(LimitExceeded) as caught:
        await limit.spend("a")
    assert caught.value.retry_after == pytest.approx(PERIOD / 2)


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", "unknown"),
        ("unix:", "unknown"),
        ("1.2.3.4, 5.6.7.8", "unknown"),
    ],
)
def test_an_address_counts_as_one_subscriber(address: str, subject: str) -> None:
    assert subject_of(address) == subject


@asynccontextmanager
async def pipe_to(url: str) -> AsyncIterator[Pipe]:
    pipe = Pipe(url)
    try:
        yield pipe
    finally:
        await pipe.close()


@pytest.mark.integration
async def test_nodes_share_their_buckets(redis_url: str) -> None:
    async with pipe_to(redis_url) as one, pipe_to(redis_url) as other:
        nodes = [Buckets(one), Buckets(other)]
        waits = await asyncio.gather(*(nodes[n % 2].take("a", 10) for n in range(30)))
        assert sum(wait == 0 for wait in waits) == 10
        assert all(0 < wait <= PERIOD / 10 + 0.001 for wait in waits if wait)


@pytest.mark.integration
async def test_a_bucket_in_redis_is_gone_when_it_would_be_full(redis_url: str) -> None:
    async with pipe_to(redis_url) as pipe, Redis.from_url(redis_url) as redis:
        await Buckets(pipe).take("a", 6)
        assert 10_000 < await redis.pttl("limit:a") <= 11_000


@pytest.mark.integration
async def test_a_redis_that_forgets_scripts_counts_on(redis_url: str) -> None:
    async with pipe_to(redis_url) as pipe, Redis.from_url(redis_url) as redis:
        buckets = Buckets(pipe)
        assert await buckets.take("a", 2) == 0
        await redis.script_flush()
        assert await buckets.take("a", 2) == 0
        assert await buckets.take("a", 2) > 0, "in Redis, not in the process"


@pytest.mark.integration
async def test_a_bucket_in_redis_refills(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PERIOD", 0.2)
    async with pipe_to(redis_url) as pipe:
        buckets = Buckets(pipe)
        assert await buckets.take("a", 1) == 0
        wait = await buckets.take("a", 1)
        assert 0 < wait <= 0.2
        async with asyncio.timeout(10):
            while await buckets.take("a", 1) > 0:
                await asyncio.sleep(0.01)


async def test_without_redis_the_process_counts_and_asks_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    asked = 0

    async with pipe_to("redis://127.0.0.1:1") as away:
        run = away.run

        async def counted(commands: Sequence[Command]) -> list[object]:
            nonlocal asked
            asked += 1
            return await run(commands)

        monkeypatch.setattr(away, "run", counted)
        buckets = Buckets(away, clock)
        assert [await buckets.take("a", 2) == 0 for _ in range(4)] == [True, True, False, False]
        assert asked == 1
        clock.now += REDIS_PAUSE
        await buckets.take("a", 2)
        assert asked == 2


async def test_a_redis_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REDIS_TIMEOUT", 0.05)
    ended = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, pipe_to(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as pipe:
        assert await Buckets(pipe).take("a", 1) == 0
        ended.set()
