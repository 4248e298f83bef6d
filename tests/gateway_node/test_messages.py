"""What messages cost: the same number of statements, however many are in the room."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway_node.services.messages import Messages
from gateway_node.services.references import RoomReferences
from realtime import codes
from realtime.hub import Hub
from realtime.interfaces import Entry, Identity
from realtime.messages import SentMessage
from realtime.publisher import Publisher
from storage.database import Database
from storage.log import PostgresLog, lane
from storage.log.append import append_batch
from storage.log.wire import Outcome
from storage.log.writer import LogWriter
from storage.messages import ChangedMeanwhile, MessageStore, Row
from tests.realtime.memory import MemoryNetwork, MemoryPresence
from tests.stack import short_folder
from tests.storage.conftest import serving

pytestmark = pytest.mark.integration


class CountingDatabase(Database):
    """Notes every statement."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.statements: list[str] = []

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with super().acquire() as connection:
            with connection.query_logger(lambda query: self.note(query.query)):
                yield connection

    def note(self, statement: str) -> None:
        if not re.search("pg_catalog|set_config", statement):  # a new connection asks about types
            self.statements.append(statement)

    async def cost(self, act: Awaitable[object]) -> int:
        self.statements.clear()
        await act
        return len(self.statements)


class Chat:
    def __init__(self, database: CountingDatabase, messages: Messages) -> None:
        self.database = database
        self.messages = messages

    async def room(self, size: int) -> tuple[UUID, list[Identity]]:
        """A group of so many, and who is in it."""
        room: UUID = await self.database.fetchval("insert into rooms (kind, title) values ('group', '') returning id")
        members = await self.database.fetch(
            "with people as (insert into users (email, password_hash, role)"
            " select $1 || n, '', 'student' from generate_series(1, $2) n returning id)"
            " insert into room_members (room_id, user_id, role) select $3, id, 'member' from people returning user_id",
            f"{uuid4()}@", size, room,
        )  # fmt: skip
        return room, [Identity(str(row["user_id"])) for row in members]


@pytest.fixture
async def chat(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chat]:
    database = CountingDatabase(database_url)

    async def append(connection: Any, entries: Sequence[Entry], timeout: float | None = None) -> list[Outcome]:
        with connection.query_logger(lambda query: database.note(query.query)):
            return await append_batch(connection, entries, timeout)

    monkeypatch.setattr(lane, "append_batch", append)
    with short_folder() as folder:
        writer = LogWriter(database_url, folder / "log.sock")
        async with serving(writer):
            log = PostgresLog(database, folder / "log.sock", lambda heads: None)
            await log.start()
            broker = MemoryNetwork().broker()
            store = MessageStore(database)
            publisher = Publisher(
                Hub(log=log, broker=broker, presence=MemoryPresence()), log, broker, RoomReferences(store, 60.0)
            )
            yield Chat(database, Messages(store, None, publisher))  # type: ignore[arg-type] # no direct rooms here
            await log.close()
    await database.close()


async def costs(chat: Chat, size: int) -> dict[str, int]:
    room, members = await chat.room(size)
    ann, ben = members[0], members[-1]
    messages, cost = chat.messages, chat.database.cost
    first, second = SentMessage(uuid4(), "hi"), SentMessage(uuid4(), "ho", mentions=[UUID(ben.user)])
    second.reply_to = first.id
    return {
        "plain": await cost(messages.send(ann, room, first)),
        "named": await cost(messages.send(ann, room, second)),
        "list": await cost(messages.page(ben, room)),
        "get": await cost(messages.get(ben, room, first.id)),
        "edit": await cost(messages.edit(ann, room, first.id, "hello")),
        "delete": await cost(messages.delete(ann, room, first.id)),
        "delete again": await cost(messages.delete(ann, room, first.id)),
    }


async def test_a_message_costs_as_much_in_a_room_of_two_as_in_one_of_500(chat: Chat) -> None:
    """One statement asks who sends, one what the message names, and one is the log writer's."""
    expected = {"plain": 2, "named": 3, "list": 2, "get": 1, "edit": 2, "delete": 2, "delete again": 1}
    assert await costs(chat, 2) == expected
    assert await costs(chat, 500) == expected


async def test_who_is_always_slower_than_others_is_told_so(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    room, (ann,) = await chat.room(1)
    sent = SentMessage(uuid4(), "hi")
    await chat.messages.send(ann, room, sent)
    attempts = 0

    async def change(standing: object, row: Row) -> None:
        nonlocal attempts
        attempts += 1
        raise ChangedMeanwhile

    with pytest.raises(codes.CONFLICT):
        await chat.messages.changing(ann, room, sent.id, change)
    assert attempts == 8


async def test_a_hundred_edits_at_once_are_done_or_refused(chat: Chat) -> None:
    room, (ann,) = await chat.room(1)
    sent = SentMessage(uuid4(), "hi")
    await chat.messages.send(ann, room, sent)
    edits = [chat.messages.edit(ann, room, sent.id, os.urandom(4).hex()) for _ in range(100)]
    outcomes = await asyncio.gather(*edits, return_exceptions=True)
    done = [each for each in outcomes if isinstance(each, Row)]
    assert all(isinstance(each, Row | codes.CONFLICT) for each in outcomes)
    events = await chat.database.fetchval("select count(*) from messages where target is not null")
    assert len(done) == events > 0
    last = (await chat.messages.get(ann, room, sent.id)).message.content
    assert last in {each.message.content for each in done}
