"""A school for the `mix` scenario: courses, students in them, and the requests that such a day brings.

It is made over the server's REST, in the name of an admin whom `chalkwire user add` makes in the server's folder, so
that is a server of this machine. At the end what students handed in is counted again, there where it is stored.
"""

from __future__ import annotations

import random
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loadtest.engine.worker import user_tokens
from loadtest.plan import Call, Group
from loadtest.target import Local, Unusable

COURSES = 20
LESSONS = 30  # of each course
STUDENTS = 200
COURSES_OF_A_STUDENT = 3
ATTEMPTS = 100  # of each student for an assignment
TIMEOUT = 30.0  # s


@dataclass(frozen=True)
class School:
    groups: Sequence[Group]
    stored: Callable[[], int]
    """How many submissions are there."""


def make(local: Local, shares: Mapping[str, float]) -> School:
    """`shares`: of `read`, `step` and `submit` among the requests. Raises Unusable."""
    if local.data_dir is None or not local.tokens.secret:
        raise Unusable("mix makes a school in the server's folder: let the run start a server (--serve 2).")
    token = user_tokens(local.tokens)
    base = local.url.replace("ws://", "http://").partition("/connection")[0]
    with httpx.Client(base_url=base, timeout=TIMEOUT, trust_env=False) as http:
        asking = _Asking(http, token)
        # Two, because a user has 600 requests a minute.
        admins = [_admin(local.data_dir) for _ in range(2)]
        courses = [_course(asking, admins[number % 2], number) for number in range(COURSES)]
        students = [asking.register(number) for number in range(STUDENTS)]
        calls: dict[str, list[Call]] = {"read": [], "step": [], "submit": []}
        for student in students:
            for course in random.sample(courses, COURSES_OF_A_STUDENT):
                path = f"/v1/courses/{course.id}"
                asking("POST", f"{path}/enrollments", student, {})
                lesson = random.choice(course.lessons)
                calls["read"].append(Call(method="GET", path=path, user=student))
                step = f"{path}/lessons/{lesson}/progress"
                calls["step"].append(Call(method="PUT", path=step, user=student, body='{"position": %n}'))
            submit = f"{path}/assignments/{course.assignment}/submissions"
            calls["submit"].append(Call(method="POST", path=submit, user=student, body='{"text": "Answer %n"}'))

    def stored() -> int:
        with httpx.Client(base_url=base, timeout=TIMEOUT, trust_env=False) as http:
            return sum(_handed_in(_Asking(http, token), admins[0], course) for course in courses)

    return School([Group(name=name, share=share, calls=calls[name]) for name, share in shares.items()], stored)


class _Asking:
    def __init__(self, http: httpx.Client, token: Callable[[str], str]) -> None:
        self._http = http
        self._token = token

    def __call__(self, method: str, path: str, user: str, body: Any = None) -> Any:
        """The answer's JSON. Raises Unusable."""
        try:
            answer = self._http.request(
                method, path, json=body, headers={"Authorization": f"Bearer {self._token(user)}"}
            )
        except httpx.HTTPError as error:
            raise Unusable(f"{method} {path}: {error}.") from None
        return _checked(answer)

    def register(self, number: int) -> str:
        """A student's id."""
        name = f"Student {number + 1}"
        account = {"email": f"{secrets.token_hex(8)}@load.example", "password": secrets.token_hex(12), "name": name}
        return str(_checked(self._http.post("/v1/auth/register", json=account))["id"])


@dataclass(frozen=True)
class _Course:
    id: str
    lessons: Sequence[str]
    assignment: str


def _admin(folder: Path) -> str:
    """The id of a new one."""
    email, password = f"{secrets.token_hex(8)}@load.example", secrets.token_hex(12)
    command = [sys.executable, "-m", "gateway_node", "user", "add", email, "--role", "admin", "--data-dir", str(folder)]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unusable(f"No admin could be made: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().splitlines()[-1]


def _course(asking: _Asking, admin: str, number: int) -> _Course:
    asked = {"title": f"Course {number + 1}", "description": "A course of the load test.", "admission": "open"}
    path = f"/v1/courses/{asking('POST', '/v1/courses', admin, asked)['id']}"
    module = asking("POST", f"{path}/modules", admin, {"title": "All of it"})["id"]
    lessons = []
    for lesson in range(LESSONS):
        content = [{"type": "markdown", "text": "What there is to say. " * 40}]
        fields = {"title": f"Lesson {lesson + 1}", "status": "published", "duration": 600_000, "content": content}
        lessons.append(asking("POST", f"{path}/modules/{module}/lessons", admin, fields)["id"])
    work = {"title": "An essay", "status": "published", "attempts": ATTEMPTS}
    assignment = asking("POST", f"{path}/assignments", admin, work)["id"]
    asking("PUT", f"{path}/publication", admin)
    return _Course(path.rpartition("/")[2], lessons, assignment)


def _handed_in(asking: _Asking, admin: str, course: _Course) -> int:
    """Each student's last attempt has its number."""
    attempts: int = 0
    after = ""
    while True:
        path = f"/v1/courses/{course.id}/assignments/{course.assignment}/submissions{after}"
        page = asking("GET", path, admin)
        attempts += sum(int(each["attempt"]) for each in page["submissions"])
        if not page.get("next"):
            return attempts
        after = f"?after={page['next']}"


def _checked(answer: httpx.Response) -> Any:
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Unusable(
            "The server counts requests by address, and all of these come from one: start it with "
            "CHALKWIRE_LIMITS__REQUESTS_PER_ADDRESS=0 and CHALKWIRE_LIMITS__REGISTRATIONS_PER_ADDRESS=0."
        )
    if answer.is_error:
        raise Unusable(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:200]}")
    return answer.json() if answer.content else None
