"""Assignments, submissions and grades over HTTP."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.preconditions import IfMatch, expected_version, version_tag
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.rooms import IdempotencyKey
from gateway_node.http.services import services_of
from gateway_node.services.lms.assignments import (
    AssignmentFields,
    AssignmentPage,
    Assignments,
    AssignmentView,
    Gradebook,
    NewAssignment,
    NewGrade,
    NewSubmission,
    SubmissionPage,
    SubmissionView,
)

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
AfterUser = Annotated[UUID | None, QueryParameter(name="after", description="`next` of the page before.")]
ASSIGNMENTS = "/courses/{course_id:uuid}/assignments"
ASSIGNMENT = ASSIGNMENTS + "/{assignment_id:uuid}"
SUBMISSION = "/courses/{course_id:uuid}/submissions/{submission_id:uuid}"


class DueDate(Struct, forbid_unknown_fields=True):
    due_date: datetime


@post(ASSIGNMENTS, operation_id="createAssignment")
async def create(
    request: AnyRequest,
    course_id: FromPath[UUID],
    data: JSONBody[NewAssignment],
    idempotency_key: IdempotencyKey = None,
) -> Response[AssignmentView]:
    """Make an assignment: a draft, unless it says that it is published."""
    made, new = await _assignments(request).add(caller_of(request).user_id, course_id, data, idempotency_key or "")
    location = f"/v1/courses/{course_id}/assignments/{made.id}"
    return Response(
        made,
        status_code=HTTPStatus.CREATED if new else HTTPStatus.OK,
        headers={"ETag": version_tag(made.version), "Location": location},
    )


@get(ASSIGNMENTS, operation_id="listAssignments")
async def list_(
    request: AnyRequest, course_id: FromPath[UUID], after: After = None, limit: Limit = MAX_PAGE
) -> Response[AssignmentPage]:
    """The assignments of a course, oldest first."""
    teaches = caller_of(request).standing.teaches
    found = await _assignments(request).list(course_id, teaches=teaches, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(ASSIGNMENT, operation_id="getAssignment")
async def get_(
    request: AnyRequest, course_id: FromPath[UUID], assignment_id: FromPath[UUID]
) -> Response[AssignmentView]:
    """An assignment, and when it is due for oneself."""
    caller = caller_of(request)
    found = await _assignments(request).get(caller.user_id, course_id, assignment_id, teaches=caller.standing.teaches)
    return Response(found, headers={"ETag": version_tag(found.version)})


@patch(ASSIGNMENT, operation_id="updateAssignment")
async def update(
    request: AnyRequest,
    course_id: FromPath[UUID],
    assignment_id: FromPath[UUID],
    data: JSONBody[AssignmentFields],
    if_match: IfMatch = None,
) -> Response[AssignmentView]:
    """Change an assignment."""
    changed = await _assignments(request).update(
        caller_of(request).user_id, course_id, assignment_id, data, lambda now: expected_version(request, now)
    )
    return Response(changed, headers={"ETag": version_tag(changed.version)})


@delete(ASSIGNMENT, operation_id="deleteAssignment")
async def delete_(request: AnyRequest, course_id: FromPath[UUID], assignment_id: FromPath[UUID]) -> None:
    """Delete an assignment; 409 when something was handed in for it."""
    await _assignments(request).delete(course_id, assignment_id)


@put(ASSIGNMENT + "/extensions/{user_id:uuid}", operation_id="extendAssignment", status_code=HTTPStatus.NO_CONTENT)
async def extend(
    request: AnyRequest,
    course_id: FromPath[UUID],
    assignment_id: FromPath[UUID],
    user_id: FromPath[UUID],
    data: JSONBody[DueDate],
) -> None:
    """Give one student more time."""
    await _assignments(request).extend(caller_of(request).user_id, course_id, assignment_id, user_id, data.due_date)


@post(ASSIGNMENT + "/submissions", operation_id="submitAssignment")
async def submit(
    request: AnyRequest,
    course_id: FromPath[UUID],
    assignment_id: FromPath[UUID],
    data: JSONBody[NewSubmission],
    idempotency_key: IdempotencyKey = None,
) -> Response[SubmissionView]:
    """Hand something in. The answer is the receipt: its id, its time and its attempt."""
    made, new = await _assignments(request).submit(
        caller_of(request).user_id, course_id, assignment_id, data, idempotency_key or ""
    )
    location = f"/v1/courses/{course_id}/submissions/{made.id}"
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    return Response(made, status_code=status, headers={"Location": location})


@get(ASSIGNMENT + "/submissions", operation_id="listSubmissions")
async def handed_in(
    request: AnyRequest,
    course_id: FromPath[UUID],
    assignment_id: FromPath[UUID],
    after: AfterUser = None,
    limit: Limit = MAX_PAGE,
) -> Response[SubmissionPage]:
    """The last attempt of each student, by their id."""
    found = await _assignments(request).handed_in(course_id, assignment_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(ASSIGNMENT + "/submissions/mine", operation_id="listMySubmissions")
async def mine(
    request: AnyRequest, course_id: FromPath[UUID], assignment_id: FromPath[UUID]
) -> Response[SubmissionPage]:
    """One's own attempts, the first one first."""
    return Response(await _assignments(request).mine(caller_of(request).user_id, course_id, assignment_id))


@get(SUBMISSION, operation_id="getSubmission")
async def submission(
    request: AnyRequest, course_id: FromPath[UUID], submission_id: FromPath[UUID]
) -> Response[SubmissionView]:
    """What was handed in: one's own, or anybody's to the staff."""
    return await _tagged(request, course_id, submission_id)


@put(SUBMISSION + "/grade", operation_id="gradeSubmission")
async def grade(
    request: AnyRequest,
    course_id: FromPath[UUID],
    submission_id: FromPath[UUID],
    data: JSONBody[NewGrade],
    if_match: IfMatch = None,
) -> Response[SubmissionView]:
    """Grade, as a draft that the student does not see."""
    await _assignments(request).grade(
        caller_of(request).user_id, course_id, submission_id, data, lambda now: expected_version(request, now)
    )
    return await _tagged(request, course_id, submission_id)


@put(SUBMISSION + "/return", operation_id="returnSubmission")
async def give_back(
    request: AnyRequest, course_id: FromPath[UUID], submission_id: FromPath[UUID]
) -> Response[SubmissionView]:
    """Give the grade and the feedback back to the student: now it counts."""
    await _assignments(request).give_back(caller_of(request).user_id, course_id, submission_id)
    return await _tagged(request, course_id, submission_id)


@get("/courses/{course_id:uuid}/gradebook", operation_id="getGradebook")
async def gradebook(
    request: AnyRequest, course_id: FromPath[UUID], after: AfterUser = None, limit: Limit = MAX_PAGE
) -> Response[Gradebook]:
    """What counts: the points of each student, by their id."""
    found = await _assignments(request).gradebook(course_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/courses/{course_id:uuid}/gradebook.csv", operation_id="exportGradebook", media_type="text/csv; charset=utf-8")
async def export(request: AnyRequest, course_id: FromPath[UUID]) -> Stream:
    """The gradebook as a table."""
    return Stream(
        _assignments(request).export(course_id),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="gradebook.csv"'},
    )


@get("/courses/{course_id:uuid}/grades", operation_id="getMyGrades")
async def grades(request: AnyRequest, course_id: FromPath[UUID]) -> Response[Gradebook]:
    """One's own grades."""
    return Response(await _assignments(request).my_grades(caller_of(request).user_id, course_id))


async def _tagged(request: AnyRequest, course_id: UUID, submission_id: UUID) -> Response[SubmissionView]:
    caller = caller_of(request)
    found = await _assignments(request).submission(
        caller.user_id, course_id, submission_id, teaches=caller.standing.teaches
    )
    return Response(found, headers={"ETag": version_tag(found.version)})


def _assignments(request: AnyRequest) -> Assignments:
    return services_of(request).lms.assignments


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[
            *(create, list_, get_, update, delete_, extend, submit, handed_in, mine, submission),
            *(grade, give_back, gradebook, export, grades),
        ],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Assignments"],
    )
