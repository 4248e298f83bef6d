"""Reactions: emoji that members give to a message. Everybody sees how many, and who was first; the rest is a list."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway_node.services.bookmarks import bookmark, place_of
from gateway_node.services.emoji import check_emoji
from gateway_node.services.messages import Messages
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from realtime import codes
from realtime.interfaces import Identity
from realtime.messages import event_about
from realtime.publisher import Publisher
from storage.messages import Full, Row, Standing, Unchanged
from storage.reactions import ReactionStore

MAX_EMOJI = 20  # different ones of a message
LISTED = 20  # users that a message names beside an emoji
MAX_PAGE = 100


class Reacted(Struct, frozen=True):
    """Who gave what, and when. Without `name` they are no user any more."""

    emoji: str
    user_id: UUID
    name: str | None
    at: datetime


class ReactionPage(Struct, frozen=True):
    """By emoji and user. `next` is `after` of the page that follows; empty: this is the last one."""

    reactions: list[Reacted]
    next: str = ""


class Reactions:
    """Every method raises `CommandError`: 102 and 1002 for rooms and messages that one does not see, 103 to the muted
    and in archived rooms, 106 for one emoji too many, 107, 1003, and 100 while PostgreSQL is away."""

    def __init__(self, store: ReactionStore, messages: Messages, publisher: Publisher) -> None:
        self._store = store
        self._messages = messages
        self._publisher = publisher

    async def add(self, identity: Identity, room_id: UUID, message_id: UUID, emoji: str) -> None:
        """Give an emoji; once more changes nothing."""
        await self._change(identity, room_id, message_id, emoji, adding=True)

    async def remove(self, identity: Identity, room_id: UUID, message_id: UUID, emoji: str) -> None:
        """Take an emoji back; where it was not given, nothing changes."""
        await self._change(identity, room_id, message_id, emoji, adding=False)

    async def _change(self, identity: Identity, room_id: UUID, message_id: UUID, emoji: str, *, adding: bool) -> None:
        check_emoji(emoji)
        user_id = user_id_of(identity)

        async def change(standing: Standing, row: Row) -> None:
            if row.type == "system":
                raise codes.PERMISSION_DENIED.saying("nobody reacts to a line of the system")
            if row.deleted_at is not None:
                raise codes.CONFLICT.saying("the message is deleted")
            event = event_about(row.message, identity.user, "reaction_added" if adding else "reaction_removed")
            event.emoji = emoji
            try:
                done = await self._store.change(event, user_id, adding=adding, most_emoji=MAX_EMOJI, most_listed=LISTED)
            except Unchanged:
                return
            except Full:
                raise codes.LIMIT_EXCEEDED.saying(f"a message has at most {MAX_EMOJI} different reactions") from None
            self._publisher.forward(f"room:{room_id}", done.event, done.appended.epoch)

        await self._messages.changing(identity, room_id, message_id, change)

    async def page(
        self, identity: Identity, room_id: UUID, message_id: UUID, after: str | None = None, limit: int = MAX_PAGE
    ) -> ReactionPage:
        """Who reacted to a message."""
        if not 1 <= limit <= MAX_PAGE:
            raise codes.BAD_REQUEST.at("/limit", f"`limit` is from 1 to {MAX_PAGE}")
        place = place_of(after, tuple[str, UUID], "after")
        if place is not None and "\0" in place[0]:
            raise codes.BAD_REQUEST.at("/after", "that is no `next` of this list")
        await self._messages.get(identity, room_id, message_id)
        found = await asked(self._store.page(room_id, message_id, place, limit + 1))
        page = [Reacted(each.emoji, each.user_id, each.name, each.created_at) for each in found[:limit]]
        return ReactionPage(page, bookmark(page[-1].emoji, page[-1].user_id) if len(found) > limit else "")
