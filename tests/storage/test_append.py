"""The append function: numbering, idempotency, concurrency."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from realtime.interfaces import Refused
from storage.log.append import append_batch, result_of
from storage.log.wire import APPENDED, CLOSED, DUPLICATE, ID_TAKEN, SILENCED
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


async def test_every_row_has_the_number_of_counted_messages_up_to_it(connection: Connection) -> None:
    await append_batch(connection, [entry("a", counted=False), entry("a"), entry("a", counted=False), entry("a")])
    await append_batch(connection, [entry("a", counted=False), entry("a")])
    rows = await connection.fetch('select counted, count_no from messages order by "offset"')
    assert [tuple(row) for row in rows] == [(False, 0), (True, 1), (False, 1), (True, 2), (False, 2), (True, 3)]
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


async def close(connection: Connection, channel: str) -> None:
    await connection.execute("update channels set closed = true where name = $1", channel)


async def silence(connection: Connection, channel: str, sender: str, until: str) -> None:
    await connection.execute(
        "insert into silenced select id, $2, $3::text::timestamptz from channels where name = $1",
        channel, sender, until,
    )  # fmt: skip


async def test_a_closed_channel_takes_events_and_no_messages(connection: Connection) -> None:
    before = entry("a")
    await append_batch(connection, [before, entry("b")])
    await close(connection, "a")
    late = entry("a")
    batch = [entry("a", counted=False), late, before, entry("b"), late, entry("a", counted=False)]
    outcomes = await append_batch(connection, batch)
    assert [(o.status, o.offset) for o in outcomes] == [
        (APPENDED, 2),
        (CLOSED, 0),
        (DUPLICATE, 1),  # what came through before is told so, however late its sender asks
        (APPENDED, 2),
        (CLOSED, 0),
        (APPENDED, 3),
    ]
    assert await offsets(connection, "a") == [1, 2, 3]
    assert await connection.fetchval("select last_count from channels where name = 'a'") == 1
    refused = result_of(outcomes[1])
    assert isinstance(refused, Refused)
    assert str(refused) == "the room is archived"


async def test_a_silenced_sender_is_told_until_when(connection: Connection) -> None:
    await append_batch(connection, [entry("a"), entry("b")])
    await silence(connection, "a", "eve", "2999-01-02T03:04:05.678Z")
    await silence(connection, "a", "mallory", "infinity")
    await silence(connection, "a", "bob", "2001-01-01T00:00:00Z")  # over
    id = uuid.uuid4().bytes
    outcomes = await append_batch(
        connection,
        [
            entry("a", sender="eve", id=id),
            entry("a", sender="mallory"),
            entry("a", sender="bob", id=id),  # a refused message's id is free
            entry("a", sender="eve", counted=False),
            entry("b", sender="eve"),
            entry("a"),
        ],
    )
    assert [(o.status, o.offset) for o in outcomes] == [
        (SILENCED, 0),
        (SILENCED, 0),
        (APPENDED, 2),
        (APPENDED, 3),
        (APPENDED, 2),
        (APPENDED, 4),
    ]
    reasons = [str(result_of(outcome)) for outcome in outcomes[:2]]
    assert reasons == ["muted until 2999-01-02T03:04:05.678Z", "muted"]


async def test_whoever_waits_for_a_room_that_is_being_archived_is_refused(database_url: str) -> None:
    """The append that waits for the moderator's lock sees what the moderator wrote."""
    moderator, author = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await append_batch(author, [entry("a")])
    async with moderator.transaction():
        await close(moderator, "a")
        append = asyncio.create_task(append_batch(author, [entry("a")]))
        waits = "select exists (select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock')"
        async with asyncio.timeout(15):
            while not await moderator.fetchval(waits, author.get_server_pid()):
                await asyncio.sleep(0.01)
                await moderator.execute("select pg_stat_clear_snapshot()")
    assert [outcome.status for outcome in await append] == [CLOSED]
    await moderator.close()
    await author.close()


async def test_mentions_have_the_offset_of_their_message(connection: Connection) -> None:
    ada, bob, eve = (str(uuid.uuid4()) for _ in range(3))
    first = entry("a", sender=ada, mentions=(bob, ada, bob))
    await append_batch(connection, [entry("a"), first, entry("b", sender=ada, mentions=(bob, eve))])
    await append_batch(connection, [entry("a", sender=bob, mentions=(ada,)), first])
    rows = await connection.fetch(
        'select c.name, m."offset", m.user_id::text from mentions m join channels c on c.id = m.channel_id'
    )
    assert {tuple(row) for row in rows} == {("a", 2, bob), ("b", 1, bob), ("b", 1, eve), ("a", 3, ada)}
    assert len(rows) == 4


async def test_only_texts_that_are_given_can_be_found(connection: Connection) -> None:
    target = uuid.uuid4()
    await append_batch(
        connection,
        [entry("a", search="The Eagle\0has landed"), entry("a"), entry("a", counted=False, target=target.bytes)],
    )
    rows = await connection.fetch('select search::text, target from messages order by "offset"')
    assert [tuple(row) for row in rows] == [
        ("'eagle':2 'has':3 'landed':4 'the':1", None),
        (None, None),
        (None, target),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 16_384,  # one word, longer than an index takes
        " ".join(f"{number:x}" for number in range(3_000)),
        "a-" * 8_192,
        "http://a/" * 1_820,
        "\U0001f44d\u00e9" * 8_192,
        "\0" * 16_384,
        "'\\\":*&|!()<->" * 1_200,
    ],
    ids=["word", "words", "hyphens", "addresses", "emoji", "nul", "operators"],
)
async def test_no_text_of_a_message_fails(connection: Connection, text: str) -> None:
    outcomes = await append_batch(connection, [entry("a", search=text[:16_384])])
    assert [outcome.status for outcome in outcomes] == [APPENDED]


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
