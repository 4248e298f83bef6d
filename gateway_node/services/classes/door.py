"""Who loses their part in a course, their place in its staff or their account, loses it in its classes at once: their
seat, their hand, and all that they send and see.

The subscription ends on the node that hears of it (`LiveClasses.left_course`); the rest is a command in the log of each
class, because other pages hang up when they read it, and other nodes let go of their media.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID, uuid4

from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.stores import asked
from realtime import codes
from realtime.classroom.commands import Kick, Logged, SetRole
from realtime.interfaces import LogUnavailable
from storage.lms.classes import ClassStore


class ClassDoor:
    """Nothing here raises: what the course says stands. Should the log be away, what they send ends as that of somebody
    who is gone, after 15 s."""

    def __init__(self, live: LiveClasses, store: ClassStore) -> None:
        self._live = live
        self._store = store

    async def left(self, user_id: UUID, course_id: UUID) -> None:
        """Somebody takes part in the course no more."""
        await self._say_in_course(user_id, course_id, Kick(str(user_id)))

    async def demoted(self, user_id: UUID, course_id: UUID) -> None:
        """Somebody of the course's staff is a student of it now."""
        await self._say_in_course(user_id, course_id, SetRole(str(user_id), "student"))

    async def disconnected(self, user: str) -> None:
        """Somebody was disconnected; if their account is disabled, they are not in any class."""
        with suppress(codes.CommandError, ValueError):  # who is no UUID has no account
            seats = await asked(self._store.seats_of_disabled(UUID(user)))
            await self._say(seats, Kick(user))

    async def _say_in_course(self, user_id: UUID, course_id: UUID, command: Kick | SetRole) -> None:
        with suppress(codes.CommandError):
            seats = await asked(self._store.open_seats(course_id, user_id))
            await self._say([each for each in seats if each[1] or await self._has_role(each[0], user_id)], command)

    async def _has_role(self, id: UUID, user_id: UUID) -> bool:
        """Also of whom was given one before they came. That is not worth waiting for a log that is away."""
        with suppress(codes.CommandError, LogUnavailable):
            follower = await self._live.get(id)
            await follower.refresh()
            return str(user_id) in follower.state.roles
        return False

    async def _say(self, seats: Sequence[tuple[UUID, int]], command: Kick | SetRole) -> None:
        for id, seat in seats:
            logged = Logged(
                id=str(uuid4()),
                by="",
                role="server",
                subject_role="student",  # also of whom the staff could not throw out a moment ago
                subject_seat=seat,
                command=command,
            )
            with suppress(codes.CommandError):  # it is over
                await self._live.log_command(id, logged)
