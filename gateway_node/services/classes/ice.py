"""How browsers find each other: STUN and TURN servers, with credentials that end.

The credentials are those of coturn's REST scheme (draft-uberti-behave-turn-rest-00): the name is `<expiry>:<user>`, the
password its HMAC-SHA1 under a secret that the TURN server has, too. So a TURN server asks nobody, and whoever has left
a class cannot relay for longer than a few hours.
"""

from __future__ import annotations

import hmac
import time
from base64 import b64encode
from collections.abc import Callable, Sequence

from msgspec import Struct


class IceServer(Struct, frozen=True, omit_defaults=True):
    """As `RTCPeerConnection` takes it."""

    urls: list[str]
    username: str = ""
    credential: str = ""


class IceServers(Struct, frozen=True):
    servers: list[IceServer]


class Ice:
    """`ttl`: seconds that credentials are valid."""

    def __init__(self, urls: Sequence[str], secret: str, ttl: int, clock: Callable[[], float] = time.time) -> None:
        self._urls = urls
        self._secret = secret
        self._ttl = ttl
        self._clock = clock

    def for_user(self, user: str) -> IceServers:
        servers = []
        for url in self._urls:
            if url.startswith("stun") or not self._secret:
                servers.append(IceServer([url]))
                continue
            username = f"{int(self._clock()) + self._ttl}:{user}"
            digest = hmac.digest(self._secret.encode(), username.encode(), "sha1")
            servers.append(IceServer([url], username, b64encode(digest).decode()))
        return IceServers(servers)


NO_ICE = Ice((), "", 3600)
