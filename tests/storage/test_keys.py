from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import asyncpg
import pytest

from storage.database import Database
from storage.keys import MAX_KEYS, ApiKey, KeyStore, TooManyKeys
from storage.users import User, UserStore

pytestmark = pytest.mark.integration


@pytest.fixture
def keys(database: Database) -> KeyStore:
    return KeyStore(database)


@pytest.fixture
async def ada(database: Database) -> User:
    return await UserStore(database).create("ada@example.org", "hash", name="Ada", role="teacher")


async def add(keys: KeyStore, owner: User, key: str, expires_at: datetime | None = None) -> ApiKey:
    made = await keys.add(owner.id, key, name=key, prefix=key[:3], scopes=["read"], expires_at=expires_at)
    assert made is not None
    return made


async def test_a_key_opens_until_it_is_revoked(keys: KeyStore, ada: User) -> None:
    made = await add(keys, ada, "cw_1")
    used = await keys.use("cw_1")
    assert used is not None
    assert (used.user_id, used.name, used.role, used.scopes) == (ada.id, "Ada", "teacher", {"read"})
    assert await keys.use("cw_2") is None
    assert not await keys.revoke(uuid4(), made.id), "somebody else's"
    assert await keys.revoke(ada.id, made.id)
    assert not await keys.revoke(ada.id, made.id)
    assert await keys.use("cw_1") is None
    assert await keys.list(ada.id) == []


async def test_a_key_ends_by_itself_and_with_its_owner(keys: KeyStore, database: Database, ada: User) -> None:
    await add(keys, ada, "over", datetime.now(UTC) - timedelta(seconds=1))
    await add(keys, ada, "good", datetime.now(UTC) + timedelta(hours=1))
    assert await keys.use("over") is None
    assert await keys.use("good") is not None
    await UserStore(database).disable(ada.id)
    assert await keys.use("good") is None
    assert await keys.add(ada.id, "new", name="", prefix="", scopes=["read"], expires_at=None) is None
    assert [each.name for each in await keys.list(ada.id)] == ["over", "good"]


async def test_no_key_is_stored(keys: KeyStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await add(keys, ada, "a key that nobody knows")
    (row,) = await connection.fetch("select key_hash, prefix from api_keys")
    assert (row["key_hash"], row["prefix"]) == (sha256(b"a key that nobody knows").digest(), "a k")


async def test_its_use_is_noted_once_a_minute(
    keys: KeyStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    made = await add(keys, ada, "cw_1")
    assert made.last_used_at is None
    await asyncio.gather(*(keys.use("cw_1") for _ in range(8)))
    (first,) = await keys.list(ada.id)
    assert first.last_used_at is not None
    await keys.use("cw_1")
    assert await keys.list(ada.id) == [first], "not written again"
    await connection.execute("update api_keys set last_used_at = last_used_at - interval '61 s'")
    await keys.use("cw_1")
    (later,) = await keys.list(ada.id)
    assert later.last_used_at is not None
    assert later.last_used_at >= first.last_used_at


async def test_a_person_has_so_many_keys_also_when_all_are_made_at_once(keys: KeyStore, ada: User) -> None:
    for n in range(MAX_KEYS - 1):
        await add(keys, ada, f"cw_{n}")
    answers = await asyncio.gather(*(add(keys, ada, f"one more {n}") for n in range(4)), return_exceptions=True)
    assert [type(each) for each in answers].count(TooManyKeys) == 3
    assert len(await keys.list(ada.id)) == MAX_KEYS


async def test_a_revocation_by_an_admin_is_noted(
    keys: KeyStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    made, admin = await add(keys, ada, "cw_1"), uuid4()
    assert not await keys.revoke_of(admin, uuid4(), made.id)
    assert await keys.revoke_of(admin, ada.id, made.id)
    assert not await keys.revoke_of(admin, ada.id, made.id)
    (act,) = await connection.fetch(
        "select actor_id, act, subject_id, data ->> 'prefix' as prefix from audit where act <> 'user.added'"
    )
    assert tuple(act) == (admin, "key.revoked", ada.id, "cw_")


async def test_a_new_password_by_a_link_ends_the_keys(keys: KeyStore, database: Database, ada: User) -> None:
    users = UserStore(database)
    await add(keys, ada, "cw_1")
    assert await users.replace_password(ada.id, "hash", "second", verified=False)
    assert await keys.use("cw_1") is not None
    assert not await users.replace_password(ada.id, "hash", "third", verified=True), "it was another by then"
    assert await keys.use("cw_1") is not None
    assert await users.replace_password(ada.id, "second", "third", verified=True)
    assert await keys.use("cw_1") is None
