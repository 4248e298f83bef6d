"""What somebody gets who follows a short link."""

from __future__ import annotations

import time
from enum import Enum
from typing import NamedTuple

from gateway_node.limits import Limit
from gateway_node.passwords import Passwords
from gateway_node.services.links.cache import LinkCache
from gateway_node.services.links.target import Targets
from gateway_node.services.stores import asked
from storage.links.links import Link, LinkStore


class Ending(Enum):
    """Why somebody does not get to the target."""

    UNKNOWN = "there is no such link"
    DELETED = "this link was deleted"
    DISABLED = "this link is switched off"
    EXPIRED = "this link has expired"
    USED_UP = "this link was followed as often as it may be"
    PASSWORD = "this link asks for a password"  # noqa: S105
    WRONG_PASSWORD = "that is not the password"  # noqa: S105


class Passage(NamedTuple):
    """The target, or why not."""

    url: str = ""
    ending: Ending | None = None


class Redirects:
    """`attempts`: passwords a minute, from one address for one link."""

    def __init__(
        self, store: LinkStore, cache: LinkCache, passwords: Passwords, targets: Targets, attempts: Limit
    ) -> None:
        self._store = store
        self.cache = cache
        self._passwords = passwords
        self._targets = targets
        self._attempts = attempts

    async def follow(self, code: str, *, counts: bool, password: str | None = None, address: str = "") -> Passage:
        """`counts`: whether it is a visit (GET), or only a look (HEAD).

        Raises error 100 while PostgreSQL is away and has to be asked; `LimitExceeded`, `PasswordsBusy` for passwords.
        """
        entry = (await asked(self.cache.get(code))).entry
        if entry.kind == "missing":
            return Passage(ending=Ending.UNKNOWN)
        if entry.kind == "deleted":
            return Passage(ending=Ending.DELETED)
        if entry.kind == "disabled":
            return Passage(ending=Ending.DISABLED)
        if entry.expires_at is not None and entry.expires_at <= time.time():
            return Passage(ending=Ending.EXPIRED)
        if entry.kind == "open":
            return Passage(entry.url)
        return await self._decide(code, counts=counts, password=password, address=address)

    async def _decide(self, code: str, *, counts: bool, password: str | None, address: str) -> Passage:
        """In PostgreSQL: how many have been let through is known there alone."""
        link = await asked(self._store.get(code))
        ending = ending_of(link, self._targets)
        if link is None or ending is not None:
            return Passage(ending=ending)
        if link.password_hash is not None:
            if password is None:
                return Passage(ending=Ending.PASSWORD)
            await self._attempts.spend(f"{code}:{address}")
            if not (await self._passwords.verify(link.password_hash, password)).matches:
                return Passage(ending=Ending.WRONG_PASSWORD)
        if not counts or link.max_visits is None:
            return Passage(link.original_url)
        url = await asked(self._store.visit(code))
        if url is not None:
            return Passage(url)
        return Passage(ending=ending_of(await asked(self._store.get(code)), self._targets) or Ending.USED_UP)


def ending_of(link: Link | None, targets: Targets) -> Ending | None:
    if link is None:
        return Ending.UNKNOWN
    if link.deleted_at is not None:
        return Ending.DELETED
    if link.disabled_at is not None or targets.blocks(link.original_url):
        return Ending.DISABLED
    if link.expires_at is not None and link.expires_at.timestamp() <= time.time():
        return Ending.EXPIRED
    if link.max_visits is not None and link.visits >= link.max_visits:
        return Ending.USED_UP
    return None
