"""The settings of tokens: the server's own, and those of other issuers."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from config.kinds import Positive, Secret, Section, split


def _public_key(value: str | None) -> str | None:
    """Refuse at the start what a node could verify no token with (RFC 7518, sections 3.3 and 3.4; RFC 8037)."""
    if value is None:
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(value.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("a PEM public key (-----BEGIN PUBLIC KEY----- ...) is wanted") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError(f"an RSA key of 2048 bits or more is wanted, and this one has {key.key_size}")
        return value
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return value
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in {"secp256r1", "secp384r1", "secp521r1"}:
        return value
    raise ValueError("an RSA, ECDSA (P-256, P-384, P-521) or EdDSA key is wanted")


SchoolRole = Literal["student", "assistant", "teacher", "admin"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def _keys_url(value: str) -> str:
    """Whoever changes the keys on their way here lets anybody in."""
    if not re.fullmatch(r"https://[^/\s]+\S*|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/\S*)?", value):
        raise ValueError("a URL such as https://login.example/keys is wanted; http:// only to this machine")
    return value


class Issuer(Section):
    """An issuer whose tokens are accepted as well, such as a university's single sign-on (OpenID Connect)."""

    issuer: Annotated[str, Field(min_length=1)] = Field(description="What a token's `iss` is.")
    jwks_url: Annotated[str, AfterValidator(_keys_url)] = Field(
        description="Where its public keys are (`jwks_uri`), a JWK Set. Fetched every 10 minutes, and for a key that "
        "is not known yet, at most every 10 s; while the issuer is away the known ones go on."
    )
    audience: Annotated[str, Field(min_length=1)] = Field(
        description="What a token's `aud` must contain: without it, a token for any other program would open this one."
    )
    algorithms: Annotated[tuple[Algorithm, ...], BeforeValidator(split), Field(min_length=1)] = Field(
        default=("RS256",), description="Algorithms that are accepted from it."
    )
    email_claim: str = Field(
        default="email", description="Claim with the address, which counts where `email_verified` is true."
    )
    link_by_email: bool = Field(
        default=False,
        description="Let whoever has the verified address of an account here have that account. The issuer can then "
        "enter each account whose role it may give.",
    )
    role_claim: str | None = Field(
        default=None,
        description="Claim with the role in the school, one or a list; `a.b` is inside. Unset: roles are given here.",
    )
    roles: dict[str, SchoolRole] = Field(
        default={"student": "student", "assistant": "assistant", "teacher": "teacher"},
        description="What the values of that claim mean. Others mean nothing; who has none is a student.",
    )


def _issuers(value: dict[str, Issuer]) -> dict[str, Issuer]:
    for name in value:
        if not re.fullmatch(r"[-a-zA-Z0-9_]+", name):
            raise ValueError(f"{name!r} cannot name an issuer: letters, digits, '-' or '_'")
    if len({each.issuer for each in value.values()}) < len(value):
        raise ValueError("two of them have the same `issuer`")
    return value


class Token(Section):
    """The JSON Web Tokens (RFC 7519) that connections and requests carry."""

    hmac_secret: Annotated[str | None, Secret(), Field(min_length=32)] = Field(
        repr=False,
        default=None,
        description="Key of HS256, HS384 and HS512 tokens and of the server's own. Unset: made on the first start and "
        "kept in the data directory.",
    )
    public_key: Annotated[str | None, AfterValidator(_public_key)] = Field(
        default=None,
        description="PEM public key (RSA, ECDSA or Ed25519) of an issuer whose tokens are accepted as well.",
    )
    audience: str | None = Field(default=None, description="What a token's `aud` must contain; unset: not checked.")
    issuer: str | None = Field(default=None, description="What a token's `iss` must be; unset: not checked.")
    issuers: Annotated[dict[str, Issuer], AfterValidator(_issuers)] = Field(
        default={},
        description="Further issuers by a name of your choice: a table each in TOML, one JSON object in the "
        "environment.",
    )
    leeway: Annotated[float, Field(ge=0, le=300)] = Field(
        default=0.0, description="Seconds by which the issuer's clock may differ from ours."
    )
    access_ttl: Positive = Field(default=900, description="Seconds that a login's access token is valid.")
    refresh_ttl: Positive = Field(
        default=30 * 86400, description="Seconds that a login lasts without being used (refresh token)."
    )

    @field_validator("issuers")
    @classmethod
    def _others(cls, value: dict[str, Issuer], info: ValidationInfo) -> dict[str, Issuer]:
        """A token is held against the issuer that it names: the server's own would be held against other keys."""
        if info.data.get("issuer") in {each.issuer for each in value.values()}:
            raise ValueError("one of them has the `issuer` that token.issuer is, which is this server")
        return value
