from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from storage.database import Database
from storage.lms.school import SchoolStore
from storage.users import EmailTaken, UserStore

pytestmark = pytest.mark.integration


@pytest.fixture
def users(database: Database) -> UserStore:
    return UserStore(database)


async def test_a_user_is_found_by_address_in_any_case_and_by_id(users: UserStore) -> None:
    ada = await users.create(" Ada@Example.org", "hash", name="Ada", role="teacher")
    assert (ada.email, ada.name, ada.role, ada.disabled_at) == ("ada@example.org", "Ada", "teacher", None)
    assert await users.by_email("ADA@example.org ") == ada
    assert await users.by_id(ada.id) == ada
    assert await users.by_email("eve@example.org") is None
    assert await users.by_id(uuid4()) is None


async def test_an_address_has_one_user_also_when_two_come_at_once(users: UserStore) -> None:
    results = await asyncio.gather(
        *(users.create(email, "hash") for email in ("ada@example.org", "ADA@example.org")), return_exceptions=True
    )
    assert [type(result) for result in results].count(EmailTaken) == 1
    assert len(await users.list()) == 1


async def test_the_list_goes_on_after_its_last(users: UserStore) -> None:
    created = [await users.create(f"user{number}@example.org", "hash") for number in range(7)]
    pages = [await users.list(limit=3)]
    while pages[-1]:
        pages.append(await users.list(after=pages[-1][-1], limit=3))
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert [user for page in pages for user in page] == created


async def test_disable_and_enable(users: UserStore) -> None:
    ada = await users.create("ada@example.org", "hash")
    disabled = await users.disable(ada.id)
    assert disabled is not None
    assert disabled.disabled_at is not None
    assert await users.disable(ada.id) == disabled, "the first time counts"
    assert await users.enable(ada.id) == ada
    assert await users.disable(uuid4()) is None


async def test_what_is_done_on_the_servers_machine_is_in_the_audit_log(users: UserStore, database: Database) -> None:
    """By nobody that has an account; how students register is no act of anybody in charge."""
    ada = await users.create("ada@example.org", "hash", role="admin")
    await users.create("ben@example.org", "hash")
    for _ in range(2):  # the second time changes nothing
        await users.disable(ada.id)
    for _ in range(2):
        await users.enable(ada.id)
    acts = await SchoolStore(database).audit(before=None, subject=None, limit=10)
    assert [(each.act, each.actor_id, each.subject_id) for each in acts] == [
        (act, None, ada.id) for act in ("user.enabled", "user.disabled", "user.added")
    ]


async def test_a_new_password(users: UserStore) -> None:
    ada = await users.create("ada@example.org", "old")
    assert await users.replace_password(ada.id, "old", "new", verified=False)
    assert not await users.replace_password(ada.id, "old", "newer", verified=False)
    again = await users.by_id(ada.id)
    assert again is not None
    assert again.password_hash == "new"
