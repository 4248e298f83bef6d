"""People: finding them, their names, who is online and when they were last seen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog
from msgspec import Struct

from gateway_node.services.profiles import Public, checked
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from presence import Away, Online, Pipe
from realtime import codes
from realtime.interfaces import Identity
from storage.database import DatabaseUnavailable
from storage.people import NoPicture, PeopleStore, Person, ProfileChange
from storage.users import User

MAX_FOUND = 20
MAX_ASKED = 100  # users in one question for their status
MAX_QUERY = 255  # characters: an address has no more
SEEN_PERIOD = 2.0  # s between two notes of who has gone
MAX_UNNOTED = 100_000  # users who have gone while PostgreSQL is away

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_log = structlog.get_logger(__name__)


class Status(Struct, omit_defaults=True):
    """`online` is null while Redis cannot say; `last_seen` is missing for whoever never went."""

    online: bool | None
    last_seen: datetime | None = None


class People:
    """Every method that answers a user raises `CommandError` to refuse: 107 for bad values, 1002 where there is no such
    user, 100 while PostgreSQL is away."""

    def __init__(self, store: PeopleStore, redis: Pipe) -> None:
        self._store = store
        self._online = Online(redis)
        self._gone: dict[UUID, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, identity: Identity, query: str) -> list[Person]:
        """Those whose name begins so, in any case, or whoever has this whole address; 20 at most."""
        user_id_of(identity)
        query = query.strip()
        if not 1 <= len(query) <= MAX_QUERY or _CONTROL.search(query):
            raise codes.BAD_REQUEST.at("/query", f"the beginning of a name, or an address: 1 to {MAX_QUERY} characters")
        try:
            return await self._store.find(query, MAX_FOUND)
        except DatabaseUnavailable:
            raise codes.INTERNAL from None

    async def update(self, identity: Identity, change: ProfileChange) -> User:
        """Change one's own profile. Tokens say the old name until they are refreshed."""
        try:
            user = await asked(self._store.update(user_id_of(identity), checked(change)))
        except NoPicture:
            raise codes.BAD_REQUEST.at("/avatar_id", "an image that you have uploaded is wanted") from None
        if user is None:
            raise codes.NOT_FOUND.saying("the token names no account of this server")
        return user

    async def get(self, identity: Identity, user_id: UUID) -> Public:
        """What everybody may know of somebody who is not disabled."""
        user_id_of(identity)
        user = await asked(self._store.get(user_id))
        if user is None:
            raise codes.NOT_FOUND.saying("there is no such user")
        return Public(
            str(user.id), user.name, user.bio, f"/v1/users/{user.id}/avatar" if user.avatar_id is not None else ""
        )

    async def status(self, identity: Identity, user_ids: Sequence[UUID]) -> dict[str, Status]:
        """Who of these is online, and when they were last seen; those with whom no room is shared are left out."""
        if len(user_ids) > MAX_ASKED:
            raise codes.BAD_REQUEST.at("/user_ids", f"at most {MAX_ASKED} users")
        try:
            known = await self._store.known_to(user_id_of(identity), list(set(user_ids)))
        except DatabaseUnavailable:
            raise codes.INTERNAL from None
        users = [str(user_id) for user_id in known]
        online: Sequence[bool | None]
        try:
            online = await self._online.which(users)
        except Away:
            online = [None] * len(users)
        return {user: Status(there, seen) for user, there, seen in zip(users, online, known.values(), strict=True)}

    # --- who has gone ------------------------------------------------------------------------------------------

    def went_offline(self, user: str) -> None:
        """Somebody's last device has gone, on whichever node."""
        try:
            user_id = UUID(user)
        except ValueError:
            return  # a user of another issuer's, whom only the token knows
        if len(self._gone) < MAX_UNNOTED or user_id in self._gone:
            self._gone[user_id] = datetime.now(UTC)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep_noting(), name="last seen")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._note()

    async def _keep_noting(self) -> None:
        while True:
            await asyncio.sleep(SEEN_PERIOD)
            try:
                await self._note()
            except Exception:
                _log.exception("people.note_failed")

    async def _note(self) -> None:
        gone, self._gone = self._gone, {}
        if not gone:
            return
        try:
            await self._store.seen(gone)
        except DatabaseUnavailable as error:
            self._gone = gone | self._gone
            _log.warning("people.not_noted", users=len(self._gone), error=str(error))
