"""The public keys of another issuer: a JWK Set (RFC 7517), fetched over HTTP and kept.

Keys are fetched when the node starts, every ten minutes, and when a token names one that is not known, which is how
issuers change their keys. Such a fetch is at most one in ten seconds and one at a time, so tokens with invented names
cost nothing. Nobody else waits for it. While the issuer is away the keys that are known go on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from typing import Any

import httpx
import jwt
import msgspec
import structlog
from msgspec import Struct

from gateway_node.tokens import BadKey, Key, algorithms_of
from realtime.interfaces import Clock

REFRESH = 600.0  # s between two fetches: as long may a key that the issuer withdraws be good here
RETRY = 5.0  # s after the first failure, then twice as long each time, up to REFRESH
MIN_INTERVAL = 10.0  # s between two fetches that tokens cause
TIMEOUT = 5.0  # s for a fetch, and for who waits for it
MAX_SIZE = 256 * 1024  # bytes
MAX_KEYS = 100

_log = structlog.get_logger(__name__)


class UnknownKey(Exception):
    """The issuer has no such key."""


class KeysUnavailable(Exception):
    """Whether the issuer has such a key cannot be said: it is away."""


class BadKeySet(Exception):
    """What the issuer answered is no JWK Set, or has no key to verify tokens with."""


class SigningKey(Struct, frozen=True):
    id: str | None
    key: Key
    algorithms: frozenset[str]


class _Set(Struct):
    keys: list[dict[str, Any]]


def keys_in(document: bytes) -> Sequence[SigningKey]:
    """The keys of a JWK Set that can verify signatures; others are passed over. Raises `BadKeySet`."""
    try:
        found = msgspec.json.decode(document, type=_Set).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadKeySet(f"no JWK Set: {error}") from None
    keys = [key for each in found[:MAX_KEYS] if (key := _signing_key(each)) is not None]
    if not keys:
        raise BadKeySet("no key in it can verify a token")
    return keys


class KeySet:
    """The keys at an address. `start` and `stop` it."""

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Clock = time.monotonic) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: Sequence[SigningKey] = ()
        self._asked_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.trouble = "not asked yet"  # of the last fetch; empty: none

    async def start(self) -> None:
        """Fetch now, and from time to time; it is not waited for."""
        self._keeping = asyncio.create_task(self._keep(), name="keys of an issuer")

    async def stop(self) -> None:
        tasks = [each for each in (self._keeping, self._fetching) if each is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def key(self, key_id: str | None, algorithm: str) -> Key:
        """The key of this name for this algorithm; without a name the only one for it.

        Raises `UnknownKey`, `KeysUnavailable`.
        """
        found = self._look(key_id, algorithm)
        if found is None:
            await self._ask_again()
            found = self._look(key_id, algorithm)
        if found is not None:
            return found
        raise KeysUnavailable(self.trouble) if self.trouble else UnknownKey

    async def refresh(self) -> None:
        """Fetch, or wait for the fetch that is under way; `trouble` says how it went."""
        if self._fetching is None or self._fetching.done():
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.wait([self._fetching])  # who gives up takes nothing from the others

    def _look(self, key_id: str | None, algorithm: str) -> Key | None:
        fitting = [
            each.key for each in self._keys if algorithm in each.algorithms and (key_id is None or each.id == key_id)
        ]
        if key_id is None and len(fitting) > 1:
            return None
        return fitting[0] if fitting else None

    async def _ask_again(self) -> None:
        running = self._fetching is not None and not self._fetching.done()
        if running or self._clock() - self._asked_at >= MIN_INTERVAL:
            await self.refresh()

    async def _keep(self) -> None:
        retry = RETRY
        while True:
            await self.refresh()
            pause, retry = (retry, min(2 * retry, REFRESH)) if self.trouble else (REFRESH, RETRY)
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                self._keys = keys_in(await self._document())
            self.trouble = ""
        except (httpx.HTTPError, BadKeySet, OSError) as error:  # a TimeoutError is an OSError
            self.trouble = f"{type(error).__name__}: {error}"
            _log.warning("issuer.keys_not_fetched", url=self._url, error=self.trouble, known=len(self._keys))
        except Exception as error:
            self.trouble = type(error).__name__
            _log.exception("issuer.keys_not_fetched", url=self._url)

    async def _document(self) -> bytes:
        document = bytearray()
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as response:
            if response.status_code != httpx.codes.OK:
                raise BadKeySet(f"status {response.status_code}")
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > MAX_SIZE:
                    raise BadKeySet(f"more than {MAX_SIZE} bytes")
        return bytes(document)


def _signing_key(given: dict[str, Any]) -> SigningKey | None:
    """`None` for a key of another use, of an unknown kind, or too small. A secret one is none: it was published."""
    if given.get("use", "sig") != "sig" or "verify" not in _collection(given.get("key_ops", ["verify"])):
        return None
    try:
        algorithms, key = algorithms_of(jwt.PyJWK(given).key)
    except (jwt.PyJWTError, BadKey, ValueError, TypeError, ArithmeticError):
        return None
    name, only = given.get("kid"), given.get("alg")
    if name is not None and not isinstance(name, str):
        return None
    return SigningKey(name, key, frozenset(algorithms) & ({only} if only is not None else frozenset(algorithms)))


def _collection(value: object) -> Collection[object]:
    return value if isinstance(value, list) else ()
