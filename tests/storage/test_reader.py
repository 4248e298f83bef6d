from __future__ import annotations

import asyncio

import pytest

from realtime.interfaces import Page
from realtime.protocol import StreamPosition
from storage.database import Database
from storage.log import LogReader, PostgresLog
from storage.log.append import append_batch
from tests.storage.conftest import entry

pytestmark = pytest.mark.integration


@pytest.fixture
async def reader(database: Database) -> LogReader:
    """Channel `a` has offsets 1 to 10, each of its number in digits repeated: 100 bytes."""
    async with database.acquire() as connection:
        await append_batch(connection, [entry("a", data=f"{number:0100d}".encode()) for number in range(1, 11)])
    return LogReader(database)


def offsets(page: Page) -> list[int]:
    for each in page.publications:
        assert int(bytes(each.data)) == each.offset
    return [each.offset for each in page.publications]


async def test_forwards(reader: LogReader) -> None:
    assert offsets(await reader.read("a", 0, 100)) == list(range(1, 11))
    assert offsets(await reader.read("a", 3, 4)) == [4, 5, 6, 7]
    assert offsets(await reader.read("a", 10, 4)) == []
    assert offsets(await reader.read("a", 99, 4)) == []


async def test_backwards(reader: LogReader) -> None:
    assert offsets(await reader.read_back("a", None, 3)) == [10, 9, 8]
    assert offsets(await reader.read_back("a", 4, 100)) == [3, 2, 1]
    assert offsets(await reader.read_back("a", 1, 100)) == []


async def test_a_limit_of_zero_reads_the_head_alone(reader: LogReader) -> None:
    for page in (await reader.read("a", 0, 0), await reader.read_back("a", None, 0)):
        assert (page.publications, page.head.offset, page.first) == ([], 10, 1)


async def test_reading_stops_before_the_byte_limit(reader: LogReader) -> None:
    assert offsets(await reader.read("a", 2, 100, max_bytes=350)) == [3, 4, 5]
    assert offsets(await reader.read("a", 2, 100, max_bytes=300)) == [3, 4, 5]
    assert offsets(await reader.read("a", 2, 2, max_bytes=10_000)) == [3, 4]
    assert offsets(await reader.read_back("a", 8, 100, max_bytes=350)) == [7, 6, 5]
    assert offsets(await reader.read_back("a", 8, 2, max_bytes=10_000)) == [7, 6]


async def test_one_publication_is_read_however_large(reader: LogReader) -> None:
    assert offsets(await reader.read("a", 2, 100, max_bytes=99)) == [3]
    assert offsets(await reader.read_back("a", 8, 100, max_bytes=0)) == [7]
    assert offsets(await reader.read("a", 10, 100, max_bytes=99)) == []


async def test_all_that_is_sent_of_a_publication_counts(database: Database) -> None:
    async with database.acquire() as connection:
        entries = [entry("b", data=b"1" * 100, info=b'{"user":"%s"}' % (b"u" * 400)) for _ in range(4)]
        await append_batch(connection, entries)
    assert len((await LogReader(database).read("b", 0, 100, max_bytes=1100)).publications) == 2


async def test_a_channel_without_messages_stands_at_zero(reader: LogReader) -> None:
    page = await reader.read("never", 0, 10)
    generation = (await reader.read("a", 0, 0)).head.epoch.partition(".")[0]
    assert (page.publications, page.head, page.first) == ([], StreamPosition(0, f"{generation}.0"), 1)


async def test_the_first_message_keeps_the_epoch_of_the_empty_channel(log: PostgresLog) -> None:
    """A subscriber of an empty channel can recover from where it was."""
    empty = await log.read("a", 0, 0)
    appended = await log.append(entry("a"))
    assert (appended.offset, appended.epoch) == (1, empty.head.epoch)


async def test_heads(reader: LogReader) -> None:
    heads = await reader.heads(["a", "never", "a"])
    assert {name: head.offset for name, head in heads.items()} == {"a": 10, "never": 0}
    assert await reader.heads([]) == {}


async def test_requests_of_one_turn_share_a_statement(reader: LogReader, database: Database) -> None:
    statements = 0
    fetch = database.fetch

    async def counting(query: str, *args: object) -> object:
        nonlocal statements
        statements += 1
        return await fetch(query, *args)

    database.fetch = counting  # type: ignore[method-assign, assignment]
    requests = [reader.read("a", number % 10, 2) for number in range(200)]
    requests += [reader.read_back("a", number % 10 + 2, 1) for number in range(200)]
    requests += [reader.read(f"other-{number}", 0, 5) for number in range(50)]
    pages = await asyncio.gather(*requests)
    assert statements == 1
    for number, page in enumerate(pages[:200]):
        assert offsets(page) == [n for n in (number % 10 + 1, number % 10 + 2) if n <= 10]
    for number, page in enumerate(pages[200:400]):
        assert offsets(page) == [number % 10 + 1]
    assert all(page.publications == [] for page in pages[400:])


async def test_many_big_requests_are_spread_over_statements(reader: LogReader) -> None:
    pages = await asyncio.gather(*(reader.read("a", 0, 1000 + number) for number in range(100)))
    assert {tuple(offsets(page)) for page in pages} == {tuple(range(1, 11))}


@pytest.mark.parametrize("offset", [-(1 << 70), -1, 1 << 63, (1 << 64) - 1, 1 << 80])
async def test_an_offset_beyond_the_database_is_answered_alone(reader: LogReader, offset: int) -> None:
    strange, good = await asyncio.gather(reader.read("a", offset, 100), reader.read("a", 8, 100))
    assert offsets(strange) == ([] if offset > 0 else list(range(1, 11)))
    assert offsets(good) == [9, 10]


@pytest.mark.parametrize("channel", ["nul\0", "\ud800", ""])
async def test_a_name_that_no_channel_can_have_is_empty(reader: LogReader, channel: str) -> None:
    strange, good = await asyncio.gather(reader.read(channel, 0, 100), reader.read("a", 8, 100))
    assert (strange.publications, strange.head.offset) == ([], 0)
    assert offsets(good) == [9, 10]


async def test_a_caller_that_gives_up_leaves_the_answer_to_the_others(reader: LogReader) -> None:
    first, second = (asyncio.create_task(reader.read("a", 8, 100)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert offsets(await second) == [9, 10]
