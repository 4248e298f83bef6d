"""The people of the school, and what those in charge did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from msgspec import Raw, Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("lms_school")
_SESSIONS = load("sessions")


class LastAdmin(Exception):
    """Nobody would be an admin any more."""


class SchoolPerson(Struct, frozen=True, omit_defaults=True):
    id: UUID
    email: str
    name: str
    role: str
    created_at: datetime
    disabled_at: datetime | None = None


class Act(Struct, frozen=True):
    id: int
    at: datetime
    actor_id: UUID | None
    act: str
    subject_id: UUID | None
    data: Raw


class SchoolStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def people(self, *, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[SchoolPerson]:
        """Oldest account first, those that follow `after`."""
        rows = await self._database.fetch(_SQL["people"], *(after or (None, None)), limit)
        return [SchoolPerson(*row) for row in rows]

    async def set_role(self, actor: UUID | None, user_id: UUID, role: str) -> bool:
        """`actor`: `None` on the server's machine. `False`: there is no such user. Raises `LastAdmin`."""
        async with self._database.transaction() as connection:
            admins = [row["id"] for row in await connection.fetch(_SQL["lock_admins"])]
            before = await connection.fetchval(_SQL["role"], user_id)
            if before is None:
                return False
            if role != "admin" and admins == [user_id]:
                raise LastAdmin
            if before != role:
                await connection.execute(_SQL["set_role"], user_id, role)
                await note(connection, actor, "role.set", user_id, {"from": before, "to": role})
            return True

    async def set_access(self, actor: UUID, user_id: UUID, *, allowed: bool) -> bool:
        """Keep somebody out and end their logins, or let them in again; `False`: there is no such user.

        Raises `LastAdmin`.
        """
        async with self._database.transaction() as connection:
            admins = [row["id"] for row in await connection.fetch(_SQL["lock_admins"])]
            if await connection.fetchval(_SQL["role"], user_id) is None:
                return False
            if not allowed and admins == [user_id]:
                raise LastAdmin
            await connection.execute(_SQL["set_access"], user_id, allowed)
            if not allowed:
                await connection.execute(_SESSIONS["revoke_all"], user_id, None)
            await note(connection, actor, "access.allowed" if allowed else "access.denied", user_id, {})
            return True

    async def audit(self, *, before: int | None, subject: UUID | None, limit: int) -> Sequence[Act]:
        """Newest first, those that come before `before`."""
        rows = await self._database.fetch(_SQL["audit"], before, subject, limit)
        return [
            Act(row["id"], row["at"], row["actor_id"], row["act"], row["subject_id"], Raw(row["data"].encode()))
            for row in rows
        ]


async def note(
    connection: Connection, actor: UUID | None, act: str, subject: UUID | None, data: Mapping[str, Any]
) -> None:
    """What somebody in charge did, to a person or a course: in the transaction that does it."""
    await connection.execute(_SQL["note"], actor, act, subject, json.dumps(data, default=str))
