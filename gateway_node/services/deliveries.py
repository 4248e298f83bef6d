"""What leaves the server for people who are not looking: mail and web push, from an outbox in PostgreSQL.

At least once: whoever takes a delivery is given a while, then another worker takes it again, so nothing is lost when a
worker dies and little is sent twice. A mail has the same Message-ID each time, by which mail servers and readers know
it again; a push has the same `id`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

import structlog

from gateway_node.services.shifts import Shifts
from gateway_node.services.stores import asked
from storage.deliveries import Delivery, DeliveryStore, Outbox, Way

PERIOD = 1.0  # s between two looks of all nodes for what is to be sent
TRIM_PERIOD = 3600.0  # s
BATCH = 20
MAX_FAILURES = 100  # that are shown

_log = structlog.get_logger(__name__)


class Undeliverable(Exception):
    """Whoever is to have it does not take it, now or later."""


class Delayed(Exception):
    """It cannot be sent now. `retry_after`: the seconds that were asked for, 0 where nothing was said."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Away(Delayed):
    """None can be sent now."""


class Gone(Undeliverable):
    """The browser takes pushes no more."""


Send = Callable[[Delivery], Awaitable[None]]
"""Raises `Undeliverable`, `Delayed`, `Away`."""


class Carrier(Protocol):
    def round(self) -> AbstractAsyncContextManager[Send]:
        """Some deliveries, one after the other. Raises `Away`."""


class Deliveries:
    """`retry_after`: seconds until what was taken and not answered for is taken again. `works`: whether this process
    sends."""

    def __init__(
        self,
        store: DeliveryStore,
        carriers: Mapping[Way, Carrier],
        shifts: Shifts,
        *,
        retry_after: float,
        works: bool,
    ) -> None:
        self._store = store
        self._carriers = carriers
        self._shifts = shifts
        self._retry_after = retry_after
        self._works = works

    @property
    def ways(self) -> Sequence[Way]:
        """Those that are set up."""
        return tuple(self._carriers)

    async def letter(self, user_id: UUID, kind: str) -> None:
        """A letter about the account itself."""
        await asked(self._store.letter(user_id, kind))

    async def outbox(self) -> Outbox:
        """How much waits, and what went wrong last."""
        return await asked(self._store.outbox(MAX_FAILURES))

    async def start(self) -> None:
        if self._works and self._carriers:
            self._shifts.every(PERIOD, self.work)
            self._shifts.every(TRIM_PERIOD, self._store.trim)

    async def stop(self) -> None:
        await self._shifts.stop()

    async def work(self) -> None:
        """Send what is due. Raises `DatabaseUnavailable`."""
        if not await self._store.any_due(self.ways):
            return
        for way, carrier in self._carriers.items():
            while taken := await self._store.take(way, BATCH, self._retry_after):
                await self._carry(carrier, taken)

    async def _carry(self, carrier: Carrier, taken: Sequence[Delivery]) -> None:
        open_ones = list(taken)
        try:
            async with carrier.round() as send:
                while open_ones:
                    await self._send(send, open_ones[0])
                    del open_ones[0]
        except Away as away:  # what is left of the round waits
            _log.warning("delivery.away", reason=str(away), waiting=len(open_ones))
            for delivery in open_ones:
                await self._store.delayed(delivery.id, str(away), away.retry_after)

    async def _send(self, send: Send, delivery: Delivery) -> None:
        if delivery.ended:
            await self._store.failed(delivery.id, "the account or its login has ended")
            return
        try:
            await send(delivery)
        except Gone:
            assert delivery.subscription_id is not None, "a push has one"
            await self._store.gone(delivery.subscription_id)
        except Undeliverable as error:
            _log.info("delivery.failed", id=str(delivery.id), kind=delivery.kind, reason=str(error))
            await self._store.failed(delivery.id, str(error))
        except Away:
            raise
        except Delayed as delayed:
            await self._store.delayed(delivery.id, str(delayed), delayed.retry_after)
        except Exception as error:  # a fault in this one, or in its template: the others go on
            _log.exception("delivery.broken", id=str(delivery.id), kind=delivery.kind)
            await self._store.delayed(delivery.id, f"{type(error).__name__}: {error}", 0.0)
        else:
            await self._store.sent(delivery.id)
