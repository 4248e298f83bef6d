"""Pinned messages of rooms."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct

from realtime.messages import MessageEvent
from storage.database import Database
from storage.messages import Done, MessageStore, Row, room_channel, row_of
from storage.queries import load

_SQL = load("pins")
_encode = msgspec.json.Encoder().encode


class Pinned(Struct, frozen=True):
    """`by` is missing when whoever pinned it is no user any more."""

    row: Row
    by: UUID | None
    at: datetime


class PinStore:
    """Every method raises `DatabaseUnavailable`. Who may is asked by whoever calls."""

    def __init__(self, database: Database, messages: MessageStore) -> None:
        self._database = database
        self._messages = messages

    async def change(self, event: MessageEvent, actor: UUID, *, adding: bool, most: int) -> Done:
        """Pin the message that the event is about, or unpin it; a room has at most `most`.

        Raises `NoSuchMessage`, `NoMember`, `ChangedMeanwhile` (it is deleted), `Unchanged`, `Full`, `Refused`.
        """
        return await self._messages.settle(
            _SQL["change"],
            event,
            room_channel(event),
            event.message_id,
            event.id,
            actor,
            _encode(event),
            adding,
            most,
        )

    async def list(self, room_id: UUID, user_id: UUID) -> list[Pinned] | None:
        """The pinned messages, latest pin first. `None`: the user is no member."""
        rows = await self._database.fetch(_SQL["list"], room_id, user_id)
        if not rows:
            return None
        return [Pinned(row_of(row), row["pinned_by"], row["pinned_at"]) for row in rows if row["id"] is not None]
