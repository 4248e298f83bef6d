"""The message log alone: durable appends and recovery reads, without the gateway.

Appends: `append_messages` called by one connection, then the same number of appends in flight through the log writer's
socket, from one client process. The ratio says what the socket, the batching and the futures cost; 1.0 is free.
Reads: what clients ask when all of them come back at once, a few missing messages each; the time is the server's CPU
for a client, PostgreSQL's and the node's together.

    python -m benchmarks.append_log [--database-url URL] [--without-search]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.measure import cpu_seconds, descendants
from config.embedded import EmbeddedStack
from realtime.interfaces import Entry
from storage.database import Database
from storage.log import PostgresLog
from storage.log.append import append_batch
from storage.log.writer import run_log_writer
from storage.migrate import migrate

CHANNELS = 10_000
SENDER = "0b2f6f5e-5b0c-4f6a-9d6c-0d5a4c8b8a11"
WORDS = 12  # a message; its JSON has about 95 bytes
VOCABULARY = ["".join(random.choices("aeinorst", k=random.randint(2, 8))) for _ in range(20_000)]
FREQUENCIES = list(accumulate(1 / rank for rank in range(1, len(VOCABULARY) + 1)))  # as in any language (Zipf)

searchable = True  # whether what is said can be searched for


def entries(number: int) -> list[Entry]:
    texts = (" ".join(random.choices(VOCABULARY, cum_weights=FREQUENCIES, k=WORDS)) for _ in range(number))
    return [
        Entry(
            f"room:{random.randrange(CHANNELS)}",
            uuid.uuid4().bytes,
            SENDER,
            b'{"type":"text","content":"%s"}' % text.encode(),
            search=text if searchable else "",
        )
        for text in texts
    ]


async def bare(url: str, batch: int, total: int) -> tuple[float, list[float]]:
    """Messages/s and seconds a call, by one connection."""
    connection = await asyncpg.connect(url)
    batches = [entries(batch) for _ in range(total // batch)]
    times = []
    began = time.perf_counter()
    for each in batches:
        start = time.perf_counter()
        await append_batch(connection, each)
        times.append(time.perf_counter() - start)
    elapsed = time.perf_counter() - began
    await connection.close()
    return total / elapsed, times


async def through_writer(log: PostgresLog, in_flight: int, total: int) -> tuple[float, list[float]]:
    """Messages/s and seconds an append, with so many waiting at any time."""
    waiting = iter(entries(total))
    times = []

    async def one_after_another() -> None:
        for each in waiting:
            start = time.perf_counter()
            await log.append(each)
            times.append(time.perf_counter() - start)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    return total / (time.perf_counter() - began), times


async def recover(log: PostgresLog, clients: int) -> float:
    """Seconds until every client has what it missed: the last three messages of its channel."""
    heads = await log.heads([f"room:{number}" for number in range(CHANNELS)])
    places = [(channel, max(0, head.offset - 3)) for channel, head in heads.items()]
    began = time.perf_counter()
    await asyncio.gather(*(log.read(*random.choice(places), 1000, 512 * 1024) for _ in range(clients)))
    return time.perf_counter() - began


async def measure(url: str, socket_path: Path, cpu: Callable[[], float]) -> None:
    console = Console()
    connection = await asyncpg.connect(url)
    for setting in ("server_version", "fsync", "synchronous_commit", "full_page_writes"):
        console.print(f"{setting} = {await connection.fetchval(f'show {setting}')}")

    database = Database(url)
    log = PostgresLog(database, socket_path, lambda _heads: None)
    await log.start()
    await through_writer(log, 1000, 20_000)  # channels exist, plans are made

    table = Table("appends", "at once", "messages/s", "p50 ms", "p99 ms", "of bare")
    for at_once, total in ((1, 2_000), (100, 30_000), (500, 60_000)):
        by_call, times = await bare(url, at_once, total)
        table.add_row("bare call", str(at_once), f"{by_call:,.0f}", *_quantiles(times), "")
        by_writer, times = await through_writer(log, at_once, total)
        table.add_row("through the writer", str(at_once), *_speed(by_writer, times), f"{by_writer / by_call:.2f}")
    by_writer, times = await through_writer(log, 2000, 60_000)
    table.add_row("through the writer", "2000", *_speed(by_writer, times), "")
    console.print(table)

    clients, before = 20_000, cpu()
    elapsed = await recover(log, clients)
    spent = cpu() - before
    console.print(f"{clients} recoveries: {elapsed:.2f} s, {spent / clients * 1e3:.3f} ms of CPU each")
    await log.close()
    await database.close()
    await connection.close()


def _speed(rate: float, times: list[float]) -> tuple[str, str, str]:
    return (f"{rate:,.0f}", *_quantiles(times))


def _quantiles(times: list[float]) -> tuple[str, str]:
    times = sorted(times)
    return f"{times[len(times) // 2] * 1e3:.1f}", f"{times[int(len(times) * 0.99)] * 1e3:.1f}"


def _cpu() -> float:
    """This process, the writer and an embedded PostgreSQL, in seconds."""
    return sum(cpu_seconds(pid) for pid in descendants(os.getpid()))


@contextlib.contextmanager
def server(url: str | None, folder: Path) -> Iterator[str]:
    if url is not None:
        yield url
        return
    stack = EmbeddedStack(folder / "data")
    stack.start()
    try:
        yield str(stack.urls.database)
    finally:
        stack.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", help="an empty database; unset: an embedded one, gone afterwards")
    parser.add_argument("--without-search", action="store_true", help="leave what is said out of the search index")
    arguments = parser.parse_args()
    global searchable
    searchable = not arguments.without_search
    with (
        tempfile.TemporaryDirectory(prefix="cw-", dir="/tmp") as name,
        server(arguments.database_url, Path(name)) as url,
    ):
        asyncio.run(migrate(url))
        ready, told = os.pipe()
        writer = get_context("fork").Process(
            target=run_log_writer, args=(url, Path(name) / "log.sock"), kwargs={"ready_fd": told}
        )
        writer.start()
        os.read(ready, 1)
        try:
            uvloop.run(measure(url, Path(name) / "log.sock", _cpu))
        finally:
            writer.terminate()
            writer.join()


if __name__ == "__main__":
    main()
