"""An issuer of tokens as a real HTTP server: it serves its keys, changes them, and can be away.

with Issuer() as issuer:
    ...  # a server with the setting TOKEN__ISSUERS = json.dumps({"campus": issuer.settings()})
    token = issuer.token("jane", email="jane@campus.example", email_verified=True)
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

NAME = "https://login.campus.example"
AUDIENCE = "chalkwire"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KINDS: dict[str, tuple[Callable[[], PrivateKey], type[Any]]] = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class Issuer:
    """`answer`: what the next requests get instead of the keys (status and body), while it is set. `pause`: until it is
    set, nobody gets an answer."""

    def __init__(self, name: str = NAME) -> None:
        self.name = name
        self.keys: list[dict[str, Any]] = []
        self.requests = 0
        self.answer: tuple[int, bytes] | None = None
        self.pause = threading.Event()
        self.pause.set()
        self._private: dict[str, tuple[str, PrivateKey]] = {}
        self.add("first")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def settings(self, **more: Any) -> dict[str, Any]:
        """The table of `token.issuers`."""
        return {
            "issuer": self.name,
            "jwks_url": self.url,
            "audience": AUDIENCE,
            "algorithms": ["RS256", "ES256", "EdDSA"],
            **more,
        }

    def add(self, key_id: str, algorithm: str = "ES256", *, publish: bool = True, **fields: Any) -> None:
        """A new key, which signs from now on what names it."""
        make, kind = KINDS[algorithm]
        private = make()
        self._private[key_id] = algorithm, private
        public = kind.to_jwk(private.public_key(), as_dict=True)
        if publish:
            self.keys.append({**public, "kid": key_id, "use": "sig", **fields})

    def remove(self, key_id: str) -> None:
        self.keys = [each for each in self.keys if each["kid"] != key_id]

    def token(self, subject: str, *, by: str = "first", named: str | None = "", ttl: float = 600, **claims: Any) -> str:
        """`by`: the key that signs; `named`: the one that the header names (None: none). A claim that is None is left
        out."""
        algorithm, private = self._private[by]
        now = time.time()
        said = {"iss": self.name, "aud": AUDIENCE, "sub": subject, "iat": int(now), "exp": int(now + ttl), **claims}
        payload = {name: value for name, value in said.items() if value is not None}
        header = {} if named is None else {"kid": named or by}
        return jwt.encode(payload, private, algorithm, header)  # type: ignore[arg-type]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                issuer.pause.wait(10)
                status, body = issuer.answer or (200, json.dumps({"keys": issuer.keys}).encode())
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    if status in (301, 302):
                        self.send_header("Location", "/elsewhere")
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # nobody waits any more

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
