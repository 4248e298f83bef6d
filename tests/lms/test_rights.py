"""Every route and every RPC has a row in the table of rights, and each role gets what its row says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from gateway_node.http.app import create_app
from gateway_node.rights import COURSE_ROLES, METHODS, OPERATIONS, Right
from gateway_node.rights_page import page
from loadtest.server import Server
from realtime.codes import CONFLICT, NOT_FOUND, PERMISSION_DENIED
from tests.chat.person import Person
from tests.gateway_node.http.conftest import make_services
from tests.invariants.rawclient import Refused as Rejected
from tests.lms.school import enrol, ok, published_course, school

DOCS = Path(__file__).parents[2] / "docs"


def handlers() -> Iterator[tuple[str, str, str]]:
    """Method, path and operation of every route of the application."""
    app = create_app(make_services())._app  # type: ignore[attr-defined]
    assert isinstance(app, Litestar)
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and not route.path.startswith("/schema"):
                for method in handler.http_methods - {"HEAD", "OPTIONS"}:
                    yield str(method), route.path_format, str(handler.operation_id)


ROUTES = sorted(handlers())
GUARDED = [each for each in ROUTES if OPERATIONS.get(each[2], Right("public")).place in ("school", "course")]


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {operation for _, _, operation in ROUTES} == set(OPERATIONS)


def test_the_page_in_the_documentation_is_the_table() -> None:
    assert (DOCS / "rights.md").read_text() == page(), "run: .venv/bin/python -m gateway_node.rights_page"


@pytest.mark.integration
async def test_every_method_has_a_row_and_every_row_a_method(server: Server) -> None:
    """Of a method that there is, a stranger to everything gets another answer than of one that there is not."""
    async with school(server, "student") as (student,):
        assert await student.refusal("no.such.method") == 104
        for method in METHODS:
            try:
                await student.rpc(method)
            except Exception as error:
                assert getattr(error, "code", None) != 104, method
    sources = "".join(each.read_text() for each in Path("gateway_node/rpc").rglob("*.py"))
    assert set(re.findall(r'"([a-z]+\.[a-z_]+)": method\(', sources)) == set(METHODS)


@pytest.mark.integration
@pytest.mark.parametrize("place", ["school", "course"])
async def test_each_role_gets_what_its_row_says(server: Server, place: str) -> None:
    """Without a body, so that nothing is changed by whoever may: they are told what is wrong with their request."""
    names = ("admin", "teacher", "assistant", "member", "stranger")
    async with school(server, *names, "teacher of another course") as (*people, outsider):
        admin, teacher, assistant, member, stranger = people
        course = await published_course(teacher)
        await enrol(member, course)
        path = f"/v1/courses/{course['id']}/participants/{assistant.id}"
        ok(await teacher.http("PUT", path, {"role": "assistant"}), 204)
        hidden = await published_course(teacher, admission="closed")
        course_roles = {teacher.id: "teacher", assistant.id: "assistant", member.id: "student"}
        school_roles = {admin.id: "admin", teacher.id: "teacher", outsider.id: "teacher"}
        for method, path, operation in GUARDED:
            right = OPERATIONS[operation]
            if right.place != place:
                continue
            for person in (*people, outsider):
                if place == "school":
                    may = school_roles.get(person.id, "student") in right.roles
                else:
                    may = person is admin or course_roles.get(person.id, "visitor") in right.roles
                status = await tried(person, method, path, course)
                assert (status not in (401, 403)) == may, (operation, person.name, status)
                if operation == "leaveCourse" and person.id in course_roles:  # back in the role of before
                    path_of_person = f"/v1/courses/{course['id']}/participants/{person.id}"
                    ok(await admin.http("PUT", path_of_person, {"role": course_roles[person.id]}), 204)
            if place == "course":
                assert await tried(stranger, method, path, hidden) == 404, operation
                assert (await stranger.http(method, filled(path, hidden), headers={"Authorization": ""})).status == 401


@pytest.mark.integration
async def test_each_role_gets_by_rpc_what_its_row_says(server: Server) -> None:
    """About lessons that are not there, so that nothing is changed by whoever may."""
    async with school(server, "admin", "teacher", "assistant", "member", "stranger") as people:
        admin, teacher, assistant, member, stranger = people
        course, hidden = await published_course(teacher), await published_course(teacher, admission="closed")
        await enrol(member, course)
        path = f"/v1/courses/{course['id']}/participants/{assistant.id}"
        ok(await teacher.http("PUT", path, {"role": "assistant"}), 204)
        roles = {teacher.id: "teacher", assistant.id: "assistant", member.id: "student"}
        rows = {method: right for method, right in METHODS.items() if right.place == "course"}
        for method, right in rows.items():
            for person in people:
                may = person is admin or roles.get(person.id, "visitor") in right.roles
                code = await called(person, method, course)
                assert (code != PERMISSION_DENIED.code) == may, (method, person.name, code)
            assert await called(stranger, method, hidden) == NOT_FOUND.code, method


@pytest.mark.integration
async def test_nothing_is_written_in_an_archived_course(server: Server) -> None:
    """Whoever might is told why not (409), by every row that says so; the other rows stay as they were."""
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        ok(await teacher.http("PUT", f"/v1/courses/{course['id']}/archive"), 204)
        for method, path, operation in GUARDED:
            right = OPERATIONS[operation]
            person = teacher if "teacher" in right.roles else student
            if right.while_open:
                answer = await person.http(method, filled(path, course), content=b"")
                assert (answer.status, answer.body.get("detail")) == (409, "the course is archived"), operation
        for name, right in METHODS.items():
            if right.while_open:
                assert await called(student, name, course) == CONFLICT.code, name


@pytest.mark.integration
async def test_whoever_has_no_token_gets_nothing_but_what_is_for_everybody(server: Server) -> None:
    async with school(server, "student") as (student,):
        for method, path, operation in ROUTES:
            if OPERATIONS[operation].place not in ("public", "key"):
                answer = await student.http(
                    method, re.sub(r"\{\w+\}", str(uuid4()), path), headers={"Authorization": ""}
                )
                # Before the token it may be said that the request is none: a query that lacks what it needs.
                assert answer.status in (400, 401), (operation, answer.status)


async def called(person: Person, method: str, course: dict[str, Any]) -> int:
    """The error of an RPC about a lesson that is not there, 0 where it is none."""
    try:
        await person.rpc(method, course_id=course["id"], lesson_id=str(uuid4()))
    except Rejected as rejected:
        return rejected.code
    return 0


async def tried(person: Person, method: str, path: str, course: dict[str, Any]) -> int:
    """The status of a request about things that are not there, with no body; the course itself stays published."""
    if path.endswith("/archive"):
        status = (await person.http(method, filled(path, course))).status
        if status == 204:
            ok(await person.http("PUT", f"/v1/courses/{course['id']}/publication"), 204)
        return status
    return (await person.http(method, filled(path, course), content=b"")).status


def filled(path: str, course: dict[str, Any]) -> str:
    return re.sub(r"\{\w+\}", lambda _: str(uuid4()), path.replace("{course_id}", course["id"]))


def test_the_roles_of_courses_are_those_of_the_table() -> None:
    named = {role for right in OPERATIONS.values() if right.place == "course" for role in right.roles}
    assert named == {*COURSE_ROLES, "visitor"}
