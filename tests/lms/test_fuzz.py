"""Requests made from the server's own description of its API: whatever they say, none is answered with 5xx.

The examples are the same in each run. For more, and others:

    FUZZ_EXAMPLES=200 pytest tests/lms/test_fuzz.py
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.lms.school import enrol, ok, published_course, school
from tests.stack import short_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # of each operation; 0: a few, the same each time
FEW = 5
METHODS = ("get", "post", "put", "patch", "delete")
# They end what the others need: the course, the part in it, the login.
LEFT_OUT = {
    "deleteCourse",
    "archiveCourse",
    "leaveCourse",
    "removeParticipant",
    "setSchoolRole",
    "setAccess",
    "disconnect",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with short_folder() as folder, Server(folder / "data", nodes=1, settings=SETTINGS) as running:
        yield running


async def test_no_request_is_answered_with_5xx(server: Server) -> None:
    async with school(server, "admin", "teacher", "student") as (admin, teacher, student):
        ids = await _fill(teacher, student)
        async with httpx.AsyncClient() as client:
            description = (await client.get(server.url("/schema/openapi.json"))).json()
        found: Counter[int] = Counter()
        wrong: list[str] = []
        for token in (admin.token, student.token):
            _ask_everything(_with_ids(description, ids), server, token, found, wrong)
        assert not wrong, "\n".join(wrong)
        # It has not all been refused at the door.
        assert found[200] + found[201] + found[204] > 100, found


def _ask_everything(
    description: dict[str, Any], server: Server, token: str, found: Counter[int], wrong: list[str]
) -> None:
    for result in schemathesis.openapi.from_dict(description).get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES or FEW,
            derandomize=not EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        def ask(case: Any) -> None:
            headers = {"Authorization": f"Bearer {token}", "X-API-Key": server.api_key}
            answer = case.call(base_url=server.url(""), headers=headers, timeout=20)
            found[answer.status_code] += 1
            if answer.status_code >= 500:
                wrong.append(f"{case.method} {case.formatted_path} {case.query} {case.body!r:.300}: {answer.text:.300}")

        ask()


def _with_ids(description: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    """The paths, with what is really there in them: a random id is 404 and shows nothing."""
    paths: dict[str, Any] = {}
    for path, item in description["paths"].items():
        operations = {}
        for method in METHODS:
            operation = item.get(method)
            if operation is None or operation["operationId"] in LEFT_OUT:
                continue
            parameters = [_known(each, ids) for each in operation.get("parameters", [])]
            operations[method] = {**operation, "parameters": parameters}
        if operations:
            paths[path] = operations
    return {**description, "paths": paths}


def _known(parameter: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    if parameter["in"] != "path" or parameter["name"] not in ids:
        return parameter
    return {**parameter, "schema": {"enum": [ids[parameter["name"]]]}}


async def _fill(teacher: Any, student: Any) -> dict[str, str]:
    course = await published_course(teacher)
    await enrol(student, course)
    at = f"/v1/courses/{course['id']}"
    module = ok(await teacher.http("POST", f"{at}/modules", {"title": "One"}), 201)["id"]
    lesson = {"title": "First", "status": "published"}
    lesson_id = ok(await teacher.http("POST", f"{at}/modules/{module}/lessons", lesson), 201)["id"]
    work = {"title": "Work", "status": "published", "attempts": 100}
    work_id = ok(await teacher.http("POST", f"{at}/assignments", work), 201)["id"]
    submission = ok(await student.http("POST", f"{at}/assignments/{work_id}/submissions", {"text": "x"}), 201)["id"]
    question = {"type": "number", "id": "1", "text": "?", "right": 1}
    quiz = {"title": "Quiz", "status": "published", "attempts": 100, "questions": [question]}
    quiz_id = ok(await teacher.http("POST", f"{at}/quizzes", quiz), 201)["id"]
    attempt = ok(await student.http("POST", f"{at}/quizzes/{quiz_id}/attempts"), 201)["id"]
    thread = ok(await teacher.http("POST", f"{at}/threads", {"title": "Thread", "content": "x"}), 201)["id"]
    post = ok(await teacher.http("GET", f"{at}/threads/{thread}/posts"))["posts"][0]["id"]
    return {
        "course_id": course["id"],
        "room_id": course["room_id"],
        "module_id": module,
        "lesson_id": lesson_id,
        "assignment_id": work_id,
        "submission_id": submission,
        "quiz_id": quiz_id,
        "attempt_id": attempt,
        "thread_id": thread,
        "post_id": post,
        "user_id": student.id,
    }
