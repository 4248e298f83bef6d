"""The log as a node uses it: through the writer's socket and the pool."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import asyncpg
import pytest
from msgspec import Raw
from structlog.testing import capture_logs

from realtime.interfaces import Entry, IdTaken, LogUnavailable, Rejected
from realtime.protocol import ClientInfo, Publication, StreamPosition
from storage.database import Database
from storage.log import LogClient, PostgresLog
from storage.log.lane import Lane, Request
from storage.log.wire import APPENDED, REJECTED, UNAVAILABLE, Outcome
from storage.log.writer import LogWriter, SocketTaken
from tests.storage.conftest import Listener, entry, serving

pytestmark = pytest.mark.integration


async def test_what_is_appended_comes_back(log: PostgresLog) -> None:
    written = entry("a", data=b'{"a":"\\u0000"}', info=b'{"user":"ada","client":"c1"}', tags=b'{"k":"v"}')
    first = await log.append(written)
    assert (first.offset, first.duplicate) == (1, None)
    expected = Publication(
        data=Raw(written.data),
        info=ClientInfo(user="ada", client="c1"),
        offset=1,
        tags={"k": "v"},
        time=first.time,
    )
    page = await log.read("a", 0, 10)
    assert page.publications == [expected]
    assert (page.head, page.first) == (StreamPosition(1, first.epoch), 1)

    again = await log.append(written)
    assert (again.offset, again.epoch, again.time, again.duplicate) == (1, first.epoch, first.time, expected)


async def test_appends_of_a_channel_end_in_the_order_of_the_calls(log: PostgresLog) -> None:
    ended: list[tuple[str, int]] = []

    async def append(channel: str) -> None:
        ended.append((channel, (await log.append(entry(channel))).offset))

    await asyncio.gather(*(append(f"channel-{number % 7}") for number in range(1400)))
    for number in range(7):
        assert [offset for channel, offset in ended if channel == f"channel-{number}"] == list(range(1, 201))


async def test_a_poison_row_among_99_good_ones_fails_alone(log: PostgresLog) -> None:
    entries = [entry("a") for _ in range(100)]
    entries[41] = entry("a", sender="nul\0")
    results = await asyncio.gather(*(log.append(each) for each in entries), return_exceptions=True)
    failed = results.pop(41)
    assert isinstance(failed, Rejected)
    assert "0x00" in str(failed)
    assert [result.offset for result in results if not isinstance(result, BaseException)] == list(range(1, 100))


@pytest.mark.parametrize(
    "bad",
    [
        entry("a", sender="nul\0"),
        entry("a", sender="\ud800"),
        entry("a", type="\0"),
        entry("nul\0"),
        entry("\ud800"),
        entry(""),
        entry("c" * 256),
        entry("a", id=b"short"),
        entry("a", history_ttl=1 << 63),
        entry("a", history_ttl=1 << 70),
        entry("a", data="not bytes"),  # type: ignore[arg-type]
        entry("a", counted="maybe"),
        entry("a", data=bytes(17 << 20)),
    ],
    ids=range(13),
)
async def test_what_the_log_cannot_hold_is_rejected_and_costs_nobody_else(log: PostgresLog, bad: Entry) -> None:
    results = await asyncio.gather(
        log.append(entry("a")), log.append(bad), log.append(entry("a")), return_exceptions=True
    )
    assert isinstance(results[1], Rejected)
    assert [result.offset for result in (results[0], results[2]) if not isinstance(result, BaseException)] == [1, 2]


async def test_another_senders_id_is_taken(log: PostgresLog) -> None:
    mine = entry("a")
    await log.append(mine)
    with pytest.raises(IdTaken):
        await log.append(entry("a", id=mine.id, sender="eve"))


async def test_a_caller_that_gives_up_disturbs_nobody(log: PostgresLog) -> None:
    tasks = [asyncio.ensure_future(log.append(entry("a"))) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert (await tasks[0]).offset == 1
    assert (await tasks[2]).offset == 3  # it was on its way
    assert (await log.append(entry("a"))).offset == 4


async def test_one_writer_a_socket(writer: LogWriter, database_url: str, socket_path: Path, log: PostgresLog) -> None:
    with pytest.raises(SocketTaken, match=r"already serves .*log\.sock"):
        await LogWriter(database_url, socket_path).serve()
    assert (await log.append(entry("a"))).offset == 1


async def test_a_socket_file_left_behind_is_replaced(database_url: str, socket_path: Path) -> None:
    socket_path.touch()
    async with serving(LogWriter(database_url, socket_path)):
        client = LogClient(socket_path, Listener())
        await client.start()
        assert (await client.append(entry("a"))).offset == 1
        await client.close()
    assert not socket_path.exists()


async def test_without_a_writer_appends_wait_a_moment_and_then_fail_at_once(socket_path: Path) -> None:
    client = LogClient(socket_path, Listener(), deadline=0.3, patience=0.1)
    with pytest.raises(LogUnavailable, match="no log writer at"):
        await client.start()
    with pytest.raises(LogUnavailable, match="is away"):
        client.append(entry("a")).result()  # no waiting
    await client.close()


async def test_an_append_is_answered_by_its_deadline(socket_path: Path) -> None:
    """By a writer that takes everything and says nothing."""
    taken: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_unix_server(lambda _reader, writer: taken.append(writer), str(socket_path))
    client = LogClient(socket_path, Listener(), deadline=0.2, max_pending=2)
    await client.start()
    waiting = [client.append(entry("a")) for _ in range(3)]
    with pytest.raises(LogUnavailable, match="too many"):
        waiting[2].result()
    for append in waiting[:2]:
        with pytest.raises(LogUnavailable, match=r"has not answered in 0\.2 s"):
            await append
    assert client.pending == 0
    await client.close(timeout=0)
    silent.close()
    for each in taken:
        each.close()


async def test_close_waits_for_what_is_in_flight(writer: LogWriter, socket_path: Path) -> None:
    client = LogClient(socket_path, Listener())
    await client.start()
    appends = [client.append(entry("a")) for _ in range(50)]
    await client.close()
    assert [append.result().offset for append in appends] == list(range(1, 51))
    with pytest.raises(LogUnavailable):
        client.append(entry("a")).result()


async def test_garbage_on_the_socket_ends_that_connection_only(log: PostgresLog, socket_path: Path) -> None:
    for garbage in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x03\x92\x01\x90"):
        reader, sender = await asyncio.open_unix_connection(str(socket_path))
        sender.write(garbage)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        sender.close()
    assert (await log.append(entry("a"))).offset == 1


async def test_a_full_queue_says_so(database_url: str) -> None:
    told: list[Outcome] = []
    lane = Lane(database_url, lambda: None, max_queue_rows=3)
    for number in range(5):
        lane.add(Request(entry("a"), 100, number, told.append))
    assert [(outcome.status, outcome.number, outcome.reason) for outcome in told] == [
        (UNAVAILABLE, 3, "the log writer's queue is full"),
        (UNAVAILABLE, 4, "the log writer's queue is full"),
    ]
    lane.stop()
    await lane.run()  # what was taken is committed before it ends
    assert [(outcome.status, outcome.number) for outcome in told[2:]] == [(APPENDED, n) for n in range(3)]


async def test_a_lane_halves_down_to_each_culprit(database_url: str) -> None:
    told: list[Outcome] = []
    lane = Lane(database_url, lambda: None)
    culprits = {0, 6, 7, 19}
    for number in range(20):
        lane.add(Request(entry("a", sender="\0" if number in culprits else "ada"), 100, number, told.append))
    lane.stop()
    await lane.run()
    assert [outcome.number for outcome in told] == list(range(20))
    assert {outcome.number for outcome in told if outcome.status == REJECTED} == culprits
    assert [outcome.offset for outcome in told if outcome.status == APPENDED] == list(range(1, 17))


async def test_without_its_schema_the_writer_answers_unavailable(empty_database_url: str, socket_path: Path) -> None:
    async with serving(LogWriter(empty_database_url, socket_path)):
        client = LogClient(socket_path, Listener())
        await client.start()
        with pytest.raises(LogUnavailable, match="append_messages"):
            await client.append(entry("a"))
        await client.close()


async def test_a_row_held_by_another_delays_only_its_lane_and_is_told(
    log: PostgresLog, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A transaction that forgets a channel's row: its appends fail with a sentence, and all is well when it ends."""
    await log.append(entry("a"))
    await log.append(entry("d"))  # the other lane, by its hash
    async with connection.transaction():
        await connection.execute("select from channels where name = 'a' for update")
        stuck = asyncio.ensure_future(log.append(entry("a")))
        await asyncio.sleep(0)
        assert (await log.append(entry("d"))).offset == 2
        with pytest.raises(LogUnavailable, match="statement timeout"):
            await stuck
    async with asyncio.timeout(5):
        while True:
            try:
                assert (await log.append(entry("a"))).offset == 2
                break
            except LogUnavailable:
                await asyncio.sleep(0.02)


async def test_a_full_disk_is_told_at_once_and_heals(
    log: PostgresLog, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """PostgreSQL's own error, raised by a trigger."""
    await log.append(entry("a"))
    await connection.execute(
        """
        create function full_disk() returns trigger language plpgsql as $$
        begin raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$;
        create trigger full_disk before insert on messages execute function full_disk();
        """
    )
    message = entry("a")
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(LogUnavailable, match="No space left on device"):
                await asyncio.wait_for(log.append(message), 2)
    assert [line["event"] for line in lines] == ["postgresql_full"], "said once"
    assert (await log.read("a", 0, 10)).head.offset == 1, "reading goes on"
    await connection.execute("drop trigger full_disk on messages")
    assert (await log.append(message)).offset == 2


async def test_reads_of_a_database_that_is_away_fail_quickly(socket_path: Path) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    log = PostgresLog(database, socket_path, Listener())
    for call in (log.read("a", 0, 1), log.read_back("a", None, 1), log.heads(["a"]), log.clear("a")):
        with pytest.raises(LogUnavailable, match="PostgreSQL is not available"):
            await call
    await database.close()


async def test_ids_are_only_unique_within_a_channel(log: PostgresLog) -> None:
    same = uuid.uuid4().bytes
    assert (await log.append(entry("a", id=same))).duplicate is None
    assert (await log.append(entry("b", id=same, sender="eve"))).duplicate is None
