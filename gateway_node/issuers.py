"""Other issuers whose tokens open this server: a university's single sign-on, a portal.

Which issuer a token is held against is what it says itself (`iss`); everything else about it is that issuer's: its keys
(gateway_node/jwks.py), its algorithms, its audience. Of its claims only who somebody is counts here, and until when;
channels, logins and what presence shows are for the server's own tokens to give.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import msgspec
import structlog
from msgspec import Struct
from msgspec.json import Decoder

from gateway_node.jwks import KeySet, KeysUnavailable, UnknownKey
from gateway_node.tokens import MAX_TIME, MAX_TOKEN_LENGTH, MAX_USER_LENGTH
from realtime import codes
from realtime.interfaces import Identity
from storage.database import DatabaseUnavailable
from storage.identities import LEAST_ROLE, IdentityStore, Known, Name, Newcomer

if TYPE_CHECKING:
    from config.tokens import Issuer as Settings

RANKS = ("student", "assistant", "teacher", "admin")
MAX_NAME = 100  # characters
MAX_ADDRESS = 255  # characters

_ADDRESS = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_log = structlog.get_logger(__name__)


class _Peek(Struct):
    iss: str = ""


_peek_decoder = Decoder(_Peek)


class Issuers:
    """`ended(user, session)` is called for each login that ends because its account turns out to be another's."""

    def __init__(
        self,
        settings: Mapping[str, Settings],
        store: IdentityStore,
        *,
        leeway: float = 0.0,
        ended: Callable[[str, str], None] = lambda user, session: None,
    ) -> None:
        # An identity provider answers a node a few times an hour; what it redirects to is not what was configured.
        self._client = httpx.AsyncClient(follow_redirects=False) if settings else None
        self._issuers = {
            each.issuer: Issuer(each, KeySet(each.jwks_url, self._client), store, leeway, ended)
            for each in settings.values()
            if self._client is not None
        }

    async def start(self) -> None:
        """Fetch the keys; it is not waited for."""
        for issuer in self._issuers.values():
            await issuer.keys.start()

    async def stop(self) -> None:
        for issuer in self._issuers.values():
            await issuer.keys.stop()
        if self._client is not None:
            await self._client.aclose()

    def of(self, token: str) -> Issuer | None:
        """The issuer that a token says it is of. Nothing is verified yet, and without issuers nothing is read."""
        if not self._issuers or len(token) > MAX_TOKEN_LENGTH:
            return None
        body = token.split(".", 2)[1:2]
        try:
            payload = base64.urlsafe_b64decode(body[0] + "=" * (-len(body[0]) % 4)) if body else b""
            return self._issuers.get(_peek_decoder.decode(payload).iss)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None


class Issuer:
    """One of them, and its people."""

    def __init__(
        self,
        settings: Settings,
        keys: KeySet,
        store: IdentityStore,
        leeway: float = 0.0,
        ended: Callable[[str, str], None] = lambda user, session: None,
    ) -> None:
        self.keys = keys
        self._settings = settings
        self._store = store
        self._leeway = leeway
        self._ended = ended
        may_give = {LEAST_ROLE, *settings.roles.values()} if settings.role_claim else {LEAST_ROLE}
        self._linkable = frozenset(may_give) if settings.link_by_email else frozenset()

    async def identity(self, token: str) -> Identity:
        """Whom a token names, who has an account from now on.

        Raises:
            CommandError: 109 when the token is over, or not yet valid; 100 while the issuer or PostgreSQL is away.
            DisconnectError: 3500 when it is no token for this server.
        """
        claims = await self._claims(token)
        who = self._newcomer(claims)
        name = Name(self._settings.issuer, claims["sub"])
        try:
            known = await self._store.find(name)
            if known is None or known.said != who.role:
                known = await self._meet(name, who)
        except DatabaseUnavailable as error:
            _log.warning("issuer.store_unavailable", error=str(error))
            raise codes.INTERNAL from None
        info = msgspec.json.encode({"name": known.name}) if known.name else b""
        expires_at = min(max(int(claims["exp"]), 0), MAX_TIME)
        return Identity(str(known.user_id), info, expires_at, role=known.role)

    async def _claims(self, token: str) -> dict[str, Any]:
        """Raises as `identity`."""
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm not in settings.algorithms or not isinstance(key_id, str | None):
                raise _no_token()
            key = await self.keys.key(key_id, algorithm)
            claims = jwt.decode(
                token,
                key,
                [algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=self._leeway,
                options={"require": ["exp", "sub"]},
            )
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
            raise codes.TOKEN_EXPIRED from None
        except KeysUnavailable as error:
            _log.warning("issuer.keys_unavailable", issuer=settings.issuer, error=str(error))
            raise codes.INTERNAL from None
        except (jwt.PyJWTError, UnknownKey, ValueError, TypeError, OverflowError, RecursionError):
            raise _no_token() from None
        subject = claims["sub"]
        if not 1 <= len(subject) <= MAX_USER_LENGTH or not subject.isprintable():
            raise _no_token()
        return claims

    async def _meet(self, name: Name, who: Newcomer) -> Known:
        ended = await self._store.meet(name, who, linkable=self._linkable)
        known = await self._store.find(name)
        if known is None:
            raise codes.INTERNAL  # deleted in this moment
        for session in ended:
            self._ended(str(known.user_id), str(session))
        _log.info("issuer.met", issuer=name.issuer, user=str(known.user_id), role=known.role)
        return known

    def _newcomer(self, claims: Mapping[str, Any]) -> Newcomer:
        settings = self._settings
        address, name = claims.get(settings.email_claim), claims.get("name")
        if claims.get("email_verified") is not True or not isinstance(address, str) or len(address) > MAX_ADDRESS:
            address = ""
        return Newcomer(
            email=address.lower() if _ADDRESS.fullmatch(address) else "",
            name=_CONTROL.sub("", name).strip()[:MAX_NAME] if isinstance(name, str) else "",
            role=self._role(claims) if settings.role_claim else None,
        )

    def _role(self, claims: Mapping[str, Any]) -> str:
        """The highest that the claim's values mean; who has none is a student."""
        values = _values(claims, str(self._settings.role_claim))
        given = {self._settings.roles[value] for value in values if value in self._settings.roles}
        return max(given, key=RANKS.index, default=LEAST_ROLE)


def _values(claims: Mapping[str, Any], path: str) -> Sequence[str]:
    """Of a claim, which may be a list; with dots in its name, inside another, as Keycloak's `realm_access.roles`."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str)]


def _no_token() -> codes.DisconnectError:
    return codes.DisconnectError(codes.INVALID_TOKEN)
