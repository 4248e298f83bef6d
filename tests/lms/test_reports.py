"""Reports: completion, grades and messages, added up as they happen."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, new_course, ok, published_course, school

pytestmark = pytest.mark.integration
NOWHERE = "00000000-0000-0000-0000-000000000000"


async def report_when(person: Person, path: str, holds: Callable[[Any], bool]) -> Any:
    report = None
    try:
        async with asyncio.timeout(30):
            while not holds(report := ok(await person.http("GET", path))):
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not so: {report}")
    return report


def number_of_grades(report: Any) -> int:
    return report["grades"][0]["grades"] if report["grades"] else 0


async def rows_of(person: Person, path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((await person.http("GET", path)).content.decode())))


async def test_how_far_students_have_come(server: Server) -> None:
    async with school(server, "admin", "teacher", "ann", "ben") as (admin, teacher, ann, ben):
        before = ok(await admin.http("GET", "/v1/school/report"))["completed"]
        course = await published_course(teacher)
        path = f"/v1/courses/{course['id']}"
        module = ok(await teacher.http("POST", f"{path}/modules", {"title": "Basics"}), 201)
        lessons = [
            ok(
                await teacher.http(
                    "POST",
                    f"{path}/modules/{module['id']}/lessons",
                    {"title": title, "status": "published", "completion": completion},
                ),
                201,
            )["id"]
            for title, completion in (("=Opened", "open"), ("Said", "done"))
        ]
        for person in (ann, ben):
            await enrol(person, course)
            await person.rpc("lesson.step", course_id=course["id"], lesson_id=lessons[0])
        await ben.rpc("lesson.step", course_id=course["id"], lesson_id=lessons[1])
        await ann.rpc("lesson.step", course_id=course["id"], lesson_id=lessons[1], done=True)
        for _ in range(2):  # once more is not counted
            await ann.rpc("lesson.step", course_id=course["id"], lesson_id=lessons[1], done=True)
        report = await report_when(teacher, f"{path}/report", lambda found: found["completed"] == 1)
        assert report["students"] == 2
        assert [(each["title"], each["opened"], each["completed"]) for each in report["lessons"]] == [
            ("=Opened", 2, 2),
            ("Said", 2, 1),
        ]
        assert await rows_of(teacher, f"{path}/report.csv?of=lessons") == [
            {"lesson": "'=Opened", "opened": "2", "completed": "2"},
            {"lesson": "Said", "opened": "2", "completed": "1"},
        ]
        await report_when(admin, "/v1/school/report", lambda found: found["completed"] > before)
        ok(await teacher.http("DELETE", f"{path}/lessons/{lessons[0]}"), 204)
        assert [each["title"] for each in ok(await teacher.http("GET", f"{path}/report"))["lessons"]] == ["Said"]


async def test_how_grades_are_spread(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben", "cleo") as (teacher, *students):
        course = await published_course(teacher)
        path = f"/v1/courses/{course['id']}"
        asked = {"title": "Essay", "status": "published", "points": 50}
        work = ok(await teacher.http("POST", f"{path}/assignments", asked), 201)
        question = {"type": "number", "id": "1", "text": "6 x 7", "right": 42}
        quiz = {"title": "Numbers", "status": "published", "questions": [question]}
        quiz_id = ok(await teacher.http("POST", f"{path}/quizzes", quiz), 201)["id"]
        submissions = []
        for person, grade in zip(students, (50, 42, 2), strict=True):
            await enrol(person, course)
            handed_in = ok(
                await person.http("POST", f"{path}/assignments/{work['id']}/submissions", {"text": "x"}), 201
            )
            submissions.append(f"{path}/submissions/{handed_in['id']}")
            ok(await teacher.http("PUT", f"{submissions[-1]}/grade", {"grade": grade}))
            ok(await teacher.http("PUT", f"{submissions[-1]}/return"))
        attempt = ok(await students[0].http("POST", f"{path}/quizzes/{quiz_id}/attempts"), 201)
        ok(await students[0].http("PUT", f"{path}/quizzes/{quiz_id}/attempts/{attempt['id']}/submission"))

        report = await report_when(teacher, f"{path}/report", lambda found: number_of_grades(found) == 4)
        whole, essay, numbers = report["grades"]
        assert (whole["title"], whole["kind"]) == ("all", "")
        assert (whole["item_id"], whole["grades"], whole["mean"]) == (NOWHERE, 4, pytest.approx((100 + 84 + 4 + 0) / 4))
        assert (essay["title"], essay["kind"], essay["mean"]) == ("Essay", "assignment", pytest.approx(188 / 3))
        assert essay["tenths"] == [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
        assert (numbers["title"], numbers["kind"], numbers["tenths"][0]) == ("Numbers", "quiz", 1)

        # A grade that changes is still one grade.
        ok(await teacher.http("PUT", f"{submissions[2]}/grade", {"grade": 45}))
        ok(await teacher.http("PUT", f"{submissions[2]}/return"))
        report = await report_when(teacher, f"{path}/report", lambda found: found["grades"][1]["tenths"][9] == 1)
        assert report["grades"][1]["tenths"] == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
        table = await rows_of(teacher, f"{path}/report.csv?of=grades")
        assert [(row["item"], row["grades"], row["mean %"], row["90 %"]) for row in table] == [
            ("all", "4", "68.5", "1"),
            ("Essay", "3", "91.33", "1"),
            ("Numbers", "1", "0", "0"),
        ]


async def test_an_unknown_part_of_a_report_is_refused_by_the_parameters_name(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await new_course(teacher)
        refused = await teacher.http("GET", f"/v1/courses/{course['id']}/report.csv?of=x")
        assert refused.status == 400
        assert refused.body["errors"] == [
            {"detail": "Invalid enum value 'x': days, grades or lessons", "parameter": "of"}
        ]


async def test_how_many_messages_were_sent(server: Server) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        await ann.device.is_in(f"room:{course['room_id']}")
        for number in range(5):
            await ann.say(course["room_id"], f"Message {number}")
        path = f"/v1/courses/{course['id']}/report"
        await report_when(teacher, path, lambda found: found["totals"].get("message.sent") == 5)
        await ann.say(course["room_id"], "One more")
        report = await report_when(teacher, path, lambda found: found["totals"].get("message.sent") == 6)
        assert [each["events"] for each in report["days"] if each["kind"] == "message.sent"] == [6]


async def test_what_cannot_be_counted_holds_up_nothing(server: Server) -> None:
    """As if another version had written it."""
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        for data in ('{"was": null, "percent": "much"}', "{}"):
            bad = "select record_event('grade.changed', $1::text::uuid, null, null, $2::text::jsonb)"
            await execute(server, bad, course["id"], data)
        await enrol(ann, course)
        path = f"/v1/courses/{course['id']}"
        ok(await teacher.http("POST", f"{path}/assignments", {"title": "After it", "status": "published"}), 201)
        await ann.hears(ann.channel, kind="assignment.published")
        await report_when(teacher, f"{path}/report", lambda found: found["totals"].get("enrollment.added") == 1)
