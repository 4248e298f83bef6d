"""Web push: a message to a browser that is not there, through its maker's push service.

RFC 8030 (the request), RFC 8291 and RFC 8188 (encryption: the service cannot read it), RFC 8292 (VAPID: who sends).
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway_node.services.deliveries import Delayed, Gone, Send, Undeliverable
from realtime.interfaces import Clock
from storage.deliveries import Delivery

TTL = 86400  # s that a push service keeps a message for a browser that is off
TIMEOUT = 10.0  # s
TOKEN_TTL = 12 * 3600  # s; RFC 8292, section 2: a day at most
RECORD = 4096  # bytes; RFC 8291, section 4
MAX_TITLE = 200  # characters of what is shown

CURVE = ec.SECP256R1()

_URL = re.compile(r"[!-\[\]-~]+")  # visible ASCII, and no backslash: RFC 3986, appendix A


class Pushed(msgspec.Struct, frozen=True):
    """What the page's service worker gets."""

    id: str
    kind: str
    title: str
    body: str
    url: str


class VapidKey:
    """Who we are to the push services. `secret`: the 32 bytes of the private key, in base64url. Raises ValueError."""

    def __init__(self, secret: str, contact: str, clock: Clock = time.time) -> None:
        self._private = ec.derive_private_key(int.from_bytes(unbase64(secret)), CURVE)
        self._contact = contact
        self._clock = clock
        self.public = base64url(_point(self._private.public_key()))

    def authorization(self, endpoint: str) -> str:
        """For requests to the origin of this endpoint."""
        parts = urlsplit(endpoint)
        claims = {
            "aud": f"{parts.scheme}://{parts.netloc}",
            "exp": int(self._clock()) + TOKEN_TTL,
            "sub": self._contact,
        }
        token = jwt.encode(claims, self._private, "ES256")
        return f"vapid t={token}, k={self.public}"


class WebPush:
    """A `Carrier`. `public_url`: where a tap on the message leads."""

    def __init__(self, key: VapidKey, public_url: str) -> None:
        self._key = key
        self._public_url = public_url
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Send]:
        # No redirects, no proxies of the environment: to the address that was checked, and nowhere else.
        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
            yield lambda delivery: self._send(client, delivery)

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        if delivery.endpoint is None or delivery.p256dh is None or delivery.auth is None:
            raise Undeliverable("its browser takes pushes no more")
        body = encrypt(msgspec.json.encode(self._pushed(delivery)), delivery.p256dh, delivery.auth)
        headers = {
            "Authorization": self._key.authorization(delivery.endpoint),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(TTL),
            "Urgency": "normal",
        }
        try:
            answer = await client.post(delivery.endpoint, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise Delayed(f"the push service: {type(error).__name__}") from None
        if answer.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise Gone("the browser has taken its subscription back")
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or answer.status_code >= 500:
            wait = answer.headers.get("retry-after", "")
            raise Delayed(
                f"the push service answered {answer.status_code}", min(float(wait), 3600.0) if wait.isdigit() else 0
            )
        if not answer.is_success:
            raise Undeliverable(f"the push service answered {answer.status_code}")

    def _pushed(self, delivery: Delivery) -> Pushed:
        title = str(delivery.data.get("title") or delivery.course or "")[:MAX_TITLE]
        return Pushed(str(delivery.id), delivery.kind, title, (delivery.course or "")[:MAX_TITLE], self._public_url)


def encrypt(
    message: bytes,
    p256dh: bytes,
    auth: bytes,
    *,
    salt: bytes | None = None,
    private: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """One record of `aes128gcm` for a browser's key and secret. `salt` and `private` are random but in tests.

    Raises ValueError for a message that is too long or a key that is no point.
    """
    if len(message) > RECORD - 103:  # RFC 8291, section 4: header 86, padding 1, tag 16
        raise ValueError("a push carries 3,993 bytes at most")
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, p256dh)
    salt = os.urandom(16) if salt is None else salt
    private = ec.generate_private_key(CURVE) if private is None else private
    ours = _point(private.public_key())
    shared = private.exchange(ec.ECDH(), theirs)
    secret = _hkdf(auth, shared, b"WebPush: info\0" + p256dh + ours, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\0", 12)
    sealed = AESGCM(key).encrypt(nonce, message + b"\x02", None)
    return salt + RECORD.to_bytes(4) + bytes([len(ours)]) + ours + sealed


def is_public_key(p256dh: bytes) -> bool:
    """Whether these bytes are an uncompressed point of the curve."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE, p256dh)
    except ValueError:
        return False
    return len(p256dh) == 65


def allowed(endpoint: str, services: Sequence[str]) -> bool:
    """Whether an endpoint is of one of the push services: their hosts and what is below them, over TLS. One with its
    scheme is an origin, and only that; else a stranger's endpoint would have us ask any address that we can reach."""
    if not _URL.fullmatch(endpoint):
        return False  # `urlsplit` leaves out what the client would refuse, or read otherwise
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.username is not None or parts.password is not None:
        return False
    if f"{parts.scheme}://{parts.netloc}" in services:
        return True
    return (
        parts.scheme == "https"
        and port in (None, 443)
        and any(host == each or host.endswith(f".{each}") for each in services)
    )


def unbase64(text: str) -> bytes:
    """base64url, padded or not. Raises ValueError."""
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)
