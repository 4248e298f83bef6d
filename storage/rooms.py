"""Rooms and their members."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import asyncpg
from msgspec import Struct

from realtime.interfaces import Appended, Entry
from realtime.protocol import Publication
from storage.database import Database
from storage.log.append import append_batch, result_of
from storage.log.publication import publication
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

Kind = Literal["direct", "group"]
Role = Literal["owner", "moderator", "member"]

_SQL = load("rooms")


class Room(Struct, frozen=True):
    """A row of `rooms`. Its messages are in the channel `room:<id>`."""

    id: UUID
    kind: Kind
    title: str
    created_by: UUID | None
    created_at: datetime
    archived_at: datetime | None = None

    @property
    def channel(self) -> str:
        return f"room:{self.id}"


class Member(Struct, frozen=True):
    user_id: UUID
    role: Role
    joined_at: datetime
    name: str


class NoSuchRoom(Exception):
    """There is no room of this id, or no user of that id to put in it."""


class RoomStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, title: str, created_by: UUID) -> Room:
        """A group with its first member, the owner."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["create"], "group", title, None, created_by)
            assert row is not None, "no key, no conflict"
            await self.add_member(row["id"], created_by, "owner", connection)
        return _room(row)

    async def direct(self, one: UUID, other: UUID) -> tuple[Room, bool]:
        """The room of two people, and whether it is new: there is one a pair, also when both ask at once."""
        first, second = sorted((one, other))
        key = f"{first}:{second}"
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["create"], "direct", "", key, one)
            if row is not None:
                for user_id in {first, second}:
                    await self.add_member(row["id"], user_id, "member", connection)
                return _room(row), True
            row = await connection.fetchrow(_SQL["by_direct_key"], key)
        assert row is not None, "the key was there"
        return _room(row), False

    async def get(self, room_id: UUID) -> Room | None:
        row = await self._database.fetchrow(_SQL["get"], room_id)
        return _room(row) if row else None

    async def list_for_user(self, user_id: UUID, *, after: Room | None = None, limit: int = 100) -> list[Room]:
        """At most `limit` of the user's rooms that are not archived, newest first, those that follow `after`."""
        moment, last = (after.created_at, after.id) if after else (None, None)
        return [_room(row) for row in await self._database.fetch(_SQL["list_for_user"], user_id, moment, last, limit)]

    async def archive(self, room_id: UUID) -> Room | None:
        row = await self._database.fetchrow(_SQL["archive"], room_id)
        return _room(row) if row else None

    async def role(self, room_id: UUID, user_id: UUID) -> Role | None:
        """`None`: not a member."""
        role: Role | None = await self._database.fetchval(_SQL["role"], room_id, user_id)
        return role

    async def is_member(self, room_id: UUID, user: str) -> bool:
        """`user` need not be one of ours."""
        try:
            user_id = UUID(user)
        except ValueError:
            return False
        return await self.role(room_id, user_id) is not None

    async def members(self, room_id: UUID, *, after: UUID | None = None, limit: int = 100) -> list[Member]:
        """At most `limit` members by id, those that follow `after`."""
        rows = await self._database.fetch(_SQL["members"], room_id, after, limit)
        return [Member(row["user_id"], row["role"], row["joined_at"], row["name"]) for row in rows]

    async def add_member(self, room_id: UUID, user_id: UUID, role: Role, connection: Connection | None = None) -> bool:
        """Make the user a member in this role. False: they were that already. Raises `NoSuchRoom`."""
        try:
            done = await (connection or self._database).execute(_SQL["put_member"], room_id, user_id, role)
        except asyncpg.ForeignKeyViolationError:
            raise NoSuchRoom(f"no room {room_id} or no user {user_id}") from None
        return done != "INSERT 0 0"

    async def remove_member(self, room_id: UUID, user_id: UUID, connection: Connection | None = None) -> bool:
        """False: they were no member."""
        done = await (connection or self._database).execute(_SQL["remove_member"], room_id, user_id)
        return done != "DELETE 0"

    async def change_membership(
        self, room_id: UUID, user_id: UUID, role: Role | None, event: Entry
    ) -> tuple[Appended, Publication] | None:
        """Put the user in this role (`None`: out of the room) and tell the room's log, in one transaction.

        So the change has its place among the messages and is repaired like them. Returns where the event stands and
        what is to be forwarded to the other nodes; `None` when nothing changed. Trying again with the same event after
        `DatabaseUnavailable` is safe and returns it again. Raises `NoSuchRoom`, `IdTaken`.
        """
        async with self._database.transaction() as connection:
            if role is None:
                changed = await self.remove_member(room_id, user_id, connection)
            else:
                changed = await self.add_member(room_id, user_id, role, connection)
            if not changed and not await connection.fetchval(_SQL["has_event"], event.channel, UUID(bytes=event.id)):
                return None
            result = result_of((await append_batch(connection, [event]))[0])
            if isinstance(result, Exception):
                raise result
        told = result.duplicate or publication(event.data, event.info, event.tags, result.offset, result.time)
        return result, told


def _room(row: asyncpg.Record) -> Room:
    return Room(row["id"], row["kind"], row["title"], row["created_by"], row["created_at"], row["archived_at"])
