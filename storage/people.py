"""People as others see them: names, and when somebody was last seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from storage.database import Database
from storage.queries import load
from storage.users import User, user_of

_SQL = load("people")
_SPECIAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})  # of LIKE


class Person(Struct, frozen=True):
    """What anybody may know of somebody."""

    id: UUID
    name: str


class PeopleStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, query: str, limit: int) -> list[Person]:
        """Whoever has this address, and those whose name begins so, in any case; nobody who is disabled."""
        rows = await self._database.fetch(_SQL["find"], query.translate(_SPECIAL) + "%", query.lower(), limit)
        return [Person(row["id"], row["name"]) for row in rows]

    async def rename(self, user_id: UUID, name: str) -> User | None:
        """`None`: there is no such user."""
        row = await self._database.fetchrow(_SQL["rename"], user_id, name)
        return user_of(row) if row else None

    async def known_to(self, user_id: UUID, others: Sequence[UUID]) -> dict[UUID, datetime | None]:
        """Those of the others who share a room with the user, and when they were last seen."""
        rows = await self._database.fetch(_SQL["known_to"], user_id, others)
        return {row["id"]: row["last_seen_at"] for row in rows}

    async def seen(self, moments: Mapping[UUID, datetime]) -> None:
        """Note when users were last seen. Never back."""
        await self._database.execute(_SQL["seen"], list(moments), list(moments.values()))
