"""Progress over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import Response, Router, get, put
from litestar.params import FromPath, JSONBody, QueryParameter

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.services import services_of
from gateway_node.services.lms.progress import Active, CourseProgress, Progress, Step, StudentPage
from storage.lms.progress import LessonProgress

AfterUser = Annotated[UUID | None, QueryParameter(name="after", description="`next` of the page before.")]


@put("/courses/{course_id:uuid}/lessons/{lesson_id:uuid}/progress", operation_id="stepInLesson")
async def step(
    request: AnyRequest, course_id: FromPath[UUID], lesson_id: FromPath[UUID], data: JSONBody[Step]
) -> Response[LessonProgress]:
    """Note that one is in a lesson, and how far."""
    caller = caller_of(request)
    return Response(
        await _progress(request).step(caller.user_id, course_id, lesson_id, data, teaches=caller.standing.teaches)
    )


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


@get("/courses/{course_id:uuid}/active", operation_id="getActiveUsers")
async def active(request: AnyRequest, course_id: FromPath[UUID]) -> Response[Active]:
    """How many are in the course and in each of its lessons now."""
    return Response(await _progress(request).active(course_id))


def _progress(request: AnyRequest) -> Progress:
    return services_of(request).lms.progress


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[step, mine, of_students, active],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Progress"],
    )
