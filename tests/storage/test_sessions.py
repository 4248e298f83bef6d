from __future__ import annotations

import asyncio
from hashlib import sha256
from uuid import uuid4

import asyncpg
import pytest

from storage.database import Database
from storage.sessions import ReuseDetected, SessionEnded, SessionStore
from storage.users import User, UserStore

pytestmark = pytest.mark.integration


@pytest.fixture
def sessions(database: Database) -> SessionStore:
    return SessionStore(database)


@pytest.fixture
async def ada(database: Database) -> User:
    return await UserStore(database).create("ada@example.org", "hash")


async def test_tokens_rotate_and_the_login_lives_on(sessions: SessionStore, ada: User) -> None:
    session, token = await sessions.open(ada.id, user_agent="Firefox" * 100, ttl=60)
    assert (session.user_id, session.user_agent) == (ada.id, ("Firefox" * 100)[:300])
    for _ in range(3):
        again, following = await sessions.rotate(token, ttl=600)
        assert again.id == session.id
        assert again.expires_at > session.expires_at
        assert following != token
        token = following
    assert not await sessions.is_revoked(session.id)


async def test_a_token_used_twice_ends_the_login_for_both(database: Database, ada: User) -> None:
    sessions = SessionStore(database, leeway=0)
    session, stolen = await sessions.open(ada.id, user_agent="", ttl=60)
    other, _ = await sessions.open(ada.id, user_agent="", ttl=60)
    _, honest = await sessions.rotate(stolen, ttl=60)
    with pytest.raises(ReuseDetected) as caught:
        await sessions.rotate(stolen, ttl=60)
    assert caught.value.session_id == session.id
    assert await sessions.is_revoked(session.id)
    for token in (honest, stolen):
        with pytest.raises(SessionEnded):
            await sessions.rotate(token, ttl=60)
    assert not await sessions.is_revoked(other.id)


async def test_whoever_lost_the_answer_asks_again(sessions: SessionStore, ada: User) -> None:
    session, token = await sessions.open(ada.id, user_agent="", ttl=60)
    _, following = await sessions.rotate(token, ttl=60)
    again, same = await sessions.rotate(token, ttl=600)
    assert (again.id, same) == (session.id, following)
    assert again.expires_at > session.expires_at
    _, third = await sessions.rotate(following, ttl=60)
    assert third not in {token, following}


async def test_nobody_asks_again_with_a_token_whose_successor_was_used(sessions: SessionStore, ada: User) -> None:
    session, token = await sessions.open(ada.id, user_agent="", ttl=60)
    _, following = await sessions.rotate(token, ttl=60)
    await sessions.rotate(following, ttl=60)
    with pytest.raises(ReuseDetected):
        await sessions.rotate(token, ttl=60)
    assert await sessions.is_revoked(session.id)


async def test_uses_at_once_give_the_same_token(sessions: SessionStore, ada: User) -> None:
    session, token = await sessions.open(ada.id, user_agent="", ttl=60)
    results = await asyncio.gather(*(sessions.rotate(token, ttl=60) for _ in range(8)))
    assert len({following for _, following in results}) == 1
    assert not await sessions.is_revoked(session.id)


async def test_of_two_uses_at_once_one_is_the_second(database: Database, ada: User) -> None:
    sessions = SessionStore(database, leeway=-60)  # the second began before the first was committed
    session, token = await sessions.open(ada.id, user_agent="", ttl=60)
    results = await asyncio.gather(*(sessions.rotate(token, ttl=60) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results].count(ReuseDetected) == 1
    assert await sessions.is_revoked(session.id)


async def test_a_token_used_before_salts_were_kept_is_a_second_use(
    sessions: SessionStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    _, token = await sessions.open(ada.id, user_agent="", ttl=60)
    await connection.execute("update refresh_tokens set used_at = now()")
    with pytest.raises(ReuseDetected):
        await sessions.rotate(token, ttl=60)


async def test_a_login_waits_for_a_password_that_changes(
    sessions: SessionStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """Whoever changes it ends all logins: none may begin with the old one afterwards."""
    await sessions.open(ada.id, user_agent="", ttl=60, password_hash="hash")
    async with connection.transaction():
        await connection.execute("update users set password_hash = 'new' where id = $1", ada.id)
        login = asyncio.create_task(sessions.open(ada.id, user_agent="", ttl=60, password_hash="hash"))
        while not await connection.fetchval("select exists (select from pg_locks where not granted)"):
            assert not login.done()
    with pytest.raises(SessionEnded):
        await login
    await sessions.open(ada.id, user_agent="", ttl=60, password_hash="new")


async def test_what_ends_a_login(
    sessions: SessionStore, ada: User, database: Database, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    revoked, revoked_token = await sessions.open(ada.id, user_agent="", ttl=60)
    assert await sessions.revoke(revoked.id)
    assert not await sessions.revoke(revoked.id)
    expired, expired_token = await sessions.open(ada.id, user_agent="", ttl=-1)
    disabled, disabled_token = await sessions.open(ada.id, user_agent="", ttl=60)
    await UserStore(database).disable(ada.id)
    for token in (revoked_token, expired_token, disabled_token, "unknown", "\ud800"):
        with pytest.raises(SessionEnded):
            await sessions.rotate(token, ttl=60)
    assert [await sessions.is_revoked(each) for each in (revoked.id, expired.id, disabled.id, uuid4())] == [
        True,
        True,
        False,
        True,
    ]


async def test_the_list_shows_what_is_alive(sessions: SessionStore, ada: User) -> None:
    first, token = await sessions.open(ada.id, user_agent="one", ttl=60)
    second, _ = await sessions.open(ada.id, user_agent="two", ttl=60)
    await sessions.open(ada.id, user_agent="expired", ttl=-1)
    assert [each.id for each in await sessions.list(ada.id)] == [second.id, first.id]
    await sessions.rotate(token, ttl=60)
    assert [each.id for each in await sessions.list(ada.id)] == [first.id, second.id]
    assert await sessions.revoke_all(ada.id, keep=first.id) != []
    assert [each.id for each in await sessions.list(ada.id)] == [first.id]
    assert await sessions.revoke_all(ada.id) == [first.id]
    assert await sessions.list(ada.id) == []


async def test_a_token_names_its_login_without_being_used(sessions: SessionStore, ada: User) -> None:
    session, token = await sessions.open(ada.id, user_agent="", ttl=60)
    assert await sessions.by_token(token) == session
    assert await sessions.by_token("unknown") is None
    await sessions.rotate(token, ttl=60)


async def test_tokens_are_stored_as_their_hash(
    sessions: SessionStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    _, token = await sessions.open(ada.id, user_agent="", ttl=60)
    assert await connection.fetchval("select token_hash from refresh_tokens") == sha256(token.encode()).digest()


async def test_old_logins_are_swept(
    sessions: SessionStore, ada: User, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await sessions.open(ada.id, user_agent="", ttl=-100)
    kept, _ = await sessions.open(ada.id, user_agent="", ttl=-1)
    assert await sessions.sweep(50) == 1
    assert [row[0] for row in await connection.fetch("select session_id from refresh_tokens")] == [kept.id]
