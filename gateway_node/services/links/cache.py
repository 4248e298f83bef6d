"""What a redirect has to know of a link, near in the node, then in Redis (`link:{code}`), then in PostgreSQL.

- Near entries live for `NEAR_TTL`: a node that was not told of a change, because NATS was away, is wrong that long.
- One flight: of those on a node who want a code that is not near, one asks.
- Redis keeps it for a day, never beyond the link's end. A value older than `FRESH` is given, and read again meanwhile.
- Whoever changes a link puts a mark in its place for as long as a statement may take: a reader that began before the
  change cannot put back what it has read, because it writes only where there is nothing. What Redis could not be told
  is told when it is back.
- A code that nobody has is remembered near, for a moment; Redis is not filled with what strangers make up.
- Links that count or ask (most visits, a password) are cached as just that, and decided in PostgreSQL each time.

Redis may be away at any time: then PostgreSQL answers.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from gateway_node.services.links.target import Targets
from presence import Away, Pipe
from storage.links.links import Link, LinkStore

TTL = 86400  # s in Redis
FRESH = 60.0  # s
MARK = 10  # s: longer than a statement and its way to Redis; until then a changed link is read from PostgreSQL
NEAR = 8192  # links that a node remembers, about 1.5 KB each
MAX_NEAR_URL = 2048  # bytes: longer targets are in Redis only, or 8,192 of them would take 130 MB of each node
NEAR_TTL = 5.0  # s
MISSING_TTL = 2.0  # s
MAX_UNTOLD = 100_000  # changed codes that wait for a Redis that is away
PATIENCE = 0.25  # s for Redis: PostgreSQL has the answer in a hundredth of that
PAUSE = 1.0  # s in which a Redis that did not answer is not asked again
RETRY = 0.5  # s

Kind = Literal["open", "decides", "disabled", "deleted", "missing"]
"""`open`: whoever comes is let through; `decides`: PostgreSQL decides each time."""

_log = structlog.get_logger(__name__)


class Entry(Struct, array_like=True):
    """What is in Redis. Times are Unix time: other nodes read them."""

    at: float
    url: str
    kind: Kind
    expires_at: float | None = None


MISSING = Entry(0.0, "", "missing")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Near:
    """An entry in the node until `until` (Unix time), with the answer that it gives while it is `open`."""

    __slots__ = ("code", "entry", "start", "until")

    def __init__(self, code: str, entry: Entry, until: float, start: dict[str, object] | None) -> None:
        self.code = code
        self.entry = entry
        self.until = until
        self.start = start


def entry_of(link: Link, targets: Targets) -> Entry:
    expires_at = link.expires_at.timestamp() if link.expires_at else None
    kind: Kind = "open"
    if link.deleted_at is not None:
        kind = "deleted"
    elif link.disabled_at is not None or targets.blocks(link.original_url):
        kind = "disabled"
    elif link.max_visits is not None or link.password_hash is not None:
        kind = "decides"
    return Entry(time.time(), link.original_url if kind == "open" else "", kind, expires_at)


def key(code: str) -> str:
    return f"link:{code}"


class LinkCache:
    """`answer`: what is sent to whoever follows an open link to a target, which ends in so many seconds, made once for
    all who do; `tell`: the other nodes."""

    def __init__(
        self,
        pipe: Pipe,
        store: LinkStore,
        targets: Targets,
        answer: Callable[[str, float], dict[str, object]],
        tell: Callable[[Sequence[str]], None] = lambda codes: None,
    ) -> None:
        self._pipe = pipe
        self._store = store
        self._targets = targets
        self._answer = answer
        self._tell = tell
        self.near: dict[str, Near] = {}
        self._flights: dict[str, asyncio.Task[Near]] = {}
        self._changes = 0  # heard of: what was asked before one is not remembered after it
        self._untold: dict[str, None] = {}
        self._away_until = 0.0
        self._telling: asyncio.Task[None] | None = None

    # --- reading -----------------------------------------------------------------------------------------------

    async def quickly(self, code: str) -> Near | None:
        """What is near and holds now, or what Redis has. `None`: PostgreSQL must be asked."""
        near = self.near.get(code)
        if near is not None and time.time() < near.until:
            return near
        if code in self._untold or time.monotonic() < self._away_until:
            return None
        changes = self._changes
        try:
            async with asyncio.timeout(PATIENCE):
                (value,) = await self._pipe.run([("GET", key(code))])
            entry = _decode(value) if value else None
        except (Away, TimeoutError):
            self._away_until = time.monotonic() + PAUSE
            return None
        except msgspec.DecodeError:  # of another version of this program
            return None
        if entry is None:
            return None
        if self._targets.blocks(entry.url):  # since it was cached
            entry = Entry(entry.at, "", "disabled", entry.expires_at)
        if time.time() - entry.at > FRESH:
            self._fetch(code, replace=True)
        return self._remember(code, entry, changes)

    async def get(self, code: str) -> Near:
        """Raises `DatabaseUnavailable`."""
        near = await self.quickly(code)
        return near if near is not None else await asyncio.shield(self._fetch(code))

    def _fetch(self, code: str, *, replace: bool = False) -> asyncio.Task[Near]:
        flight = self._flights.get(code)
        if flight is None:
            flight = self._flights[code] = asyncio.create_task(self._load(code, replace))
            flight.add_done_callback(lambda done: self._landed(code, done))
        return flight

    def _landed(self, code: str, flight: asyncio.Task[Near]) -> None:
        if self._flights.get(code) is flight:
            del self._flights[code]
        if not flight.cancelled():
            flight.exception()  # whoever waits has it; of a second look nobody does

    async def _load(self, code: str, replace: bool) -> Near:
        changes = self._changes
        link = await self._store.get(code)
        if link is None:
            return self._remember(code, MISSING, changes)
        entry = entry_of(link, self._targets)
        await self._keep([(code, entry)], replace=replace)
        return self._remember(code, entry, changes)

    def _remember(self, code: str, entry: Entry, changes: int) -> Near:
        now = time.time()
        until = now + (NEAR_TTL if entry is not MISSING else MISSING_TTL)
        start = None
        if entry.kind == "open" and (entry.expires_at is None or entry.expires_at > now):
            ends = entry.expires_at if entry.expires_at is not None else math.inf
            start = self._answer(entry.url, ends - now)
            until = min(until, ends)
        near = Near(code, entry, until, start)
        if changes == self._changes and len(entry.url) <= MAX_NEAR_URL:
            self.near.pop(code, None)
            self.near[code] = near
            if len(self.near) > NEAR:
                del self.near[next(iter(self.near))]
        return near

    # --- Redis -------------------------------------------------------------------------------------------------

    async def put(self, links: Sequence[Link]) -> None:
        """What was just made."""
        await self._keep([(link.short_code, entry_of(link, self._targets)) for link in links])

    async def _keep(self, entries: Iterable[tuple[str, Entry]], *, replace: bool = False) -> None:
        """A value is replaced only where there still is one: a mark that came meanwhile must stay. Between the two a
        change could be lost for `FRESH` seconds, hence in one step."""
        commands: list[tuple[str | int | bytes, ...]] = []
        for code, entry in entries:
            left = TTL if entry.expires_at is None else min(TTL, int(entry.expires_at - time.time()))
            if left > 0 and code not in self._untold:
                if replace:
                    commands.append(("EVAL", _REPLACE, 1, key(code), _encode(entry), left))
                else:
                    commands.append(("SET", key(code), _encode(entry), "EX", left, "NX"))
        try:
            await self._pipe.run(commands)
        except Away:
            pass

    async def forget(self, changed: Sequence[str]) -> None:
        """After a change is committed: here, in Redis, on the other nodes."""
        self.forget_here(changed)
        try:
            await self._pipe.run([("SET", key(code), b"", "EX", MARK) for code in changed])
        except Away:
            for code in changed:
                self._untold[code] = None
            if len(self._untold) > MAX_UNTOLD:  # then `FRESH` bounds how long they are wrong
                del self._untold[next(iter(self._untold))]
            if self._telling is None or self._telling.done():
                self._telling = asyncio.create_task(self._tell_redis(), name="changed links")
        self._tell(changed)

    def forget_here(self, changed: Sequence[str]) -> None:
        """Another node has changed them."""
        self._changes += 1
        for code in changed:
            self.near.pop(code, None)
            self._flights.pop(code, None)

    async def _tell_redis(self) -> None:
        while self._untold:
            await asyncio.sleep(RETRY)
            some = list(self._untold)[:100]
            try:
                await self._pipe.run([("SET", key(code), b"", "EX", MARK) for code in some])
            except Away:
                continue
            for code in some:
                self._untold.pop(code, None)
            self._tell(some)  # who read the old value meanwhile has it near
        _log.info("links.redis_told")

    async def close(self) -> None:
        tasks = [task for task in (self._telling, *self._flights.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_REPLACE = """
local there = redis.call('GET', KEYS[1])
if there and there ~= '' then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) end
return 1
"""
