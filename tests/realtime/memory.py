"""The core's interfaces in memory: a log, a broker between nodes, presence, and an authoriser that allows by rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import accumulate

import orjson
from msgspec import Raw
from msgspec.structs import replace

from realtime import codec, codes
from realtime.interfaces import (
    Admission,
    Appended,
    BrokerUnavailable,
    Entry,
    Grant,
    Identity,
    IdTaken,
    LogUnavailable,
    Page,
    PresenceStats,
    PresenceUnavailable,
    Span,
)
from realtime.namespaces import Namespaces
from realtime.protocol import ClientInfo, Publication, StreamPosition


class MemoryLog:
    """Offsets 1, 2, 3 ... per channel. `gate` can be closed to hold every answer back."""

    def __init__(self, epoch: str = "e1") -> None:
        self.epoch = epoch
        self.rows: dict[str, list[tuple[Entry, Publication]]] = {}
        self.first: dict[str, int] = {}
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    async def _answer(self) -> None:
        await self.gate.wait()
        if self.away:
            raise LogUnavailable

    def store(self, entry: Entry) -> Appended:
        rows = self.rows.setdefault(entry.channel, [])
        for stored, publication in rows:
            if stored.id == entry.id:
                if stored.sender != entry.sender:
                    raise IdTaken
                return Appended(publication.offset, self.epoch, publication.time, publication)
        info = codec.decode_info(entry.info) if entry.info else None
        tags = orjson.loads(entry.tags) if entry.tags else None
        publication = Publication(Raw(entry.data), info, len(rows) + 1, tags, 1_700_000_000_000)
        rows.append((entry, publication))
        return Appended(publication.offset, self.epoch, publication.time)

    async def append(self, entry: Entry) -> Appended:
        await self._answer()
        return self.store(entry)

    def head(self, channel: str) -> StreamPosition:
        return StreamPosition(len(self.rows.get(channel, ())), self.epoch)

    async def read(self, channel: str, after: int, limit: int, max_bytes: int | None = None) -> Page:
        await self._answer()
        self.reads += 1
        first = self.first.get(channel, 1)
        kept = [each for _, each in self.rows.get(channel, ()) if each.offset > after and each.offset >= first]
        return Page(_fitting(kept[:limit], max_bytes), self.head(channel), first)

    async def read_all(self, spans: Sequence[Span]) -> list[Page]:
        return [await self.read(*span) for span in spans]

    async def read_back(self, channel: str, before: int | None, limit: int, max_bytes: int | None = None) -> Page:
        await self._answer()
        kept = [each for _, each in self.rows.get(channel, ()) if before is None or each.offset < before]
        return Page(_fitting(kept[::-1][:limit], max_bytes), self.head(channel))

    async def clear(self, channel: str) -> StreamPosition:
        await self._answer()
        self.rows.pop(channel, None)
        self.epoch += "x"
        return self.head(channel)

    async def heads(self, channels: Sequence[str]) -> dict[str, StreamPosition]:
        await self._answer()
        return {channel: self.head(channel) for channel in channels}


def _fitting(publications: list[Publication], max_bytes: int | None) -> list[Publication]:
    sizes = accumulate(len(bytes(each.data)) for each in publications)
    fitting = [each for each, size in zip(publications, sizes, strict=True) if max_bytes is None or size <= max_bytes]
    return fitting or publications[:1]


class MemoryNetwork:
    """What connects the brokers of several nodes. `lose` drops everything on the way."""

    def __init__(self) -> None:
        self.brokers: list[MemoryBroker] = []
        self.lose = False

    def broker(self) -> MemoryBroker:
        broker = MemoryBroker(self)
        self.brokers.append(broker)
        return broker


class MemoryBroker:
    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.subscribed: set[str] = set()
        self.asked: list[tuple[str, ...]] = []
        self.away = False
        self.on_message: Callable[[str, bytes], None] = lambda channel, message: None
        self.on_control: Callable[[bytes], None] = lambda message: None

    async def subscribe(self, *channels: str) -> None:
        self.subscribed.update(channels)
        self.asked.append(channels)
        await asyncio.sleep(0)
        if self.away:
            raise BrokerUnavailable

    def unsubscribe(self, channel: str) -> None:
        self.subscribed.discard(channel)

    def publish(self, channel: str, message: bytes) -> None:
        if not self.network.lose:
            for other in self.network.brokers:
                if other is not self and channel in other.subscribed:
                    asyncio.get_running_loop().call_soon(other.on_message, channel, message)

    def publish_control(self, message: bytes) -> None:
        if not self.network.lose:
            for other in self.network.brokers:
                if other is not self:
                    asyncio.get_running_loop().call_soon(other.on_control, message)


class MemoryPresence:
    def __init__(self) -> None:
        self.channels: dict[str, dict[str, ClientInfo]] = {}
        self.users: dict[str, set[str]] = {}
        self.away = False

    def join(self, channel: str, info: ClientInfo) -> None:
        self.channels.setdefault(channel, {})[info.client] = info

    def leave(self, channel: str, info: ClientInfo) -> None:
        del self.channels[channel][info.client]

    def connected(self, user: str, client: str) -> None:
        self.users.setdefault(user, set()).add(client)

    def disconnected(self, user: str, client: str) -> None:
        self.users[user].remove(client)

    async def members(self, channel: str) -> list[ClientInfo]:
        if self.away:
            raise PresenceUnavailable
        return list(self.channels.get(channel, {}).values())

    async def stats(self, channel: str) -> PresenceStats:
        members = await self.members(channel)
        return PresenceStats(len(members), len({each.user for each in members}))


class RuleAuthoriser:
    """Token "ana" is user ana; `bad` and `expired` are refused. Rooms have explicit members."""

    def __init__(self, namespaces: Namespaces, log: MemoryLog) -> None:
        self.namespaces = namespaces
        self.log = log
        self.members: dict[str, set[str]] = {}
        self.since: dict[tuple[str, str], int] = {}  # (room, user) -> the offset at which they came in
        self.pairs: dict[str, tuple[str, str]] = {}
        self.questions = 0  # membership
        self.identities: dict[str, Identity] = {}
        self.grants: dict[str, Grant] = {}

    async def connect(self, token: str) -> Identity:
        await asyncio.sleep(0)
        if token == "bad":
            raise codes.DisconnectError(codes.INVALID_TOKEN)
        if token == "expired":
            raise codes.TOKEN_EXPIRED
        return self.identities.get(token) or Identity(token)

    async def admit(self, token: str, most_rooms: int) -> Admission:
        identity = await self.connect(token)
        rooms = [room for room, members in self.members.items() if identity.user in members]
        return Admission(identity, rooms[:most_rooms], self.log.head(f"user:{identity.user}").offset)

    async def subscribe(self, identity: Identity, channel: str, token: str) -> Grant:
        await asyncio.sleep(0)
        if token == "expired":
            raise codes.TOKEN_EXPIRED
        if channel.startswith("user:") and channel != f"user:{identity.user}":
            raise codes.PERMISSION_DENIED
        grant = self.grants.get(token) or Grant()
        if not channel.startswith("room:"):
            return grant
        self.questions += 1
        if identity.user not in self.members.get(channel, ()):
            raise codes.PERMISSION_DENIED
        since = self.since.get((channel, identity.user), 0)
        return replace(grant, pair=self.pairs.get(channel), since=since)

    async def subscribe_all(
        self, identity: Identity, asked: Sequence[tuple[str, str]]
    ) -> list[Grant | codes.CommandError]:
        answers: list[Grant | codes.CommandError] = []
        for channel, token in asked:
            try:
                answers.append(await self.subscribe(identity, channel, token))
            except codes.CommandError as error:
                answers.append(error)
        return answers

    async def _may(self, identity: Identity, channel: str, subscribed: bool) -> bool:
        return subscribed

    may_publish = may_see_presence = may_read_history = _may
