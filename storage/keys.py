"""API keys: with what programs act for whoever made them.

A key is 256 random bits, of which PostgreSQL holds the SHA-256 alone; no slower hash is needed, as for refresh tokens
(storage/sessions.py). A key that is revoked is deleted: every request asks, so it opens nothing from the next one on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.queries import load

MAX_KEYS = 50  # of one person
_SQL = load("keys")


class TooManyKeys(Exception):
    """The person has `MAX_KEYS` already."""


class ApiKey(Struct, frozen=True, omit_defaults=True):
    """A row of `api_keys`. `prefix` is how the key begins; `last_used_at` is true to the minute."""

    id: UUID
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class Used(Struct, frozen=True):
    """Whose a key is that was used, and what it may."""

    user_id: UUID
    name: str
    role: str
    scopes: frozenset[str]


class KeyStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, user_id: UUID, key: str, *, name: str, prefix: str, scopes: Sequence[str], expires_at: datetime | None
    ) -> ApiKey | None:
        """`None`: there is no such user, or they are disabled. Raises `TooManyKeys`."""
        async with self._database.transaction() as connection:
            if await connection.fetchval(_SQL["lock_owner"], user_id) is None:
                return None
            if await connection.fetchval(_SQL["count"], user_id) >= MAX_KEYS:
                raise TooManyKeys
            row = await connection.fetchrow(_SQL["add"], user_id, name, prefix, _hash(key), scopes, expires_at)
            assert row is not None, "insert returning gives the row"
            return _key(row)

    async def list(self, user_id: UUID) -> list[ApiKey]:
        """The oldest first; those that are over, too."""
        return [_key(row) for row in await self._database.fetch(_SQL["list"], user_id)]

    async def revoke(self, user_id: UUID, key_id: UUID) -> bool:
        """`False`: the user has no such key."""
        return await self._database.execute(_SQL["revoke"], user_id, key_id) != "DELETE 0"

    async def revoke_of(self, actor: UUID, user_id: UUID, key_id: UUID) -> bool:
        """The same by somebody in charge, which is noted in the audit log."""
        return await self._database.execute(_SQL["revoke_of"], actor, user_id, key_id) != "INSERT 0 0"

    async def use(self, key: str) -> Used | None:
        """`None`: it is unknown, over or revoked, or its owner disabled."""
        row = await self._database.fetchrow(_SQL["use"], _hash(key))
        return Used(row["user_id"], row["name"], row["role"], frozenset(row["scopes"])) if row else None


def _hash(key: str) -> bytes:
    return sha256(key.encode()).digest()


def _key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        row["id"],
        row["name"],
        row["prefix"],
        tuple(row["scopes"]),
        row["created_at"],
        row["expires_at"],
        row["last_used_at"],
    )
