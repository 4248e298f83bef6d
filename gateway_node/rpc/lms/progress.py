"""Progress, as RPC methods: a player says every few seconds where it is, and the connection is open already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rights import METHODS, Archived, Refused, Standing, require
from gateway_node.rpc.method import method
from gateway_node.services.lms.activity import Active, Activity
from gateway_node.services.lms.progress import LessonProgress, Position, Progress, Step
from gateway_node.services.rooms import user_id_of
from realtime import codes
from realtime.core import RPC
from realtime.interfaces import Identity

StandingOf = Callable[[UUID, UUID | None], Awaitable[Standing]]


class OneCourse(Struct):
    course_id: UUID


class Here(Struct):
    course_id: UUID
    lesson_id: UUID | None = None


class InLesson(Struct):
    course_id: UUID
    lesson_id: UUID
    position: Position | None = None
    done: bool = False


def methods(progress: Progress, activity: Activity, standing_of: StandingOf) -> Mapping[str, RPC]:
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
        await allowed(identity, "lesson.step", params.course_id)
        user_id, said = user_id_of(identity), Step(params.position, params.done)
        found = await progress.step(user_id, params.course_id, params.lesson_id, said)
        await activity.mark(user_id, params.course_id, params.lesson_id)
        return found

    async def here(identity: Identity, params: Here) -> None:
        standing = await allowed(identity, "course.here", params.course_id)
        await activity.here(user_id_of(identity), params.course_id, params.lesson_id, teaches=standing.teaches)

    async def active(identity: Identity, params: OneCourse) -> Active:
        await allowed(identity, "course.active", params.course_id)
        return await activity.active(params.course_id, watcher=user_id_of(identity))

    return {
        "lesson.step": method(InLesson, step),
        "course.here": method(Here, here),
        "course.active": method(OneCourse, active),
    }
