"""Live classes over HTTP: when they are, and who was there. What is done in them comes over the WebSocket, and here as
commands."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid5

from litestar import Response, Router, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.rights import Caller, caller_of, enforce
from gateway_node.http.rooms import IdempotencyKey
from gateway_node.http.services import services_of
from gateway_node.services.classes.classroom import Classrooms
from gateway_node.services.classes.timetable import (
    AttendancePage,
    ClassFields,
    ClassPage,
    CourseAttendancePage,
    NewClass,
    Timetable,
)
from realtime.classroom.commands import Role
from realtime.classroom.wire import command_of
from storage.lms.classes import LiveClass

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
AfterUser = Annotated[UUID | None, QueryParameter(name="after", description="`next` of the page before.")]
CLASSES = "/courses/{course_id:uuid}/classes"
CLASS = CLASSES + "/{class_id:uuid}"


@post(CLASSES, operation_id="scheduleClass")
async def schedule(
    request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[NewClass], idempotency_key: IdempotencyKey = None
) -> Response[LiveClass]:
    """Plan a class. Its room is there from now on; people come in when it is started."""
    caller = caller_of(request)
    made, new = await _timetable(request).schedule(
        caller.user_id, course_id, data, idempotency_key or "", _role(caller)
    )
    headers = {"Location": f"/v1/courses/{course_id}/classes/{made.id}"}
    return Response(made, status_code=HTTPStatus.CREATED if new else HTTPStatus.OK, headers=headers)


@get(CLASSES, operation_id="listClasses")
async def list_(
    request: AnyRequest, course_id: FromPath[UUID], after: After = None, limit: Limit = MAX_PAGE
) -> Response[ClassPage]:
    """The classes of a course, the latest first."""
    found = await _timetable(request).list(course_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(CLASS, operation_id="getClass")
async def get_(request: AnyRequest, course_id: FromPath[UUID], class_id: FromPath[UUID]) -> Response[LiveClass]:
    """A class, as it was planned and held."""
    return Response(await _timetable(request).get(course_id, class_id))


@patch(CLASS, operation_id="updateClass")
async def update(
    request: AnyRequest, course_id: FromPath[UUID], class_id: FromPath[UUID], data: JSONBody[ClassFields]
) -> Response[LiveClass]:
    """Plan a class anew, before it has begun."""
    caller = caller_of(request)
    return Response(await _timetable(request).update(caller.user_id, course_id, class_id, data, _role(caller)))


@post(CLASS + "/commands", operation_id="commandClass", status_code=HTTPStatus.OK)
async def command(
    request: AnyRequest,
    course_id: FromPath[UUID],
    class_id: FromPath[UUID],
    data: JSONBody[dict[str, object]],
    idempotency_key: IdempotencyKey = None,
) -> Response[dict[str, object]]:
    """Start, end, lock, mute … as `class.do` does (docs/classes.md has the commands)."""
    caller = caller_of(request)
    key = uuid5(caller.user_id, f"command {class_id} {idempotency_key}") if idempotency_key else None
    await _timetable(request).get(course_id, class_id)
    verdict = await _classrooms(request).do(caller.identity, class_id, command_of(data), key)
    return Response({"offset": verdict.offset, "changes": verdict.changes})


@get(CLASS + "/attendance", operation_id="getAttendance")
async def attendance(
    request: AnyRequest,
    course_id: FromPath[UUID],
    class_id: FromPath[UUID],
    after: AfterUser = None,
    limit: Limit = MAX_PAGE,
) -> Response[AttendancePage]:
    """Who was there, from when to when, and for how long."""
    found = await _timetable(request).attendance(course_id, class_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(CLASS + "/attendance.csv", operation_id="exportAttendance", media_type="text/csv; charset=utf-8")
async def export(request: AnyRequest, course_id: FromPath[UUID], class_id: FromPath[UUID]) -> Stream:
    """The same as a table."""
    await _timetable(request).get(course_id, class_id)
    return Stream(
        _timetable(request).export(class_id),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="attendance.csv"'},
    )


@get("/courses/{course_id:uuid}/attendance", operation_id="getCourseAttendance")
async def of_course(
    request: AnyRequest, course_id: FromPath[UUID], after: AfterUser = None, limit: Limit = MAX_PAGE
) -> Response[CourseAttendancePage]:
    """How many of the course's classes each student was in, and for how long."""
    found = await _timetable(request).of_course(course_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


def _role(caller: Caller) -> Role:
    """An admin of the school is a teacher everywhere."""
    return caller.standing.course_role or "teacher"


def _timetable(request: AnyRequest) -> Timetable:
    return services_of(request).classes.timetable


def _classrooms(request: AnyRequest) -> Classrooms:
    return services_of(request).classes.classrooms


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[schedule, list_, get_, update, command, attendance, export, of_course],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Live classes"],
    )
