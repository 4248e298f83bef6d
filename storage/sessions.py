"""Logins, and the refresh tokens that keep them alive.

A refresh token is used once: using it gives the next one. A second use means that two parties have it, and one of them
stole it, so the login ends for both (RFC 9700, section 4.14.2). PostgreSQL holds the tokens' SHA-256 alone; 256 random
bits need no slower hash.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.queries import load

MAX_USER_AGENT = 300  # characters
_SQL = load("sessions")


class SessionEnded(Exception):
    """The refresh token is unknown, or its login has expired, was revoked, or belongs to a disabled user."""


class ReuseDetected(Exception):
    """The refresh token was used before. Its login, `session_id` of `user_id`, is revoked now."""

    def __init__(self, session_id: UUID, user_id: UUID) -> None:
        super().__init__(f"a refresh token of session {session_id} was used twice")
        self.session_id = session_id
        self.user_id = user_id


class Session(Struct, frozen=True):
    """A row of `sessions`: one login on one device."""

    id: UUID
    user_id: UUID
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class SessionStore:
    """Every method raises `DatabaseUnavailable`. `ttl` is in seconds: how long a login lasts without being used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, user_id: UUID, *, user_agent: str, ttl: float) -> tuple[Session, str]:
        """Begin a login. Returns it with its first refresh token, which is stored nowhere in clear."""
        token, token_hash = _new_token()
        agent = user_agent.replace("\0", "")[:MAX_USER_AGENT]
        row = await self._database.fetchrow(_SQL["open"], user_id, agent, ttl, token_hash)
        assert row is not None, "insert returning gives the row"
        return _session(row), token

    async def rotate(self, token: str, *, ttl: float) -> tuple[Session, str]:
        """Use a refresh token: the login with its next token. Raises `SessionEnded`, `ReuseDetected`."""
        old_hash = _hash(token)
        async with self._database.transaction() as connection:
            used = await connection.fetchrow(_SQL["use_token"], old_hash)
            if used is None or used["ended"]:
                raise SessionEnded("the login has ended")
            if used["used_at"] is None:
                new, new_hash = _new_token()
                await connection.execute(_SQL["mark_used"], old_hash)
                await connection.execute(_SQL["add_token"], new_hash, used["id"])
                row = await connection.fetchrow(_SQL["prolong"], used["id"], ttl)
                assert row is not None, "its token refers to it"
                return _session(row), new
            await connection.execute(_SQL["revoke"], used["id"])
        raise ReuseDetected(used["id"], used["user_id"])

    async def by_token(self, token: str) -> Session | None:
        """The login that a refresh token belongs to, ended or not; the token stays as it is."""
        row = await self._database.fetchrow(_SQL["by_token"], _hash(token))
        return _session(row) if row else None

    async def revoke(self, session_id: UUID) -> bool:
        """End a login now. False: it had ended, or there is none."""
        return await self._database.execute(_SQL["revoke"], session_id) != "UPDATE 0"

    async def revoke_all(self, user_id: UUID, *, keep: UUID | None = None) -> list[UUID]:
        """End every login of a user but `keep`; returns those that ended."""
        return [row["id"] for row in await self._database.fetch(_SQL["revoke_all"], user_id, keep)]

    async def list(self, user_id: UUID) -> list[Session]:
        """The user's logins that are alive, last used first."""
        return [_session(row) for row in await self._database.fetch(_SQL["list"], user_id)]

    async def is_revoked(self, session_id: UUID) -> bool:
        """Whether a login's access tokens count no more: it was revoked, has expired or is unknown."""
        return not await self._database.fetchval(_SQL["is_live"], session_id)

    async def sweep(self, keep: float) -> int:
        """Delete logins that expired more than `keep` seconds ago, with their tokens; returns how many."""
        return int((await self._database.execute(_SQL["sweep"], keep)).removeprefix("DELETE "))


def _new_token() -> tuple[str, bytes]:
    token = secrets.token_urlsafe(32)
    return token, _hash(token)


def _hash(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


def _session(row: asyncpg.Record) -> Session:
    return Session(
        row["id"],
        row["user_id"],
        row["user_agent"],
        row["created_at"],
        row["last_used_at"],
        row["expires_at"],
        row["revoked_at"],
    )
