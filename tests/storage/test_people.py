"""People as others see them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from storage.database import Database
from storage.people import _SQL, PeopleStore, Person, ProfileChange
from storage.users import UserStore
from tests.storage.talk import talk, user

pytestmark = pytest.mark.integration


@pytest.fixture
def people(database: Database) -> PeopleStore:
    return PeopleStore(database)


async def names(people: PeopleStore, query: str, limit: int = 20) -> list[str]:
    return [person.name for person in await people.find(query, limit)]


async def test_a_names_beginning_in_any_case(people: PeopleStore, database: Database) -> None:
    for name in ("Ada", "adam", "ADALBERT", "Bob", "Nada", ""):
        await user(database, name)
    assert await names(people, "ADA") == ["Ada", "ADALBERT", "adam"]
    assert await names(people, "adal") == ["ADALBERT"]
    assert await names(people, "ada", 2) == ["Ada", "ADALBERT"]
    assert await names(people, "zoe") == []


async def test_wildcards_are_letters_like_others(people: PeopleStore, database: Database) -> None:
    for name in ("100%", "100x", "a_b", "axb", "back\\slash", "'; drop table users; --"):
        await user(database, name)
    assert await names(people, "100%") == ["100%"]
    assert await names(people, "a_") == ["a_b"]
    assert await names(people, "back\\") == ["back\\slash"]
    assert await names(people, "%") == []
    assert await names(people, "'; drop") == ["'; drop table users; --"]


async def test_the_whole_address_and_nothing_less(people: PeopleStore, database: Database) -> None:
    users = UserStore(database)
    ada = await users.create("ada@example.org", "hash", name="Ada")
    twin = await users.create("twin@example.org", "hash", name="ada@example.org, or so it says")
    assert await people.find("Ada@Example.ORG", 20) == [Person(ada.id, "Ada"), Person(twin.id, twin.name)]
    assert await people.find("ada@example", 20) == [Person(twin.id, twin.name)]
    assert await people.find("ada@example.org", 1) == [Person(ada.id, "Ada")]


async def test_whoever_is_disabled_is_not_found(people: PeopleStore, database: Database) -> None:
    users = UserStore(database)
    ada = await users.create("ada@example.org", "hash", name="Ada")
    await users.disable(ada.id)
    assert await people.find("ada", 20) == await people.find("ada@example.org", 20) == []


async def test_names_are_found_by_the_index(people: PeopleStore, database: Database) -> None:
    await database.execute(
        "insert into users (email, password_hash, name, role) "
        "select n || '@example.org', '', md5(n::text), 'student' from generate_series(1, 20000) n"
    )
    await database.execute("analyze users")
    for _ in range(10):  # beyond the fifth, the statement has a plan for any query
        assert len(await people.find("ab", 20)) == 20
    scans = "select sum(seq_scan)::integer from pg_stat_xact_user_tables where relname = 'users'"
    async with database.transaction() as connection:
        await connection.fetch(_SQL["find"], "ab%", "ab", 20)
        assert await connection.fetchval(scans) == 0


async def test_a_new_name(people: PeopleStore, database: Database) -> None:
    user_id = await user(database, "Ada")
    renamed = await people.update(user_id, ProfileChange(name="Ada Lovelace"))
    assert renamed is not None
    assert (renamed.id, renamed.name) == (user_id, "Ada Lovelace")
    assert await names(people, "ada l") == ["Ada Lovelace"]
    assert await people.update(uuid4(), ProfileChange(name="Nobody")) is None


async def test_whom_one_knows(people: PeopleStore, database: Database) -> None:
    one, other = await talk(database, 2), await talk(database, 2)
    ada, bob = one.user_ids
    await other.join(ada)
    stranger = await user(database)
    asked = [ada, bob, *other.user_ids, stranger, uuid4()]
    assert await people.known_to(ada, asked) == dict.fromkeys([ada, bob, *other.user_ids])
    assert set(await people.known_to(bob, asked)) == {ada, bob}
    assert set(await people.known_to(stranger, asked)) == {stranger}, "oneself, in no room at all"
    assert await people.known_to(ada, []) == {}


async def test_last_seen_goes_forward(people: PeopleStore, database: Database) -> None:
    ada, bob = (await talk(database, 2)).user_ids
    now = datetime.now(UTC)
    await people.seen({ada: now, uuid4(): now})
    await people.seen({ada: now - timedelta(hours=1), bob: now})
    assert await people.known_to(ada, [ada, bob]) == {ada: now, bob: now}
    await people.seen({})


async def test_nodes_that_note_the_same_people_do_not_hinder_each_other(
    people: PeopleStore, database: Database
) -> None:
    users: list[UUID] = [await user(database) for _ in range(50)]
    begun = datetime.now(UTC)

    async def node(step: int) -> None:
        for second in range(10):
            await people.seen({user_id: begun + timedelta(seconds=second) for user_id in users[::step]})

    await asyncio.gather(*(node(step) for step in (1, -1, 1, -1)))
    seen = await database.fetch("select distinct last_seen_at from users")
    assert [row["last_seen_at"] for row in seen] == [begun + timedelta(seconds=9)]
