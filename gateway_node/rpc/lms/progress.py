"""Progress, as RPC methods: a player says every few seconds where it is, and the connection is open already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rights import METHODS, Archived, Refused, Standing, require
from gateway_node.rpc.method import method
from gateway_node.services.lms.progress import Active, Position, Progress, Step
from gateway_node.services.rooms import user_id_of
from realtime import codes
from realtime.core import RPC
from realtime.interfaces import Identity
from storage.lms.progress import LessonProgress

StandingOf = Callable[[UUID, UUID | None], Awaitable[Standing]]


class OneCourse(Struct):
    course_id: UUID


class InLesson(Struct):
    course_id: UUID
    lesson_id: UUID
    position: Position | None = None
    done: bool = False


def methods(progress: Progress, standing_of: StandingOf) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def allowed(identity: Identity, name: str, course_id: UUID) -> Standing:
        standing = await standing_of(user_id_of(identity), course_id)
        try:
            require(METHODS[name], standing)
        except Refused as refused:
            error = codes.PERMISSION_DENIED if refused.known else codes.NOT_FOUND
            raise error.saying(refused.reason) from None
        except Archived as archived:
            raise codes.CONFLICT.saying(str(archived)) from None
        return standing

    async def step(identity: Identity, params: InLesson) -> LessonProgress:
        standing = await allowed(identity, "lesson.step", params.course_id)
        return await progress.step(
            user_id_of(identity),
            params.course_id,
            params.lesson_id,
            Step(params.position, params.done),
            teaches=standing.teaches,
        )

    async def here(identity: Identity, params: OneCourse) -> None:
        await allowed(identity, "course.here", params.course_id)
        await progress.mark(user_id_of(identity), params.course_id)

    async def active(identity: Identity, params: OneCourse) -> Active:
        await allowed(identity, "course.active", params.course_id)
        return await progress.active(params.course_id)

    return {
        "lesson.step": method(InLesson, step),
        "course.here": method(OneCourse, here),
        "course.active": method(OneCourse, active),
    }
