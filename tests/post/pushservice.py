"""A push service on a port of its own, and browsers of it, which decrypt as RFC 8291 says (written from the RFC, apart
from the server's own code, and with other parts)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import secrets
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PATIENCE = 15.0  # s


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class PushService:
    """`answers`: statuses for the next requests to a path, before they are taken (201)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, list[int]] = {}
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.requests.append((self.path, headers, body))
                status = service.answers[self.path].pop(0) if service.answers.get(self.path) else 201
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def to(self, browser: Browser) -> list[tuple[dict[str, str], bytes]]:
        return [(headers, body) for path, headers, body in self.requests if path == browser.path]


class Browser:
    """One browser of somebody."""

    def __init__(self, service: PushService) -> None:
        self.service = service
        self.path = f"/push/{secrets.token_hex(8)}"
        self._private = ec.generate_private_key(ec.SECP256R1())
        self._auth = secrets.token_bytes(16)
        self._public = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def subscription(self) -> dict[str, Any]:
        """As the page gets it from the browser."""
        keys = {"p256dh": encode(self._public), "auth": encode(self._auth)}
        return {"endpoint": f"{self.service.origin}{self.path}", "expirationTime": None, "keys": keys}

    async def pushed(self, number: int = 1) -> list[Any]:
        """What was pushed, when there are so many. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.service.to(self)) < number:
                await asyncio.sleep(0.05)
        return [json.loads(self.decrypt(body)) for _, body in found]

    def decrypt(self, body: bytes) -> bytes:
        salt, size, key_length = body[:16], int.from_bytes(body[16:20], "big"), body[20]
        key, sealed = body[21 : 21 + key_length], body[21 + key_length :]
        assert len(sealed) <= size
        shared = self._private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key))
        secret = _extract_expand(self._auth, shared, b"WebPush: info\0" + self._public + key, 32)
        opened = AESGCM(_extract_expand(salt, secret, b"Content-Encoding: aes128gcm\0", 16)).decrypt(
            _extract_expand(salt, secret, b"Content-Encoding: nonce\0", 12), sealed, None
        )
        assert opened.rstrip(b"\0")[-1:] == b"\x02", "the last record"
        return opened.rstrip(b"\0")[:-1]


def claims_of(authorization: str) -> tuple[dict[str, Any], str]:
    """What a VAPID header says, verified by the key in it; and that key."""
    scheme, _, rest = authorization.partition(" ")
    assert scheme == "vapid"
    parts = dict(each.strip().split("=", 1) for each in rest.split(","))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decode(parts["k"]))
    claims: dict[str, Any] = jwt.decode(parts["t"], key, ["ES256"], options={"verify_aud": False})
    return claims, parts["k"]


def _extract_expand(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, for up to 32 bytes."""
    extracted = hmac.digest(salt, secret, sha256)
    return hmac.digest(extracted, info + b"\x01", sha256)[:length]
