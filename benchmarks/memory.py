"""B1: server memory per connection.

Each connection is authenticated as a user of its own, subscribed to one room of 50 and to its personal channel, with
presence on. What counts is the proportional memory of every process of the server (supervisor, node, log writer,
PostgreSQL, Valkey, NATS) with N connections minus the same with none, divided by N; the kernel's is told apart. The
floor is measured in the same way: `bare_server.py`, TCP connections on uvloop with a protocol that does nothing.

    python -m benchmarks.memory --connections 19000

With `--rooms 10`, each is instead a registered user in so many chat rooms of 50, to which the server subscribes it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from benchmarks.measure import beside, descendants, kernel_memory, name, proportional_memory
from config.embedded.stack import read_urls
from loadtest.raw import Readers
from loadtest.server import Server

ROOM_SIZE = 50
PEOPLE = """
    with made as (
        insert into users (email, password_hash, name, role)
        select i || '@example.org', '', '', 'user' from generate_series(1, $1) i returning id
    ), people as (
        select id, (row_number() over () - 1) / $2 as circle from made
    ), room as (
        insert into rooms (kind) select 'group' from generate_series(1, (($1 + $2 - 1) / $2) * $3) returning id
    ), places as (
        select id, (row_number() over () - 1) / $3 as circle from room
    ), memberships as (
        insert into room_members (room_id, user_id, role)
        select places.id, people.id, 'member' from people join places using (circle)
    )
    select id::text from people order by circle
"""
SETTLE = 8.0  # seconds after the last connection: presence is written, garbage collected
SETTINGS = {
    "CHANNEL__NAMESPACES": json.dumps(
        {"room50": {"presence": True, "history_size": 1000, "force_recovery": True, "allow_subscribe_for_client": True}}
    ),
    "CLIENT__PING_INTERVAL": "3600",  # raw clients send no pongs
    "CLIENT__PONG_TIMEOUT": "3000",
}


def memory_by_process(server: Server) -> Counter[str]:
    memory: Counter[str] = Counter()
    known = {process.pid: process_name for process_name, process in server.processes().items()}
    for pid in descendants(server.pid):
        memory[known.get(pid, name(pid))] += proportional_memory(pid)
    return memory


async def make_people(server: Server, count: int, rooms: int) -> list[str]:
    """Users, each in so many rooms with the same 49 others; those of one circle follow each other."""
    urls = read_urls(server.data_dir)
    assert urls is not None
    connection = await asyncpg.connect(urls.database)
    try:
        users = [row["id"] for row in await connection.fetch(PEOPLE, count, ROOM_SIZE, rooms)]
        await connection.execute("analyze")
    finally:
        await connection.close()
    return users


def floor(connections: int, warm_up: int) -> float:
    """Bytes that a connection costs a process that does nothing with it."""
    with beside([sys.executable, "-m", "benchmarks.bare_server"]) as (pid, says):
        port = int(says.readline())

        def connect(count: int) -> Readers:
            readers = Readers.plain(port, count)
            assert readers.receive(count) == count
            return readers

        connect(warm_up).close()
        time.sleep(1)
        before = proportional_memory(pid)
        readers = connect(connections)
        grown = proportional_memory(pid) - before
        readers.close()
        os.kill(pid, signal.SIGTERM)
    return grown / connections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=19_000)
    parser.add_argument("--warm-up", type=int, default=500, help="connections opened and closed before the count")
    parser.add_argument("--rooms", type=int, default=0, help="chat rooms of each user")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    console = Console(width=150)
    with (
        tempfile.TemporaryDirectory(prefix="b1-") as folder,
        Server(Path(folder) / "data", nodes=1, settings=SETTINGS) as server,
    ):
        if options.rooms:
            users = asyncio.run(make_people(server, options.connections, options.rooms))
        else:
            users = [f"user-{n}" for n in range(options.connections)]
        tokens = [server.token(user) for user in users]

        def connect(count: int) -> Readers:
            if options.rooms:
                return Readers.of_protocol(server.port, tokens[:count])
            return Readers.of_protocol(server.port, tokens[:count], lambda n: f"room50:{n // ROOM_SIZE}")

        # Caches, pools and code paths fill up with the first connections; they are no cost of one more.
        connect(options.warm_up).close()
        time.sleep(SETTLE)
        before, kernel_before = memory_by_process(server), kernel_memory()
        started = time.monotonic()
        readers = connect(options.connections)
        seconds = time.monotonic() - started
        time.sleep(SETTLE)
        after, kernel_after = memory_by_process(server), kernel_memory()
        readers.close()
        bare = floor(options.connections, options.warm_up)

    count = options.connections
    table = Table(
        "process", "at 0, MB", f"at {count:,}, MB", "a connection, bytes", "over the floor", title="B1: memory"
    )
    for process in sorted(after, key=lambda each: before[each] - after[each]):
        growth = (after[process] - before[process]) / count
        table.add_row(
            process,
            f"{before[process] / 1e6:.1f}",
            f"{after[process] / 1e6:.1f}",
            f"{growth:,.0f}",
            f"{growth / bare:.2f}",
        )
    total = (after.total() - before.total()) / count
    table.add_row(
        "all", f"{before.total() / 1e6:.1f}", f"{after.total() / 1e6:.1f}", f"{total:,.0f}", f"{total / bare:.2f}"
    )
    table.add_row("floor: uvloop alone", "", "", f"{bare:,.0f}", "1.00")
    console.print(table)
    console.print(
        f"kernel slab, both ends of the sockets: {(kernel_after - kernel_before) / count:,.0f} bytes a connection"
    )
    console.print(f"connected, authenticated and subscribed: {count / seconds:,.0f}/s")


if __name__ == "__main__":
    main()
