"""B2 and B3: the CPU time of a delivery, and how many a core delivers when publications come at once.

B2: one publication at a time to 5,000 readers of one channel; the next when the last reader has it. The node's CPU time
per delivery, over that of a C loop of send() built and run beside it, with the same number of bytes, readers and pace.
B3: 200 publications in one write, to the same readers.

The server runs on one core and the readers on another. The order is floor, server, floor: the machine's speed drifts
within minutes, and a ratio means nothing unless both sides had the same machine.

    python -m benchmarks.fanout --readers 5000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Spread, beside, cpu_seconds
from loadtest.raw import Readers, Sender
from loadtest.server import Server

SERVER_CORE, CLIENT_CORE = 0, 1
ANY = 1 << 60
OPEN = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
SETTINGS = {
    "CHANNEL__NAMESPACES": json.dumps({"live": OPEN, "kept": {**OPEN, "history_size": 10_000, "force_recovery": True}}),
    "CLIENT__PUBLISHES_PER_SECOND": "0",
    "CLIENT__COMMANDS_PER_SECOND": "0",
    "CLIENT__PING_INTERVAL": "3600",  # raw clients send no pongs
    "CLIENT__PONG_TIMEOUT": "3000",
}
PINNED = ("taskset", "-c", str(SERVER_CORE))


def build_floor(folder: Path) -> Path:
    program = folder / "send_floor"
    subprocess.run(["cc", "-O2", "-o", str(program), str(Path(__file__).with_name("send_floor.c"))], check=True)
    return program


def floor(program: Path, readers: int, size: int, rounds: int) -> float:
    """Microseconds of CPU that a delivery costs a paced C loop."""
    with beside([*PINNED, program, str(readers), str(size), str(rounds)]) as (_, says):
        sockets = Readers.plain(int(says.readline()), readers)
        for _ in range(rounds + 1):
            sockets.sockets[0].send(b"!")
            assert sockets.receive(readers * size) == readers * size
        answer = says.readline()
        sockets.close()
    return float(answer)


class Measured:
    """One node with readers of one channel."""

    def __init__(self, server: Server, channel: str, readers: int, payload: int) -> None:
        self._node = server.processes()["node-1"].pid
        self._channel = channel
        self._data = "x" * payload
        self._count = readers
        self._sender = Sender(server.port, server.token("sender"))
        # The offset is part of a durable channel's frame: from 1,001 on it has four digits, and frames one size.
        self._sender.publish(channel, self._data, 1000)
        self._sender.answered()
        tokens = [server.token(f"user-{n}") for n in range(readers)]
        self._readers = Readers.of_protocol(server.port, tokens, lambda _: channel)

    def frame_size(self) -> int:
        """Bytes that a reader gets for one publication."""
        self._readers.receive(ANY, patience=1.0)
        self._sender.publish(self._channel, self._data)
        return self._readers.receive(ANY, patience=1.0) // self._count

    def paced(self, rounds: int) -> float:
        """Microseconds of CPU a delivery."""
        size = self.frame_size()
        started = 0.0
        for round in range(rounds + 1):
            if round == 1:  # as in send_floor.c: TCP answers the first 16 segments after a pause one by one, the rest
                started = cpu_seconds(self._node)  # seldom, and both sides shall have as many of either
            self._sender.publish(self._channel, self._data)
            assert self._readers.receive(self._count * size) >= self._count * size  # a ping may come between
        return (cpu_seconds(self._node) - started) / rounds / self._count * 1e6

    def burst(self, publications: int) -> tuple[float, float]:
        """Deliveries a second, and microseconds of CPU a delivery."""
        size = self.frame_size()
        # Publications that go out together share a frame, joined by newlines; a frame's head is 4 bytes (RFC 6455,
        # section 5.2: a payload of 126 to 65,535). Counted are the payloads, so that joining is not taken for a loss.
        expected = self._count * publications * (size - 4 + 1)
        cpu, started = cpu_seconds(self._node), time.monotonic()
        self._sender.publish(self._channel, self._data, publications)
        received = self._readers.receive(expected, patience=3.0)
        seconds = time.monotonic() - started
        assert received >= expected, (received, expected)
        self._readers.receive(ANY, patience=0.5)
        deliveries = publications * self._count
        return deliveries / seconds, (cpu_seconds(self._node) - cpu) / deliveries * 1e6

    def close(self) -> None:
        self._sender.close()
        self._readers.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=5_000)
    parser.add_argument("--payload", type=int, default=128, help="bytes of the message itself")
    parser.add_argument("--rounds", type=int, default=70)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--burst", type=int, default=200, help="publications at once")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.sched_setaffinity(0, {CLIENT_CORE})
    console = Console(width=150)
    table = Table(
        "channel", "frame, bytes", "C loop, us", "node, us", "ratio", "burst/s", "burst, us of CPU", title="B2, B3"
    )
    with tempfile.TemporaryDirectory(prefix="b2-") as folder:
        program = build_floor(Path(folder))
        with Server(Path(folder) / "data", nodes=1, settings=SETTINGS, command_prefix=PINNED) as server:
            for channel in ("live:room", "kept:room"):
                measured = Measured(server, channel, options.readers, options.payload)
                size = measured.frame_size()
                floors, nodes = [], []
                for turn in range(options.repeat):
                    console.print(f"{channel}: {turn + 1} of {options.repeat}", highlight=False)
                    floors.append(floor(program, options.readers, size, options.rounds))
                    nodes.append(measured.paced(options.rounds))
                floors.append(floor(program, options.readers, size, options.rounds))
                # Each measurement against the floors just before and just after it.
                ratios = [node / ((floors[n] + floors[n + 1]) / 2) for n, node in enumerate(nodes)]
                bursts = [measured.burst(options.burst) for _ in range(options.repeat)]
                measured.close()
                table.add_row(
                    channel,
                    str(size),
                    f"{Spread(floors):.2f}",
                    f"{Spread(nodes):.2f}",
                    f"{Spread(ratios):.2f}",
                    f"{Spread([rate for rate, _ in bursts]):,.0f}",
                    f"{Spread([cpu for _, cpu in bursts]):.2f}",
                )
    console.print(table)


if __name__ == "__main__":
    main()
