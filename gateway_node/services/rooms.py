"""Rooms: who is in them, and that everybody learns of a change.

A membership change is a row of the room's log, written in the transaction that changes the membership: ordered with
the messages and repaired like them, so that a removal reaches every node even when the broker was away. Its tags say
what happened; a node that delivers a removal ends the subscriptions of whom it names.
"""

from __future__ import annotations

import os
from uuid import UUID

import msgspec

from realtime import codec, codes
from realtime.interfaces import Entry, Identity
from realtime.messages import StoredMessage
from realtime.publisher import Publisher
from storage.database import DatabaseUnavailable
from storage.rooms import Member, NoSuchRoom, Role, Room, RoomStore

MEMBER_ADDED = "member_added"
MEMBER_REMOVED = "member_removed"

MAX_TITLE = 255  # characters
MAX_PAGE = 200  # members or rooms in one answer

_RANK: dict[Role | None, int] = {None: -1, "member": 0, "moderator": 1, "owner": 2}


class Rooms:
    """What users do with rooms. Every method raises `CommandError` to refuse: 103 to whoever may not, 102 where
    there is no such room (or none that the user may know of), 107 for bad values, 100 while PostgreSQL is away."""

    def __init__(self, store: RoomStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    async def create(self, identity: Identity, title: str) -> Room:
        """A new group with the user as its owner."""
        title = title.strip()
        if not 1 <= len(title) <= MAX_TITLE:
            raise codes.BAD_REQUEST.saying(f"`title` has 1 to {MAX_TITLE} characters")
        try:
            return await self._store.create(title, user_id_of(identity))
        except NoSuchRoom:
            raise codes.PERMISSION_DENIED.saying("no such user") from None
        except DatabaseUnavailable:
            raise codes.INTERNAL from None

    async def of_user(self, identity: Identity) -> list[Room]:
        try:
            return await self._store.list_for_user(user_id_of(identity), limit=MAX_PAGE)
        except DatabaseUnavailable:
            raise codes.INTERNAL from None

    async def members(self, identity: Identity, room_id: UUID, after: UUID | None = None) -> list[Member]:
        """A page of the members by id, those that follow `after`."""
        try:
            if await self._store.role(room_id, user_id_of(identity)) is None:
                raise codes.UNKNOWN_CHANNEL
            return await self._store.members(room_id, after=after, limit=MAX_PAGE)
        except DatabaseUnavailable:
            raise codes.INTERNAL from None

    async def invite(self, identity: Identity, room_id: UUID, user_id: UUID) -> None:
        """Make somebody a member. Owners and moderators may."""
        await self._change(identity, room_id, user_id, "member", MEMBER_ADDED)

    async def remove(self, identity: Identity, room_id: UUID, user_id: UUID) -> None:
        """End a membership: one's own, or, for owners and moderators, that of somebody of lower rank."""
        await self._change(identity, room_id, user_id, None, MEMBER_REMOVED)

    async def _change(self, identity: Identity, room_id: UUID, user_id: UUID, role: Role | None, event: str) -> None:
        actor = user_id_of(identity)
        try:
            rank = _RANK[await self._store.role(room_id, actor)]
            if rank < 0:
                raise codes.UNKNOWN_CHANNEL
            present = await self._store.role(room_id, user_id)
            if role is not None and present is not None:
                return  # a member already, and of no lower role than an invitation gives
            if actor != user_id and rank <= max(_RANK[present], 0):
                raise codes.PERMISSION_DENIED
            stored = await self._store.change_membership(room_id, user_id, role, _event(room_id, actor, user_id, event))
        except NoSuchRoom:
            raise codes.BAD_REQUEST.saying("no such room or user") from None
        except DatabaseUnavailable:
            raise codes.INTERNAL from None
        if stored is not None:
            appended, publication = stored
            self._publisher.forward(_channel(room_id), publication, appended.epoch)


def user_id_of(identity: Identity) -> UUID:
    """The id of a registered user. Raises error 103 for everybody else: rooms are for people with an account."""
    try:
        return UUID(identity.user)
    except ValueError:
        raise codes.PERMISSION_DENIED.saying("rooms are for registered users") from None


def _channel(room_id: UUID) -> str:
    return f"room:{room_id}"


def _event(room_id: UUID, actor: UUID, user_id: UUID, event: str) -> Entry:
    id = os.urandom(16)
    message = StoredMessage(UUID(bytes=id), str(actor), str(room_id), f"{event} {user_id}", "system")
    tags = {"event": event, "user": str(user_id)}
    return Entry(
        _channel(room_id),
        id,
        str(actor),
        msgspec.json.encode(message),
        "system",
        tags=codec.encode_info(tags),
        counted=False,
    )
