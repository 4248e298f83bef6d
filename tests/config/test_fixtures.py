"""The fixtures that the other tests stand on."""

from __future__ import annotations

import asyncpg
import nats
import pytest
import redis.asyncio

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("_round", range(2))
async def test_every_test_has_a_migrated_database_of_its_own(database_url: str, _round: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("select count(*) from schema_migrations") > 0
        await connection.execute("create table mark ()")
    finally:
        await connection.close()


async def test_an_empty_database_can_be_had(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("_round", range(2))
async def test_valkey_is_empty_at_the_start_of_each_test(redis_url: str, _round: int) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.incr("mark") == 1


async def test_nats_carries_messages(nats_url: str) -> None:
    client = await nats.connect(nats_url)
    subscription = await client.subscribe("subject")
    await client.publish("subject", b"message")
    assert (await subscription.next_msg(5)).data == b"message"
    await client.close()
