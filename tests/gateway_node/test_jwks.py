"""The keys of another issuer: fetched from a real server, kept, and fetched again when they must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway_node import jwks
from gateway_node.jwks import MAX_KEYS, MAX_SIZE, MIN_INTERVAL, BadKeySet, KeySet, KeysUnavailable, UnknownKey, keys_in
from tests.issuer import Issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


class World:
    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.now = 1000.0
        self.keys = KeySet(url, client, lambda: self.now)

    async def has(self, key_id: str | None, algorithm: str = "ES256") -> bool | None:
        """`None`: cannot be said."""
        try:
            return bool(await self.keys.key(key_id, algorithm))
        except UnknownKey:
            return False
        except KeysUnavailable:
            return None


@pytest.fixture
async def world(issuer: Issuer) -> AsyncIterator[World]:
    async with httpx.AsyncClient(trust_env=False) as client:
        made = World(issuer.url, client)
        yield made
        await made.keys.stop()


async def test_keys_are_fetched_once_for_all_who_ask_at_once(world: World, issuer: Issuer) -> None:
    assert await asyncio.gather(*(world.has("first") for _ in range(50))) == [True] * 50
    assert await world.has("first")
    assert issuer.requests == 1


async def test_a_new_key_is_found_when_a_token_names_it(world: World, issuer: Issuer) -> None:
    await world.keys.refresh()
    issuer.add("second", "EdDSA")
    issuer.remove("first")
    world.now += MIN_INTERVAL
    assert await world.has("second", "EdDSA")
    assert not await world.has("first"), "withdrawn"
    assert issuer.requests == 2


async def test_invented_names_cause_no_more_than_a_fetch_in_ten_seconds(world: World, issuer: Issuer) -> None:
    for n in range(20):
        assert await world.has(f"invented {n}") is False
    assert issuer.requests == 1
    world.now += MIN_INTERVAL
    assert await asyncio.gather(*(world.has(f"invented {n}") for n in range(20))) == [False] * 20
    assert issuer.requests == 2
    assert await world.has("first"), "and who is known does not wait for it"


async def test_nobody_with_a_known_key_waits_for_an_issuer_that_hangs(world: World, issuer: Issuer) -> None:
    await world.keys.refresh()
    issuer.pause.clear()
    world.now += MIN_INTERVAL
    stranger = asyncio.create_task(world.has("unknown"))
    while issuer.requests < 2:
        await asyncio.sleep(0.005)
    assert await asyncio.wait_for(world.has("first"), 1), "the fetch is still under way"
    assert not stranger.done()
    issuer.pause.set()
    assert await stranger is False


async def test_an_issuer_that_is_too_slow_is_away(
    world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT", 0.1)
    issuer.pause.clear()
    assert await world.has("first") is None
    assert "TimeoutError" in world.keys.trouble


BAD: list[tuple[int, bytes]] = [
    (500, b""),
    (404, b"{}"),
    (302, b""),
    (200, b"<html>"),
    (200, b'{"keys": []}'),
    (200, b'{"keys": {}}'),
    (200, b'{"keys": [1]}'),
    (200, b"[" * 100_000),
    (200, b'{"keys": [], "x": "' + b"x" * MAX_SIZE + b'"}'),
]


@pytest.mark.parametrize("answer", BAD, ids=lambda answer: f"{answer[0]} {answer[1][:20]!r}")
async def test_while_the_issuer_talks_nonsense_the_known_keys_go_on(
    world: World, issuer: Issuer, answer: tuple[int, bytes]
) -> None:
    good, issuer.answer = issuer.answer, answer
    assert await world.has("first") is None, "whether it is a key cannot be said"
    issuer.answer = good
    world.now += MIN_INTERVAL
    assert await world.has("first")
    issuer.answer = answer
    world.now += MIN_INTERVAL
    assert await world.has("another") is None
    assert await world.has("first")


async def test_while_the_issuer_is_away_the_known_keys_go_on() -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with Issuer() as issuer:
            world = World(issuer.url, client)
            await world.keys.refresh()
        world.now += MIN_INTERVAL
        assert await world.has("another") is None
        assert await world.has("first")
        await world.keys.stop()


async def test_it_keeps_asking_by_itself(world: World, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start without being asked, soon again after a failure, and then from time to time."""
    monkeypatch.setattr(jwks, "RETRY", 0.01)
    monkeypatch.setattr(jwks, "REFRESH", 0.05)
    issuer.answer = 500, b""
    await world.keys.start()
    while issuer.requests < 3:
        await asyncio.sleep(0.005)
    issuer.answer = None
    while world.keys.trouble:
        await asyncio.sleep(0.005)
    issuer.add("second")
    seen = issuer.requests
    while issuer.requests < seen + 2:
        await asyncio.sleep(0.005)
    assert await world.has("second")


async def test_a_token_without_a_key_id_is_of_the_only_key(world: World, issuer: Issuer) -> None:
    issuer.add("other", "EdDSA")
    assert await world.has(None, "ES256")
    issuer.add("second")
    await world.keys.refresh()
    assert await world.has(None, "ES256") is False, "there are two"
    assert await world.has(None, "EdDSA")


async def test_a_key_verifies_what_its_kind_can(world: World, issuer: Issuer) -> None:
    issuer.add("rsa", "RS256", alg="RS256")
    assert await world.has("rsa", "RS256")
    for algorithm in ("ES256", "HS256", "RS384", "PS256", "none"):
        assert await world.has("rsa", algorithm) is False, algorithm


def key(**fields: Any) -> dict[str, Any]:
    public = rsa.generate_private_key(65537, 2048).public_key()
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": "k", **fields}


def small_key() -> dict[str, Any]:
    return {"kty": "RSA", "n": "1" * 171, "e": "AQAB", "kid": "small"}  # 1024 bits


USELESS = {
    "for encryption": key(use="enc"),
    "to sign with": key(key_ops=["sign"]),
    "a secret": {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "k"},
    "a secret by another name": {"kty": "oct", "k": "c2VjcmV0", "alg": "RS256"},
    "another algorithm": key(alg="RSA-OAEP"),
    "a private key": {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True), "kid": "k"},
    "too small": small_key(),
    "broken": key(n="!"),
    "no number": key(n=5),
    "of no kind": {"kid": "k"},
    "of an unknown kind": {"kty": "PQC"},
    "of an unknown curve": {"kty": "EC", "crv": "P-9", "x": "AA", "y": "AA"},
    "of a strange name": key(kid=7),
    "of a strange use": key(use=["sig"]),
    "of strange operations": key(key_ops=7),
    "of a strange algorithm": key(alg=["RS256"]),
}


@pytest.mark.parametrize("name", USELESS)
def test_keys_of_no_use_are_passed_over(name: str) -> None:
    with pytest.raises(BadKeySet):
        keys_in(json.dumps({"keys": [USELESS[name]]}).encode())
    assert [each.id for each in keys_in(json.dumps({"keys": [USELESS[name], key(kid="good")]}).encode())] == ["good"]


def test_more_keys_than_anybody_has_are_not_read() -> None:
    one = key()
    document = json.dumps({"keys": [{**one, "kid": str(n)} for n in range(MAX_KEYS + 5)]}).encode()
    assert len(keys_in(document)) == MAX_KEYS
