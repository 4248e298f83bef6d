"""The append function: numbering, idempotency, concurrency."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from storage.log.append import append_batch
from storage.log.wire import APPENDED, DUPLICATE, ID_TAKEN
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration

if TYPE_CHECKING:
    from storage.database import Connection


async def offsets(connection: Connection, channel: str) -> list[int]:
    rows = await connection.fetch(
        'select "offset" from messages m join channels c on c.id = m.channel_id where c.name = $1 order by 1', channel
    )
    return [row[0] for row in rows]


async def test_a_batch_numbers_each_channel_by_itself(connection: Connection) -> None:
    entries = [entry(channel) for channel in "abaab"]
    outcomes = await append_batch(connection, entries)
    assert [outcome.offset for outcome in outcomes] == [1, 1, 2, 3, 2]
    assert {outcome.status for outcome in outcomes} == {APPENDED}
    assert [outcome.offset for outcome in await append_batch(connection, [entry("b"), entry("c")])] == [3, 1]
    assert len({outcome.epoch for outcome in outcomes}) == 1
    assert outcomes[0].epoch.endswith(".0")


async def test_only_counted_messages_have_a_count(connection: Connection) -> None:
    await append_batch(connection, [entry("a"), entry("a", counted=False), entry("a")])
    await append_batch(connection, [entry("a", counted=False), entry("a")])
    rows = await connection.fetch('select "offset", count_no from messages order by 1')
    assert [tuple(row) for row in rows] == [(1, 1), (2, None), (3, 2), (4, None), (5, 3)]
    assert await connection.fetchval("select last_count from channels") == 3


async def test_the_same_id_again_is_the_first_message(connection: Connection) -> None:
    first = entry("a", data=b"1", info=b'{"user":"ada"}', tags=b'{"k":"v"}')
    again = entry("a", id=first.id, data=b"2")
    one = (await append_batch(connection, [first]))[0]
    outcomes = await append_batch(connection, [entry("a"), again, entry("a")])
    assert [(o.status, o.offset) for o in outcomes] == [(APPENDED, 2), (DUPLICATE, 1), (APPENDED, 3)]
    stored = outcomes[1].stored
    assert stored is not None
    assert (stored.data, stored.info, stored.tags) == (b"1", b'{"user":"ada"}', b'{"k":"v"}')
    assert (outcomes[1].time, outcomes[1].epoch) == (one.time, one.epoch)
    assert await offsets(connection, "a") == [1, 2, 3]


async def test_duplicates_in_one_batch_collapse(connection: Connection) -> None:
    twice = entry("a")
    elsewhere = entry("b", id=twice.id)  # an id belongs to its channel
    stranger = entry("a", id=twice.id, sender="eve")
    outcomes = await append_batch(connection, [entry("a"), twice, elsewhere, twice, stranger, entry("a")])
    assert [(o.status, o.offset) for o in outcomes] == [
        (APPENDED, 1),
        (APPENDED, 2),
        (APPENDED, 1),
        (DUPLICATE, 2),
        (ID_TAKEN, 0),
        (APPENDED, 3),
    ]


async def test_another_senders_id_is_taken(connection: Connection) -> None:
    mine = entry("a")
    await append_batch(connection, [mine])
    outcome = (await append_batch(connection, [entry("a", id=mine.id, sender="eve")]))[0]
    assert (outcome.status, outcome.stored) == (ID_TAKEN, None)
    assert await offsets(connection, "a") == [1]


async def test_300_concurrent_retries_of_one_id_are_one_message(database_url: str) -> None:
    same = entry("a")
    async with asyncpg.create_pool(database_url, min_size=0, max_size=30) as pool:

        async def retry() -> tuple[int, int]:
            async with pool.acquire() as connection:
                outcome = (await append_batch(connection, [same]))[0]
            return outcome.status, outcome.offset

        results = Counter(await asyncio.gather(*(retry() for _ in range(300))))
        async with pool.acquire() as connection:
            assert await offsets(connection, "a") == [1]
    assert results == {(APPENDED, 1): 1, (DUPLICATE, 1): 299}


async def test_writers_that_meet_in_many_channels_neither_deadlock_nor_leave_a_hole(database_url: str) -> None:
    """New channels and old ones, in any order, in several writers at once."""
    channels = [f"channel-{number}" for number in range(40)]
    async with asyncpg.create_pool(database_url, min_size=0, max_size=8) as pool:

        async def write(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(15):
                async with pool.acquire() as connection:
                    await append_batch(connection, [entry(channel) for channel in chance.sample(channels, 20)])

        await asyncio.gather(*(write(seed) for seed in range(8)))
        total = 0
        async with pool.acquire() as connection:
            for channel in channels:
                found = await offsets(connection, channel)
                assert found == list(range(1, len(found) + 1))
                total += len(found)
            late = await connection.fetchval(
                "select count(*) from messages a join messages b on b.channel_id = a.channel_id "
                'and b."offset" = a."offset" + 1 where b.created_at < a.created_at'
            )
    assert total == 8 * 15 * 20
    assert late == 0, "time runs backwards in a channel"


async def test_two_appends_in_one_transaction_roll_back_together(connection: Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            await append_batch(connection, [entry("a")])
            raise ZeroDivisionError
    assert [outcome.offset for outcome in await append_batch(connection, [entry("a")])] == [1]


async def test_the_plan_does_not_scan_tables_that_were_empty_when_it_was_made(connection: Connection) -> None:
    """The function's plans are cached for the connection's life, from before the tables grew."""
    for _ in range(8):  # past the custom plans
        await append_batch(connection, [entry("a")])
    await connection.execute(
        "insert into channels (name) select 'filler-' || n from generate_series(1, 20000) n",
    )
    before = await connection.fetchrow("select seq_tup_read from pg_stat_user_tables where relname = 'channels'")
    for _ in range(5):
        await append_batch(connection, [entry(uuid.uuid4().hex), entry("a")])
    await connection.execute("select pg_stat_force_next_flush()")
    await connection.execute("select pg_stat_clear_snapshot()")
    after = await connection.fetchrow("select seq_tup_read from pg_stat_user_tables where relname = 'channels'")
    assert before is not None
    assert after is not None
    assert after[0] - before[0] < 20_000
