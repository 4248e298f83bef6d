"""Short links: rows of `urls`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from storage.batches import Batches
from storage.database import Database
from storage.lms.school import note
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("links")
MAKERS = 2  # statements at a time: those of one turn share one


class Link(Struct, frozen=True, kw_only=True):
    """A row of `urls`."""

    id: int
    short_code: str
    original_url: str
    user_id: UUID | None
    created_at: datetime
    expires_at: datetime | None
    click_count: int
    bot_count: int
    title: str
    tags: tuple[str, ...]
    max_visits: int | None
    visits: int
    password_hash: str | None
    disabled_at: datetime | None
    deleted_at: datetime | None
    updated_at: datetime
    version: int
    origin: UUID | None


class NewLink(NamedTuple):
    """What a link is made of. `origin`: of two with the same, the second is not made."""

    id: int
    short_code: str
    original_url: str
    user_id: UUID | None = None
    title: str = ""
    tags: tuple[str, ...] = ()
    expires_at: datetime | None = None
    max_visits: int | None = None
    password_hash: str | None = None
    origin: UUID | None = None


class LinkStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._making: Batches[NewLink, Link | None] = Batches(self._make, in_flight=MAKERS)

    async def ids(self, number: int) -> list[int]:
        """Numbers that nobody else gets."""
        return [row[0] for row in await self._database.fetch(_SQL["ids"], number)]

    async def create(self, new: NewLink) -> Link | None:
        """The link, or the one of the same `origin`; `None`: the code is taken. Those of one turn share a statement."""
        return await self._making.ask(new)

    async def create_all(self, new: Sequence[NewLink]) -> list[Link | None]:
        return await self._making.ask_all(new)

    async def _make(self, new: Sequence[NewLink]) -> Sequence[Link | None]:
        columns: list[list[Any]] = [list(column) for column in zip(*new, strict=True)]
        columns[5] = ["\n".join(tags) for tags in columns[5]]
        rows = [link_of(row) for row in await self._database.fetch(_SQL["create"], *columns)]
        made = {link.id: link for link in rows}
        origins = [each.origin for each in new if each.id not in made and each.origin is not None]
        known: dict[UUID | None, Link] = {}
        if origins:
            known = {row["origin"]: link_of(row) for row in await self._database.fetch(_SQL["by_origins"], origins)}
        return [made.get(each.id) or known.get(each.origin) for each in new]

    async def get(self, code: str) -> Link | None:
        """A deleted one too: its code is not free."""
        row = await self._database.fetchrow(_SQL["by_code"], code)
        return link_of(row) if row is not None else None

    async def by_target(self, user_id: UUID | None, url: str) -> Link | None:
        """The oldest link of a user to this target that anybody may follow at any time."""
        row = await self._database.fetchrow(_SQL["by_target"], user_id, url)
        return link_of(row) if row is not None else None

    async def list(
        self, user_id: UUID, *, before: int | None, tag: str | None, words: str | None, limit: int
    ) -> list[Link]:
        """Newest first, with an id below `before`."""
        pattern = f"%{_escaped(words)}%" if words else None
        return [link_of(row) for row in await self._database.fetch(_SQL["list"], user_id, before, tag, pattern, limit)]

    async def visit(self, code: str) -> str | None:
        """Let one visitor through, who counts: the target, or `None` where nobody is let through any more."""
        return await self._database.fetchval(_SQL["visit"], code)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def changing(self, code: str) -> AsyncIterator[LinkChange | None]:
        """The link, locked until the end of the block, which commits. `None`: there is none."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], code)
            yield LinkChange(connection, link_of(row)) if row is not None else None

    async def close(self) -> None:
        await self._making.close()


class LinkChange:
    """A locked link, in a transaction."""

    def __init__(self, connection: Connection, link: Link) -> None:
        self._connection = connection
        self.link = link

    async def update(self, link: Link) -> None:
        """Its target, title, tags, expiry, most visits, password, whether it is disabled, and origin."""
        row = await self._connection.fetchrow(
            _SQL["update"],
            *(link.id, link.original_url, link.title, list(link.tags), link.expires_at, link.max_visits),
            *(link.password_hash, link.disabled_at, link.origin),
        )
        assert row is not None, "it is locked"
        self.link = link_of(row)

    async def delete(self) -> None:
        await self._connection.execute(_SQL["delete"], self.link.id)

    async def note(self, actor: UUID, act: str) -> None:
        """What an admin did to somebody's link, for the audit log."""
        data = {"code": self.link.short_code, "url": self.link.original_url}
        await note(self._connection, actor, act, self.link.user_id, data)


def link_of(row: asyncpg.Record) -> Link:
    fields = dict(row)
    del fields["cleared"]
    fields["tags"] = tuple(fields["tags"])
    return Link(**fields)


def _escaped(words: str) -> str:
    return words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
