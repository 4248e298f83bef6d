"""B8: how costs grow, not how high they are.

deliveries: the node's CPU time for a publication to 100 ... 15,000 readers: O(recipients). Beside it the C loop of
    `send_floor.c`, which also pays for what no longer is in a cache.
publishes: what a message costs everybody but its recipients, in a room with 2 ... 10,000 members who are all there:
    statements, rows and blocks of PostgreSQL, commands of Valkey, CPU time of the log writer and the stores: O(1).
history: blocks of PostgreSQL that a page of 50 touches at the end, in the middle and at the beginning of a channel of
    1,000 ... 1,000,000 messages: O(log n).
heartbeats: what 1 ... 16 nodes with nothing to do say to NATS, Valkey and PostgreSQL in a second: O(nodes).

    python -m benchmarks.growth [deliveries publishes history heartbeats]

What grows like size^0 does not grow; size^1 is in proportion.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import log
from pathlib import Path
from statistics import linear_regression, median
from uuid import UUID, uuid4

import asyncpg
import redis
from rich.console import Console
from rich.table import Table

from benchmarks import fanout
from benchmarks.measure import cpu_seconds, descendants, name
from benchmarks.memory import SETTINGS
from config.embedded import EmbeddedStack, read_urls
from loadtest.raw import Readers, Sender
from loadtest.server import Server
from storage.migrate import migrate
from storage.queries import load

READERS = (100, 1_000, 5_000, 15_000)
ROUNDS = 30  # for each: TCP answers the first 16 segments after a pause one by one, and they cost more
PAYLOAD = 128  # bytes

MEMBERS = (2, 100, 10_000)
PUBLISHES = 40
PACE = 0.3  # seconds from one to the next, or longer where the recipients do not have it by then
ROOM = """
    with made as (
        insert into users (email, password_hash, name, role)
        select $1 || '-' || i || '@example.org', '', '', 'user' from generate_series(1, $1) i returning id
    ), room as (
        insert into rooms (kind) values ('group') returning id
    ), memberships as (
        insert into room_members (room_id, user_id, role) select room.id, made.id, 'member' from room, made
    )
    select room.id::text as room, made.id::text as member from room, made
"""

MESSAGES = (1_000, 100_000, 1_000_000)
PAGE = 50
CHANNEL = """
    with channel as (
        insert into channels (name, last_offset, last_count, last_message)
        values ('room:' || $1::uuid, $2, $2, $2) returning id
    )
    insert into messages (channel_id, "offset", count_no, counted, id, sender_id, type, data, created_at)
    select channel.id, n, n, true, gen_random_uuid(), $3::text, 'text', $4::bytea, now()
    from channel, generate_series(1::bigint, $2) n
"""

NODES = (1, 4, 16, 54)
STATEMENTS = """
    select sum(calls)::float, sum(rows)::float, sum(shared_blks_hit + shared_blks_read)::float
    from pg_stat_statements where query not like '%pg_stat_statements%'
"""


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> str:
    """The power of the size that the cost grows with, by the method of least squares."""
    if min(costs) <= 0:
        return ""
    return f"size^{linear_regression([log(size) for size in sizes], [log(cost) for cost in costs]).slope:.2f}"


def exponents(sizes: Sequence[float], rows: Sequence[Sequence[float]]) -> list[str]:
    return [exponent(sizes, costs) for costs in zip(*rows, strict=True)]


# --- deliveries ----------------------------------------------------------------------------------------------------


def deliveries(folder: Path, console: Console) -> None:
    columns = ("C loop, us a delivery", "node, us a delivery", "node / C loop", "node, us a publication")
    table = Table("readers", *columns, title="B8: deliveries of one publication at a time, CPU")
    rows = []
    program = fanout.build_floor(folder)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {fanout.CLIENT_CORE})
    with Server(folder / "deliveries", nodes=1, settings=fanout.SETTINGS, command_prefix=fanout.PINNED) as server:
        one = fanout.Measured(server, "live:room", 1, PAYLOAD)
        size = one.frame_size()
        one.close()
        for readers in READERS:  # the floor's and the node's, one after the other: both are too many files
            before = fanout.floor(program, readers, size, ROUNDS)
            measured = fanout.Measured(server, "live:room", readers, PAYLOAD)
            node = measured.paced(ROUNDS)
            measured.close()
            floor = (before + fanout.floor(program, readers, size, ROUNDS)) / 2
            rows.append((floor, node, node / floor, node * readers))
            table.add_row(
                f"{readers:,}", f"{floor:.2f}", f"{node:.2f}", f"{node / floor:.2f}", f"{node * readers:,.0f}"
            )
    os.sched_setaffinity(0, cores)
    table.add_row("grows like", *exponents(READERS, rows))
    console.print(table)


# --- publishes -----------------------------------------------------------------------------------------------------


def admin_url(server: Server) -> str:
    urls = read_urls(server.data_dir)
    assert urls is not None and urls.database is not None
    return urls.database.replace("//chalkwire@", "//postgres@")


def ask(url: str, statement: str, *values: object) -> list[asyncpg.Record]:
    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    return asyncio.run(fetch())


@contextmanager
def counted(data_dir: Path, nodes: int) -> Iterator[Server]:
    """A server whose PostgreSQL counts its statements. The data stay for the next one."""
    if not data_dir.exists():
        with Server(data_dir, nodes=1) as server:  # the module is loaded with the next start
            ask(admin_url(server), "alter system set shared_preload_libraries = 'pg_stat_statements'")
    with Server(data_dir, nodes=nodes, settings=SETTINGS) as server:
        ask(admin_url(server), "create extension if not exists pg_stat_statements")
        yield server


class Counters:
    """What a server has done since its start."""

    NAMES = ("statements", "rows", "blocks", "Valkey commands", "Valkey bytes", "to NATS, bytes", "from NATS, bytes")
    CPU = ("nodes", "log-writer", "postgres", "valkey", "nats")

    def __init__(self, server: Server) -> None:
        urls = read_urls(server.data_dir)
        assert urls is not None and urls.redis is not None
        self._database = admin_url(server)
        self._redis = redis.Redis.from_url(urls.redis)
        self._pid = server.pid
        self._names = {process.pid: process.name for process in server.processes().values()}
        self._nats = next(pid for pid, known in self._names.items() if known == "nats")

    def read(self) -> dict[str, float]:
        info = self._redis.info("stats")
        statements = ask(self._database, STATEMENTS)[0]
        io = dict(line.split(": ") for line in Path(f"/proc/{self._nats}/io").read_text().splitlines())
        counts = (
            *statements,
            info["total_commands_processed"],
            info["total_net_input_bytes"] + info["total_net_output_bytes"],
            int(io["rchar"]),  # 300 a second are its own look at /proc/self/stat
            int(io["wchar"]),
        )
        used = dict.fromkeys(self.CPU, 0.0)
        for pid in descendants(self._pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # a backend of PostgreSQL that has just ended
                known = self._names.get(pid) or name(pid)
                known = "nodes" if known.startswith("node") else known
                if known in used:
                    used[known] += cpu_seconds(pid) * 1e6
        return {**dict(zip(self.NAMES, map(float, counts), strict=True)), **used}

    def during(self, work: Callable[[], object]) -> tuple[dict[str, float], float]:
        """What was done meanwhile, and in how many seconds."""
        before, started = self.read(), time.monotonic()
        work()
        seconds, after = time.monotonic() - started, self.read()
        return {each: after[each] - before[each] for each in after}, seconds


def publishes(folder: Path, console: Console) -> None:
    counts = ("statements", "rows", "blocks", "Valkey commands", "to NATS, bytes")
    columns = (*counts, "log-writer", "postgres", "valkey", "nats", "nodes")
    titles = (*counts, *(f"{each}, us" for each in columns[len(counts) : -1]), "node, us, with deliveries")
    table = Table("members", *titles, title="B8: a message in a room, all members there")
    rows = []
    for members in MEMBERS:  # each with a server of its own, else the first would have the smallest database
        with counted(folder / f"publishes-{members}", 1) as server:
            cost = _publish_cost(server, members)
        rows.append([cost[each] for each in columns])
        table.add_row(f"{members:,}", *(f"{value:,.1f}" for value in rows[-1]))
    table.add_row("grows like", *exponents(MEMBERS, rows))
    console.print(table)


def _publish_cost(server: Server, members: int) -> dict[str, float]:
    """Of one message, less what the server does by itself in the same time."""
    made = ask(admin_url(server), ROOM, members)
    ask(admin_url(server), "analyze")
    channel = f"room:{made[0]['room']}"
    tokens = [server.token(row["member"]) for row in made]
    readers = Readers.of_protocol(server.port, tokens)  # the server subscribes members to their rooms
    sender = Sender(server.port, tokens[0])

    def publish() -> None:
        sender.publish(channel, {"id": str(uuid4()), "type": "text", "content": "x" * PAYLOAD})
        sender.answered()

    for _ in range(10):  # from here on an offset has two digits, and a frame one size
        publish()
    readers.receive(1 << 60, patience=2.0)
    publish()
    size = readers.receive(1 << 60, patience=2.0) // members

    def all_of_them() -> None:
        for _ in range(PUBLISHES):
            due = time.monotonic() + PACE
            publish()
            assert readers.receive(members * size) >= members * size
            time.sleep(max(0.0, due - time.monotonic()))

    counters = Counters(server)
    time.sleep(5)
    idle, idle_seconds = counters.during(lambda: time.sleep(PUBLISHES * PACE))
    busy, seconds = counters.during(all_of_them)
    readers.close()
    sender.close()
    return {each: (busy[each] - idle[each] * seconds / idle_seconds) / PUBLISHES for each in busy}


# --- history -------------------------------------------------------------------------------------------------------


def history(folder: Path, console: Console) -> None:
    columns = ("end", "middle", "beginning", "chat: end", "middle", "beginning", "ms, slowest")
    table = Table("messages", *columns, title=f"B8: blocks that a page of {PAGE} touches in PostgreSQL")
    stack = EmbeddedStack(folder / "history", valkey=False, nats=False)
    stack.start()
    try:
        url = str(stack.urls.database)
        asyncio.run(migrate(url))
        rows = asyncio.run(_pages(url))
    finally:
        stack.stop()
    for messages, row in zip(MESSAGES, rows, strict=True):
        table.add_row(f"{messages:,}", *(f"{blocks:.0f}" for blocks in row[:-1]), f"{row[-1]:.2f}")
    table.add_row("grows like", *exponents(MESSAGES, rows))
    console.print(table)


async def _pages(url: str) -> list[list[float]]:
    connection = await asyncpg.connect(url)
    user = await connection.fetchval(
        "insert into users (email, password_hash, role) values ('reader@example.org', '', 'user') returning id"
    )
    rows = []
    for messages in MESSAGES:  # each is read before the next, bigger one is there
        room = await connection.fetchval("insert into rooms (kind) values ('group') returning id")
        await connection.execute("insert into room_members values ($1, $2, 'member')", room, user)
        await connection.execute(CHANNEL, room, messages, str(user), b'{"type":"text","content":"%s"}' % (b"x" * 90))
        await connection.execute("vacuum analyze")
        rows.append(await _channel_pages(connection, room, user, messages))
    await connection.close()
    return rows


async def _channel_pages(connection: asyncpg.Connection, room: UUID, user: UUID, messages: int) -> list[float]:
    read, page = load("log")["read"], load("messages")["page"]
    places = (messages + 1, messages // 2, PAGE + 1)  # the page is below
    channel = f"room:{room}"
    found = [await _explained(connection, read, [channel], [place], [PAGE], [1 << 20], [True]) for place in places]
    found += [await _explained(connection, page, room, user, PAGE, place, 0, place) for place in places]
    return [*(blocks for blocks, _ in found), max(milliseconds for _, milliseconds in found)]


async def _explained(connection: asyncpg.Connection, query: str, *values: object) -> tuple[float, float]:
    """Blocks that PostgreSQL looked at, and milliseconds (the median)."""
    assert len(await connection.fetch(query, *values)) == PAGE
    blocks, milliseconds = [], []
    for _ in range(20):
        answer = json.loads(await connection.fetchval(f"explain (analyze, buffers, format json) {query}", *values))[0]
        blocks.append(answer["Plan"]["Shared Hit Blocks"] + answer["Plan"]["Shared Read Blocks"])
        milliseconds.append(answer["Execution Time"])
    return median(blocks), median(milliseconds)


# --- heartbeats ----------------------------------------------------------------------------------------------------


def heartbeats(folder: Path, console: Console, seconds: float = 20.0) -> None:
    columns = ("to NATS, bytes", "from NATS, bytes", "Valkey commands", "Valkey bytes", "statements")
    titles = [*columns, *(f"{each}, ms" for each in Counters.CPU)]
    table = Table("nodes", *titles, title="B8: a second of nodes with nothing to do; ms of CPU")
    rows = []
    for nodes in NODES:
        with counted(folder / "heartbeats", nodes) as server:
            counters = Counters(server)
            time.sleep(8)
            did, lasted = counters.during(lambda: time.sleep(seconds))
        row = [did[each] / lasted for each in columns] + [did[each] / lasted / 1e3 for each in Counters.CPU]
        rows.append(row)
        table.add_row(str(nodes), *(f"{value:,.1f}" for value in row))
    table.add_row("grows like", *exponents(NODES, rows))
    console.print(table)


PARTS = {part.__name__: part for part in (deliveries, publishes, history, heartbeats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all when none is named")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    console = Console(width=170)
    with tempfile.TemporaryDirectory(prefix="b8-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs under another account
        for part in options.parts or PARTS:
            PARTS[part](Path(folder), console)


if __name__ == "__main__":
    main()
