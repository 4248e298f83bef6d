"""People who may log in."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.queries import load

_SQL = load("users")


NO_PASSWORD = "!"  # noqa: S105 - the hash of who has none: no password matches it


class EmailTaken(Exception):
    """Another user has this address."""


class User(Struct, frozen=True):
    """A row of `users`. `disabled_at` is set while the user may not come in, `email_verified_at` once they have shown
    that the address is theirs."""

    id: UUID
    email: str
    password_hash: str
    name: str
    role: str
    created_at: datetime
    disabled_at: datetime | None = None
    email_verified_at: datetime | None = None
    bio: str = ""
    locale: str = ""
    time_zone: str = ""
    avatar_id: UUID | None = None


class UserStore:
    """Every method raises `DatabaseUnavailable`. Addresses are compared and kept in lower case."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, email: str, password_hash: str, *, name: str = "", role: str = "student", verified: bool = False
    ) -> User:
        """Raises `EmailTaken`."""
        try:
            row = await self._database.fetchrow(_SQL["create"], _normal(email), password_hash, name, role, verified)
        except asyncpg.UniqueViolationError:
            raise EmailTaken(email) from None
        assert row is not None, "insert returning gives the row"
        return user_of(row)

    async def by_email(self, email: str) -> User | None:
        row = await self._database.fetchrow(_SQL["by_email"], _normal(email))
        return user_of(row) if row else None

    async def by_id(self, user_id: UUID) -> User | None:
        row = await self._database.fetchrow(_SQL["by_id"], user_id)
        return user_of(row) if row else None

    async def list(self, *, after: User | None = None, limit: int = 100) -> list[User]:
        """At most `limit` users, oldest first, those that follow `after`."""
        moment, last = (after.created_at, after.id) if after else (None, None)
        return [user_of(row) for row in await self._database.fetch(_SQL["list"], moment, last, limit)]

    async def disable(self, user_id: UUID) -> User | None:
        """Keep the user out from now on. `None`: there is no such user."""
        row = await self._database.fetchrow(_SQL["disable"], user_id)
        return user_of(row) if row else None

    async def enable(self, user_id: UUID) -> User | None:
        row = await self._database.fetchrow(_SQL["enable"], user_id)
        return user_of(row) if row else None

    async def replace_password(self, user_id: UUID, old_hash: str, new_hash: str, *, verified: bool) -> bool:
        """A new password, or the same one hashed with new parameters, in place of this one; `False`: it was another by
        then. `verified`: by a link, so the address is the user's, and their API keys are revoked."""
        return bool(await self._database.fetchval(_SQL["replace_password"], user_id, old_hash, new_hash, verified))

    async def verified(self, user_id: UUID) -> None:
        """The address is the user's. Once more is fine."""
        await self._database.execute(_SQL["verified"], user_id)


def _normal(email: str) -> str:
    return email.strip().lower()


def user_of(row: asyncpg.Record) -> User:
    return User(
        row["id"],
        row["email"],
        row["password_hash"],
        row["name"],
        row["role"],
        row["created_at"],
        row["disabled_at"],
        row["email_verified_at"],
        row["bio"],
        row["locale"],
        row["time_zone"],
        row["avatar_id"],
    )
