"""What a node does about changes of membership, which it reads in the log: a row's tags name the event.

A removal in a room's log ends the user's subscriptions, a room in a user's personal channel begins them. The rows are
ordered and repaired like messages, so both reach every node whatever the broker lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from realtime import codes
from realtime.core import CONNECTED
from realtime.hub import RETRY_FIRST, RETRY_MOST, Hub
from realtime.interfaces import LogUnavailable
from realtime.joining import subscribe_by_server
from realtime.protocol import Publication

if TYPE_CHECKING:
    from realtime.client import ClientConnection

MEMBER_REMOVED = "member_removed"
ROOM_ADDED = "room_added"
ROOM_REMOVED = "room_removed"

ROOM = "room:"
USER = "user:"
THREAD = "thread:"


def personal_channel(user: str) -> str:
    return USER + user


def _nothing(user: str, course: str) -> None:
    pass


def act_on(
    hub: Hub, channel: str, publication: Publication, left_course: Callable[[str, str], None] = _nothing
) -> None:
    """Act on a publication with tags that this node delivers. `left_course(user, course)`: what else that ends."""
    tags = publication.tags or {}
    if channel.startswith(ROOM) and tags.get("event") == MEMBER_REMOVED:
        user = tags.get("user", "")
        hub.unsubscribe_user(user, channel, "", codes.UNSUBSCRIBED_BY_SERVER, publication.offset)
    elif channel.startswith(USER):
        user = channel.removeprefix(USER)
        if tags.get("event") == ROOM_REMOVED and (course := tags.get("course")):
            _leave_threads(hub, user, f"{THREAD}{course}:")
            left_course(user, course)
        for connection in hub.connections_of(user):
            changed(connection, publication)


def _leave_threads(hub: Hub, user: str, beginning: str) -> None:
    """End a user's subscriptions to the threads of a course, and those that are under way."""
    for name in [name for name in hub.channels if name.startswith(beginning)]:
        hub.unsubscribe_user(user, name, "", codes.UNSUBSCRIBED_BY_SERVER)


def changed(connection: ClientConnection, publication: Publication) -> None:
    """Act for one connection on what its personal channel says."""
    tags = publication.tags or {}
    if tags.get("event") == ROOM_ADDED:
        connection.core.hub.spawn(_enter(connection, ROOM + tags.get("room", "")))


async def _enter(connection: ClientConnection, channel: str) -> None:
    """Subscribe the connection to a room, from where its user came in. Nothing when they are out of it again."""
    delay = RETRY_FIRST
    while connection.phase == CONNECTED:
        try:
            await _try_to_enter(connection, channel)
            return
        except LogUnavailable:
            pass
        except codes.CommandError as error:
            if not error.temporary:
                return
        await asyncio.sleep(delay)
        delay = min(2 * delay, RETRY_MOST)


async def _try_to_enter(connection: ClientConnection, name: str) -> None:
    core = connection.core
    core.namespaces.require(name)
    since = (await core.authoriser.subscribe(connection.identity, name, "")).since
    present = connection.channel(name)
    if present is not None:
        await core.hub.reach(present, since)  # a removal before that, of which this node was not told yet, ends it
    if not core.limits.channels or len(connection.channels) < core.limits.channels:
        await subscribe_by_server(connection, name, since=since)
