"""Logins, and the refresh tokens that keep them alive.

A refresh token is used once: using it gives the next one. A second use means that two parties have it, and one of them
stole it, so the login ends for both (RFC 9700, section 4.14.2). But a phone that lost the answer, and a page that was
reloaded before it came, have to ask again: for `LEEWAY` seconds, and until the next token is used, the same token gives
the same next one, which is derived from it and a random salt (docs/decisions/0053-a-lost-refresh-is-made-again.md).
PostgreSQL holds the tokens' SHA-256 alone; 256 random bits need no slower hash.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

MAX_USER_AGENT = 300  # characters
LEEWAY = 30.0  # seconds in which a client gives up waiting and asks again
_SQL = load("sessions")


class SessionEnded(Exception):
    """The refresh token is unknown, or its login has expired, was revoked, or belongs to a disabled user."""


class ReuseDetected(Exception):
    """The refresh token was used before, and not just now. Its login, `session_id` of `user_id`, is revoked now."""

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
    """Every method raises `DatabaseUnavailable`. `ttl` is in seconds: how long a login lasts without being used.
    `leeway`, in seconds, is how long a refresh token gives the same next one.
    """

    def __init__(self, database: Database, *, leeway: float = LEEWAY) -> None:
        self._database = database
        self._leeway = leeway

    async def open(
        self, user_id: UUID, *, user_agent: str, ttl: float, password_hash: str | None = None
    ) -> tuple[Session, str]:
        """Begin a login. Returns it with its first refresh token, which is stored nowhere in clear.

        Raises `SessionEnded` where there is no such user, or they are disabled, or have another password by now.
        """
        token = secrets.token_urlsafe(32)
        agent = user_agent.replace("\0", "")[:MAX_USER_AGENT]
        row = await self._database.fetchrow(_SQL["open"], user_id, agent, ttl, _hash(token), password_hash)
        if row is None:
            raise SessionEnded("the account changed before the login began")
        return _session(row), token

    async def rotate(self, token: str, *, ttl: float) -> tuple[Session, str]:
        """Use a refresh token: the login with its next token. Raises `SessionEnded`, `ReuseDetected`."""
        old_hash = _hash(token)
        async with self._database.transaction() as connection:
            used = await connection.fetchrow(_SQL["use_token"], old_hash, self._leeway)
            if used is None or used["ended"]:
                raise SessionEnded("the login has ended")
            salt: bytes | None = used["salt"]
            if used["used_at"] is None:
                salt = secrets.token_bytes(32)
                await connection.execute(_SQL["mark_used"], old_hash, salt)
                await connection.execute(_SQL["add_token"], _hash(_next(token, salt)), used["id"])
            elif salt is None or not used["just_now"] or await _is_used(connection, _next(token, salt)):
                salt = None
            if salt is not None:
                row = await connection.fetchrow(_SQL["prolong"], used["id"], ttl)
                if row is None:
                    raise SessionEnded("the login was revoked meanwhile")
                return _session(row), _next(token, salt)
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


async def _is_used(connection: Connection, token: str) -> bool:
    return bool(await connection.fetchval(_SQL["is_used"], _hash(token)))


def _next(token: str, salt: bytes) -> str:
    """Whoever has the token but not the database cannot tell what comes next, nor the other way round."""
    return urlsafe_b64encode(hmac.digest(salt, token.encode(), "sha256")).rstrip(b"=").decode()


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
