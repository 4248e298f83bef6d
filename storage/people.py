"""People as others see them: names, and when somebody was last seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from storage.database import Database
from storage.queries import load
from storage.users import User, user_of

_SQL = load("people")
_SPECIAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})  # of LIKE


class Person(Struct, frozen=True):
    """What anybody may know of somebody."""

    id: UUID
    name: str


class ProfileChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of a profile; an empty text, and null, is none. `avatar_id`: an image that the person uploaded."""

    name: str | UnsetType = UNSET
    bio: str | UnsetType = UNSET
    locale: str | UnsetType = UNSET
    time_zone: str | UnsetType = UNSET
    avatar_id: UUID | UnsetType | None = UNSET


class NoPicture(Exception):
    """The file is not there, not the person's, or no image with a thumbnail."""


class PeopleStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, query: str, limit: int) -> list[Person]:
        """Whoever has this address, and those whose name begins so, in any case; nobody who is disabled."""
        rows = await self._database.fetch(_SQL["find"], query.translate(_SPECIAL) + "%", query.lower(), limit)
        return [Person(row["id"], row["name"]) for row in rows]

    async def get(self, user_id: UUID) -> User | None:
        """`None`: there is no such user, or they are disabled."""
        row = await self._database.fetchrow(_SQL["get"], user_id)
        return user_of(row) if row else None

    async def update(self, user_id: UUID, change: ProfileChange) -> User | None:
        """`None`: there is no such user. Raises `NoPicture`."""
        async with self._database.transaction() as connection:
            before = await connection.fetchrow(_SQL["lock"], user_id)
            if before is None:
                return None
            avatar = before["avatar_id"] if isinstance(change.avatar_id, UnsetType) else change.avatar_id
            if avatar != before["avatar_id"]:
                if avatar is not None and await connection.fetchval(_SQL["take_avatar"], user_id, avatar) is None:
                    raise NoPicture
                await connection.execute(_SQL["give_up_avatar"], before["avatar_id"])
            texts = (change.name, change.bio, change.locale, change.time_zone)
            given = (None if isinstance(text, UnsetType) else text for text in texts)
            row = await connection.fetchrow(_SQL["update"], user_id, *given, avatar)
            assert row is not None, "it is locked"
            return user_of(row)

    async def known_to(self, user_id: UUID, others: Sequence[UUID]) -> dict[UUID, datetime | None]:
        """Those of the others who share a room with the user, and when they were last seen."""
        rows = await self._database.fetch(_SQL["known_to"], user_id, others)
        return {row["id"]: row["last_seen_at"] for row in rows}

    async def seen(self, moments: Mapping[UUID, datetime]) -> None:
        """Note when users were last seen. Never back."""
        await self._database.execute(_SQL["seen"], list(moments), list(moments.values()))
