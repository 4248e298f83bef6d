"""B5, B6: what a client that connects costs, in CPU time of every process.

Clients connect, authenticate and subscribe, go away, and come back to recover. Each is a user of its own, in one
durable channel of 50 and its personal channel, presence on; half of the channels have a publication that was missed.
The floor is `accept_floor.c`: it takes as many clients at the same pace and answers the same bytes, before, between and
after the measurements of the server; each is compared with its neighbours.

    python -m benchmarks.connect --clients 10000

With `--rooms 10`, each is instead a registered user in so many chat rooms of 50, to which the server subscribes it.
The server's processes and the clients' count apart; wall-clock time says little on a shared machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.table import Table

from benchmarks.measure import beside, cpu_seconds, descendants, name
from benchmarks.memory import ROOM_SIZE, SETTINGS, make_people
from loadtest.raw import BATCH, HANDSHAKE, command, frame, messages, opened
from loadtest.server import Server

SETTLE = 2.0  # seconds after the last connection: presence is written
LINGER = 8.0  # seconds after the last one has gone: the broker's subscriptions are ended
CLIENTS = "clients"
FLOOR = "floor: accept, epoll, read, write, close"

Positions = dict[str, dict[str, Any]]


class Meter:
    """CPU time by the names of processes, since it was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._names = {process.pid: process.name for process in server.processes().values()}
        self._began = self._read()

    def _read(self) -> Counter[str]:
        used: Counter[str] = Counter()
        for pid in descendants(self._server.pid):
            used[self._name(pid)] += round(cpu_seconds(pid) * 1e9)
        used[CLIENTS] = round(cpu_seconds(os.getpid()) * 1e9)
        return used

    def _name(self, pid: int) -> str:
        known = self._names.get(pid) or name(pid)
        return "nodes" if known.startswith("node") else known

    def microseconds(self, count: int) -> Counter[str]:
        now = self._read()
        return Counter({each: round((now[each] - self._began[each]) / 1e3 / count) for each in now})


class Clients:
    """`channel` says which channel a client subscribes to by itself."""

    def __init__(
        self, server: Server, users: Sequence[str], channel: Callable[[int], str] | None, at_once: int
    ) -> None:
        self._port = server.port
        self._tokens = [server.token(user) for user in users]
        self._channel = channel
        self._at_once = at_once
        self.positions: list[Positions] = [{} for _ in users]
        self.recovered = 0
        self._sockets: list[Any] = []

    def connect(self, count: int | None = None) -> float:
        """Connect, and recover what was missed since the last time. Returns the seconds that it took."""
        dialogues = self.dialogues()[:count]
        started = time.monotonic()
        answered = opened(self._port, dialogues, self._at_once)
        seconds = time.monotonic() - started
        self._sockets = [each for each, _ in answered]
        self.recovered = 0
        for index, (_, answers) in enumerate(answered):
            self._note(index, answers)
        return seconds

    def dialogues(self) -> list[list[bytes]]:
        """What each client says first."""
        return [self._dialogue(index) for index in range(len(self._tokens))]

    def _dialogue(self, index: int) -> list[bytes]:
        known = {name: {"recover": True, **position} for name, position in self.positions[index].items()}
        own = self._channel(index) if self._channel is not None else ""
        given = {name: position for name, position in known.items() if name != own}
        commands = [command(1, connect={"token": self._tokens[index], **({"subs": given} if given else {})})]
        if own:
            commands.append(command(2, subscribe={"channel": own, **known.get(own, {})}))
        return commands

    def _note(self, index: int, answers: Sequence[bytes]) -> None:
        for reply in map(json.loads, answers):
            results = dict(reply.get("connect", {}).get("subs", {}))
            if self._channel is not None and "subscribe" in reply:
                results[self._channel(index)] = reply["subscribe"]
            for channel, result in results.items():
                assert (channel in self.positions[index]) == result.get("recovered", False), result
                self.recovered += len(result.get("publications", ()))
                self.positions[index][channel] = {"epoch": result["epoch"], "offset": result.get("offset", 0)}

    def leave(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()


class Floor:
    """A C program that takes clients as the server does, and answers them what the server answered one of them."""

    def __init__(self, folder: Path, port: int, dialogues: Sequence[Sequence[bytes]], at_once: int) -> None:
        self._dialogues = dialogues
        self._at_once = at_once
        self._program = folder / "accept_floor"
        self._answers = (folder / "handshake", folder / "commands")
        source = Path(__file__).with_name("accept_floor.c")
        subprocess.run(["cc", "-O2", "-o", str(self._program), str(source)], check=True)
        for path, answer in zip(self._answers, _answers(port, dialogues[0]), strict=True):
            path.write_bytes(answer)
        self.connects: list[float] = []  # microseconds of CPU a client
        self.leaves: list[float] = []

    def measure(self) -> None:
        command = [self._program, str(len(self._dialogues)), *self._answers]
        with beside(command) as (_, says):
            answered = opened(int(says.readline()), self._dialogues, self._at_once)
            self.connects.append(float(says.readline()))
            for each, _ in answered:
                each.close()
            self.leaves.append(float(says.readline()))


def _answers(port: int, commands: Sequence[bytes]) -> tuple[bytes, bytes]:
    """What the server answers a client's handshake and its first commands, to the byte."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HANDSHAKE)
        handshake = answer = b""
        while not handshake.endswith(b"\r\n\r\n"):
            handshake += client.recv(1 << 16)
        client.sendall(frame(b"\n".join(commands)))
        while b'"id":%d,' % len(commands) not in answer or messages(answer) is None:
            answer += client.recv(1 << 16)
    return handshake, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=BATCH, help="clients under way at a time")
    parser.add_argument("--warm-up", type=int, default=500, help="clients that come and go before the measurement")
    parser.add_argument("--rooms", type=int, default=0, help="chat rooms of each user")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    console = Console(width=150)
    count = options.clients
    used: dict[str, Counter[str]] = {}
    rates: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="connect-") as folder,
        Server(Path(folder) / "data", nodes=options.nodes, settings=SETTINGS) as server,
    ):
        if options.rooms:
            clients = Clients(server, asyncio.run(make_people(server, count, options.rooms)), None, options.at_once)
        else:
            users = [f"user-{n}" for n in range(count)]
            clients = Clients(server, users, lambda n: f"room50:{n // ROOM_SIZE}", options.at_once)
        clients.connect(options.warm_up)
        clients.leave()
        clients.positions = [{} for _ in clients.positions]
        floor = Floor(Path(folder), server.port, clients.dialogues(), options.at_once)
        time.sleep(LINGER)

        floor.measure()
        meter = Meter(server)
        rates["connect"] = count / clients.connect()
        time.sleep(SETTLE)
        used["connect"] = meter.microseconds(count)

        meter = Meter(server)
        clients.leave()
        time.sleep(LINGER)
        used["leave"] = meter.microseconds(count)
        floor.measure()

        shared = sorted({name for each in clients.positions for name in each if not name.startswith("user:")})
        for name in shared[::2]:
            server.api("publish", channel=name, data={"id": str(uuid4()), "type": "text", "content": "missed"})
        meter = Meter(server)
        rates["recover"] = count / clients.connect()
        time.sleep(SETTLE)
        used["recover"] = meter.microseconds(count)
        recovered = clients.recovered
        clients.leave()
        time.sleep(LINGER)
        floor.measure()

    table = Table("us of CPU a client", *used, title=f"{count:,} clients, {options.nodes} nodes")
    for process in sorted(used["connect"], key=lambda each: -used["connect"][each]):
        table.add_row(process, *(f"{each[process]:,}" for each in used.values()))
    server_only = {step: each.total() - each[CLIENTS] for step, each in used.items()}
    table.add_row("server", *(f"{each:,}" for each in server_only.values()))
    table.add_row("all", *(f"{each.total():,}" for each in used.values()))
    before, between, after = floor.connects
    floors = ((before + between) / 2, fmean(floor.leaves), (between + after) / 2)
    table.add_row(FLOOR, *(f"{each:.1f}" for each in floors))
    table.add_row(
        "server / floor", *(f"{server_only[step] / each:.1f}" for step, each in zip(used, floors, strict=True))
    )
    console.print(table)
    console.print(f"the floor's connects, one after the other: {before:.1f}, {between:.1f}, {after:.1f} us")
    console.print(f"connected {rates['connect']:,.0f}/s, came back {rates['recover']:,.0f}/s, recovered {recovered:,}")


if __name__ == "__main__":
    main()
