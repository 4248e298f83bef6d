"""A connection to Redis that runs batches of commands, and knows one kind of failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from presence import keys, scripts
from presence.scripts import Script

log = logging.getLogger(__name__)

Command = tuple[str | int | bytes, ...]

BATCH = 200  # commands in one write: 1-2 ms of the event loop
SCAN_COUNT = 1000  # entries of a hash that Redis looks at in one step


class Away(Exception):
    """Redis did not do what it was asked: unreachable, too slow, full, loading, a replica. The text says which."""


class Full(Away):
    """Redis has no memory left: it removes and extends, but adds nothing."""


class _Packing:
    """Before redis-py's asyncio connections, which pack commands in Python: half of what a batch costs."""

    def pack_commands(self, commands: Iterable[Command]) -> list[bytes]:
        try:
            return [b"".join([hiredis.pack_command(command) for command in commands])]  # type: ignore[arg-type]
        except UnicodeEncodeError:  # hiredis refuses half a surrogate pair
            packed: list[bytes] = super().pack_commands(commands)  # type: ignore[misc]
            return packed


class Patience:
    """A timeout in four steps, each of which gives the event loop a turn.

    A node that was busy for a second finds the timer due before the answer that has been in the socket all the time;
    it would take Redis for dead just when it has the most to do.
    """

    STEPS = 4

    def __init__(self, seconds: float) -> None:
        self._step = seconds / self.STEPS
        self._left = self.STEPS
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._timer = asyncio.get_running_loop().call_later(self._step, self._count)

    async def __aexit__(self, *error: Any) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(*error)

    def _count(self) -> None:
        self._left -= 1
        loop = asyncio.get_running_loop()
        if self._left:
            self._timer = loop.call_later(self._step, self._count)
        else:
            self._timeout.reschedule(loop.time())


class Link:
    """Batches run one after another, each in one round trip. Raises `Away` and nothing else.

    `on_offline(user)` is called for each user whom one of these batches took offline: their last device went.
    """

    def __init__(self, url: str, timeout: float, on_offline: Callable[[str], None] = lambda user: None) -> None:
        self._timeout = timeout
        self._on_offline = on_offline
        self._redis = Redis.from_url(
            url,
            protocol=3,
            max_connections=1,
            retry=Retry(NoBackoff(), 0),  # whoever waits here knows better what is worth another try
            encoding_errors="surrogatepass",  # no name is refused
            socket_timeout=None,  # one timer a batch, not one a reply
            socket_connect_timeout=timeout,
        )
        pool = self._redis.connection_pool
        pool.connection_class = type("PackingConnection", (_Packing, pool.connection_class), {})

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order. A key of another type than ours is the only error that comes back as a reply."""
        if not commands:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            async with Patience(self._timeout):
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except TimeoutError:
            raise Away(f"no answer within {self._timeout:g} s") from None
        except (RedisError, OSError) as error:
            raise Away(str(error) or type(error).__name__) from None
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                if not _is_foreign(reply):
                    raise _failure(reply)
                log.error("presence: %s of %r refused: %s", command[0], _key_of(command), reply)
            elif reply == scripts.WENT_OFFLINE and command[1] == scripts.OFFLINE.sha:
                self._tell(str(command[-1]).removeprefix(keys.OFFLINE))
        return replies

    def _tell(self, user: str) -> None:
        try:
            self._on_offline(user)
        except Exception:
            log.exception("presence: nobody was told that a user went offline")

    async def load_scripts(self) -> None:
        await self.run([("SCRIPT", "LOAD", script.source) for script in scripts.ALL])

    async def close(self) -> None:
        try:
            await self._redis.aclose()
        except (RedisError, OSError):
            pass


def call(script: Script, names: Sequence[str], *arguments: str | int) -> Command:
    return ("EVALSHA", script.sha, len(names), *names, *arguments)


def offline(user: str, node: str, deadline: int) -> Command:
    return call(scripts.OFFLINE, keys.online(user), node, deadline, keys.OFFLINE + user)


def online(user: str, node: str, ttl: int, *, quiet: bool = False) -> Command:
    return call(scripts.ONLINE, keys.online(user), node, ttl, "" if quiet else keys.ONLINE + user)


async def scan(
    link: Link, channels: Iterable[str], node: str | None = None
) -> AsyncIterator[list[tuple[str, dict[bytes, bytes]]]]:
    """The entries of several channels' hashes (those of one node's clients), a round trip at a time.

    Each item is what one round trip found. An entry may come twice; one that is there all the time comes at least once.
    """
    match = () if node is None else ("MATCH", f"{node}.*")
    cursors: dict[str, int] = dict.fromkeys(channels, 0)
    while cursors:
        asked = list(cursors.items())
        replies = await link.run(
            [("HSCAN", keys.members(channel), cursor, *match, "COUNT", SCAN_COUNT) for channel, cursor in asked]
        )
        found = []
        for (channel, _), reply in zip(asked, replies, strict=True):
            if isinstance(reply, Exception):
                del cursors[channel]
                continue
            cursor, entries = reply
            found.append((channel, entries))
            if int(cursor) == 0:
                del cursors[channel]
            else:
                cursors[channel] = int(cursor)
        yield found


def _is_foreign(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")


def _failure(error: Exception) -> Away:
    text = str(error) or type(error).__name__
    return Full(text) if isinstance(error, OutOfMemoryError) or "OOM" in text else Away(text)


def _key_of(command: Command) -> object:
    return command[3] if command[0] in ("EVAL", "EVALSHA") else command[1]
