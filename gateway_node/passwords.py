"""Password hashes: argon2id (RFC 9106), one at a time per node.

A hash costs 19 MiB and some 20 ms of a core on purpose, so a flood of logins must not take the node's threads or
memory: one thread computes, a bounded number of requests wait for it, the rest is told to come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_WAITING = 64  # more than a second of work; a login that waits longer has been retried by then

T = TypeVar("T")


class PasswordsBusy(Exception):
    """As many passwords wait to be hashed as may. Trying again in a second helps."""


class Verdict(NamedTuple):
    matches: bool
    rehash: str | None = None  # the same password under today's parameters, when the stored hash has others


class Passwords:
    """Hashes and verifies. `close` when the node ends.

    `memory` is in KiB. The defaults are OWASP's for argon2id: 19 MiB, 2 passes, 1 lane.
    """

    def __init__(
        self, *, time_cost: int = 2, memory: int = 19456, parallelism: int = 1, max_waiting: int = MAX_WAITING
    ) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory, parallelism=parallelism)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords", initializer=self._prepare)
        self._max_waiting = max_waiting
        self._waiting = 0
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """Raises: `PasswordsBusy`."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Whether the password is the one that was hashed; `stored` is `None` for a user who does not exist.

        That costs the same as a wrong password, so that the time of an answer does not tell who has an account.

        Raises: `PasswordsBusy`.
        """
        return await self._run(lambda: self._verify(stored, password))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _prepare(self) -> None:
        self._nobodys = self._hasher.hash("nobody has this password")

    def _verify(self, stored: str | None, password: str) -> Verdict:
        try:
            self._hasher.verify(self._nobodys if stored is None else stored, password)
        except (VerificationError, InvalidHashError):
            return Verdict(matches=False)
        if stored is None:
            return Verdict(matches=False)
        return Verdict(True, self._hasher.hash(password) if self._hasher.check_needs_rehash(stored) else None)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise PasswordsBusy("too many passwords wait to be checked")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # Counted until the work is done: a caller that gives up does not take its work off the thread.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, _: object) -> None:
        self._waiting -= 1
