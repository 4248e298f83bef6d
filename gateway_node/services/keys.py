"""API keys: made, listed and revoked by whoever they act for, used by programs over HTTP.

A key is `cw_` and 64 hexadecimal digits: what looks for leaked secrets finds it, and what is no key asks no store.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from gateway_node.rights import Scope
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from gateway_node.services.text import line
from realtime import codes
from realtime.interfaces import Identity
from storage.keys import MAX_KEYS, ApiKey, KeyStore, TooManyKeys

BEGINNING = "cw_"
SHOWN = len(BEGINNING) + 8  # characters; 224 bits remain unsaid
MAX_NAME = 100  # characters

_FORM = re.compile(r"cw_[0-9a-f]{64}")


class KeyRefused(Exception):
    """The key opens nothing. Whether it is over, revoked or none is not said."""


def is_key(token: str) -> bool:
    """Whether what came as a bearer's token is meant as a key. No JSON Web Token begins so."""
    return token.startswith(BEGINNING)


class Keys:
    """Methods raise `CommandError`: 103 to whoever has no account here, 106 for one key too many, 107 for bad values,
    1002 for a key that is not there, 100 while PostgreSQL is away."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def make(
        self, identity: Identity, name: str, scopes: Sequence[Scope], expires_at: datetime | None
    ) -> tuple[ApiKey, str]:
        """A new key, and how it is written: nobody is told again."""
        name = line(name, "/name", MAX_NAME, what="a name")
        if not scopes:
            raise codes.BAD_REQUEST.at("/scopes", "a key may something: at least one scope is wanted")
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise codes.BAD_REQUEST.at("/expires_at", "a time to come is wanted")
        key = BEGINNING + secrets.token_hex(32)
        try:
            made = await asked(
                self._store.add(
                    user_id_of(identity),
                    key,
                    name=name,
                    prefix=key[:SHOWN],
                    scopes=sorted(set(scopes)),
                    expires_at=expires_at,
                )
            )
        except TooManyKeys:
            raise codes.LIMIT_EXCEEDED.saying(f"{MAX_KEYS} keys are the limit: revoke one first") from None
        if made is None:
            raise codes.PERMISSION_DENIED.saying("that is for registered users")
        return made, key

    async def list(self, user_id: UUID) -> Sequence[ApiKey]:
        """Somebody's keys, the oldest first."""
        return await asked(self._store.list(user_id))

    async def revoke(self, identity: Identity, key_id: UUID) -> None:
        """From the next request on it opens nothing."""
        if not await asked(self._store.revoke(user_id_of(identity), key_id)):
            raise _no_key()

    async def revoke_of(self, actor: UUID, user_id: UUID, key_id: UUID) -> None:
        """The same for an admin, about somebody's key."""
        if not await asked(self._store.revoke_of(actor, user_id, key_id)):
            raise _no_key()

    async def use(self, key: str) -> tuple[Identity, frozenset[str]]:
        """In whose name a request comes, and the key's scopes. Raises `KeyRefused`."""
        used = await asked(self._store.use(key)) if _FORM.fullmatch(key) else None
        if used is None:
            raise KeyRefused("the API key is unknown, over or revoked")
        info = msgspec.json.encode({"name": used.name}) if used.name else b""
        return Identity(str(used.user_id), info, role=used.role), used.scopes


def _no_key() -> codes.CommandError:
    return codes.NOT_FOUND.saying("there is no such key")
