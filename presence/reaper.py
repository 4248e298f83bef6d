"""Removing what a node left in Redis: a dead one's by whoever claims it, the own at a clean stop."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from presence import entry, keys, scripts
from presence.link import BATCH, Command, Link, call, offline, scan
from realtime.protocol import ClientInfo

log = logging.getLogger(__name__)

OnLeave = Callable[[str, ClientInfo], None]

CHANNELS = 100  # channels looked through together
CLIENTS = 500  # clients removed in one step of Redis: about 0.2 ms
REMEMBERED = 3600  # seconds in which a node that was taken for dead may come back and learn of it


class ClaimLost(Exception):
    """Another node removes the entries now, or their owner is back."""


async def reap(link: Link, me: str, dead: Sequence[str], lease_ms: int, on_leave: OnLeave) -> None:
    """Remove the entries of dead nodes, those that no other node has claimed. Raises `Away`."""
    for node in random.sample(dead, len(dead)):  # survivors that begin with different ones share the work
        names = (keys.NODES, keys.reaper(node))

        async def deadline(names: tuple[str, str] = names, node: str = node) -> int:
            (until,) = await link.run([call(scripts.CLAIM, names, node, me, lease_ms)])
            if not until:
                raise ClaimLost
            return int(until)

        try:
            await deadline()
            left, departed = await remove(link, node, deadline, on_leave)
            await link.run([call(scripts.FINISH, names, node, me, REMEMBERED)])
        except ClaimLost:
            continue
        log.warning("presence: node %s died; %d leaves, %d users", node, left, departed)


async def withdraw(link: Link, node: str, on_leave: OnLeave) -> None:
    """Remove the own entries and the lease, at a stop. Raises `Away`."""

    async def no_deadline() -> int:
        return 0

    await remove(link, node, no_deadline, on_leave)
    await link.run([("ZREM", keys.NODES, node)])


async def remove(link: Link, node: str, deadline: Callable[[], Awaitable[int]], on_leave: OnLeave) -> tuple[int, int]:
    """Remove a node's entries in batches; returns how many leaves were announced and how many users were seen to.

    A leave is announced when Redis says that this very removal took the entry, so never twice; a reaper that dies in
    between leaves at most one batch unannounced. Raises `Away` and what `deadline` raises.
    """
    left = departed = 0
    listed = keys.node_channels(node)
    while channels := await _some(link, listed, CHANNELS):
        found: dict[str, dict[bytes, bytes]] = {channel: {} for channel in channels}
        async for part in scan(link, channels, node):
            for channel, entries in part:
                found[channel].update(entries)
        for batch in _batches(found):
            until = await deadline()
            removals = [_removal(channel, clients, until) for channel, clients in batch]
            for (channel, _), removed in zip(batch, await _run(link, removals), strict=True):
                for client in removed:
                    _announce(on_leave, channel, client, found[channel][client])
                left += len(removed)
        await link.run([("SREM", listed, *channels)])
    listed = keys.node_users(node)
    while users := await _some(link, listed, BATCH):
        until = await deadline()
        await _run(link, [offline(user, node, until) for user in users])
        await link.run([("SREM", listed, *users)])
        departed += len(users)
    return left, departed


def _batches(found: dict[str, dict[bytes, bytes]]) -> Iterator[list[tuple[str, list[bytes]]]]:
    """All (channel, clients), cut so that no step removes more than `CLIENTS`."""
    batch: list[tuple[str, list[bytes]]] = []
    size = 0
    for channel, entries in found.items():
        rest = iter(entries)
        while clients := list(islice(rest, CLIENTS - size)):
            batch.append((channel, clients))
            size += len(clients)
            if size == CLIENTS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def _removal(channel: str, clients: list[bytes], deadline: int) -> Command:
    return ("EVALSHA", scripts.REMOVE.sha, 1, keys.members(channel), deadline, *clients)


async def _run(link: Link, removals: list[Command]) -> list[Any]:
    """What each removal took; nothing for a key that is not ours."""
    replies = await link.run(removals)
    if any(reply is None for reply in replies):
        raise ClaimLost
    return [() if isinstance(reply, Exception) else reply for reply in replies]


async def _some(link: Link, key: str, count: int) -> list[str]:
    (names,) = await link.run([("SRANDMEMBER", key, count)])
    return [name.decode(errors="surrogatepass") for name in names]


def _announce(on_leave: OnLeave, channel: str, client: bytes, value: bytes) -> None:
    info = entry.decode(client, value)
    if info is None:
        return
    try:
        on_leave(channel, info)
    except Exception:
        log.exception("presence: leave not announced")
