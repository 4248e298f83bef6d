"""Mail and web push that is to be sent: an outbox, and who wants what by which way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("deliveries")

Way = Literal["mail", "push"]


class Subscription(Struct, frozen=True):
    """A browser that takes pushes."""

    id: UUID
    endpoint: str
    created_at: datetime


class Delivery(Struct, frozen=True, kw_only=True):
    """What is to be sent, with what is known of whom it is for. `endpoint` and its keys: of a push.
    `ended`: the account, or the login that the browser had."""

    id: UUID
    user_id: UUID
    kind: str
    course_id: UUID | None
    data: dict[str, Any]
    created_at: datetime
    attempts: int
    email: str
    name: str
    password_hash: str
    course: str | None
    subscription_id: UUID | None
    endpoint: str | None
    p256dh: bytes | None
    auth: bytes | None
    ended: bool | None


class Failure(Struct, frozen=True):
    """What could not be sent: for good, where `failed_at` is set."""

    id: UUID
    way: str
    user_id: UUID
    kind: str
    created_at: datetime
    attempts: int
    failed_at: datetime | None
    error: str


class Outbox(Struct, frozen=True):
    """`waiting`: 10,000 at most are counted."""

    waiting: int
    oldest: datetime | None
    failures: Sequence[Failure]


class Wanted(Struct, frozen=True):
    """Whether a kind is told by mail and by push."""

    kind: str
    mail: bool
    push: bool


class DeliveryStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- the outbox --------------------------------------------------------------------------------------------

    async def letter(self, user_id: UUID, kind: str) -> None:
        """A letter about the account itself; one a minute of each kind."""
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["turn"], user_id, kind)
            await connection.execute(_SQL["letter"], user_id, kind)

    async def any_due(self, ways: Sequence[Way]) -> bool:
        """Whether there is anything to send. Writes and locks nothing: every node asks again and again."""
        return bool(await self._database.fetchval(_SQL["any_due"], list(ways)))

    async def take(self, way: Way, most: int, retry_after: float) -> list[Delivery]:
        """The next ones. They are given again after `retry_after` seconds, twice as many with each attempt and an hour
        at most, unless it is said what became of them."""
        rows = await self._database.fetch(_SQL["take"], way, most, retry_after)
        return [
            Delivery(**{name: row[name] for name in Delivery.__struct_fields__ if name != "data"}, data=_data(row))
            for row in rows
        ]

    async def sent(self, id: UUID) -> None:
        await self._database.execute(_SQL["sent"], id)

    async def failed(self, id: UUID, error: str) -> None:
        """For good."""
        await self._database.execute(_SQL["failed"], id, error)

    async def delayed(self, id: UUID, error: str, seconds: float) -> None:
        """Not now; not before `seconds` from now either."""
        await self._database.execute(_SQL["delayed"], id, error, seconds)

    async def trim(self) -> None:
        """Forget what was done a week ago."""
        await self._database.execute(_SQL["trim"])

    async def outbox(self, most: int) -> Outbox:
        """How much waits, and what went wrong last."""
        row = await self._database.fetchrow(_SQL["waiting"])
        assert row is not None, "count gives a row"
        failures = [Failure(*each) for each in await self._database.fetch(_SQL["failures"], most)]
        return Outbox(row["waiting"], row["oldest"], failures)

    # --- who wants what ----------------------------------------------------------------------------------------

    async def ways(self, user_id: UUID) -> list[Wanted]:
        return [Wanted(*row) for row in await self._database.fetch(_SQL["ways"], user_id)]

    async def set_ways(self, user_id: UUID, mail: Sequence[str] | None, push: Sequence[str] | None) -> None:
        """The kinds that are told by mail and by push; `None`: as before."""
        await self._database.execute(_SQL["set_ways"], user_id, mail, push)

    async def subscribe(
        self, user_id: UUID, session_id: UUID | None, endpoint: str, p256dh: bytes, auth: bytes
    ) -> Subscription:
        row = await self._database.fetchrow(_SQL["subscribe"], user_id, session_id, endpoint, p256dh, auth)
        assert row is not None, "insert returning gives the row"
        return Subscription(*row)

    async def count_subscriptions(self, user_id: UUID) -> int:
        return int(await self._database.fetchval(_SQL["count_subscriptions"], user_id))

    async def subscriptions(self, user_id: UUID) -> list[Subscription]:
        return [Subscription(*row) for row in await self._database.fetch(_SQL["subscriptions"], user_id)]

    async def unsubscribe(self, user_id: UUID, id: UUID) -> bool:
        return await self._database.execute(_SQL["unsubscribe"], user_id, id) != "DELETE 0"

    async def gone(self, subscription_id: UUID) -> None:
        """The browser takes pushes no more. What waits for it goes with it."""
        await self._database.execute(_SQL["gone"], subscription_id)


async def deliver(connection: Connection, notifications: Sequence[UUID], ways: Sequence[Way]) -> None:
    """Write down what is to be sent of some notifications, in the transaction in which they are told."""
    await connection.execute(_SQL["deliver"], list(notifications), "mail" in ways, "push" in ways)


def _data(row: Any) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(row["data"])
    return data
