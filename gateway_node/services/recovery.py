"""A lost password and an unknown address: links that are sent by mail and prove that the address is its reader's.

A link carries a token that the server has signed and stored nowhere. It names what it would change (the password's
hash, the address), so it opens nothing once that has changed: each works once.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Literal
from uuid import UUID

import jwt
import structlog

from gateway_node.passwords import Passwords
from gateway_node.services.deliveries import Deliveries
from gateway_node.services.stores import asked
from realtime import codes
from realtime.interfaces import Clock, Identity
from storage.sessions import SessionStore
from storage.users import NO_PASSWORD, User, UserStore

RESET_TTL = 3600  # s
VERIFY_TTL = 3 * 86400  # s

Purpose = Literal["reset", "verify"]

_log = structlog.get_logger(__name__)


class RecoveryTokens:
    """Signed with a key of their own, derived from the server's: none of them opens a connection."""

    def __init__(self, secret: str, clock: Clock = time.time) -> None:
        self._key = hmac.digest(secret.encode(), b"links in mails", "sha256")
        self._clock = clock

    def for_reset(self, user_id: UUID, password_hash: str) -> str:
        return self._mint("reset", user_id, password_hash, RESET_TTL)

    def for_address(self, user_id: UUID, email: str) -> str:
        return self._mint("verify", user_id, email, VERIFY_TTL)

    def _mint(self, purpose: Purpose, user_id: UUID, about: str, ttl: int) -> str:
        claims = {"sub": str(user_id), "aud": purpose, "exp": int(self._clock()) + ttl, "of": _mark(about)}
        return jwt.encode(claims, self._key, "HS256")

    def read(self, token: str, purpose: Purpose) -> tuple[UUID, str]:
        """Whom it is for and the mark of what it is about. Raises error 107."""
        try:
            options = {"require": ["exp", "sub"], "verify_exp": False}
            claims = jwt.decode(token, self._key, ["HS256"], audience=purpose, options=options)  # type: ignore[arg-type]
            if claims["exp"] <= self._clock():
                raise _no_link()
            return UUID(claims["sub"]), str(claims["of"])
        except (jwt.PyJWTError, ValueError, KeyError):
            raise _no_link() from None


class Recovery:
    """Every method raises `CommandError`: 107 for a link that opens nothing, 1003 where no mail is sent, 100 while
    PostgreSQL is away; those that take a password `PasswordsBusy`.

    `ended(user, session)` is called for each login that ends.
    """

    def __init__(
        self,
        users: UserStore,
        sessions: SessionStore,
        passwords: Passwords,
        *,
        tokens: RecoveryTokens,
        deliveries: Deliveries,
        ended: Callable[[str, str], None] = lambda user, session: None,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._passwords = passwords
        self._tokens = tokens
        self._deliveries = deliveries
        self._ended = ended

    @property
    def available(self) -> bool:
        return "mail" in self._deliveries.ways

    async def forgotten(self, email: str) -> None:
        """Send a link to whoever has this address. Whether anybody has is not said. People of another issuer's have no
        password and get none: they are out when they are out there."""
        if not self.available:
            raise _no_mail()
        user = await asked(self._users.by_email(email))
        if user is not None and user.password_hash != NO_PASSWORD:
            await self._deliveries.letter(user.id, "password.reset")

    async def reset(self, token: str, password: str) -> None:
        """A new password, by a link. Every login and every API key ends: one of them may be why."""
        user_id, mark = self._tokens.read(token, "reset")
        user = await asked(self._users.by_id(user_id))
        if user is None or user.disabled_at is not None or user.password_hash == NO_PASSWORD:
            raise _no_link()
        if not hmac.compare_digest(mark, _mark(user.password_hash)):
            raise _no_link()
        await self._set(user, password, keep=None, verified=True)

    async def change(self, identity: Identity, old: str, new: str) -> None:
        """A new password for whoever knows the old one. The other logins end. Raises error 107 at `/password`."""
        user = await self._account(identity)
        verdict = await self._passwords.verify(user.password_hash, old)
        if not verdict.matches:
            raise codes.BAD_REQUEST.at("/password", "this is not the present password")
        await self._set(user, new, keep=UUID(identity.session) if identity.session else None, verified=False)

    async def welcome(self, user: User) -> None:
        """Ask a new account for a sign that the address is its owner's."""
        if self.available and user.email_verified_at is None:
            await self._deliveries.letter(user.id, "email.verification")

    async def ask_again(self, identity: Identity) -> None:
        """Send the link once more; nothing where the address is verified."""
        if not self.available:
            raise _no_mail()
        await self.welcome(await self._account(identity))

    async def verify(self, token: str) -> None:
        """The address is its reader's. Once more is fine."""
        user_id, mark = self._tokens.read(token, "verify")
        user = await asked(self._users.by_id(user_id))
        if user is None or not hmac.compare_digest(mark, _mark(user.email)):
            raise _no_link()
        await asked(self._users.verified(user.id))

    async def _account(self, identity: Identity) -> User:
        try:
            user = await asked(self._users.by_id(UUID(identity.user)))
        except ValueError:
            user = None
        if user is None:
            raise codes.NOT_FOUND.saying("the token names no account of this server")
        return user

    async def _set(self, user: User, password: str, *, keep: UUID | None, verified: bool) -> None:
        password_hash = await self._passwords.hash(password)
        if not await asked(self._users.replace_password(user.id, user.password_hash, password_hash, verified=verified)):
            raise _no_link()  # somebody was faster, with the same link
        ended = await asked(self._sessions.revoke_all(user.id, keep=keep))
        for session_id in ended:
            self._ended(str(user.id), str(session_id))
        _log.info("password.changed", user=str(user.id), logins_ended=len(ended))


def _mark(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _no_link() -> codes.CommandError:
    return codes.BAD_REQUEST.at("/token", "the link was used before, is too old, or is not whole: ask for another")


def _no_mail() -> codes.CommandError:
    return codes.CONFLICT.saying("this server sends no mail: ask an admin of the school")
