"""Search in what was said, in a user's own rooms."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from storage.database import Database
from storage.messages import Row, row_of
from storage.queries import load

_SQL = load("search")
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)

# Two letters begin so many words that it is quicker to type a third one.
_UNFINISHED = re.compile(r"(?<!\S)\w{3,}$")


class Place(NamedTuple):
    """Where a hit stands among all: when it was created (Unix microseconds), in which channel's log, and where."""

    created: int
    channel: int
    offset: int


class Hit(NamedTuple):
    place: Place
    row: Row


class SearchStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, user_id: UUID, query: str, *, room_id: UUID | None = None, since: Place | None = None, limit: int
    ) -> list[Hit]:
        """At most `limit` messages of the user's rooms, or of one of them, newest first, those that follow `since`.

        All words of the query have to be in them, the last one perhaps as the beginning of a word. "Phrases" in
        quotes, `or` and `-without` are understood; a query that wants no word finds nothing.
        """
        words = query.replace("\0", " ").rstrip()
        unfinished = words.count('"') % 2 == 0 and _UNFINISHED.search(words) is not None
        created = _EPOCH + since.created * _MICROSECOND if since else None
        channel, offset = (since.channel, since.offset) if since else (None, None)
        rows = await self._database.fetch(
            _SQL["search"], user_id, words, unfinished, room_id, created, channel, offset, limit
        )
        return [
            Hit(Place((row["created_at"] - _EPOCH) // _MICROSECOND, row["channel_id"], row["offset"]), row_of(row))
            for row in rows
        ]
