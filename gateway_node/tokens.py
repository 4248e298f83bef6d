"""Connection and subscription tokens: JSON Web Tokens (RFC 7519) with the claims of the Centrifuge protocol.

The algorithm is never chosen by the token. Each algorithm name is bound to one key when the verifier is made:
HS256/384/512 to the secret, RS* and PS* to an RSA key, the ES* of its curve to an elliptic-curve key, EdDSA to an
Edwards-curve key. A token that names an algorithm without a key (`none` among them) is refused before anything is
computed, so a public key cannot end up as an HMAC secret.

Signatures are PyJWT's. Claims are decoded here, with msgspec, because `info` must stay the JSON that was signed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import HMACAlgorithm
from msgspec import Raw, Struct
from msgspec.json import Decoder

from realtime import codec, codes
from realtime.interfaces import Clock, Grant, Identity
from realtime.protocol import NO_DATA

MAX_TOKEN_LENGTH = 8192  # characters; half of the 16 KiB that a request's headers may take
MAX_USER_LENGTH = 255  # characters
MAX_TIME = 2**32 - 1  # Unix seconds; the protocol's `ttl` is a uint32
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3

_HMAC_HASHES = {"HS256": HMACAlgorithm.SHA256, "HS384": HMACAlgorithm.SHA384, "HS512": HMACAlgorithm.SHA512}
_HMAC_DIGESTS = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

Key = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


class BadKey(ValueError):
    """A secret or public key that cannot verify tokens; the message says why and what would do."""


class _Header(Struct):
    alg: str = ""


class _PlainHeader(Struct, forbid_unknown_fields=True):
    """A header that says nothing but this: no `crit`, no `b64`, no key to look up."""

    alg: str
    typ: str = ""


class _Claims(Struct):
    """What both kinds of token share. Times are NumericDate: Unix seconds, perhaps with a fraction."""

    sub: str = ""
    exp: float | None = None
    nbf: float | None = None
    iat: float | None = None
    jti: str = ""
    aud: str | list[str] | None = None
    iss: str | None = None
    info: Raw = NO_DATA
    channel: str = ""
    expire_at: float | None = None  # when the connection or subscription ends, if not when the token does; 0: never

    def ends(self) -> int:
        """Unix seconds; 0: never."""
        end = self.exp if self.expire_at is None else self.expire_at
        return int(min(max(end or 0, 0), MAX_TIME))


class _ConnectionClaims(_Claims):
    channels: list[str] = []
    subs: dict[str, Any] = {}
    sid: str = ""
    role: str = ""


class _SubscriptionClaims(_Claims):
    client: str = ""


C = TypeVar("C", bound=_Claims)


class _Expired(Exception):
    pass


class _Invalid(Exception):
    pass


class _CheckedSecret(HMACAlgorithm):
    """HMAC with a secret that was checked once, when the verifier was made.

    PyJWT looks on every call whether the secret is a PEM, DER or JWK file (17 us, the HMAC itself 4 us), and warns on
    every call when it is shorter than the hash.
    """

    def prepare_key(self, key: str | bytes) -> bytes:
        return key.encode() if isinstance(key, str) else key

    def check_key_length(self, key: bytes) -> str | None:
        return None


_jws = jwt.PyJWS(algorithms=[*_RSA_ALGORITHMS, *_CURVE_ALGORITHMS.values(), "EdDSA"])
for _name, _hash in _HMAC_HASHES.items():
    _jws.register_algorithm(_name, _CheckedSecret(_hash))

_header_decoder = Decoder(_Header)
_plain_header_decoder = Decoder(_PlainHeader)
_connection_decoder = Decoder(_ConnectionClaims)
_subscription_decoder = Decoder(_SubscriptionClaims)


class TokenVerifier:
    """Turns tokens into identities and grants.

    `secret` verifies HMAC tokens, `public_key` (PEM) those of its type. When `audience` or `issuer` is set, a token
    must carry it. The issuer's clock may differ from ours by `leeway` seconds.

    Raises:
        BadKey: on making it, for a key of a kind, curve or size that cannot be used.
    """

    def __init__(
        self,
        secret: str = "",
        public_key: str = "",
        *,
        audience: str = "",
        issuer: str = "",
        leeway: float = 0.0,
        clock: Clock = time.time,
    ) -> None:
        self._keys: dict[str, Key] = {}
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._clock = clock
        if secret:
            self._keys |= dict.fromkeys(_HMAC_HASHES, _checked_secret(secret))
        if public_key:
            algorithms, key = _checked_public_key(public_key)
            self._keys |= dict.fromkeys(algorithms, key)

    def connection(self, token: str) -> Identity:
        """Who a connection token says the bearer is.

        Raises:
            CommandError: 109 when the token is over, or not yet valid.
            DisconnectError: 3500 when it is no token of ours.
        """
        try:
            claims = self._connection_claims(token)
        except _Expired:
            raise codes.TOKEN_EXPIRED from None
        except _Invalid:
            raise codes.DisconnectError(codes.INVALID_TOKEN) from None
        return Identity(
            user=claims.sub,
            info=_info(claims),
            expires_at=claims.ends(),
            channels=tuple(claims.subs or dict.fromkeys(claims.channels)),
            session=claims.sid,
            role=claims.role,
        )

    def subscription(self, token: str, identity: Identity, channel: str) -> Grant:
        """What a subscription token allows this user in this channel.

        Raises:
            CommandError: 109 when the token is over or not yet valid, 103 when it is no token of ours.
            DisconnectError: 3500 when it is a token for another channel or user.
        """
        try:
            claims = self._subscription_claims(token)
        except _Expired:
            raise codes.TOKEN_EXPIRED from None
        except _Invalid:
            raise codes.PERMISSION_DENIED from None
        if claims.channel != channel or claims.sub != identity.user:
            raise codes.DisconnectError(codes.INVALID_TOKEN)
        return Grant(info=_info(claims), expires_at=claims.ends())

    def _connection_claims(self, token: str) -> _ConnectionClaims:
        claims = _decode(_connection_decoder, self._payload(token))
        self._check(claims)
        if claims.channel:
            raise _Invalid("a subscription token")
        return claims

    def _subscription_claims(self, token: str) -> _SubscriptionClaims:
        claims = _decode(_subscription_decoder, self._payload(token))
        self._check(claims)
        if not claims.channel:
            raise _Invalid("a connection token")
        if claims.client:
            raise _Invalid("bound to one connection, which only older versions of the protocol had")
        return claims

    def _payload(self, token: str) -> bytes:
        if len(token) > MAX_TOKEN_LENGTH:
            raise _Invalid("too long")
        signed, _, signature = token.rpartition(".")
        head, _, body = signed.partition(".")
        digest = _hmac_digest(head)
        if digest in self._keys and "." not in body:
            return self._authentic(signed, signature, body, digest)
        try:
            # Only a look: what PyJWT reads in the header must be the same, or it refuses.
            head = token.partition(".")[0]
            name = _header_decoder.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))).alg
            if name not in self._keys:
                raise _Invalid("no key for its algorithm")
            payload = _jws.decode(token, self._keys[name], algorithms=[name])
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _Invalid(str(error)) from None
        assert isinstance(payload, bytes)
        return payload

    def _authentic(self, signed: str, signature: str, body: str, name: str) -> bytes:
        """The payload of an HMAC token with a plain header, as nearly all are: 5 us, PyJWT takes 20.

        The signature that it should have (RFC 7515, section 5.2) is compared as text, so that it has one spelling only.
        """
        key = self._keys[name]
        assert isinstance(key, bytes)
        try:
            right = hmac.digest(key, signed.encode("ascii"), _HMAC_DIGESTS[name])
            if not hmac.compare_digest(base64.urlsafe_b64encode(right).rstrip(b"="), signature.encode("ascii")):
                raise _Invalid("signature")
            return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        except (UnicodeEncodeError, binascii.Error) as error:
            raise _Invalid(str(error)) from None

    def _check(self, claims: _Claims) -> None:
        """RFC 7519, sections 4.1.1 to 4.1.5. A token that is not yet valid counts as expired, as in Centrifugo."""
        if len(claims.sub) > MAX_USER_LENGTH or not claims.sub.isprintable():
            raise _Invalid("not a user id")
        if self._audience:
            audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
            if self._audience not in audiences:
                raise _Invalid("another audience")
        if self._issuer and claims.iss != self._issuer:
            raise _Invalid("another issuer")
        now = self._clock()
        over = claims.exp is not None and claims.exp + self._leeway <= now
        early = claims.nbf is not None and claims.nbf - self._leeway > now
        if over or early:
            raise _Expired


def mint_connection(
    secret: str,
    user: str,
    *,
    ttl: int,
    info: bytes = b"",
    channels: Sequence[str] = (),
    session: str = "",
    role: str = "",
    audience: str = "",
    issuer: str = "",
    now: float | None = None,
) -> str:
    """A connection token, HS256. `ttl` in seconds, 0: without end. `info` is JSON, shown to others in presence."""
    return _mint(
        secret,
        ttl,
        now,
        {
            "sub": user,
            "jti": uuid.uuid4().hex,
            "info": Raw(info) if info else None,
            "channels": list(channels),
            "sid": session,
            "role": role,
            "aud": audience,
            "iss": issuer,
        },
    )


def mint_subscription(
    secret: str,
    user: str,
    channel: str,
    *,
    ttl: int,
    info: bytes = b"",
    audience: str = "",
    issuer: str = "",
    now: float | None = None,
) -> str:
    """A subscription token, HS256, for one user and one channel. `ttl` in seconds, 0: without end."""
    return _mint(
        secret,
        ttl,
        now,
        {
            "sub": user,
            "channel": channel,
            "jti": uuid.uuid4().hex,
            "info": Raw(info) if info else None,
            "aud": audience,
            "iss": issuer,
        },
    )


def _mint(secret: str, ttl: int, now: float | None, claims: dict[str, Any]) -> str:
    issued = int(time.time() if now is None else now)
    claims |= {"iat": issued, "exp": issued + ttl if ttl else None}
    # `sub` stays even when empty: it says that the bearer is anonymous.
    payload = msgspec.json.encode({name: value for name, value in claims.items() if value or name == "sub"})
    return _jws.encode(payload, _checked_secret(secret), algorithm="HS256")


@lru_cache(maxsize=64)  # an issuer's tokens all begin alike
def _hmac_digest(head: str) -> str:
    """The algorithm of a plain header, if it is an HMAC. Empty for any other header, also a broken one."""
    try:
        name = _plain_header_decoder.decode(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))).alg
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    return name if name in _HMAC_DIGESTS else ""


def _decode(decoder: Decoder[C], payload: bytes) -> C:
    try:
        return decoder.decode(codec.safe_json(payload))
    except (msgspec.MsgspecError, codes.CommandError) as error:
        raise _Invalid(str(error)) from None


def _info(claims: _Claims) -> bytes:
    info = bytes(claims.info)
    return b"" if info == b"null" else info


def _checked_secret(secret: str) -> bytes:
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise BadKey(f"the token secret cannot be used: {error}") from None


def _checked_public_key(pem: str) -> tuple[Sequence[str], Key]:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(f"not a public key in PEM form (-----BEGIN PUBLIC KEY-----): {error}") from None
    return algorithms_of(key)


def algorithms_of(key: object) -> tuple[Sequence[str], Key]:
    """The algorithms that a public key can verify. Raises `BadKey`."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise BadKey(f"an RSA key of {key.key_size} bits is too small: use {MIN_RSA_BITS} or more")
        return _RSA_ALGORITHMS, key
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVE_ALGORITHMS:
        return (_CURVE_ALGORITHMS[key.curve.name],), key
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return ("EdDSA",), key
    raise BadKey("a public key for tokens is RSA, an elliptic curve P-256, P-384 or P-521, Ed25519 or Ed448")
