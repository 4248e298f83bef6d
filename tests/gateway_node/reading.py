"""A room in PostgreSQL with things said in it, for the tests of who has read what."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from uuid import UUID

from realtime.interfaces import Entry
from storage.database import Database
from storage.log.append import append_batch
from storage.users import UserStore


@dataclass(frozen=True)
class Talk:
    """A room, as ids in text."""

    database: Database
    room: str
    users: list[str]

    async def say(self, count: int = 1, *, sender: str = "", counted: bool = True) -> None:
        entries = [Entry(f"room:{self.room}", uuid.uuid4().bytes, sender, b"{}", counted=counted) for _ in range(count)]
        async with self.database.acquire() as connection:
            await append_batch(connection, entries)

    async def stored(self) -> dict[str, int]:
        """The cursors that PostgreSQL has."""
        rows = await self.database.fetch(
            'select r.user_id, r."offset" from read_cursors r join channels c on c.id = r.channel_id where c.name = $1',
            f"room:{self.room}",
        )
        return {str(row["user_id"]): row["offset"] for row in rows}


async def talk(database: Database, members: int, said: int = 0) -> Talk:
    """A new group of new people."""
    users = UserStore(database)
    made = [(await users.create(f"{uuid.uuid4().hex}@example.org", "hash")).id for _ in range(members)]
    room_id: UUID = await database.fetchval(
        "insert into rooms (kind, title, created_by) values ('group', '', $1) returning id", made[0]
    )
    for user_id in made:
        await database.execute(
            "insert into room_members (room_id, user_id, role) values ($1, $2, 'member')", room_id, user_id
        )
    made_talk = Talk(database, str(room_id), [str(user_id) for user_id in made])
    if said:
        await made_talk.say(said)
    return made_talk
