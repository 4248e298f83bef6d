"""Who may connect and what is theirs: right, and asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

import storage.batches
from storage.batches import Batches
from storage.database import Database, DatabaseUnavailable
from storage.sessions import SessionStore
from storage.standing import Membership, StandingStore
from storage.users import User, UserStore

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = pytest.mark.integration


class CountingDatabase(Database):
    """Counts statements."""

    statements = 0

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        self.statements += 1
        return await super().fetch(query, *args)


@pytest.fixture
async def ada(database: Database) -> User:
    return await UserStore(database).create("ada@example.org", "hash")


@pytest.fixture
async def standing(database: Database) -> StandingStore:
    return StandingStore(database)


async def make_room(connection: Connection, *users: UUID, since: int = 0, archived: bool = False, **more: Any) -> UUID:
    """A group, or with `direct_key` a direct room, with a line in it that is said now."""
    key = more.get("direct_key")
    room: UUID = await connection.fetchval(
        "insert into rooms (kind, direct_key, archived_at) values ($1, $2, case when $3 then now() end) returning id",
        "direct" if key else "group",
        key,
        archived,
    )
    for user in users:
        await connection.execute(
            "insert into room_members (room_id, user_id, role, joined_offset) values ($1, $2, 'member', $3)",
            room,
            user,
            since,
        )
    await talk(connection, f"room:{room}")
    return room


async def talk(connection: Connection, channel: str) -> None:
    await connection.execute(
        """with c as (
               insert into channels (name, last_offset, last_message) values ($1, 1, 1)
               on conflict (name) do update
               set last_offset = channels.last_offset + 1, last_message = channels.last_offset + 1
               returning id, last_offset
           )
           insert into messages (channel_id, "offset", count_no, counted, id, sender_id, type, data, created_at)
           select id, last_offset, last_offset, true, gen_random_uuid(), '', 'text', '{}', clock_timestamp() from c""",
        channel,
    )


async def test_who_may_connect(standing: StandingStore, ada: User, database: Database) -> None:
    sessions = SessionStore(database)
    session, _ = await sessions.open(ada.id, user_agent="", ttl=60)
    user, live = str(ada.id), str(session.id)

    async def answers() -> list[bool]:
        asked = [(user, live), (user, ""), (str(uuid4()), ""), ("another-issuer's", ""), ("", "")]
        return [(await standing.entrance(*each)).allowed for each in asked]

    assert await answers() == [True, True, True, True, True]
    for other, of in ((str(uuid4()), live), (user, str(uuid4())), (user, "x"), ("x", live)):
        assert not (await standing.entrance(other, of)).allowed
    await sessions.revoke(UUID(live))
    assert await answers() == [False, True, True, True, True]
    await UserStore(database).disable(ada.id)
    assert await answers() == [False, False, True, True, True]
    assert not (await standing.entrance(user.upper(), "")).allowed


async def test_rooms_are_listed_without_archived_ones_and_those_with_the_newest_talk_where_they_are_too_many(
    standing: StandingStore, ada: User, connection: Connection
) -> None:
    first, _, third = [await make_room(connection, ada.id) for _ in range(3)]
    await make_room(connection, ada.id, archived=True)
    await make_room(connection)
    await talk(connection, f"room:{first}")
    assert len(set((await standing.entrance(str(ada.id), "", 9)).rooms)) == 3
    assert len(set((await standing.entrance(str(ada.id), "", 3)).rooms)) == 3
    assert (await standing.entrance(str(ada.id), "", 2)).rooms == [first, third]
    assert (await standing.entrance(str(ada.id), "", 1)).rooms == [first]


async def test_the_personal_channel_s_offset_comes_with_the_rooms(
    standing: StandingStore, ada: User, connection: Connection
) -> None:
    assert (await standing.entrance(str(ada.id), "", 9)).heard == 0
    await talk(connection, f"user:{ada.id}")
    await talk(connection, f"user:{ada.id}")
    assert (await standing.entrance(str(ada.id), "", 9)).heard == 2


async def test_without_a_limit_no_rooms_are_listed(standing: StandingStore, ada: User, connection: Connection) -> None:
    await make_room(connection, ada.id)
    entrance = await standing.entrance(str(ada.id), "")
    assert (entrance.allowed, entrance.heard, entrance.rooms) == (True, None, ())


async def test_membership_tells_since_when_and_the_pair(
    standing: StandingStore, ada: User, connection: Connection, database: Database
) -> None:
    bob = await UserStore(database).create("bob@example.org", "hash")
    group = await make_room(connection, ada.id, since=41)
    pair = sorted((str(ada.id), str(bob.id)))
    direct = await make_room(connection, ada.id, bob.id, direct_key=":".join(pair))
    assert await standing.memberships(str(ada.id), [group]) == [Membership(41)]
    assert await standing.memberships(str(bob.id), [direct]) == [Membership(0, (pair[0], pair[1]))]
    assert await standing.memberships(str(bob.id), [group]) == [None]
    assert await standing.memberships(str(ada.id), [uuid4()]) == [None]


@pytest.mark.parametrize("spelling", [str.upper, lambda user: user.replace("-", ""), lambda user: f"{{{user}}}"])
async def test_another_spelling_of_an_id_is_no_member(
    standing: StandingStore, ada: User, connection: Connection, spelling: Any
) -> None:
    """A removal names the user as the database spells it, and would not find them."""
    room = await make_room(connection, ada.id)
    assert await standing.memberships(spelling(str(ada.id)), [room]) == [None]
    assert (await standing.entrance(spelling(str(ada.id)), "", 9)).rooms == ()


async def test_what_is_asked_in_one_turn_is_one_statement(ada: User, connection: Connection, database_url: str) -> None:
    database = CountingDatabase(database_url)
    standing = StandingStore(database)
    rooms = [await make_room(connection, ada.id) for _ in range(100)]
    try:
        answers = await asyncio.gather(*(standing.memberships(str(ada.id), [room]) for room in rooms))
        assert answers == [[Membership(0)]] * 100
        assert database.statements == 1
        entrances = await asyncio.gather(*(standing.entrance(str(uuid4()), "", 9) for _ in range(99)))
        assert all(each.allowed and not each.rooms for each in entrances)
        assert database.statements == 2
    finally:
        await database.close()


async def test_what_is_asked_meanwhile_waits_for_a_statement_of_its_own() -> None:
    """The answer is not older than the question (I7), and those who wait share the next one."""
    batches: list[Sequence[str]] = []
    going, gate = asyncio.Event(), asyncio.Event()

    async def answer(questions: Sequence[str]) -> Sequence[int]:
        batches.append(questions)
        going.set()
        await gate.wait()
        return [len(batches)] * len(questions)

    asked = Batches(answer)
    first = asyncio.create_task(asked.ask("a"))
    await going.wait()
    others = [asyncio.create_task(asked.ask(each)) for each in ("a", "b", "b")]
    await asyncio.sleep(0)
    gate.set()
    assert await first == 1
    assert await asyncio.gather(*others) == [2, 2, 2]
    assert batches == [["a"], ["a", "b"]]


async def test_a_failure_is_everybodys_own_and_the_next_question_is_asked_again() -> None:
    failures: list[Exception] = [DatabaseUnavailable("away"), RuntimeError("a fault")]

    async def answer(questions: Sequence[int]) -> Sequence[int]:
        if failures:
            raise failures.pop()
        return questions

    asked = Batches(answer)
    for _ in range(2):
        results = await asyncio.gather(asked.ask(1), asked.ask(2), return_exceptions=True)
        assert [type(each) for each in results] == [DatabaseUnavailable] * 2
        assert results[0] is not results[1]
    assert await asked.ask(1) == 1


async def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.batches, "TIMEOUT", 0.01)

    async def answer(questions: Sequence[str]) -> Sequence[str]:
        await asyncio.Event().wait()
        return questions

    with pytest.raises(DatabaseUnavailable):
        await Batches(answer).ask("a")


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    gate = asyncio.Event()

    async def answer(questions: Sequence[str]) -> Sequence[str]:
        await gate.wait()
        return questions

    asked = Batches(answer)
    impatient, patient = asyncio.create_task(asked.ask("a")), asyncio.create_task(asked.ask("a"))
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()
    assert await patient == "a"
