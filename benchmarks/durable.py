"""B4: acknowledged durable messages a second through the gateway, how late, and what each process spends on one.

Raw clients publish over WebSockets, each a few messages ahead of its acknowledgements, in durable channels; clients,
gateway nodes, log writer, PostgreSQL and NATS all run on this machine's cores. First as fast as it goes, then at a set
pace, where the time from the write of a publish to its acknowledgement counts. At the end the log's offsets must add up
to what was acknowledged.

The floor is the log alone: the same database, the same messages and channels, `append_messages` called by as many
connections as the log writer has, with as many rows as it takes at once, and nothing else. It runs before and after
each measurement of the gateway, which is compared with these two.

    python -m benchmarks.durable --nodes 1 8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Spread, cpu_seconds, descendants, name
from config.embedded import read_urls
from loadtest.raw import Publishers
from loadtest.server import Server
from realtime.interfaces import Entry
from storage.log.append import append_batch
from storage.log.lane import MAX_ROWS
from storage.log.writer import LANES

HISTORY_SIZE = 10_000
OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True, "history_size": HISTORY_SIZE}
SETTINGS = {
    "CHANNEL__NAMESPACES": json.dumps({"kept": OPEN}),
    "CLIENT__PUBLISHES_PER_SECOND": "0",
    "CLIENT__COMMANDS_PER_SECOND": "0",
    "CLIENT__PING_INTERVAL": "3600",  # raw clients send no pongs
    "CLIENT__PONG_TIMEOUT": "3000",
}
TEXT = {"type": "text", "content": "hello there, how is everyone today? I have a question on slide 12"}


class Spent:
    """CPU seconds by kind of process, from the start on."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        now: dict[str, float] = defaultdict(float)
        for pid in descendants(self._server.pid):
            now[name(pid).rstrip("0123456789-")] += cpu_seconds(pid)
        now["clients"] = cpu_seconds(os.getpid())
        return now

    def each(self, messages: int) -> dict[str, float]:
        """Microseconds a message."""
        now = self._now()
        return {kind: (now[kind] - self._before.get(kind, 0.0)) / messages * 1e6 for kind in now}


class Log:
    """The log alone, in the database of a running server."""

    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        urls = read_urls(server.data_dir)
        assert urls is not None and urls.database is not None
        self._server = server
        self._url = urls.database
        self._rows = min(MAX_ROWS, options.clients * options.window // LANES)
        self._calls = options.messages // LANES // self._rows  # of a connection
        # No channel is in two lanes, as in the writer: else two transactions would wait for each other.
        self._channels = [[f"kept:alone-{n}" for n in range(lane, options.channels, LANES)] for lane in range(LANES)]
        self.rates: list[float] = []
        self.spent: list[float] = []  # microseconds of CPU a message: PostgreSQL's and the caller's

    def settings(self) -> dict[str, str]:
        """What PostgreSQL says about how sure a commit is."""

        async def ask() -> dict[str, str]:
            connection = await asyncpg.connect(self._url)
            names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
            said = {name: await connection.fetchval(f"show {name}") for name in names}
            await connection.close()
            return said

        return asyncio.run(ask())

    def measure(self) -> None:
        uvloop.run(self._fill())

    async def _fill(self) -> None:
        connections = [await asyncpg.connect(self._url) for _ in range(LANES)]
        batches = [[self._batch(channels) for _ in range(self._calls + 1)] for channels in self._channels]

        async def one_after_another(lane: int) -> None:
            while batches[lane]:
                await append_batch(connections[lane], batches[lane].pop())

        for lane in range(LANES):  # the channels exist, the plans are made
            await append_batch(connections[lane], batches[lane].pop())
        before, started = Spent(self._server), time.monotonic()
        await asyncio.gather(*map(one_after_another, range(LANES)))
        messages = self._calls * LANES * self._rows
        self.rates.append(messages / (time.monotonic() - started))
        spent = before.each(messages)
        self.spent.append(spent["postgres"] + spent["clients"])
        for connection in connections:
            await connection.close()

    def _batch(self, channels: list[str]) -> list[Entry]:
        data = json.dumps(TEXT, separators=(",", ":")).encode()
        info = b'{"client":"%s","user":"user-0"}' % str(uuid4()).encode()  # as the gateway adds to what clients publish
        return [
            Entry(channels[n % len(channels)], uuid4().bytes, "user-0", data, info=info, history_size=HISTORY_SIZE)
            for n in range(self._rows)
        ]


def over(measured: Sequence[float], floors: Sequence[float]) -> list[float]:
    """Each measurement over the floors just before and just after it."""
    return [each / ((floors[n] + floors[n + 1]) / 2) for n, each in enumerate(measured)]


def measure(nodes: int, options: argparse.Namespace, console: Console) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="b4-") as folder,
        Server(Path(folder) / "data", nodes=nodes, settings=SETTINGS) as server,
    ):
        publishers = Publishers(
            [server.token(f"user-{number}") for number in range(options.clients)],
            lambda number: server.node_port_base + number % nodes,
            lambda number: f"kept:{number % options.channels}",
            TEXT,
        )
        log = Log(server, options)
        console.print(", ".join(f"{name} = {value}" for name, value in log.settings().items()), highlight=False)
        publishers.saturate(options.messages // 10, options.window)  # channels exist, plans are made
        rates = []
        spents = []
        log.measure()
        for _ in range(options.repeat):
            spent = Spent(server)
            rates.append(options.messages / publishers.saturate(options.messages, options.window))
            spents.append(spent.each(options.messages))
            log.measure()
        for kind in sorted({kind for spent in spents for kind in spent}):
            value = statistics.median(spent.get(kind, 0.0) for spent in spents)
            if value >= 0.5:
                console.print(f"  {kind}: {value:.1f} us a message", highlight=False)
        totals = [sum(spent.values()) for spent in spents]
        table = Table("", "messages/s", "us of CPU a message", title=f"B4: {nodes} nodes")
        table.add_row("the log alone", f"{Spread(log.rates):,.0f}", f"{Spread(log.spent):.1f}")
        table.add_row("through the gateway", f"{Spread(rates):,.0f}", f"{Spread(totals):.1f}")
        table.add_row(
            "gateway / log", f"{Spread(over(rates, log.rates)):.2f}", f"{Spread(over(totals, log.spent)):.2f}"
        )
        console.print(table)
        publishers.paced(options.pace, options.seconds)
        times = sorted(publishers.latencies)
        p50, p99 = (times[int(len(times) * part)] * 1e3 for part in (0.5, 0.99))
        console.print(f"{nodes} nodes at {options.pace}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms", highlight=False)
        publishers.close()
        stored = sum(
            server.api("history", channel=f"kept:{number}", limit=0)["offset"] for number in range(options.channels)
        )
        assert stored == publishers.acknowledged, (stored, publishers.acknowledged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--window", type=int, default=20, help="publishes of a client in flight")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pace", type=int, default=1000, help="messages/s for the times")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the paced part")
    options = parser.parse_args()
    console = Console(width=150)
    for nodes in options.nodes:
        measure(nodes, options, console)


if __name__ == "__main__":
    main()
