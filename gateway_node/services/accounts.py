"""Accounts: register, log in, stay logged in, log out.

A login gives two tokens. The access token is a connection token of a quarter of an hour: it opens WebSocket connections
and REST alike, and is checked without a look-up of what it says. The refresh token is random, is used once, and gives
the next pair; a later second use ends the login (storage/sessions.py). What ends a login closes its open connections
and stops the next connect, request or refresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from gateway_node.passwords import Passwords
from gateway_node.tokens import mint_connection
from storage.sessions import ReuseDetected, Session, SessionEnded, SessionStore
from storage.users import NO_PASSWORD, EmailTaken, User, UserStore

if TYPE_CHECKING:
    from config.tokens import Token

_log = structlog.get_logger(__name__)


class LoginRefused(Exception):
    """The address and the password do not open an account. Which of them is wrong is not said."""


class RefreshRefused(Exception):
    """The refresh token opens nothing: log in again."""


class Login(Struct, frozen=True):
    """What a client keeps of a login. `expires_in`: seconds that the access token is valid."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750, no secret


class Accounts:
    """Every method raises `DatabaseUnavailable`, those that take a password `PasswordsBusy` too.

    `ended(user, session)` is called for each login that ends, so that its open connections end as well.
    """

    def __init__(
        self,
        users: UserStore,
        sessions: SessionStore,
        passwords: Passwords,
        settings: Token,
        ended: Callable[[str, str], None] = lambda user, session: None,
    ) -> None:
        assert settings.hmac_secret, "made on the first start when not given"
        self._users = users
        self._sessions = sessions
        self._passwords = passwords
        self._secret = settings.hmac_secret
        self._settings = settings
        self._ended = ended

    async def register(self, email: str, password: str, *, name: str = "", again: bool = False) -> User:
        """A new account. `again` says that this may be a retry: then the account that the first attempt made is the
        answer, to whoever has its password.

        Raises `EmailTaken`.
        """
        password_hash = await self._passwords.hash(password)
        try:
            return await self._users.create(email, password_hash, name=name)
        except EmailTaken:
            if again and (user := await self._owner(email, password)):
                return user
            raise

    async def login(self, email: str, password: str, *, user_agent: str = "") -> Login:
        """Raises `LoginRefused`."""
        user = await self._owner(email, password)
        if user is None or user.disabled_at is not None:
            raise _refused()
        try:  # a password that was changed while this one was checked opens nothing any more
            session, token = await self._sessions.open(
                user.id, user_agent=user_agent, ttl=self._settings.refresh_ttl, password_hash=user.password_hash
            )
        except SessionEnded:
            raise _refused() from None
        return self._login(user, session, token)

    async def refresh(self, refresh_token: str) -> Login:
        """The next pair of tokens. The same token again just after, because the answer was lost, gives the same refresh
        token; later it ends the login.

        Raises `RefreshRefused`.
        """
        try:
            session, token = await self._sessions.rotate(refresh_token, ttl=self._settings.refresh_ttl)
        except ReuseDetected as error:
            _log.warning("login.reused", session=str(error.session_id))
            self._ended(str(error.user_id), str(error.session_id))
            raise RefreshRefused("the refresh token was used before, so its login has ended: log in again") from None
        except SessionEnded:
            raise RefreshRefused("the login has ended: log in again") from None
        user = await self._users.by_id(session.user_id)
        if user is None:
            raise RefreshRefused("the login has ended: log in again")
        return self._login(user, session, token)

    async def logout(self, refresh_token: str) -> None:
        """End the login that a refresh token belongs to; a token of none is a login that has ended already."""
        session = await self._sessions.by_token(refresh_token)
        if session is not None:
            await self._sessions.revoke(session.id)
            self._ended(str(session.user_id), str(session.id))

    async def sessions(self, user: str) -> list[Session]:
        """The logins that are open, the last used one first; none of a user of another issuer's."""
        try:
            return await self._sessions.list(UUID(user))
        except ValueError:
            return []

    async def end_session(self, user: str, session_id: UUID) -> bool:
        """End one of the user's logins, and its open connections; `False`: it is none of theirs."""
        if session_id not in {each.id for each in await self.sessions(user)}:
            return False
        await self._sessions.revoke(session_id)
        self._ended(user, str(session_id))
        return True

    async def profile(self, user: str) -> User | None:
        """`None` for a user of another issuer's, whom only the token knows."""
        try:
            user_id = UUID(user)
        except ValueError:
            return None
        return await self._users.by_id(user_id)

    async def _owner(self, email: str, password: str) -> User | None:
        user = await self._users.by_email(email)
        # Who has no password takes as long to refuse as who has no account.
        stored = user.password_hash if user and user.password_hash != NO_PASSWORD else None
        verdict = await self._passwords.verify(stored, password)
        if user is None or not verdict.matches:
            return None
        if verdict.rehash:
            # In place of this hash alone: what became the password meanwhile stays it.
            await self._users.replace_password(user.id, user.password_hash, verdict.rehash, verified=False)
            return await self._owner(email, password)
        return user

    def _login(self, user: User, session: Session, refresh_token: str) -> Login:
        access_token = mint_connection(
            self._secret,
            str(user.id),
            ttl=self._settings.access_ttl,
            info=msgspec.json.encode({"name": user.name}) if user.name else b"",
            session=str(session.id),
            role=user.role,
            audience=self._settings.audience or "",
            issuer=self._settings.issuer or "",
        )
        return Login(access_token, refresh_token, self._settings.access_ttl)


def _refused() -> LoginRefused:
    return LoginRefused("the address or the password is wrong, or the account is disabled")
