"""Tokens: which are believed, which are not, and that nobody chooses the algorithm but us."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.tokens import MAX_TOKEN_LENGTH, BadKey, TokenVerifier, mint_connection, mint_subscription
from realtime import codes
from realtime.interfaces import Identity

SECRET = "a secret of more than thirty-two bytes, long enough for HS512 as well"
NOW = 1_800_000_000.0
ALICE = Identity(user="alice")


def verifier(secret: str = SECRET, public_key: str = "", **options: Any) -> TokenVerifier:
    return TokenVerifier(secret, public_key, clock=lambda: NOW, **options)


def signed(claims: dict[str, Any], algorithm: str = "HS256", key: Any = SECRET) -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def pem_of(private: Any) -> str:
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def refused_connection(token: str, by: TokenVerifier | None = None) -> int:
    with pytest.raises((codes.CommandError, codes.DisconnectError)) as caught:
        (by or verifier()).connection(token)
    error = caught.value
    return error.disconnect.code if isinstance(error, codes.DisconnectError) else error.code


def refused_subscription(token: str, identity: Identity = ALICE, channel: str = "$news") -> int:
    with pytest.raises((codes.CommandError, codes.DisconnectError)) as caught:
        verifier().subscription(token, identity, channel)
    error = caught.value
    return error.disconnect.code if isinstance(error, codes.DisconnectError) else error.code


RSA_KEY = rsa.generate_private_key(65537, 2048)
ASYMMETRIC = [
    *((name, RSA_KEY) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    ("ES256", ec.generate_private_key(ec.SECP256R1())),
    ("ES384", ec.generate_private_key(ec.SECP384R1())),
    ("ES512", ec.generate_private_key(ec.SECP521R1())),
    ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ("EdDSA", ed448.Ed448PrivateKey.generate()),
]


def test_a_minted_connection_token_says_who_it_is() -> None:
    token = mint_connection(
        SECRET,
        "alice",
        ttl=60,
        info=b'{"name":"Alice"}',
        channels=["news", "weather"],
        session="s1",
        role="teacher",
        now=NOW,
    )
    assert verifier().connection(token) == Identity(
        user="alice",
        info=b'{"name":"Alice"}',
        expires_at=int(NOW) + 60,
        channels=("news", "weather"),
        session="s1",
        role="teacher",
    )


def test_a_token_without_end_has_no_expiry() -> None:
    assert verifier().connection(mint_connection(SECRET, "alice", ttl=0, now=NOW)).expires_at == 0


def test_an_empty_subject_is_an_anonymous_identity() -> None:
    assert verifier().connection(mint_connection(SECRET, "", ttl=60, now=NOW)).user == ""


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_hmac_tokens_of_every_size_are_believed(algorithm: str) -> None:
    assert verifier().connection(signed({"sub": "alice"}, algorithm)).user == "alice"


@pytest.mark.parametrize(
    ("algorithm", "private"), ASYMMETRIC, ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_key_tokens_are_believed_and_no_other_key_is(algorithm: str, private: Any) -> None:
    token = signed({"sub": "alice"}, algorithm, private)
    assert verifier("", pem_of(private)).connection(token).user == "alice"
    assert verifier(SECRET, pem_of(private)).connection(token).user == "alice"
    assert refused_connection(token, verifier(SECRET)) == 3500
    stranger = pem_of(type_alike(private))
    assert refused_connection(token, verifier("", stranger)) == 3500


def type_alike(private: Any) -> Any:
    if isinstance(private, rsa.RSAPrivateKey):
        return rsa.generate_private_key(65537, 2048)
    if isinstance(private, ec.EllipticCurvePrivateKey):
        return ec.generate_private_key(private.curve)
    kind = ed25519.Ed25519PrivateKey if isinstance(private, ed25519.Ed25519PrivateKey) else ed448.Ed448PrivateKey
    return kind.generate()


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("trailing", ["", "\n"], ids=["stripped", "as printed"])
def test_a_public_key_is_no_hmac_secret(algorithm: str, trailing: str) -> None:
    """The classic confusion: the token names an HMAC, and the forger's secret is the public key's text."""
    pem = pem_of(RSA_KEY).strip() + trailing
    header = _segment({"alg": algorithm, "typ": "JWT"})
    payload = _segment({"sub": "admin"})
    digest = hmac.new(pem.encode(), header + b"." + payload, getattr(hashlib, "sha" + algorithm[2:])).digest()
    token = b".".join([header, payload, base64.urlsafe_b64encode(digest).rstrip(b"=")]).decode()
    assert refused_connection(token, verifier("", pem)) == 3500
    assert refused_connection(token, verifier(SECRET, pem)) == 3500


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS1", "ES256K", None, 7, ["HS256"]])
def test_no_algorithm_is_not_an_algorithm(name: Any) -> None:
    head = _segment({"alg": name, "typ": "JWT"})
    for signature in (b"", b"AAAA", jwt.encode({"sub": "a"}, SECRET).split(".")[2].encode()):
        token = b".".join([head, _segment({"sub": "admin"}), signature]).decode()
        assert refused_connection(token) == 3500


def _segment(value: Any) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"sub": "alice", "exp": NOW - 1}, 109),
        ({"sub": "alice", "exp": NOW}, 109),
        ({"sub": "alice", "exp": 0}, 109),
        ({"sub": "alice", "exp": -1}, 109),
        ({"sub": "alice", "nbf": NOW + 1}, 109),
        ({"sub": "alice", "exp": str(NOW + 60)}, 3500),
        ({"sub": "alice", "exp": True}, 3500),
        ({"sub": "alice", "exp": 10**400}, 3500),
        ({"sub": 42}, 3500),
        ({"sub": None}, 3500),
        ({"sub": "a" * 256}, 3500),
        ({"sub": "nul\0"}, 3500),
        ({"sub": "line\nbreak"}, 3500),
        ({"sub": "alice", "channel": "news"}, 3500),
        ({"sub": "alice", "channels": "news"}, 3500),
        ({"sub": "alice", "channels": [1]}, 3500),
        ({"sub": "alice", "subs": ["news"]}, 3500),
        ({"sub": "alice", "sid": 1}, 3500),
    ],
    ids=str,
)
def test_claims_that_do_not_hold_are_refused(claims: dict[str, Any], code: int) -> None:
    payload = json.dumps(claims).encode()
    token = jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")
    assert refused_connection(token) == code


def test_the_clocks_may_differ_by_the_leeway() -> None:
    tolerant = verifier(leeway=5)
    assert tolerant.connection(signed({"sub": "alice", "exp": NOW - 4})).user == "alice"
    assert tolerant.connection(signed({"sub": "alice", "nbf": NOW + 4})).user == "alice"
    assert refused_connection(signed({"sub": "alice", "exp": NOW - 6}), tolerant) == 109


@pytest.mark.parametrize(
    ("claims", "believed"),
    [
        ({"aud": "chat", "iss": "school"}, True),
        ({"aud": ["x", "chat"], "iss": "school"}, True),
        ({"aud": "chat"}, False),
        ({"iss": "school"}, False),
        ({"aud": "chat2", "iss": "school"}, False),
        ({"aud": [], "iss": "school"}, False),
        ({"aud": "chat", "iss": "School"}, False),
    ],
)
def test_audience_and_issuer_are_checked_when_set(claims: dict[str, Any], believed: bool) -> None:
    strict = verifier(audience="chat", issuer="school")
    token = signed({"sub": "alice"} | claims)
    if believed:
        assert strict.connection(token).user == "alice"
    else:
        assert refused_connection(token, strict) == 3500


def test_own_tokens_carry_the_audience_and_issuer_that_are_asked_for() -> None:
    strict = verifier(audience="chat", issuer="school")
    own = mint_connection(SECRET, "alice", ttl=60, audience="chat", issuer="school", now=NOW)
    assert strict.connection(own).user == "alice"


def test_expire_at_ends_the_connection_instead_of_the_token() -> None:
    assert verifier().connection(signed({"sub": "a", "exp": NOW + 5, "expire_at": NOW + 99})).expires_at == NOW + 99
    assert verifier().connection(signed({"sub": "a", "exp": NOW + 5, "expire_at": 0})).expires_at == 0


def test_an_end_beyond_the_wire_type_is_cut() -> None:
    assert verifier().connection(signed({"sub": "a", "exp": 1e300})).expires_at == 2**32 - 1


def test_subs_are_preferred_over_channels() -> None:
    claims = {"sub": "a", "channels": ["old"], "subs": {"news": {"data": {"x": 1}}, "weather": {}}}
    assert verifier().connection(signed(claims)).channels == ("news", "weather")


def test_info_stays_the_json_that_was_signed() -> None:
    payload = b'{"sub":"alice","info":{"n": 1.50,\n"big":12345678901234567890123}}'
    token = jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")
    assert verifier().connection(token).info == b'{"n": 1.50, "big":12345678901234567890123}'


@pytest.mark.parametrize(
    "payload",
    [b'{"sub":"alice","info":"\xff"}', b'{"sub":"a","info":' + b"[" * 70 + b"]" * 70 + b"}", b"[1", b"", b"7"],
)
def test_a_payload_that_would_harm_others_is_refused_though_signed(payload: bytes) -> None:
    assert refused_connection(jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")) == 3500


def test_a_token_of_many_kilobytes_is_refused_unread() -> None:
    assert refused_connection(signed({"sub": "a", "info": "x" * MAX_TOKEN_LENGTH})) == 3500


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_no_text_breaks_the_verifier(token: str) -> None:
    assert refused_connection(token) == 3500
    assert refused_subscription(token) == 103


@pytest.mark.parametrize("headers", [{}, {"kid": "7"}, {"typ": None}, {"typ": "at+jwt", "cty": "x"}, {"x": [1, {}]}])
def test_other_headers_change_nothing(headers: dict[str, Any]) -> None:
    token = jwt.encode({"sub": "alice"}, SECRET, headers=headers)
    assert verifier().connection(token).user == "alice"
    assert refused_connection(token, verifier("another secret of more than thirty-two bytes")) == 3500


def test_what_must_be_understood_is_refused() -> None:
    for header in ({"alg": "HS256", "crit": ["b64"], "b64": False}, {"alg": "HS256", "crit": ["exp"], "exp": 1}):
        head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=") + b"."
        head += base64.urlsafe_b64encode(b'{"sub":"alice"}').rstrip(b"=")
        mac = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), head, "sha256")).rstrip(b"=")
        assert refused_connection((head + b"." + mac).decode()) == 3500


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_token_has_three_parts(parts: int) -> None:
    pieces = mint_connection(SECRET, "alice", ttl=60, now=NOW).split(".")[:2]
    text = ".".join([*pieces, "e30"][: parts - 1])
    mac = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), text.encode(), "sha256")).rstrip(b"=").decode()
    assert refused_connection(f"{text}.{mac}") == 3500


@given(st.integers(0, 10_000), st.characters())
def test_a_changed_character_breaks_the_signature(position: int, replacement: str) -> None:
    token = mint_connection(SECRET, "alice", ttl=60, now=NOW)
    position %= len(token)
    changed = token[:position] + replacement + token[position + 1 :]
    if changed != token:
        assert refused_connection(changed) == 3500


def test_a_subscription_token_grants_its_channel_to_its_user() -> None:
    token = mint_subscription(SECRET, "alice", "$news", ttl=60, info=b'{"seat":4}', now=NOW)
    grant = verifier().subscription(token, ALICE, "$news")
    assert (grant.info, grant.expires_at) == (b'{"seat":4}', int(NOW) + 60)


def test_a_subscription_token_is_good_for_nothing_else() -> None:
    token = mint_subscription(SECRET, "alice", "$news", ttl=60, now=NOW)
    assert refused_subscription(token, ALICE, "$other") == 3500
    assert refused_subscription(token, Identity(user="bob"), "$news") == 3500
    assert refused_connection(token) == 3500


def test_bad_subscription_tokens_refuse_the_subscription_alone() -> None:
    assert refused_subscription(mint_subscription(SECRET, "alice", "$news", ttl=5, now=NOW - 60)) == 109
    assert refused_subscription(mint_subscription("another secret" * 4, "alice", "$news", ttl=5, now=NOW)) == 103
    assert refused_subscription(mint_connection(SECRET, "alice", ttl=60, now=NOW)) == 103
    assert refused_subscription(signed({"sub": "alice", "channel": "$news", "client": "c1"})) == 103


@pytest.mark.parametrize(
    ("secret", "public_key"),
    [
        ("", "no key"),
        ("", pem_of(rsa.generate_private_key(65537, 1024))),
        ("", pem_of(ec.generate_private_key(ec.SECP256K1()))),
        ("", RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()),
        (pem_of(RSA_KEY), ""),
    ],
    ids=["nonsense", "small RSA", "unknown curve", "private key", "public key as secret"],
)
def test_keys_that_cannot_verify_are_refused_at_the_start(secret: str, public_key: str) -> None:
    with pytest.raises(BadKey):
        verifier(secret, public_key)


def test_without_any_key_no_token_is_believed() -> None:
    assert refused_connection(signed({"sub": "alice"}), verifier("")) == 3500
