"""Search: what a query is taken for, and how its time grows."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from storage.database import Database
from storage.search import Place, SearchStore

pytestmark = pytest.mark.integration

if TYPE_CHECKING:
    from storage.database import Connection


async def populate(connection: Connection, rooms: int, messages: int) -> tuple[UUID, list[UUID]]:
    """A user in so many rooms with so many messages, taking turns, one each second; and as many of other people."""
    user, ids = uuid4(), [uuid4() for _ in range(2 * rooms)]
    await connection.execute("insert into users (id, email, password_hash, role) values ($1, 'a', '', 'user')", user)
    await connection.executemany("insert into rooms (id, kind) values ($1, 'group')", [(id,) for id in ids])
    await connection.executemany(
        "insert into room_members (room_id, user_id, role) values ($1, $2, 'member')",
        [(id, user) for id in ids[:rooms]],
    )
    await connection.executemany("insert into channels (name) values ($1)", [(f"room:{id}",) for id in ids])
    await connection.execute(
        """
        insert into messages (channel_id, "offset", count_no, id, sender_id, type, data, created_at, search)
        select c.id, n, n, gen_random_uuid(), '', 'text', '{}',
               'epoch'::timestamptz + make_interval(secs => n * $1 + c.id),
               to_tsvector('simple', 'all w' || n % 10 || ' x' || n % 1000 || ' y' || n)
        from channels c, generate_series(1, $2) n
        """,
        len(ids),
        messages,
    )
    await connection.execute("analyze")
    return user, ids[:rooms]


@pytest.mark.parametrize("query", ["all", "w3", "x77", "y12", "al", "y1", "all w3", "x3 y1", "nothing"])
@pytest.mark.parametrize("where", ["one room", "all rooms"])
async def test_pages_are_the_whole_in_order(connection: Connection, database: Database, query: str, where: str) -> None:
    user, rooms = await populate(connection, 5, 120)
    store = SearchStore(database)
    room_id = rooms[2] if where == "one room" else None
    whole = [hit.place for hit in await store.find(user, query, room_id=room_id, limit=100_000)]
    assert whole == sorted(whole, reverse=True)
    names = [f"room:{id}" for id in ([room_id] if room_id else rooms)]
    channels = {row[0] for row in await connection.fetch("select id from channels where name = any ($1)", names)}
    assert {place.channel for place in whole} <= channels
    pages: list[Place] = []
    while True:
        since = pages[-1] if pages else None
        page = await store.find(user, query, room_id=room_id, since=since, limit=37)
        pages += [hit.place for hit in page]
        if len(page) < 37:
            break
    assert pages == whole
    words = query.split()
    expected = await connection.fetchval(
        "select count(*) from messages where channel_id = any ($1) and search @@ to_tsquery('simple', $2)",
        list(channels), " & ".join(words) + (":*" if len(words[-1]) > 2 else ""),
    )  # fmt: skip
    assert len(whole) == expected


async def test_no_query_fails(database: Database) -> None:
    chance = random.Random(7)
    store = SearchStore(database)
    parts = [
        "-",
        '"',
        " ",
        "a",
        "or",
        "ab",
        "'",
        "\\",
        ":*",
        "&",
        "|",
        "!",
        "(",
        ")",
        "<->",
        "\0",
        "é",
        "👍",
        "http://x/y",
    ]
    for _ in range(300):
        query = "".join(chance.choices(parts, k=chance.randrange(200)))
        for word in ("", " pizza"):
            assert await store.find(uuid4(), query + word, limit=10) == []
            await database.fetchval("select search_query($1, true)", (query + word).replace("\0", " "))


async def test_a_rare_word_is_found_without_reading_the_log(connection: Connection, database: Database) -> None:
    """Of 40,000 messages, in twenty rooms, what has the word is read, and not all the others."""
    user, rooms = await populate(connection, 20, 1_000)
    store = SearchStore(database)

    async def read() -> int:
        await database.execute("select pg_stat_force_next_flush()")
        await connection.execute("select pg_stat_clear_snapshot()")
        return int(
            await connection.fetchval(
                "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'messages'"
            )
        )

    for query, room_id, most in (("x77", None, 20 * 40), ("all", rooms[0], 200), ("x77", rooms[0], 1_100)):
        before = await read()
        hits = await store.find(user, query, room_id=room_id, limit=20)
        assert hits
        assert await read() - before <= most, query
