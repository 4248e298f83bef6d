"""Password hashes: what matches, what it costs, and that a flood is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from gateway_node.passwords import Passwords, PasswordsBusy

CHEAP = {"time_cost": 1, "memory": 8}


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(**CHEAP)
    yield passwords
    passwords.close()


async def test_a_password_matches_its_hash_alone(passwords: Passwords) -> None:
    stored = await passwords.hash("pässwörd\0")
    assert stored.startswith("$argon2id$")
    assert (await passwords.verify(stored, "pässwörd\0")).matches
    for wrong in ("", "pässwörd", "password\0", stored):
        assert not (await passwords.verify(stored, wrong)).matches


async def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    assert await passwords.hash("x") != await passwords.hash("x")


@pytest.mark.parametrize("stored", ["", "plain text", "$argon2id$v=19$m=8", "$2b$12$abcdefghijklmnopqrstuv"])
async def test_what_is_no_hash_matches_nothing(passwords: Passwords, stored: str) -> None:
    assert not (await passwords.verify(stored, stored)).matches


async def test_a_hash_of_older_parameters_is_made_anew(passwords: Passwords) -> None:
    older = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("secret")
    verdict = await passwords.verify(older, "secret")
    assert verdict.matches
    assert verdict.rehash is not None
    again = await passwords.verify(verdict.rehash, "secret")
    assert again.matches
    assert again.rehash is None
    assert (await passwords.verify(older, "wrong")).rehash is None


async def test_nobodys_password_is_verified_like_anybodys(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work is the same; clocks on a busy machine would not tell."""
    stored = await passwords.hash("secret")
    verified: list[str] = []
    honest = PasswordHasher.verify

    def recording(self: PasswordHasher, hash: str, password: str) -> bool:
        verified.append(hash)
        return honest(self, hash, password)  # type: ignore[return-value]

    monkeypatch.setattr(PasswordHasher, "verify", recording)
    for known in (stored, None):
        assert not (await passwords.verify(known, "wrong")).matches
    assert [hash.rpartition("$")[0].rpartition("$")[0] for hash in verified] == ["$argon2id$v=19$m=8,t=1,p=1"] * 2


async def test_nobody_has_the_password_of_nobody(passwords: Passwords) -> None:
    assert not (await passwords.verify(None, "nobody has this password")).matches


async def test_a_flood_is_refused_and_the_rest_is_served_by_one_thread() -> None:
    passwords = Passwords(**CHEAP, max_waiting=3)
    gate, threads = threading.Event(), set()

    def work() -> int:
        threads.add(threading.get_ident())
        gate.wait(10)
        return 1

    waiting = [asyncio.create_task(passwords._run(work)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(PasswordsBusy):
        await passwords.hash("x")
    waiting[2].cancel()  # its work stays queued, so its place is not free yet
    await asyncio.sleep(0)
    with pytest.raises(PasswordsBusy):
        await passwords.hash("x")
    gate.set()
    assert await asyncio.gather(*waiting[:2]) == [1, 1]
    async with asyncio.timeout(10):
        while True:
            try:
                assert await passwords.hash("x")
                break
            except PasswordsBusy:
                await asyncio.sleep(0)
    assert len(threads) == 1
    passwords.close()
