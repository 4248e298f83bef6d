"""Who may do something in a class, as far as the log goes: nobody is refused for what this node has not heard yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from gateway_node.services.classes.follower import ClassFollower
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.stores import asked
from realtime import codes
from realtime.classroom.commands import Role
from realtime.interfaces import Identity, LogUnavailable
from storage.lms.classes import ClassStanding, ClassStore


class Insiders:
    def __init__(self, live: LiveClasses, store: ClassStore) -> None:
        self._live = live
        self._store = store

    async def find(self, identity: Identity, id: UUID, *, live: bool = False) -> tuple[ClassFollower, ClassStanding]:
        """Whoever is in the class. Raises error 102 or 103 to others, 1003 where it does not go on (`live`)."""
        follower = await self._live.get(id)
        standing = await self._live.standing(identity, id)
        if standing.seat is None:
            raise codes.PERMISSION_DENIED.saying("not in the class")
        seat, role = standing.seat, role_in_course(standing)
        if not follower.state.is_in(identity.user, role, seat):
            await reached(follower.refresh())
            if not follower.state.is_in(identity.user, role, seat):
                raise codes.PERMISSION_DENIED.saying("not in the class")
        if live:
            await self.hold_against(follower, follower.check_live)
        return follower, standing

    async def here(self, identity: Identity, id: UUID) -> ClassFollower:
        """A class that goes on, for whoever is in it. Of those who are subscribed on this node PostgreSQL is asked
        nothing, as who is taken out is unsubscribed: what is passing goes on while it is away. Raises what `find` does.
        """
        follower = await self._live.get(id)
        if follower.has(identity.user):
            await self.hold_against(follower, follower.check_live)
        else:
            await self.find(identity, id, live=True)
        return follower

    async def other(self, follower: ClassFollower, user: str) -> ClassStanding:
        """Somebody else in the class. Raises error 1002."""
        try:
            standing = await asked(self._store.standing(follower.id, UUID(user)))
        except ValueError:
            standing = None
        if standing is None or standing.role is None or standing.seat is None:
            raise codes.NOT_FOUND.saying("there is no such person in the class")
        role, seat = standing.role, standing.seat

        def check() -> None:
            if not follower.state.is_in(user, role, seat):
                raise codes.NOT_FOUND.saying("there is no such person in the class")

        await self.hold_against(follower, check)
        return standing

    async def hold_against(self, follower: ClassFollower, check: Callable[[], object]) -> None:
        """Look again where the log is now before somebody is refused: another node may have heard what this has not."""
        try:
            check()
        except codes.CommandError:
            await reached(follower.refresh())
            check()


def role_in_course(standing: ClassStanding) -> Role:
    assert standing.role is not None, "whoever has none was refused"
    return standing.role


async def reached(wait: Awaitable[None]) -> None:
    """Wait for the log. Raises error 100 while it, or PostgreSQL, is away."""
    try:
        await asked(wait)
    except LogUnavailable:
        raise codes.INTERNAL.saying("the message log is not available") from None
