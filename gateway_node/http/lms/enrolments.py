"""Who takes part in a course, over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.services import services_of
from gateway_node.services.lms.courses import CourseView
from gateway_node.services.lms.enrolments import Code, Enrolments, ParticipantPage, Report
from storage.lms.enrolments import CourseRole

AfterUser = Annotated[UUID | None, QueryParameter(name="after", description="`next` of the page before.")]


class WithCode(Struct, forbid_unknown_fields=True):
    """`code` where the course wants one."""

    code: Code | None = None


class ByCode(Struct, forbid_unknown_fields=True):
    code: Code


class InRole(Struct, forbid_unknown_fields=True):
    role: CourseRole = "student"


class Table(Struct, forbid_unknown_fields=True):
    """`csv`: a table whose first line names its columns; one of them is `email`."""

    csv: str


@post("/courses/{course_id:uuid}/enrollments", operation_id="enrol")
async def enrol(request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[WithCode]) -> Response[CourseView]:
    """Come into a course; 200 when one was in it."""
    caller = caller_of(request)
    new = await _enrolments(request).enrol(caller.user_id, course_id, data.code)
    return Response(await _course(request, course_id), status_code=HTTPStatus.CREATED if new else HTTPStatus.OK)


@post("/enrollments", operation_id="enrolByCode")
async def by_code(request: AnyRequest, data: JSONBody[ByCode]) -> Response[CourseView]:
    """Come into the course that an invitation code opens; 200 when one was in it."""
    course_id, new = await _enrolments(request).enrol_by_code(caller_of(request).user_id, data.code)
    return Response(await _course(request, course_id), status_code=HTTPStatus.CREATED if new else HTTPStatus.OK)


@delete("/courses/{course_id:uuid}/enrollments", operation_id="leaveCourse")
async def leave(request: AnyRequest, course_id: FromPath[UUID]) -> None:
    """Leave a course. Its last teacher stays."""
    await _enrolments(request).leave(caller_of(request).user_id, course_id)


@get("/courses/{course_id:uuid}/participants", operation_id="listParticipants")
async def participants(
    request: AnyRequest, course_id: FromPath[UUID], after: AfterUser = None, limit: Limit = MAX_PAGE
) -> Response[ParticipantPage]:
    """Everybody who takes part, by id."""
    found = await _enrolments(request).participants(course_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@put(
    "/courses/{course_id:uuid}/participants/{user_id:uuid}",
    operation_id="enrolParticipant",
    status_code=HTTPStatus.NO_CONTENT,
)
async def put_(request: AnyRequest, course_id: FromPath[UUID], user_id: FromPath[UUID], data: JSONBody[InRole]) -> None:
    """Bring somebody into the course. Its teachers also give the other roles."""
    caller = caller_of(request)
    await _enrolments(request).put(caller.user_id, course_id, user_id, data.role, may_appoint=_may_appoint(request))


@delete("/courses/{course_id:uuid}/participants/{user_id:uuid}", operation_id="removeParticipant")
async def remove(request: AnyRequest, course_id: FromPath[UUID], user_id: FromPath[UUID]) -> None:
    """End somebody's part in the course, and their live access at once."""
    caller = caller_of(request)
    await _enrolments(request).remove(caller.user_id, course_id, user_id, may_appoint=_may_appoint(request))


@post("/courses/{course_id:uuid}/participants", operation_id="enrolFromTable", status_code=HTTPStatus.OK)
async def from_table(request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[Table]) -> Response[Report]:
    """Enrol the students of a CSV table; the answer has a result for each line."""
    return Response(await _enrolments(request).from_table(caller_of(request).user_id, course_id, data.csv))


def _enrolments(request: AnyRequest) -> Enrolments:
    return services_of(request).lms.enrolments


def _may_appoint(request: AnyRequest) -> bool:
    standing = caller_of(request).standing
    return standing.is_admin or standing.course_role == "teacher"


async def _course(request: AnyRequest, course_id: UUID) -> CourseView:
    lms = services_of(request).lms
    standing = await lms.standing(caller_of(request).user_id, course_id)
    return await lms.courses.get(
        course_id, teaches=standing.teaches, role=standing.course_role, students=standing.students
    )


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[enrol, by_code, leave, participants, put_, remove, from_table],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Enrolment"],
    )
