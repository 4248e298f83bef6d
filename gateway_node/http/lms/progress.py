"""Progress over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.services import services_of
from gateway_node.services.lms.activity import Active
from gateway_node.services.lms.progress import CourseProgress, LessonProgress, Progress, Step, StudentPage

AfterUser = Annotated[UUID | None, QueryParameter(name="after", description="`next` of the page before.")]


class Here(Struct, forbid_unknown_fields=True):
    """`lesson_id`: the lesson that one is in."""

    lesson_id: UUID | None = None


@put("/courses/{course_id:uuid}/lessons/{lesson_id:uuid}/progress", operation_id="stepInLesson")
async def step(
    request: AnyRequest, course_id: FromPath[UUID], lesson_id: FromPath[UUID], data: JSONBody[Step]
) -> Response[LessonProgress]:
    """Note that one is in a lesson, and how far."""
    user_id = caller_of(request).user_id
    found = await _progress(request).step(user_id, course_id, lesson_id, data)
    await services_of(request).lms.activity.mark(user_id, course_id, lesson_id)
    return Response(found)


@get("/courses/{course_id:uuid}/progress", operation_id="getMyProgress")
async def mine(request: AnyRequest, course_id: FromPath[UUID]) -> Response[CourseProgress]:
    """How far one has come, with where to go on in each lesson."""
    return Response(await _progress(request).mine(caller_of(request).user_id, course_id))


@get("/courses/{course_id:uuid}/progress/students", operation_id="listProgress")
async def of_students(
    request: AnyRequest, course_id: FromPath[UUID], after: AfterUser = None, limit: Limit = MAX_PAGE
) -> Response[StudentPage]:
    """How far each student has come, by their id."""
    found = await _progress(request).of_students(course_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/courses/{course_id:uuid}/progress/students/{user_id:uuid}", operation_id="getProgress")
async def of_student(
    request: AnyRequest, course_id: FromPath[UUID], user_id: FromPath[UUID]
) -> Response[CourseProgress]:
    """How far a student has come, lesson by lesson."""
    return Response(await _progress(request).of_student(user_id, course_id))


@post("/courses/{course_id:uuid}/active", operation_id="beActive", status_code=HTTPStatus.NO_CONTENT)
async def here(request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[Here]) -> None:
    """Say, once a minute, that one is in the course, and in which lesson."""
    caller = caller_of(request)
    activity = services_of(request).lms.activity
    await activity.here(caller.user_id, course_id, data.lesson_id, teaches=caller.standing.teaches)


@get("/courses/{course_id:uuid}/active", operation_id="getActiveUsers")
async def active(request: AnyRequest, course_id: FromPath[UUID]) -> Response[Active]:
    """How many are in the course and in each of its lessons now."""
    return Response(await services_of(request).lms.activity.active(course_id))


def _progress(request: AnyRequest) -> Progress:
    return services_of(request).lms.progress


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[step, mine, of_students, of_student, here, active],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Progress"],
    )
