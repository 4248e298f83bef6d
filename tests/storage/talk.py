"""A room in PostgreSQL with things said in it, for the tests of who has read what."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from realtime.interfaces import Entry
from storage.database import Database
from storage.log.append import append_batch
from storage.users import UserStore


@dataclass(frozen=True)
class Talk:
    """A room and its members."""

    database: Database
    room_id: UUID
    user_ids: list[UUID]

    @property
    def room(self) -> str:
        return str(self.room_id)

    @property
    def users(self) -> list[str]:
        return [str(user_id) for user_id in self.user_ids]

    @property
    def channel(self) -> str:
        return f"room:{self.room_id}"

    async def say(self, count: int = 1, *, sender: str = "", **more: Any) -> None:
        """Messages, or with `counted=False` events."""
        entries = [Entry(self.channel, uuid.uuid4().bytes, sender, b"{}", **more) for _ in range(count)]
        async with self.database.acquire() as connection:
            await append_batch(connection, entries)

    async def join(self, user_id: UUID, offset: int = 0) -> None:
        await self.database.execute(
            "insert into room_members (room_id, user_id, role, joined_offset) values ($1, $2, 'member', $3)",
            *(self.room_id, user_id, offset),
        )

    async def stored(self) -> dict[str, int]:
        """The cursors that PostgreSQL has, by user."""
        rows = await self.database.fetch(
            'select r.user_id, r."offset" from read_cursors r join channels c on c.id = r.channel_id where c.name = $1',
            self.channel,
        )
        return {str(row["user_id"]): row["offset"] for row in rows}


async def user(database: Database, name: str = "") -> UUID:
    """A new one."""
    return (await UserStore(database).create(f"{uuid.uuid4().hex}@example.org", "hash", name=name)).id


async def talk(database: Database, members: int, said: int = 0) -> Talk:
    """A new group of new people."""
    user_ids = [await user(database) for _ in range(members)]
    room_id = await database.fetchval(
        "insert into rooms (kind, created_by) values ('group', $1) returning id", user_ids[0]
    )
    made = Talk(database, room_id, user_ids)
    for user_id in user_ids:
        await made.join(user_id)
    if said:
        await made.say(said)
    return made
