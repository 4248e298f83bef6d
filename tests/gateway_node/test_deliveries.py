"""What one delivery does to the others of its round. The outbox is the real one; the carrier is a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway_node.services.deliveries import Away, Deliveries, Send
from gateway_node.services.shifts import Shifts
from storage.database import Database
from storage.deliveries import Delivery, DeliveryStore
from storage.users import UserStore

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=8)
    yield database
    await database.close()


class Carrier:
    """Fails as told, by address."""

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures
        self.sent: list[str] = []

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Send]:
        yield self._send

    async def _send(self, delivery: Delivery) -> None:
        who = delivery.email.partition("@")[0]
        if who in self.failures:
            raise self.failures[who]
        self.sent.append(who)


async def send(database: Database, carrier: Carrier) -> dict[str, str]:
    """A round of letters to three people, and what is noted of those that were not sent."""
    outbox, users = DeliveryStore(database), UserStore(database)
    for name in ("ann", "ben", "cid"):
        user = await users.create(f"{name}@example.org", "hash")
        await outbox.letter(user.id, "email.verification")
    await Deliveries(outbox, {"mail": carrier}, Shifts(), retry_after=60, works=True).work()
    rows = await database.fetch(
        "select u.email, d.error from deliveries d join users u on u.id = d.user_id where d.sent_at is null"
    )
    return {row["email"].partition("@")[0]: row["error"] for row in rows}


async def test_a_fault_in_one_holds_up_no_other(database: Database) -> None:
    carrier = Carrier(ben=KeyError("due_date"))
    assert await send(database, carrier) == {"ben": "KeyError: 'due_date'"}
    assert carrier.sent == ["ann", "cid"]
    # It is given up in time, as what nobody takes.
    await database.execute("update deliveries set created_at = now() - interval '3 days', next_at = now()")
    await Deliveries(DeliveryStore(database), {"mail": carrier}, Shifts(), retry_after=60, works=True).work()
    assert (await DeliveryStore(database).outbox(10)).waiting == 0


async def test_of_those_who_ask_at_once_one_gets_a_letter(database: Database) -> None:
    user, outbox = await UserStore(database).create("ann@example.org", "hash"), DeliveryStore(database)
    await asyncio.gather(*(outbox.letter(user.id, "password.reset") for _ in range(20)))
    assert (await outbox.outbox(10)).waiting == 1


async def test_where_the_way_is_shut_all_of_the_round_wait(database: Database) -> None:
    carrier = Carrier(ben=Away("the mail server has gone"))
    assert await send(database, carrier) == dict.fromkeys(("ben", "cid"), "the mail server has gone")
