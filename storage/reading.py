"""How far people have read: cursors, what is beyond them, and how many have come how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import Struct

from storage.batches import Batches
from storage.database import Database
from storage.queries import load

MAX_TOGETHER = 500  # moves, or rooms, in one statement

_SQL = load("reading")


class Standing(Struct, frozen=True, gc=False):
    """How a member stands in a room. `head`: the offset of the log's end; `silent`: muted, or the room is archived."""

    head: int
    cursor: int
    silent: bool


class Unread(Struct, frozen=True, gc=False):
    """What is beyond somebody's cursor in a room. `stored` is the cursor that PostgreSQL has by itself."""

    room_id: UUID
    cursor: int
    stored: int
    unread: int
    mentions: int


class Readers(Struct, frozen=True, gc=False):
    """So many have read up to this offset, or beyond."""

    offset: int
    readers: int


class ReadingStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standings: Batches[tuple[UUID, UUID], Standing | None] = Batches(self._fetch_standings)

    async def standing(self, room_id: UUID, user_id: UUID) -> Standing | None:
        """`None`: no member. Answered in batches."""
        return await self._standings.ask((room_id, user_id))

    async def _fetch_standings(self, asked: Sequence[tuple[UUID, UUID]]) -> list[Standing | None]:
        answers: list[Standing | None] = [None] * len(asked)
        for row in await self._database.fetch(
            _SQL["standings"], [each[0] for each in asked], [each[1] for each in asked]
        ):
            answers[row["i"] - 1] = Standing(row["head"], row["cursor"], row["silent"])
        return answers

    async def move(self, moves: Sequence[tuple[UUID, UUID, int]]) -> None:
        """Move cursors (room, user, offset) forward, each pair once, up to the end of their room's log at most.

        Those of people who are no members (any more) are left out.
        """
        rooms, users, offsets = [list(column) for column in zip(*moves, strict=True)] if moves else ([], [], [])
        await self._database.execute(_SQL["move"], rooms, users, offsets)

    async def unread(self, user_id: UUID, ahead: Mapping[UUID, int]) -> list[Unread]:
        """All rooms of the user that have messages and are not archived. `ahead`: cursors that may be beyond the stored
        ones; one beyond the end of a room's log is of another history and is not believed."""
        rows = await self._database.fetch(_SQL["unread"], user_id, list(ahead), list(ahead.values()))
        return [Unread(row["room_id"], row["cursor"], row["stored"], row["unread"], row["mentions"]) for row in rows]

    async def of_room(self, room_id: UUID, limit: int) -> dict[UUID, int]:
        """The cursors of `limit` members at most; 0 for those who have read nothing yet."""
        rows = await self._database.fetch(_SQL["of_room"], room_id, limit)
        return {row["user_id"]: row["offset"] for row in rows}

    async def readers(self, rooms: Sequence[UUID], offset: int | None = None) -> dict[UUID, Readers]:
        """How many have read up to an offset (`None`: the last message of each room). Not of rooms without messages."""
        rows = await self._database.fetch(_SQL["readers"], rooms, [offset] * len(rooms))
        return {rooms[row["i"] - 1]: Readers(row["offset"], row["readers"]) for row in rows}

    async def sizes(self, rooms: Sequence[UUID], most: int) -> dict[UUID, int]:
        """How many members the rooms have, counted up to `most`."""
        rows = await self._database.fetch(_SQL["sizes"], rooms, most)
        return {rooms[row["i"] - 1]: row["size"] for row in rows}
