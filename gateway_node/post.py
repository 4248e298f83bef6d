"""What leaves the server for people who are not looking: mail and web push, and the links that mails carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway_node.passwords import Passwords
from gateway_node.services.deliveries import Carrier, Deliveries
from gateway_node.services.mail import Letters, Mail
from gateway_node.services.recovery import Recovery, RecoveryTokens
from gateway_node.services.shifts import Shifts
from gateway_node.services.subscriptions import Subscriptions
from gateway_node.services.webpush import VapidKey, WebPush
from storage.deliveries import DeliveryStore, Way
from storage.sessions import SessionStore
from storage.users import UserStore

if TYPE_CHECKING:
    from config.sections import Settings


@dataclass(frozen=True, slots=True)
class Post:
    """Its services, made once a node."""

    outbox: DeliveryStore
    deliveries: Deliveries
    recovery: Recovery
    subscriptions: Subscriptions

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        outbox: DeliveryStore,
        users: UserStore,
        sessions: SessionStore,
        passwords: Passwords,
        shifts: Shifts,
        ended: Callable[[str, str], None],
    ) -> Post:
        """`ended(user, session)` is called for each login that ends."""
        assert settings.token.hmac_secret, "made on the first start when not given"
        public_url = settings.http.public_url or f"http://{settings.http.host}:{settings.http.port}"
        tokens = RecoveryTokens(settings.token.hmac_secret)
        carriers: dict[Way, Carrier] = {}
        if settings.mail.url is not None:
            letters = Letters(settings.mail.sender, public_url, tokens, settings.mail.templates)
            carriers["mail"] = Mail(settings.mail, letters)
        vapid: VapidKey | None = None
        if settings.push.contact is not None:
            assert settings.push.private_key, "made on the first start when not given"
            vapid = VapidKey(settings.push.private_key, settings.push.contact)
            carriers["push"] = WebPush(vapid, public_url)
        deliveries = Deliveries(
            outbox, carriers, shifts, retry_after=settings.mail.retry_after, works="worker" in settings.roles
        )
        return cls(
            outbox,
            deliveries,
            Recovery(users, sessions, passwords, tokens=tokens, deliveries=deliveries, ended=ended),
            Subscriptions(outbox, vapid.public if vapid else None, settings.push.services),
        )

    async def start(self) -> None:
        """Begin the background work."""
        await self.deliveries.start()

    async def stop(self) -> None:
        """What is under way is taken again by another worker."""
        await self.deliveries.stop()
