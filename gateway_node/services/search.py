"""Search in what was said in one's rooms, archived ones too."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Raw, Struct

from gateway_node.services.bookmarks import bookmark, place_of
from gateway_node.services.messages import people_in
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from realtime import codes
from realtime.interfaces import Identity
from storage.messages import MessageStore
from storage.search import Place, SearchStore

MAX_QUERY = 256  # characters
MAX_PAGE = 100
PAGE = 20  # unless more are wanted

_Microseconds = Annotated[int, Meta(ge=0, le=1 << 53)]
_Bigint = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Found(Struct, frozen=True):
    """Messages, newest first. `users` names their authors; `next` is `before` of the page that follows; empty: this is
    the last one."""

    messages: list[Raw]
    users: dict[str, str]
    next: str = ""


class Search:
    """Raises `CommandError`: 102 for a room that one does not see, 107, and 100 while PostgreSQL is away."""

    def __init__(self, store: SearchStore, messages: MessageStore) -> None:
        self._store = store
        self._messages = messages

    async def find(
        self, identity: Identity, query: str, room_id: UUID | None = None, before: str | None = None, limit: int = PAGE
    ) -> Found:
        """Messages with all words of the query, in all rooms of the user's or in one."""
        if len(query) > MAX_QUERY:
            raise codes.BAD_REQUEST.at("/query", f"`query` is longer than {MAX_QUERY} characters")
        if not 1 <= limit <= MAX_PAGE:
            raise codes.BAD_REQUEST.at("/limit", f"`limit` is from 1 to {MAX_PAGE}")
        since = place_of(before, tuple[_Microseconds, _Bigint, _Bigint], "before")
        user_id = user_id_of(identity)
        if room_id is not None and await asked(self._messages.standing(room_id, user_id)) is None:
            raise codes.UNKNOWN_CHANNEL
        hits = await asked(
            self._store.find(user_id, query, room_id=room_id, since=Place(*since) if since else None, limit=limit + 1)
        )
        page = [hit.row for hit in hits[:limit]]
        names = await asked(self._messages.names(people_in(page)))
        following = bookmark(*hits[limit - 1].place) if len(hits) > limit else ""
        return Found([row.shown() for row in page], names, following)
