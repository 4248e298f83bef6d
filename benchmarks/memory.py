"""B1: server memory per connection.

Each connection is authenticated as a user of its own, subscribed to one room of 50 and to its personal channel, with
presence on. What counts is the proportional memory of every process of the server (supervisor, node, log writer,
PostgreSQL, Valkey, NATS) with N connections minus the same with none, divided by N; the kernel's is told apart.

    python -m benchmarks.memory --connections 19000
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import descendants, kernel_memory, name, proportional_memory
from loadtest.raw import Readers
from loadtest.server import Server

ROOM_SIZE = 50
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=19_000)
    parser.add_argument("--warm-up", type=int, default=500, help="connections opened and closed before the count")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    console = Console(width=150)
    with (
        tempfile.TemporaryDirectory(prefix="b1-") as folder,
        Server(Path(folder) / "data", nodes=1, settings=SETTINGS) as server,
    ):
        tokens = [server.token(f"user-{n}") for n in range(options.connections)]

        def connect(count: int) -> Readers:
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

    count = options.connections
    table = Table("process", "at 0, MB", f"at {count:,}, MB", "a connection, bytes", title="B1: memory")
    for process in sorted(after, key=lambda each: before[each] - after[each]):
        growth = (after[process] - before[process]) / count
        table.add_row(process, f"{before[process] / 1e6:.1f}", f"{after[process] / 1e6:.1f}", f"{growth:,.0f}")
    total = (after.total() - before.total()) / count
    table.add_row("all", f"{before.total() / 1e6:.1f}", f"{after.total() / 1e6:.1f}", f"{total:,.0f}")
    console.print(table)
    console.print(
        f"kernel slab, both ends of the sockets: {(kernel_after - kernel_before) / count:,.0f} bytes a connection"
    )
    console.print(f"connected, authenticated and subscribed: {count / seconds:,.0f}/s")


if __name__ == "__main__":
    main()
