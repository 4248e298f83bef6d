"""The sweep, trimming, clearing: what the log writer does beside appending."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from realtime.namespaces import UNLIMITED
from storage.database import Database
from storage.log import LogClient, LogReader, PostgresLog
from storage.log.append import append_batch
from storage.log.sweep import Horizon, Sweep
from storage.log.trim import Trimmer
from storage.log.wire import Heads
from tests.storage.conftest import Listener, entry

if TYPE_CHECKING:
    from pathlib import Path

    from storage.log.writer import LogWriter

    Connection = asyncpg.Connection[asyncpg.Record]


class Looks:
    """A sweep by hand."""

    def __init__(self, url: str) -> None:
        self.reports: list[Heads] = []
        self.sweep = Sweep(url, lambda: True, self.reports.append)

    async def look(self) -> dict[str, int]:
        await self.sweep.look()
        return {head.channel: head.offset for head in self.reports[-1].heads}


@pytest.mark.integration
async def test_the_sweep_reports_what_other_hosts_wrote(
    log: PostgresLog, connection: Connection, listener: Listener
) -> None:
    await append_batch(connection, [entry("a"), entry("b"), entry("a")])
    await listener.until(lambda: len(listener.heads) == 2)
    assert {name: head.offset for name, head in listener.heads.items()} == {"a": 2, "b": 1}
    assert listener.heads == await log.heads(["a", "b"])
    await append_batch(connection, [entry("b")])
    await listener.until(lambda: listener.heads["b"].offset == 2)


@pytest.mark.integration
async def test_each_head_is_told_once(database_url: str, connection: Connection) -> None:
    looks = Looks(database_url)
    await append_batch(connection, [entry("a"), entry("b")])
    assert await looks.look() == {"a": 1, "b": 1}
    assert await looks.look() == {}
    await append_batch(connection, [entry("b")])
    assert await looks.look() == {"b": 2}
    looks.sweep.close()


@pytest.mark.integration
async def test_a_slow_commit_is_found_however_long_it_took(database_url: str, connection: Connection) -> None:
    """Its created_at lies before looks that could not see it."""
    looks = Looks(database_url)
    other = await asyncpg.connect(database_url)
    await looks.look()
    transaction = connection.transaction()
    await transaction.start()
    await append_batch(connection, [entry("slow")])
    for _ in range(4):
        await asyncio.sleep(0.3)  # beyond the allowance for a clock set back
        await append_batch(other, [entry("fast")])
        assert "slow" not in await looks.look()
    await transaction.commit()
    assert await looks.look() == {"slow": 1}
    await other.close()
    looks.sweep.close()


@pytest.mark.integration
async def test_a_new_writer_reports_what_its_predecessor_could_not(database_url: str, connection: Connection) -> None:
    first = Looks(database_url)
    await first.look()
    seen = first.reports[-1].complete_to
    first.sweep.close()
    await append_batch(connection, [entry("a")])
    await connection.execute("update messages set created_at = created_at + interval '1 minute'")

    second = Looks(database_url)
    second.sweep.reach_back(seen)
    assert await second.look() == {"a": 1}
    second.sweep.reach_back(seen)  # another node comes back: the first ones hear it twice, which harms nobody
    assert await second.look() == {"a": 1}
    second.sweep.close()


def test_the_horizon_waits_for_what_is_in_flight() -> None:
    horizon = Horizon()
    assert horizon.add(1000, xmin=10, own=10) == 0  # whether something began before is not known yet
    assert horizon.add(2000, xmin=11, own=13) == 1000  # 11 and 12 may be in flight since before the second look
    assert horizon.add(3000, xmin=11, own=14) == 1000
    assert horizon.add(4000, xmin=13, own=15) == 1000
    assert horizon.add(5000, xmin=14, own=17) == 2000
    assert horizon.add(6000, xmin=18, own=18) == 5000


@pytest.mark.integration
async def test_a_listener_that_fails_does_not_end_the_connection(
    writer: LogWriter, connection: Connection, socket_path: Path
) -> None:
    heard = asyncio.Event()

    def broken(_heads: object) -> None:
        heard.set()
        raise ZeroDivisionError

    client = LogClient(socket_path, broken)
    await client.start()
    async with asyncio.timeout(10):
        await heard.wait()
    assert (await client.append(entry("a"))).offset == 1
    await client.close()


# --- trimming and clearing -----------------------------------------------------------------------------------------


async def stored(connection: Connection, channel: str) -> list[int]:
    rows = await connection.fetch(
        'select "offset" from messages m join channels c on c.id = m.channel_id where name = $1 order by 1', channel
    )
    return [row[0] for row in rows]


async def age(connection: Connection, up_to: int, seconds: int) -> None:
    await connection.execute(
        'update messages set created_at = created_at - make_interval(secs => $2) where "offset" <= $1', up_to, seconds
    )


@pytest.mark.integration
async def test_reads_keep_to_the_size_before_the_trimmer_comes(database: Database, connection: Connection) -> None:
    reader = LogReader(database)
    await append_batch(connection, [entry("a", history_size=3) for _ in range(10)])
    page = await reader.read("a", 0, 100)
    assert [each.offset for each in page.publications] == [8, 9, 10]
    assert (page.first, page.head.offset) == (8, 10)
    assert [each.offset for each in (await reader.read_back("a", None, 100)).publications] == [10, 9, 8]
    assert len(await stored(connection, "a")) == 10


@pytest.mark.integration
async def test_trimming_by_size_keeps_recovery_honest(
    database: Database, database_url: str, connection: Connection
) -> None:
    reader, trimmer = LogReader(database), Trimmer(database_url)
    await append_batch(connection, [entry("a", history_size=3) for _ in range(10)])
    before = await reader.read("a", 0, 100)
    assert await trimmer.trim() == 7
    assert await trimmer.trim() == 0
    assert await stored(connection, "a") == [8, 9, 10]
    assert await reader.read("a", 0, 100) == before
    assert (await append_batch(connection, [entry("a", history_size=3)]))[0].offset == 11
    assert (await reader.read("a", 0, 0)).first == 9
    trimmer.close()


@pytest.mark.integration
async def test_trimming_by_age(database: Database, database_url: str, connection: Connection) -> None:
    reader, trimmer = LogReader(database), Trimmer(database_url)
    await append_batch(connection, [entry("a", history_ttl=60) for _ in range(5)])
    await age(connection, up_to=3, seconds=61)
    page = await reader.read("a", 0, 100)
    assert ([each.offset for each in page.publications], page.first) == ([4, 5], 4)
    trimmer.touched.add("a")
    assert await trimmer.trim() == 3
    await age(connection, up_to=5, seconds=61)
    page = await reader.read("a", 5, 100)
    assert (page.publications, page.first, page.head.offset) == ([], 6, 5)
    assert await trimmer.trim() == 2
    assert await reader.read("a", 5, 100) == page
    assert (await append_batch(connection, [entry("a", history_ttl=60)]))[0].offset == 6
    trimmer.close()


@pytest.mark.integration
async def test_without_limits_nothing_is_trimmed(log: PostgresLog, database_url: str, connection: Connection) -> None:
    await asyncio.gather(*(log.append(entry("a", history_size=UNLIMITED)) for _ in range(5)))
    await age(connection, up_to=5, seconds=10**9)
    trimmer = Trimmer(database_url)
    trimmer.touched.add("a")
    assert await trimmer.trim() == 0
    assert len((await log.read("a", 0, 100)).publications) == 5
    trimmer.close()


@pytest.mark.integration
async def test_the_walk_comes_round_to_every_channel(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.log.trim.STEP", 2)
    monkeypatch.setattr("storage.log.trim.WALK", 4)
    await append_batch(connection, [entry(f"c{n % 9}", history_size=1) for n in range(18)])
    trimmer = Trimmer(database_url)
    assert [await trimmer.trim() for _ in range(4)] == [4, 4, 1, 0]
    trimmer.close()


@pytest.mark.integration
async def test_the_writer_trims_what_it_appended(log: PostgresLog, writer: LogWriter, connection: Connection) -> None:
    await asyncio.gather(*(log.append(entry("a", history_size=2)) for _ in range(6)))
    await log.append(entry("b"))
    assert writer.trimmer.touched == {"a"}
    assert await writer.trimmer.trim() == 4
    assert await stored(connection, "a") == [5, 6]


@pytest.mark.integration
async def test_clearing_makes_every_earlier_position_unrecoverable(log: PostgresLog, connection: Connection) -> None:
    again = entry("a")
    before = await log.append(again)
    await log.append(entry("a"))
    cleared = await log.clear("a")
    assert cleared.offset == 2
    assert cleared.epoch != before.epoch
    page = await log.read("a", 0, 100)
    assert (page.publications, page.head, page.first) == ([], cleared, 3)
    assert await stored(connection, "a") == []
    after = await log.append(again)  # the history that knew the id is gone
    assert (after.offset, after.epoch, after.duplicate) == (3, cleared.epoch, None)


@pytest.mark.integration
async def test_clearing_a_channel_without_messages_changes_nothing(log: PostgresLog) -> None:
    before = (await log.heads(["a"]))["a"]
    assert await log.clear("a") == before
    assert (await log.append(entry("a"))).epoch == before.epoch
