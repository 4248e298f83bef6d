"""What a user may enter: whether they may connect at all, their rooms, and whether a room is theirs. In batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct

from storage.batches import Batches
from storage.database import Database
from storage.queries import load

_SQL = load("standing")


class Entrance(Struct, frozen=True):
    """Whether a user may connect, and to what: `rooms` are the ids of rooms that are not archived, in no order.

    `heard` is the offset of the user's personal channel in the snapshot in which the rooms were listed: whatever it
    says beyond changes the list. `None` where none was asked for.
    """

    allowed: bool
    heard: int | None = None
    rooms: Sequence[UUID] = ()


class Membership(Struct, frozen=True):
    """`since` is the offset of the room's log at which the user came in, `pair` the two users of a direct room."""

    since: int
    pair: tuple[str, str] | None = None


class _Connecting(NamedTuple):
    user_id: UUID
    session_id: UUID | None
    rooms: int


class StandingStore:
    """Every method raises `DatabaseUnavailable`. Users need not be ours: a token of another issuer names anybody."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entrances: Batches[_Connecting, Entrance] = Batches(self._fetch_entrances)
        self._memberships: Batches[tuple[UUID, UUID], Membership | None] = Batches(self._fetch_memberships)

    async def entrance(self, user: str, session: str, rooms: int = 0) -> Entrance:
        """Whether the user may connect: not when disabled, nor with a login that is revoked, over or unknown.

        `session` is empty for a token that no login made. At most `rooms` rooms are listed: those with the newest talk.
        """
        user_id, session_id = _uuid(user), _uuid(session)
        if session and (user_id is None or session_id is None):
            return Entrance(False)
        if user_id is None:
            return Entrance(True)
        return await self._entrances.ask(_Connecting(user_id, session_id, rooms if str(user_id) == user else 0))

    async def memberships(self, user: str, room_ids: Sequence[UUID]) -> Sequence[Membership | None]:
        """For each room; `None`: the user is no member. The answers are not older than the question."""
        user_id = _uuid(user)
        if user_id is None or str(user_id) != user:  # another spelling is another user, whom no removal would find
            return [None] * len(room_ids)
        return await self._memberships.ask_all((room_id, user_id) for room_id in room_ids)

    async def may_read_threads(self, user: str, threads: Sequence[tuple[UUID, UUID]]) -> Sequence[bool]:
        """For each thread, named by its course and its id, whether the user takes part in the course."""
        user_id = _uuid(user)
        if user_id is None or str(user_id) != user:
            return [False] * len(threads)
        courses, ids = map(list, zip(*threads, strict=True))
        rows = await self._database.fetch(_SQL["threads"], courses, ids, [user_id] * len(threads))
        may = {row["i"] for row in rows}
        return [i in may for i in range(1, len(threads) + 1)]

    async def _fetch_entrances(self, questions: Sequence[_Connecting]) -> Sequence[Entrance]:
        rows = await self._database.fetch(_SQL["entrances"], *map(list, zip(*questions, strict=True)))
        return [Entrance(allowed, heard, rooms or ()) for allowed, heard, rooms in rows]

    async def _fetch_memberships(self, questions: Sequence[tuple[UUID, UUID]]) -> Sequence[Membership | None]:
        answers: list[Membership | None] = [None] * len(questions)
        rows = await self._database.fetch(_SQL["memberships"], *map(list, zip(*questions, strict=True)))
        for i, since, direct_key in rows:
            answers[i - 1] = Membership(since, _pair(direct_key))
        return answers


def _pair(direct_key: str | None) -> tuple[str, str] | None:
    if direct_key is None:
        return None
    one, _, other = direct_key.partition(":")
    return one, other


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
