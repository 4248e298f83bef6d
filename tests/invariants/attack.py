"""Somebody who means harm: sockets below the protocol, and the questions that tell whether the harm was done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from gateway_node.process_list import read_processes
from loadtest.raw import HANDSHAKE
from loadtest.server import Server
from tests.invariants.rawclient import RawClient, raw_client

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
SOON = 20.0  # seconds within which whatever must come has come
CANARY = "canary-7b1f"  # a part of everything that may never be seen in a log


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame, legal or not."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, mask | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, mask | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask | 127, size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


def command(number: int = 0, /, **request: Any) -> bytes:
    return json.dumps({**({"id": number} if number else {}), **request}).encode()


class Peer:
    """A socket of the attacker's. What it sends is up to it; what comes back is read as frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.replies: list[dict[str, Any]] = []

    @classmethod
    async def plain(cls, port: int, limit: int = 1 << 16) -> Self:
        """Connected, and nothing said."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))

    @classmethod
    async def upgraded(cls, port: int, limit: int = 1 << 16) -> Self:
        """Past the handshake."""
        return await (await cls.plain(port, limit))._upgrade()

    @classmethod
    async def upgraded_on(cls, plain: socket.socket) -> Self:
        """Past the handshake, on a socket that is connected, reading no more than it must."""
        return await cls(*await asyncio.open_connection(sock=plain, limit=1024))._upgrade()

    async def _upgrade(self) -> Self:
        self.writer.write(HANDSHAKE)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        return self

    @classmethod
    async def connected(cls, port: int, token: str, limit: int = 1 << 16) -> Self:
        """Past the connect command too."""
        peer = await cls.upgraded(port, limit)
        assert "connect" in await peer.ask(connect={"token": token})
        return peer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a command and return its reply, or `{"closed": code}`."""
        number = 1 + max((reply.get("id", 0) for reply in self.replies), default=0)
        self.send(frame(command(number, **request)))
        return await self.answer_to(number)

    async def answer_to(self, number: int) -> dict[str, Any]:
        async with asyncio.timeout(SOON):
            while True:
                opcode, payload = await self.next_frame()
                if opcode == CLOSE:
                    return {"closed": int.from_bytes(payload[:2], "big")}
                self._take(payload)
                for reply in self.replies:
                    if reply.get("id") == number:
                        return reply

    def _take(self, payload: bytes) -> None:
        self.replies += [json.loads(line) for line in payload.split(b"\n") if line and line != b"{}"]

    async def next_frame(self) -> tuple[int, bytes]:
        """Raises IncompleteReadError at the end."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        payload = await self.reader.readexactly(size)
        if first & 0x0F == TEXT:
            payload.decode()  # a browser would close the connection with 1007
        return first & 0x0F, payload

    async def end(self) -> int:
        """Read until the server ends the connection; its close code, 1006 without one."""
        try:
            async with asyncio.timeout(SOON):
                while True:
                    opcode, payload = await self.next_frame()
                    if opcode == CLOSE:
                        return int.from_bytes(payload[:2], "big")
                    if opcode == TEXT:
                        self._take(payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006

    async def rest(self) -> bytes:
        """Everything until the server hangs up."""
        try:
            async with asyncio.timeout(SOON):
                return await self.reader.read(-1)
        except ConnectionError:
            return b""

    def leave(self) -> None:
        with contextlib.suppress(OSError):
            self.writer.transport.abort()


@asynccontextmanager
async def peers(*opening: Any) -> AsyncIterator[list[Peer]]:
    """Peers that are gone at the end."""
    opened: list[Peer] = list(await asyncio.gather(*opening))
    try:
        yield opened
    finally:
        for peer in opened:
            peer.leave()


# --- what must not change ------------------------------------------------------------------------------------------


def pids_of(server: Server) -> dict[str, int]:
    found = read_processes(server.data_dir)
    assert found is not None, "no supervisor runs"
    return {each["name"]: each["pid"] for each in found["nodes"] + found["others"]}


def private_memory(pid: int) -> int:
    """Bytes of a process that it shares with nobody's file."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def memory_of_nodes(server: Server) -> dict[str, int]:
    return {name: private_memory(pid) for name, pid in pids_of(server).items() if name.startswith("node-")}


def open_files_of_nodes(server: Server) -> dict[str, int]:
    nodes = {name: pid for name, pid in pids_of(server).items() if name.startswith("node-")}
    return {name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in nodes.items()}


async def samples(server: Server, name: str) -> dict[str, float]:
    """A metric's samples by their labels, as `/metrics` has them now."""

    def ask() -> str:
        with urllib.request.urlopen(server.url("/metrics", 0), timeout=10) as response:
            return str(response.read().decode())

    found = re.findall(rf"^{re.escape(name)}(\{{.*\}})? (\S+)$", await asyncio.to_thread(ask), re.MULTILINE)
    return {labels: float(value) for labels, value in found}


class Bystanders:
    """Two people on two nodes who talk in a durable channel, whatever happens around them."""

    def __init__(self, channel: str, people: list[RawClient]) -> None:
        self.channel = channel
        self.people = people

    async def exchange(self) -> None:
        """Each says something that the other hears, once and in order, on the connection that they had."""
        for person in self.people:
            await person.publish(self.channel, {"text": CANARY})
        for person in self.people:
            subscription = person.subscriptions[self.channel]
            await person.told(self.channel, self.said, SOON)
            assert subscription.faults == []
            assert len(subscription.publications) == self.said - subscription.start
            assert person.connects == 1, f"a bystander was disconnected with {person.closes}"

    @property
    def said(self) -> int:
        return max(person.subscriptions[self.channel].offset for person in self.people)


@asynccontextmanager
async def bystanders(server: Server, channel: str) -> AsyncIterator[Bystanders]:
    """People who talk before and after the block. At its end nothing has been restarted."""
    before = pids_of(server)
    async with (
        raw_client(server.websocket(0), server.token("ada")) as ada,
        raw_client(server.websocket(1), server.token("bob")) as bob,
    ):
        for person in (ada, bob):
            await person.subscribe(channel)
        together = Bystanders(channel, [ada, bob])
        yield together
        await together.exchange()
    assert pids_of(server) == before
    restarts = await samples(server, "chalkwire_restarts_total")
    assert not any(restarts.values()), restarts


def complaints(server: Server) -> Iterator[str]:
    """Lines of the log that tell of an error, and those that tell what nobody should know."""
    for line in server.log.read_text(errors="replace").splitlines():
        event = json.loads(line) if line.startswith("{") else {"level": "" if "Traceback" not in line else "error"}
        if event.get("level") in ("error", "critical") or "exception" in event or CANARY in line:
            yield line
