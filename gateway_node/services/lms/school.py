"""The school: who is what in it, and what those in charge did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from msgspec import Struct

from gateway_node.rights import SchoolRole
from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.stores import asked
from realtime import codes
from storage.lms.school import Act, LastAdmin, SchoolPerson, SchoolStore

MAX_PAGE = 100


class PeoplePage(Struct, frozen=True, omit_defaults=True):
    people: Sequence[SchoolPerson]
    next: str = ""


class AuditPage(Struct, frozen=True, omit_defaults=True):
    acts: Sequence[Act]
    next: str = ""


class School:
    """Every method raises `CommandError`: 1002 for who is not there, 1003 where the last admin would go, 100 while
    PostgreSQL is away."""

    def __init__(self, store: SchoolStore, disconnect: Callable[[str], Awaitable[None]]) -> None:
        """`disconnect` ends the connections of a user, on every node."""
        self._store = store
        self._disconnect = disconnect

    async def people(self, *, after: str | None, limit: int = MAX_PAGE) -> PeoplePage:
        """Everybody with an account, the oldest first."""
        moment = moment_of(after)
        found = await asked(self._store.people(after=moment, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = bookmark_at(last.created_at, last.id) if last else ""
        return PeoplePage(found[:limit], following)

    async def set_role(self, actor: UUID, user_id: UUID, role: SchoolRole) -> None:
        """It holds from the next request on."""
        try:
            if not await asked(self._store.set_role(actor, user_id, role)):
                raise codes.NOT_FOUND.saying("there is no such user")
        except LastAdmin:
            raise codes.CONFLICT.saying("a school has an admin: make somebody else one first") from None

    async def set_access(self, actor: UUID, user_id: UUID, *, allowed: bool) -> None:
        """Keep somebody out, from now on and on every device, or let them in again. What they have done stays."""
        try:
            if not await asked(self._store.set_access(actor, user_id, allowed=allowed)):
                raise codes.NOT_FOUND.saying("there is no such user")
        except LastAdmin:
            raise codes.CONFLICT.saying("a school has an admin: make somebody else one first") from None
        if not allowed:
            await self._disconnect(str(user_id))

    async def audit(self, *, before: int | None, subject: UUID | None, limit: int = MAX_PAGE) -> AuditPage:
        """What was done, newest first."""
        found = await asked(self._store.audit(before=before, subject=subject, limit=limit + 1))
        return AuditPage(found[:limit], str(found[limit - 1].id) if len(found) > limit else "")
