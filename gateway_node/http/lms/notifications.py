"""Notifications and reports over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, get, put
from litestar.params import FromPath, JSONBody, QueryParameter

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.services import services_of
from gateway_node.services.lms.notifications import NotificationPage, Notifications, Unread, Wishes
from gateway_node.services.lms.reports import MAX_DAYS, Part, Report, table

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
Days = Annotated[int, QueryParameter(name="days", ge=1, le=MAX_DAYS, description="How far back, today included.")]
OfWhat = Annotated[Part, QueryParameter(name="of", description="Which part.")]
CSV = "text/csv; charset=utf-8"


@get("/notifications", operation_id="listNotifications")
async def list_(request: AnyRequest, after: After = None, limit: Limit = MAX_PAGE) -> Response[NotificationPage]:
    """What one was told, newest first, and how much of it is unread."""
    found = await _notifications(request).list(caller_of(request).user_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@put("/notifications/read", operation_id="readNotifications")
async def read_all(request: AnyRequest) -> Response[Unread]:
    """All are read."""
    return Response(await _notifications(request).read(caller_of(request).user_id))


@put("/notifications/{notification_id:uuid}/read", operation_id="readNotification")
async def read_one(request: AnyRequest, notification_id: FromPath[UUID]) -> Response[Unread]:
    """One is read."""
    return Response(await _notifications(request).read(caller_of(request).user_id, notification_id))


@get("/me/notifications", operation_id="getNotificationSettings")
async def wishes(request: AnyRequest) -> Response[Wishes]:
    """What one is told, by kind and way."""
    return Response(await _notifications(request).wishes(caller_of(request).user_id))


@put("/me/notifications", operation_id="setNotificationSettings", status_code=HTTPStatus.NO_CONTENT)
async def set_wishes(request: AnyRequest, data: JSONBody[Wishes]) -> None:
    """Say what one wants to be told, and how."""
    await _notifications(request).set_wishes(caller_of(request).user_id, data)


@get("/courses/{course_id:uuid}/report", operation_id="getCourseReport")
async def of_course(request: AnyRequest, course_id: FromPath[UUID], days: Days = 30) -> Response[Report]:
    """What happened in a course."""
    return Response(await services_of(request).lms.reports.of_course(course_id, days))


@get("/courses/{course_id:uuid}/report.csv", operation_id="exportCourseReport", media_type=CSV)
async def of_course_as_table(
    request: AnyRequest, course_id: FromPath[UUID], days: Days = 30, part: OfWhat = "days"
) -> Response[bytes]:
    """A part of the same as a table: a line for each day, lesson or item."""
    return Response(table(await services_of(request).lms.reports.of_course(course_id, days), part), media_type=CSV)


@get("/school/report", operation_id="getSchoolReport")
async def of_school(request: AnyRequest, days: Days = 30) -> Response[Report]:
    """What happened in all courses."""
    return Response(await services_of(request).lms.reports.of_school(days))


@get("/school/report.csv", operation_id="exportSchoolReport", media_type=CSV)
async def of_school_as_table(request: AnyRequest, days: Days = 30, part: OfWhat = "days") -> Response[bytes]:
    """A part of the same as a table: a line for each day, or the grades."""
    return Response(table(await services_of(request).lms.reports.of_school(days), part), media_type=CSV)


def _notifications(request: AnyRequest) -> Notifications:
    return services_of(request).lms.notifications


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[
            *(list_, read_all, read_one, wishes, set_wishes),
            *(of_course, of_course_as_table, of_school, of_school_as_table),
        ],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Notifications and reports"],
    )
