"""Browsers that pushes are sent to.

Every method raises `CommandError`: 1003 where no pushes are sent, 107 with a pointer for what is no browser of a known
push service, 106 above `MAX_BROWSERS`, 1002 for what is not there, 100 while PostgreSQL is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from gateway_node.services import webpush
from gateway_node.services.stores import asked
from realtime import codes
from storage.deliveries import DeliveryStore, Subscription

MAX_BROWSERS = 20  # of one person


class Subscriptions:
    """`public_key`: of the server, `None` where no pushes are sent. `services`: see `webpush.allowed`."""

    def __init__(self, store: DeliveryStore, public_key: str | None, services: Sequence[str]) -> None:
        self._store = store
        self._public_key = public_key
        self._services = services

    def public_key(self) -> str:
        if self._public_key is None:
            raise codes.CONFLICT.saying("this server sends no pushes")
        return self._public_key

    async def add(self, user_id: UUID, session: str, endpoint: str, p256dh: str, auth: str) -> Subscription:
        """A browser, of the login that asks."""
        self.public_key()
        if not webpush.allowed(endpoint, self._services):
            raise codes.BAD_REQUEST.at("/endpoint", "this is no address of a push service that the server knows")
        try:
            key, secret = webpush.unbase64(p256dh), webpush.unbase64(auth)
        except ValueError:
            raise codes.BAD_REQUEST.at("/keys", "base64url is wanted") from None
        if not webpush.is_public_key(key) or len(secret) != 16:
            raise codes.BAD_REQUEST.at("/keys", "a point of P-256 and a secret of 16 bytes are wanted")
        if await asked(self._store.count_subscriptions(user_id)) >= MAX_BROWSERS:
            raise codes.LIMIT_EXCEEDED.saying(f"pushes go to {MAX_BROWSERS} browsers of one person at most")
        return await asked(self._store.subscribe(user_id, UUID(session) if session else None, endpoint, key, secret))

    async def list(self, user_id: UUID) -> list[Subscription]:
        return await asked(self._store.subscriptions(user_id))

    async def remove(self, user_id: UUID, id: UUID) -> None:
        if not await asked(self._store.unsubscribe(user_id, id)):
            raise codes.NOT_FOUND.saying("there is no such subscription")
