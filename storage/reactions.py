"""Reactions to messages: a row each, and a summary in the message's data, changed together."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct

from realtime.messages import MessageEvent
from storage.database import Database
from storage.messages import Done, MessageStore, room_channel
from storage.queries import load

_SQL = load("reactions")
_encode = msgspec.json.Encoder().encode


class Given(Struct, frozen=True):
    """One emoji of one user's. `name` is missing for whoever is no user any more."""

    emoji: str
    user_id: UUID
    name: str | None
    created_at: datetime


class ReactionStore:
    """Every method raises `DatabaseUnavailable`. Who may is asked by whoever calls."""

    def __init__(self, database: Database, messages: MessageStore) -> None:
        self._database = database
        self._messages = messages

    async def change(
        self, event: MessageEvent, actor: UUID, *, adding: bool, most_emoji: int, most_listed: int
    ) -> Done:
        """Give the event's emoji to the message that it is about, or take it back; the event gets its count.

        A message has at most `most_emoji` different ones, and names the first `most_listed` users of each. Raises
        `NoSuchMessage`, `NoMember`, `ChangedMeanwhile` (it is deleted), `Unchanged`, `Full`, `Refused`.
        """
        return await self._messages.settle(
            _SQL["change"],
            event,
            room_channel(event),
            event.message_id,
            event.id,
            actor,
            _encode(event).removesuffix(b"}"),
            event.emoji,
            adding,
            most_emoji,
            most_listed,
        )

    async def page(self, room_id: UUID, message_id: UUID, after: tuple[str, UUID] | None, limit: int) -> list[Given]:
        """At most `limit` reactions by emoji and user, those beyond `after`."""
        emoji, user_id = after or ("", UUID(int=0))
        rows = await self._database.fetch(_SQL["page"], room_id, message_id, emoji, user_id, limit)
        return [Given(*row) for row in rows]
