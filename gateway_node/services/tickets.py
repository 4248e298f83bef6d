"""Tickets: addresses that stand for somebody's right to one file, for a while, where no header can be sent.

A ticket says whose right it is, and the right is asked for again at each use: whoever is removed from the room has no
more of it. Its key is derived from the token secret, so that it is no token and no token is a ticket.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable
from uuid import UUID

_FORM = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9a-f]{64})")


class BadTicket(Exception):
    """It is over, or none, or another file's."""


class Tickets:
    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(secret.encode(), b"chalkwire: tickets of files", "sha256")
        self._clock = clock

    def issue(self, file_id: UUID, user_id: UUID, ttl: float) -> tuple[str, int]:
        """A ticket good for `ttl` seconds, and when it is over (Unix seconds)."""
        expires = int(self._clock() + ttl)
        return f"{user_id.hex}.{expires}.{self._signature(file_id, user_id, expires)}", expires

    def bearer(self, ticket: str, file_id: UUID) -> UUID:
        """In whose name a ticket asks for this file. Raises: `BadTicket`."""
        match = _FORM.fullmatch(ticket)
        if match is None:
            raise BadTicket
        user_id, expires = UUID(match[1]), int(match[2])
        if not hmac.compare_digest(match[3], self._signature(file_id, user_id, expires)) or expires <= self._clock():
            raise BadTicket
        return user_id

    def _signature(self, file_id: UUID, user_id: UUID, expires: int) -> str:
        return hmac.digest(self._key, f"{file_id.hex}.{user_id.hex}.{expires}".encode(), "sha256").hex()
