"""Making Redis say again what this node holds, after either of them may have missed something."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import islice

from presence import entry, keys
from presence.changes import Changes
from presence.link import BATCH, Command, Full, Link, offline, online, scan
from realtime.interfaces import Roster
from realtime.protocol import ClientInfo

CLIENTS = 500  # connections dealt with in one slice

Difference = tuple[str, str, ClientInfo | None]  # channel, client, who it is if Redis lacks it


async def compare(
    link: Link, node: str, ttl: int, changes: Changes, roster: Roster, *, quiet: bool
) -> AsyncGenerator[int, None]:
    """Add what Redis lacks of the roster and remove what it has beyond; yields after each slice, with its size.

    Between two slices the caller writes ordinary changes, over the same link; whatever they touched is left to them.
    `quiet`: users come back without a notice, because Redis forgot them while nobody saw them leave. Raises `Away`;
    when Redis is full, after all removals.
    """
    held: dict[str, dict[str, ClientInfo]] = {}
    for channel, info in roster.present():
        held.setdefault(channel, {})[info.client] = info
    users = Counter(user for user, _ in roster.online() if user)
    changes.start_over({channel: len(members) for channel, members in held.items()}, dict(users))
    full: Full | None = None

    async for channels in _scan_set(link, keys.node_channels(node)):
        for channel in channels:
            held.setdefault(channel, {})
        yield 0
    while held:
        group = _take(held)
        found: dict[str, set[str]] = {channel: set() for channel in group}
        async for part in scan(link, group, node):
            for channel, entries in part:
                found[channel].update(client.decode(errors="replace") for client in entries)
            yield 0
        differences: list[Difference] = []
        for channel, members in group.items():
            there = found[channel]
            differences += [(channel, client, info) for client, info in members.items() if client not in there]
            differences += [(channel, client, None) for client in there if client not in members]
        rest = iter(differences)
        while some := list(islice(rest, CLIENTS)):
            surplus = _removals(changes, some)
            if surplus:
                await link.run(surplus)
            missing = _additions(changes, node, ttl, some)
            if missing and full is None:
                try:
                    await link.run(missing)
                except Full as error:
                    full = error
            yield len(some)
        left = [channel for channel, members in group.items() if not members and channel not in changes.channels]
        if left:
            await link.run([("SREM", keys.node_channels(node), *left)])

    async for listed in _scan_set(link, keys.node_users(node)):
        touched = changes.touched_users or ()
        gone = [user for user in listed if user not in users and user not in touched]
        if gone:
            await link.run([offline(user, node, 0) for user in gone] + [("SREM", keys.node_users(node), *gone)])
        yield len(gone)
    if full is not None:
        raise full
    arriving = iter(users)
    while batch := list(islice(arriving, BATCH)):
        touched = changes.touched_users or ()
        here = [user for user in batch if user not in touched]
        if here:
            arrivals = [online(user, node, ttl, quiet=quiet) for user in here]
            await link.run([("SADD", keys.node_users(node), *here), *arrivals])
        yield len(here)
    changes.compared()


def _take(held: dict[str, dict[str, ClientInfo]]) -> dict[str, dict[str, ClientInfo]]:
    """Channels with about `CLIENTS` connections together."""
    group: dict[str, dict[str, ClientInfo]] = {}
    size = 0
    while held and size < CLIENTS:
        channel, members = held.popitem()
        group[channel] = members
        size += 1 + len(members)
    return group


def _removals(changes: Changes, differences: list[Difference]) -> list[Command]:
    gone: dict[str, list[str]] = {}
    for channel, client, info in differences:
        if info is None and not _touched(changes, channel, client):
            gone.setdefault(channel, []).append(client)
    return [("HDEL", keys.members(channel), *clients) for channel, clients in gone.items()]


def _additions(changes: Changes, node: str, ttl: int, differences: list[Difference]) -> list[Command]:
    here: dict[str, list[str | bytes]] = {}
    now = int(time.time())
    for channel, client, info in differences:
        if info is not None and not _touched(changes, channel, client):
            here.setdefault(channel, []).extend((client, entry.encode(info, now)))
    commands: list[Command] = [("SADD", keys.node_channels(node), *here)] if here else []
    for channel, fields in here.items():
        commands.append(("HSET", keys.members(channel), *fields))
        commands.append(("EXPIRE", keys.members(channel), ttl))
    return commands


def _touched(changes: Changes, channel: str, client: str) -> bool:
    return changes.touched_members is not None and (channel, client) in changes.touched_members


async def _scan_set(link: Link, key: str) -> AsyncIterator[list[str]]:
    cursor = 0
    while True:
        ((after, names),) = await link.run([("SSCAN", key, cursor, "COUNT", CLIENTS)])
        yield [name.decode(errors="surrogatepass") for name in names]
        cursor = int(after)
        if cursor == 0:
            return
