"""Pins: messages that a room keeps in view."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import Raw, Struct

from gateway_node.services.messages import Messages, people_in
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from realtime import codes
from realtime.interfaces import Identity
from realtime.messages import event_about
from realtime.publisher import Publisher
from storage.messages import Full, Row, Standing, Unchanged
from storage.pins import PinStore

MAX_PINS = 50  # of a room


class Pin(Struct, frozen=True):
    """`pinned_by` is null when they are no user any more."""

    message: Raw
    pinned_by: UUID | None
    pinned_at: datetime


class PinList(Struct, frozen=True):
    """Latest pin first. `users` names the authors, and who pinned."""

    pins: list[Pin]
    users: dict[str, str]


class Pins:
    """Every method raises `CommandError`: 102 and 1002 for rooms and messages that one does not see, 103 to whoever may
    not (members of groups, the muted; in archived rooms all), 106 for one pin too many, 1003, and 100 while PostgreSQL
    is away."""

    def __init__(self, store: PinStore, messages: Messages, publisher: Publisher) -> None:
        self._store = store
        self._messages = messages
        self._publisher = publisher

    async def pin(self, identity: Identity, room_id: UUID, message_id: UUID) -> None:
        """Pin a message; once more changes nothing."""
        await self._change(identity, room_id, message_id, adding=True)

    async def unpin(self, identity: Identity, room_id: UUID, message_id: UUID) -> None:
        """Unpin a message; where it is not pinned, nothing changes."""
        await self._change(identity, room_id, message_id, adding=False)

    async def _change(self, identity: Identity, room_id: UUID, message_id: UUID, *, adding: bool) -> None:
        async def change(standing: Standing, row: Row) -> None:
            if standing.kind != "direct" and standing.role == "member":
                raise codes.PERMISSION_DENIED.saying("owners and moderators pin")
            if row.type == "system":
                raise codes.PERMISSION_DENIED.saying("nobody pins a line of the system")
            if adding and row.deleted_at is not None:
                raise codes.CONFLICT.saying("the message is deleted")
            event = event_about(row.message, identity.user, "message_pinned" if adding else "message_unpinned")
            try:
                done = await self._store.change(event, user_id_of(identity), adding=adding, most=MAX_PINS)
            except Unchanged:
                return
            except Full:
                raise codes.LIMIT_EXCEEDED.saying(f"a room has at most {MAX_PINS} pinned messages") from None
            self._publisher.forward(f"room:{room_id}", done.event, done.appended.epoch)

        await self._messages.changing(identity, room_id, message_id, change)

    async def list(self, identity: Identity, room_id: UUID) -> PinList:
        """All pinned messages of a room."""
        found = await asked(self._store.list(room_id, user_id_of(identity)))
        if found is None:
            raise codes.UNKNOWN_CHANNEL
        people = people_in([each.row for each in found]) | {each.by for each in found if each.by is not None}
        names = await self._messages.names(people)
        return PinList([Pin(each.row.shown(), each.by, each.at) for each in found], names)
