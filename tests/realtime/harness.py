"""Nodes of the core without sockets: clients whose bytes go straight into their connection."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orjson
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLIENT, OPEN, Protocol

from realtime import codec, membership
from realtime.client import ClientConnection
from realtime.core import ClientLimits, Core
from realtime.endpoint import WebSocketEndpoint
from realtime.hub import Hub
from realtime.interfaces import Entry
from realtime.namespaces import ChannelOptions, Namespaces
from realtime.protocol import Publication
from realtime.publisher import Publisher
from realtime.wheel import TimingWheel
from tests.realtime.memory import MemoryLog, MemoryNetwork, MemoryPresence, RuleAuthoriser

NAMESPACES = Namespaces(
    {
        "chat": ChannelOptions(
            history_size=1000, presence=True, join_leave=True, force_recovery=True, allow_publish_for_subscriber=True
        ),
        "fleeting": ChannelOptions(allow_subscribe_for_client=True),
    }
)


class FakeTransport:
    """The part of a transport that a connection uses; what is written is parsed by `Client`."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self.written: list[bytes] = []
        self.reading = True
        self.closing = False
        self.buffered = 0

    def write(self, data: bytes) -> None:
        if self.closing:
            raise RuntimeError("written to after the end")  # as asyncio's and uvloop's after `write_eof`
        self.written.append(data)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Client:
    """A raw client of one node. `received` is everything that came, parsed, without pings."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.connection = ClientConnection(node.endpoint, node.core)
        self.transport = FakeTransport(self.connection)
        self._parser = Protocol(CLIENT, state=OPEN)
        self._next_id = 0
        self.received: list[dict[str, Any]] = []
        self.close: tuple[int, str] | None = None
        headers = Headers(
            [
                ("Host", "localhost"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Version", "13"),
            ]
        )
        self.connection.upgrade(self.transport, Request("/connection/websocket", headers))  # type: ignore[arg-type]
        assert self.transport.written.pop(0).startswith(b"HTTP/1.1 101")

    def send_raw(self, payload: bytes) -> None:
        self._parser.send_text(payload)
        self.connection.data_received(b"".join(self._parser.data_to_send()))

    def answer_to(self, number: int) -> dict[str, Any] | None:
        self.pull()
        return next((each for each in self.received if each.get("id") == number), None)

    def send(self, **command: Any) -> int:
        self._next_id += 1
        self.send_raw(orjson.dumps({"id": self._next_id, **command}))
        return self._next_id

    def pull(self) -> None:
        if not self.transport.written or self.close:
            return
        data = b"".join(self.transport.written)
        self.transport.written.clear()
        self._parser.receive_data(data)
        for event in self._parser.events_received():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.TEXT:
                self.received += [orjson.loads(line) for line in bytes(event.data).split(b"\n") if line != b"{}"]
            elif event.opcode is Opcode.CLOSE:
                code = int.from_bytes(event.data[:2], "big")
                self.close = (code, bytes(event.data[2:]).decode())

    async def until(self, condition: Any) -> Any:
        """Let the loop run until the condition on this client holds."""
        for _ in range(2000):
            self.pull()
            found = condition(self)
            if found:
                return found
            await asyncio.sleep(0 if _ < 1000 else 0.005)
        raise AssertionError(f"never happened; received {self.received}, close {self.close}")

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return its reply."""
        number = self.send(**command)
        return await self.until(lambda c: next((r for r in c.received if r.get("id") == number), None))

    async def closing(self) -> tuple[int, str]:
        return await self.until(lambda c: c.close)

    @property
    def offsets(self) -> list[int]:
        self.pull()
        return [p["offset"] for p in self.publications if "offset" in p]

    @property
    def publications(self) -> list[dict[str, Any]]:
        self.pull()
        return [r["push"]["pub"] for r in self.received if "pub" in r.get("push", {})]

    @property
    def pushes(self) -> list[dict[str, Any]]:
        self.pull()
        return [r["push"] for r in self.received if "push" in r]


class Node:
    """A gateway node's core, on a shared log and network."""

    def __init__(
        self,
        log: MemoryLog,
        network: MemoryNetwork,
        presence: MemoryPresence,
        authoriser: RuleAuthoriser,
        name: str,
        limits: ClientLimits,
    ) -> None:
        self.wheel = TimingWheel(25, 8)
        self.endpoint = WebSocketEndpoint(self.wheel)
        self.broker = network.broker()
        self.log = log
        self.presence = presence
        self.hub = Hub(log=log, broker=self.broker, presence=presence, after_slices=self.endpoint.check_congested)
        publisher = Publisher(self.hub, log, self.broker)
        self.authoriser = authoriser
        self.core = Core(
            self.hub, log, presence, publisher, self.authoriser, NAMESPACES, limits, node=name, incarnation=name
        )
        self.broker.on_message = publisher.received
        self.hub.on_tagged = lambda channel, publication: membership.act_on(self.hub, channel, publication)

    def client(self) -> Client:
        return Client(self)

    async def connected(self, user: str = "ana", **connect: Any) -> Client:
        client = self.client()
        reply = await client.ask(connect={"token": user, **connect})
        assert "connect" in reply, reply
        return client

    async def subscribed(self, user: str, channel: str, **subscribe: Any) -> Client:
        client = await self.connected(user)
        reply = await client.ask(subscribe={"channel": channel, **subscribe})
        assert "subscribe" in reply, reply
        return client


class Cluster:
    """Nodes that share a log and a network."""

    def __init__(self, size: int = 2, limits: ClientLimits | None = None) -> None:
        self.log = MemoryLog()
        self.network = MemoryNetwork()
        self.presence = MemoryPresence()
        self.authoriser = RuleAuthoriser(NAMESPACES, self.log)
        limits = limits or ClientLimits()
        self.nodes = [
            Node(self.log, self.network, self.presence, self.authoriser, f"n{i}", limits) for i in range(size)
        ]

    # --- what others do ----------------------------------------------------------------------------------------

    def store(self, channel: str, data: object = None, **tags: str) -> Publication:
        """A publication that is in the log, but that no node was told of."""
        encoded = orjson.dumps(tags) if tags else b""
        entry = Entry(channel, os.urandom(16), "x", orjson.dumps(data), tags=encoded)
        offset = self.log.store(entry).offset
        return self.log.rows[channel][offset - 1][1]

    def tell(self, channel: str, publication: Publication, *nodes: Node) -> None:
        """Hand a publication to the nodes, as if another one had sent it."""
        for node in nodes or self.nodes:
            node.broker.on_message(channel, codec.pack_publication(publication, self.log.epoch))

    def say(self, channel: str, data: object = None, **tags: str) -> Publication:
        publication = self.store(channel, data, **tags)
        self.tell(channel, publication)
        return publication

    def add(self, user: str, room: str) -> tuple[Publication, Publication]:
        """Make the user a member. The rows of the room and of the personal channel, of which no node was told."""
        added = self.store(room, event="member_added", user=user)
        self.authoriser.members.setdefault(room, set()).add(user)
        self.authoriser.since[room, user] = added.offset
        return added, self.store(f"user:{user}", event="room_added", room=room.removeprefix("room:"))

    def remove(self, user: str, room: str) -> tuple[Publication, Publication]:
        """End a membership. The rows of the room and of the personal channel, of which no node was told."""
        removed = self.store(room, event="member_removed", user=user)
        self.authoriser.members[room].discard(user)
        return removed, self.store(f"user:{user}", event="room_removed", room=room.removeprefix("room:"))

    def sweep(self) -> None:
        """Tell every node how far every channel has come."""
        heads = {channel: self.log.head(channel) for channel in self.log.rows}
        for node in self.nodes:
            node.hub.on_heads(heads)


__all__ = ["Client", "Cluster", "Node"]
