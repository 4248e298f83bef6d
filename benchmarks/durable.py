"""B4: acknowledged durable messages a second through the gateway, how late, and what each process spends on one.

Raw clients publish over WebSockets, each a few messages ahead of its acknowledgements, in durable channels; clients,
gateway nodes, log writer, PostgreSQL and NATS all run on this machine's cores. First as fast as it goes, then at a set
pace, where the time from the write of a publish to its acknowledgement counts. At the end the log's offsets must add up
to what was acknowledged.

    python -m benchmarks.durable --nodes 1 8
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console

from benchmarks.measure import Spread, cpu_seconds, descendants, name
from loadtest.raw import Publishers
from loadtest.server import Server

OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True, "history_size": 10_000}
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
        publishers.saturate(options.messages // 10, options.window)  # channels exist, plans are made
        rates = []
        spents = []
        for _ in range(options.repeat):
            spent = Spent(server)
            rates.append(options.messages / publishers.saturate(options.messages, options.window))
            spents.append(spent.each(options.messages))
        for kind in sorted({kind for spent in spents for kind in spent}):
            value = statistics.median(spent.get(kind, 0.0) for spent in spents)
            if value >= 0.5:
                console.print(f"  {kind}: {value:.1f} us a message", highlight=False)
        total = Spread([sum(spent.values()) for spent in spents])
        console.print(
            f"{nodes} nodes: {Spread(rates):,.0f} messages/s, {total:.0f} us of CPU a message", highlight=False
        )
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
