"""How far people have read: cursors, receipts, unread counts; and who is typing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from msgspec import Struct

from gateway_node.services.cursors import Cursors, TooMany
from gateway_node.services.pulse import Pulse, Push
from gateway_node.services.rooms import user_id_of
from presence import Pipe, RedisCursors, RedisTyping, Turns
from realtime import codes
from realtime.interfaces import Identity
from storage.database import DatabaseUnavailable
from storage.reading import ReadingStore, Standing

if TYPE_CHECKING:
    from config.sections import Chat

TYPING_PAUSE = 3.0  # s in which saying again that one types is no news

MAX_OFFSET = 2**63 - 1


class Receipts(Struct, omit_defaults=True):
    """Who has read what: of a small room `cursors` by user, of a big one how many have read up to `offset`."""

    cursors: dict[str, int] | None = None
    offset: int | None = None
    readers: int | None = None


class RoomUnread(Struct):
    unread: int
    mentions: int


class UnreadCounts(Struct):
    """The sums, and the rooms that have something unread."""

    unread: int
    mentions: int
    rooms: dict[str, RoomUnread]


class Reading:
    """Every method that answers a user raises `CommandError` to refuse: 102 to whoever is no member, 107 for bad
    values, 100 while PostgreSQL is away. `push(channel, data)` tells whoever listens, on every node."""

    def __init__(self, store: ReadingStore, redis: Pipe, push: Push, settings: Chat) -> None:
        self._store = store
        self._small_room = settings.small_room
        self._pulse = Pulse(
            push,
            store,
            RedisTyping(redis),
            Turns(redis),
            small_room=settings.small_room,
            seconds=settings.pulse,
        )
        self._cursors = Cursors(store, RedisCursors(redis), self._pulse.saved)

    async def start(self) -> None:
        await self._cursors.start()
        await self._pulse.start()

    async def stop(self) -> None:
        """Write to PostgreSQL what it has not got yet."""
        await self._pulse.stop()
        await self._cursors.stop()

    # --- reading -----------------------------------------------------------------------------------------------

    async def read(self, identity: Identity, room_id: UUID, offset: int) -> None:
        """The user has read everything up to an offset. Cursors go forward only, and no further than the log."""
        _check(offset)
        user_id = user_id_of(identity)
        room, user = str(room_id), str(user_id)
        standing = await self._standing(room_id, user_id)
        offset = min(offset, standing.head)
        if offset <= standing.cursor:
            return
        try:
            moved = await self._cursors.move(room, user, offset)
        except TooMany:
            raise codes.INTERNAL.saying("too many cursors wait for PostgreSQL") from None
        if moved:
            self._pulse.moved(room, user, offset)

    def wrote(self, channel: str, sender: str, offset: int) -> None:
        """For every message that a room has taken: its author has read up to it, and types no more."""
        namespace, _, room = channel.partition(":")
        if namespace == "room" and _is_id(sender):
            self._cursors.wrote(room, sender, offset)
            self._pulse.wrote(room, sender)

    async def receipts(self, identity: Identity, room_id: UUID, offset: int | None = None) -> Receipts:
        """Who has read how far; of a big room, how many have read up to an offset (`None`: the last message)."""
        if offset is not None:
            _check(offset)
        await self._standing(room_id, user_id_of(identity))
        try:
            stored = await self._store.of_room(room_id, self._small_room + 1)
            if len(stored) > self._small_room:
                found = (await self._store.readers([room_id], offset)).get(room_id)
                return Receipts(offset=found.offset, readers=found.readers) if found else Receipts(offset=0, readers=0)
        except DatabaseUnavailable:
            raise codes.INTERNAL from None
        cursors = {str(user_id): cursor for user_id, cursor in stored.items()}
        for user, cursor in (await self._cursors.of_members(str(room_id), list(cursors))).items():
            cursors[user] = max(cursors[user], cursor)
        return Receipts(cursors)

    async def unread(self, identity: Identity) -> UnreadCounts:
        """What the user has not read, in all rooms that are not archived."""
        user_id = user_id_of(identity)
        user = str(user_id)
        ahead = await self.ahead(user)
        try:
            rooms = await self._store.unread(user_id, {UUID(room): offset for room, offset in ahead.items()})
        except DatabaseUnavailable:
            raise codes.INTERNAL from None
        for each in rooms:
            if each.cursor > each.stored:
                self._cursors.found(str(each.room_id), user, each.cursor)
        return UnreadCounts(
            sum(each.unread for each in rooms),
            sum(each.mentions for each in rooms),
            {
                str(each.room_id): RoomUnread(each.unread, each.mentions)
                for each in rooms
                if each.unread or each.mentions
            },
        )

    async def ahead(self, user: str) -> Mapping[str, int]:
        """Cursors of a user, by room, that may be ahead of those that PostgreSQL has: the truth is the higher one of
        each. Never fails."""
        return await self._cursors.of_user(user)

    # --- typing ------------------------------------------------------------------------------------------------

    async def typing(self, identity: Identity, room_id: UUID) -> None:
        """The user is typing. Of somebody who cannot write there, nobody is told."""
        user_id = user_id_of(identity)
        room, user = str(room_id), str(user_id)
        if self._pulse.is_typing(room, user, TYPING_PAUSE):
            return
        if not (await self._standing(room_id, user_id)).silent:
            await self._pulse.typing(room, user)

    async def _standing(self, room_id: UUID, user_id: UUID) -> Standing:
        try:
            standing = await self._store.standing(room_id, user_id)
        except DatabaseUnavailable:
            raise codes.INTERNAL from None
        if standing is None:
            raise codes.UNKNOWN_CHANNEL
        return standing


def _check(offset: int) -> None:
    if not 0 <= offset <= MAX_OFFSET:
        raise codes.BAD_REQUEST.at("/offset", "an offset is 0 or more")


def _is_id(user: str) -> bool:
    """Of a registered user, in the canonical form: the server API publishes as nobody, or as users of other issuers."""
    try:
        return len(user) == 36 and str(UUID(user)) == user
    except ValueError:
        return False
