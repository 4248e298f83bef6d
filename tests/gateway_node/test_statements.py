"""What a connect costs PostgreSQL: a few statements, however many rooms and however many come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway_node.authoriser import ChannelAuthoriser
from gateway_node.tokens import TokenVerifier, mint_connection
from storage.database import Database
from storage.log.reader import LogReader
from storage.standing import StandingStore
from storage.users import UserStore
from tests.realtime.harness import NAMESPACES, Cluster, Node

pytestmark = pytest.mark.integration

SECRET = "a secret of more than thirty-two bytes"
ROOMS = 100


class CountingDatabase(Database):
    """Counts statements, by what they begin with."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statements: list[str] = []

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        self.statements.append(query)
        return await super().fetch(query, *args)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[CountingDatabase]:
    database = CountingDatabase(database_url)
    yield database
    await database.close()


@pytest.fixture
async def user(database: CountingDatabase) -> UUID:
    """A member of 100 rooms."""
    user_id = (await UserStore(database).create("ada@example.org", "hash")).id
    await database.execute("insert into rooms (kind) select 'group' from generate_series(1, $1)", ROOMS)
    await database.execute(
        "insert into room_members (room_id, user_id, role) select id, $1, 'member' from rooms", user_id
    )
    return user_id


@pytest.fixture
async def node(database: CountingDatabase) -> Node:
    """A node of the core over the stores that answer a connect."""
    node = Cluster(1).nodes[0]
    node.core.authoriser = ChannelAuthoriser(NAMESPACES, TokenVerifier(SECRET), StandingStore(database))
    node.hub.log = node.core.log = LogReader(database)  # type: ignore[assignment]
    return node


async def test_a_connect_with_a_hundred_rooms_takes_three_statements(
    node: Node, database: CountingDatabase, user: UUID
) -> None:
    """Who they are with their rooms, the heads, and whether they are members still."""
    database.statements.clear()
    reply = await node.client().ask(connect={"token": mint_connection(SECRET, str(user), ttl=60)})
    assert len(reply["connect"]["subs"]) == 1 + ROOMS
    assert len(database.statements) == 3


async def test_those_who_connect_at_once_share_the_statements(
    node: Node, database: CountingDatabase, user: UUID
) -> None:
    database.statements.clear()
    token = mint_connection(SECRET, str(user), ttl=60)
    clients = [node.client() for _ in range(30)]
    replies = await asyncio.gather(*(client.ask(connect={"token": token}) for client in clients))
    assert all(len(reply["connect"]["subs"]) == 1 + ROOMS for reply in replies)
    assert len(database.statements) <= 10


async def test_a_request_over_http_asks_for_no_rooms(node: Node, database: CountingDatabase, user: UUID) -> None:
    database.statements.clear()
    token = mint_connection(SECRET, str(user), ttl=60)
    await asyncio.gather(*(node.core.authoriser.connect(token) for _ in range(30)))
    assert len(database.statements) == 1
