"""When somebody was last seen, while PostgreSQL comes and goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from gateway_node.services import people as module
from gateway_node.services.people import People
from presence import Pipe
from realtime.interfaces import Identity
from storage.database import Database
from storage.people import PeopleStore
from tests.presence.nodes import until
from tests.storage.talk import talk

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def pipe(redis_url: str) -> AsyncIterator[Pipe]:
    pipe = Pipe(redis_url)
    yield pipe
    await pipe.close()


async def test_it_is_noted_by_itself_and_at_a_stop(
    database: Database, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEEN_PERIOD", 0.05)
    ann, ben = (await talk(database, 2)).user_ids
    store = PeopleStore(database)
    people = People(store, pipe)
    await people.start()
    before = datetime.now(UTC)
    people.went_offline(str(ann))
    people.went_offline("somebody of another issuer")

    async def noted() -> bool:
        return (await store.known_to(ann, [ann]))[ann] is not None

    await until(noted)
    people.went_offline(str(ben))
    await people.stop()
    seen = await store.known_to(ann, [ann, ben])
    assert all(moment is not None and before <= moment <= datetime.now(UTC) for moment in seen.values())


async def test_what_postgresql_did_not_take_is_noted_later(
    database: Database, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNNOTED", 2)
    ann, ben, cy = (await talk(database, 3)).user_ids
    store, away = PeopleStore(database), PeopleStore(Database("postgresql://nobody@127.0.0.1:1/none"))
    people = People(away, pipe)
    people.went_offline(str(ann))
    await people.stop()
    people.went_offline(str(ben))
    again = datetime.now(UTC)
    people.went_offline(str(ann))
    people.went_offline(str(cy))
    monkeypatch.setattr(people, "_store", store)
    await people.stop()
    seen = await store.known_to(ann, [ann, ben, cy])
    assert seen[cy] is None, "memory has an end"
    assert seen[ben] is not None
    assert (seen[ann] or again) > again, "the later time counts"


async def test_without_redis_nobody_knows_who_is_online(database: Database) -> None:
    room = await talk(database, 2)
    pipe = Pipe("redis://127.0.0.1:1")
    people = People(PeopleStore(database), pipe)
    answer = await people.status(Identity(room.users[0]), room.user_ids)
    assert {user: status.online for user, status in answer.items()} == dict.fromkeys(room.users)
    await pipe.close()
