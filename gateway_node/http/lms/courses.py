"""Courses, modules and lessons over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.preconditions import IfMatch, expected_version, version_tag
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.rooms import IdempotencyKey
from gateway_node.http.services import services_of
from gateway_node.services.lms.courses import (
    CourseFields,
    CoursePage,
    Courses,
    CourseView,
    LessonFields,
    NewCourse,
    NewLesson,
    Order,
)
from storage.lms.courses import Difficulty, Lesson, Module

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
Words = Annotated[str, QueryParameter(name="query", max_length=255, description="Words of title and description.")]
Tag = Annotated[str, QueryParameter(name="tag", max_length=50, description="Courses with this tag.")]
Level = Annotated[Difficulty, QueryParameter(name="difficulty", description="Courses of this difficulty.")]


class Title(Struct, forbid_unknown_fields=True):
    title: str


@post("/courses", operation_id="createCourse")
async def create(
    request: AnyRequest, data: JSONBody[NewCourse], idempotency_key: IdempotencyKey = None
) -> Response[CourseView]:
    """Make a course: a draft, which its staff sees."""
    course, new = await _courses(request).create(caller_of(request).user_id, data, idempotency_key or "")
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    return _tagged(course, status, Location=f"/v1/courses/{course.id}")


@get("/courses", operation_id="listCourses")
async def catalogue(
    request: AnyRequest,
    *,
    words: Words = "",
    tag: Tag = "",
    difficulty: Level = "",
    after: After = None,
    limit: Limit = MAX_PAGE,
) -> Response[CoursePage]:
    """The courses that one may come into, newest first."""
    found = await _courses(request).catalogue(words=words, tag=tag, difficulty=difficulty, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/me/courses", operation_id="listMyCourses")
async def mine(request: AnyRequest, after: After = None, limit: Limit = MAX_PAGE) -> Response[CoursePage]:
    """The courses that one is in, latest enrolment first."""
    found = await _courses(request).mine(caller_of(request).user_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/courses/{course_id:uuid}", operation_id="getCourse")
async def get_(request: AnyRequest, course_id: FromPath[UUID]) -> Response[CourseView]:
    """A course with the outline of its lessons. Students see what is released."""
    return _tagged(await _seen(request, course_id, caller_of(request).standing.version))


@patch("/courses/{course_id:uuid}", operation_id="updateCourse")
async def update(
    request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[CourseFields], if_match: IfMatch = None
) -> Response[CourseView]:
    """Change what is said of a course."""
    caller = caller_of(request)
    await _courses(request).update(caller.user_id, course_id, data, lambda now: expected_version(request, now))
    return _tagged(await _seen(request, course_id))


@put("/courses/{course_id:uuid}/publication", operation_id="publishCourse", status_code=HTTPStatus.NO_CONTENT)
async def publish(request: AnyRequest, course_id: FromPath[UUID]) -> None:
    """Let students see a course, an archived one again."""
    await _courses(request).publish(caller_of(request).user_id, course_id)


@put("/courses/{course_id:uuid}/archive", operation_id="archiveCourse", status_code=HTTPStatus.NO_CONTENT)
async def archive(request: AnyRequest, course_id: FromPath[UUID]) -> None:
    """End a course: it can be read, and nothing more."""
    await _courses(request).archive(caller_of(request).user_id, course_id)


@delete("/courses/{course_id:uuid}", operation_id="deleteCourse")
async def delete_(request: AnyRequest, course_id: FromPath[UUID]) -> None:
    """Delete a course that nobody uses; 409 says what is in the way: students, lessons, assignments, threads."""
    await _courses(request).delete(caller_of(request).user_id, course_id)


@put("/courses/{course_id:uuid}/order", operation_id="orderCourse", status_code=HTTPStatus.NO_CONTENT)
async def order(
    request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[Order], if_match: IfMatch = None
) -> None:
    """Put all modules and lessons in order."""
    await _courses(request).order(course_id, data, lambda now: expected_version(request, now))


@post("/courses/{course_id:uuid}/modules", operation_id="createModule")
async def add_module(
    request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[Title], idempotency_key: IdempotencyKey = None
) -> Response[Module]:
    """Add a module at the end."""
    user_id = caller_of(request).user_id
    made, new = await _courses(request).add_module(user_id, course_id, data.title, idempotency_key or "")
    return Response(made, status_code=HTTPStatus.CREATED if new else HTTPStatus.OK)


@patch(
    "/courses/{course_id:uuid}/modules/{module_id:uuid}",
    operation_id="updateModule",
    status_code=HTTPStatus.NO_CONTENT,
)
async def rename_module(
    request: AnyRequest,
    course_id: FromPath[UUID],
    module_id: FromPath[UUID],
    data: JSONBody[Title],
    if_match: IfMatch = None,
) -> None:
    """Rename a module. `If-Match` takes the `ETag` of the course."""
    await _courses(request).rename_module(course_id, module_id, data.title, lambda now: expected_version(request, now))


@delete("/courses/{course_id:uuid}/modules/{module_id:uuid}", operation_id="deleteModule")
async def delete_module(request: AnyRequest, course_id: FromPath[UUID], module_id: FromPath[UUID]) -> None:
    """Delete a module without lessons."""
    await _courses(request).delete_module(course_id, module_id)


@post("/courses/{course_id:uuid}/modules/{module_id:uuid}/lessons", operation_id="createLesson")
async def add_lesson(
    request: AnyRequest,
    course_id: FromPath[UUID],
    module_id: FromPath[UUID],
    data: JSONBody[NewLesson],
    idempotency_key: IdempotencyKey = None,
) -> Response[Lesson]:
    """Add a lesson at the end of a module."""
    user_id = caller_of(request).user_id
    lesson, new = await _courses(request).add_lesson(user_id, course_id, module_id, data, idempotency_key or "")
    location = f"/v1/courses/{course_id}/lessons/{lesson.id}"
    return Response(
        lesson,
        status_code=HTTPStatus.CREATED if new else HTTPStatus.OK,
        headers={"ETag": version_tag(lesson.version), "Location": location},
    )


@get("/courses/{course_id:uuid}/lessons/{lesson_id:uuid}", operation_id="getLesson")
async def lesson(request: AnyRequest, course_id: FromPath[UUID], lesson_id: FromPath[UUID]) -> Response[Lesson]:
    """A lesson with its content."""
    found = await _courses(request).lesson(course_id, lesson_id, teaches=caller_of(request).standing.teaches)
    return Response(found, headers={"ETag": version_tag(found.version)})


@patch("/courses/{course_id:uuid}/lessons/{lesson_id:uuid}", operation_id="updateLesson")
async def update_lesson(
    request: AnyRequest,
    course_id: FromPath[UUID],
    lesson_id: FromPath[UUID],
    data: JSONBody[LessonFields],
    if_match: IfMatch = None,
) -> Response[Lesson]:
    """Change a lesson."""
    changed = await _courses(request).update_lesson(
        caller_of(request).user_id, course_id, lesson_id, data, lambda now: expected_version(request, now)
    )
    return Response(changed, headers={"ETag": version_tag(changed.version)})


@delete("/courses/{course_id:uuid}/lessons/{lesson_id:uuid}", operation_id="deleteLesson")
async def delete_lesson(request: AnyRequest, course_id: FromPath[UUID], lesson_id: FromPath[UUID]) -> None:
    """Delete a lesson."""
    await _courses(request).delete_lesson(course_id, lesson_id)


def _courses(request: AnyRequest) -> Courses:
    return services_of(request).lms.courses


async def _seen(request: AnyRequest, course_id: UUID, version: int = 0) -> CourseView:
    """`version`: the present one, where it is known: not after a change."""
    standing = caller_of(request).standing
    return await _courses(request).get(
        course_id,
        teaches=standing.teaches,
        role=standing.course_role,
        students=standing.students,
        version=version,
    )


def _tagged(course: CourseView, status: int = HTTPStatus.OK, **headers: str) -> Response[CourseView]:
    return Response(course, status_code=status, headers={"ETag": version_tag(course.version), **headers})


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[
            *(create, catalogue, mine, get_, update, publish, archive, delete_, order),
            *(add_module, rename_module, delete_module, add_lesson, lesson, update_lesson, delete_lesson),
        ],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Courses"],
    )
