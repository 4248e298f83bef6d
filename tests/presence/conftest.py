"""Fixtures of the tests of presence."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from config.embedded import EmbeddedStack
from tests.presence.nodes import connect
from tests.stack import short_folder


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


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(redis_url) as client:
        yield client


@pytest.fixture
async def notices(redis_url: str) -> AsyncIterator[list[str]]:
    """What is published on `presence`."""
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
