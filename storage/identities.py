"""People whom another issuer vouches for: an account for each, found by the issuer and what it calls them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from msgspec import Struct

from storage.batches import Batches
from storage.database import Database
from storage.queries import load
from storage.users import NO_PASSWORD

if TYPE_CHECKING:
    from storage.database import Connection

LEAST_ROLE = "student"
_SQL = load("identities")


class Name(NamedTuple):
    """How an issuer calls somebody (`iss` and `sub` of its tokens)."""

    issuer: str
    subject: str

    @property
    def user_id(self) -> UUID:
        """Of the account that is made for them: the same on every node, and again after a loss of the row."""
        return uuid5(uuid5(NAMESPACE_URL, self.issuer), self.subject)


class Newcomer(Struct, frozen=True):
    """What an issuer says of somebody. `email` is one that it has verified, else empty; `role`, if it gives roles."""

    email: str = ""
    name: str = ""
    role: str | None = None


class Known(Struct, frozen=True):
    """The account of somebody; `said` is the role that the issuer gave last, `role` the one that they have."""

    user_id: UUID
    name: str
    role: str
    said: str | None


class IdentityStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Batches[Name, Known | None] = Batches(self._fetch)

    async def find(self, name: Name) -> Known | None:
        """`None`: nobody has seen them."""
        return await self._known.ask(name)

    async def meet(self, name: Name, who: Newcomer, *, linkable: Collection[str]) -> list[UUID]:
        """Make the account of somebody who is seen for the first time, or give them the role that the issuer gives now.

        An account that has the same address is linked if its role is one of `linkable`. If its owner had not verified
        the address, what they could come in with ends: the logins that ended are returned. Where an account has the
        address and is not linked, the new one has none.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_SQL["lock"], *name)
            there = await connection.fetchrow(_SQL["get"], *name)
            if there is None:
                return await _enter(connection, name, who, linkable)
            if there["role"] != who.role:
                await connection.execute(_SQL["say_role"], *name, who.role)
                if there["made"] and who.role is not None:
                    await _give_role(connection, name, there["user_id"], who.role)
            return []

    async def _fetch(self, names: Sequence[Name]) -> Sequence[Known | None]:
        answers: list[Known | None] = [None] * len(names)
        rows = await self._database.fetch(_SQL["find"], *map(list, zip(*names, strict=True)))
        for row in rows:
            answers[row["i"] - 1] = Known(row["user_id"], row["name"], row["role"], row["said"])
        return answers


async def _enter(connection: Connection, name: Name, who: Newcomer, linkable: Collection[str]) -> list[UUID]:
    owner = await connection.fetchrow(_SQL["by_address"], who.email) if who.email else None
    if owner is not None and owner["role"] in linkable:
        ended: list[UUID] = []
        if not owner["verified"]:
            await connection.execute(_SQL["prove"], owner["id"], NO_PASSWORD)
            await connection.execute(_SQL["end_keys"], owner["id"])
            ended = [row["id"] for row in await connection.fetch(_SQL["end_sessions"], owner["id"])]
        await connection.execute(_SQL["add"], *name, owner["id"], False, who.role)
        await connection.execute(_SQL["note"], "identity.linked", owner["id"], json.dumps(name._asdict()))
        return ended
    role = who.role or LEAST_ROLE
    for email in filter(None, (who.email, f"{name.user_id}@nowhere.invalid")):  # RFC 2606: nobody's
        verified = email == who.email
        done = await connection.execute(
            _SQL["make_account"], name.user_id, email, NO_PASSWORD, who.name, role, verified
        )
        if done != "INSERT 0 0":
            break
    await connection.execute(_SQL["add"], *name, name.user_id, True, who.role)
    return []


async def _give_role(connection: Connection, name: Name, user_id: UUID, role: str) -> None:
    before = await connection.fetchval(_SQL["give_role"], user_id, role)
    if before is not None:
        data = json.dumps({"from": before, "to": role, "issuer": name.issuer})
        await connection.execute(_SQL["note"], "role.set", user_id, data)
