"""Assignments, handing in, grading and the gradebook, over HTTP on two nodes."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


def hours(number: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=number)).isoformat()


async def assign(teacher: Person, course: dict[str, Any], **fields: Any) -> dict[str, Any]:
    asked = {"title": "Build a REST API", "status": "published", **fields}
    return dict(ok(await teacher.http("POST", at(course, "assignments"), asked), 201))


async def hand_in(student: Person, course: dict[str, Any], work: dict[str, Any], **fields: Any) -> dict[str, Any]:
    path = at(course, "assignments", work["id"], "submissions")
    return dict(ok(await student.http("POST", path, fields or {"text": "Here it is"}), 201))


async def upload(person: Person, course: dict[str, Any], content: bytes, name: str = "work.txt") -> str:
    path = f"/v1/rooms/{course['room_id']}/files?name={name}"
    return str(ok(await person.http("POST", path, content=content), 201)["id"])


async def graded(teacher: Person, course: dict[str, Any], handed_in: dict[str, Any], grade: float) -> None:
    path = at(course, "submissions", handed_in["id"])
    ok(await teacher.http("PUT", f"{path}/grade", {"grade": grade}))
    ok(await teacher.http("PUT", f"{path}/return"))


async def test_handed_in_with_files_graded_and_given_back(server: Server) -> None:
    async with school(server, "teacher", "student", "other", "admin") as (teacher, student, other, admin):
        course = await published_course(teacher)
        for person in (student, other):
            await enrol(person, course)
        work = await assign(teacher, course, due_date=hours(24))
        file = await upload(student, course, b"package main")
        receipt = await hand_in(student, course, work, text="As asked", files=[file])
        assert (receipt["attempt"], receipt["late"], receipt["files"]) == (1, False, [f"/v1/files/{file}"])
        assert datetime.fromisoformat(receipt["submitted_at"]).tzinfo is not None

        # The file is for its owner and for the staff, and for nobody else of the course.
        assert (await teacher.http("GET", f"/v1/files/{file}")).content == b"package main"
        assert (await student.http("GET", f"/v1/files/{file}")).status == 200
        assert (await other.http("GET", f"/v1/files/{file}")).status == 404
        # An admin sees what a course refers to, and nothing else of its room.
        assert (await admin.http("GET", f"/v1/files/{file}")).content == b"package main"
        assert (await admin.http("GET", f"/v1/files/{await upload(student, course, b'a draft')}")).status == 404
        path = at(course, "submissions", receipt["id"])
        assert (await other.http("GET", path)).status == 404
        assert (await other.http("GET", at(course, "assignments", work["id"], "submissions"))).status == 403

        listed = ok(await teacher.http("GET", at(course, "assignments", work["id"], "submissions")))["submissions"]
        assert [(each["student_id"], each["text"]) for each in listed] == [(student.id, "As asked")]
        draft = ok(await teacher.http("PUT", f"{path}/grade", {"grade": 95, "feedback": "Excellent work!"}))
        assert (draft["grade"], draft["draft"]) == (95, True)
        seen = ok(await student.http("GET", path))
        assert "grade" not in seen and "feedback" not in seen
        assert ok(await student.http("GET", at(course, "grades")))["students"][0]["total"] is None
        ok(await teacher.http("PUT", f"{path}/return"))
        seen = ok(await student.http("GET", path))
        assert (seen["grade"], seen["worth"], seen["feedback"]) == (95, 95, "Excellent work!")
        assert ok(await student.http("GET", at(course, "grades")))["students"][0]["total"] == 95

        # A regrade is a draft again until it is given back, and nothing is forgotten.
        ok(await teacher.http("PUT", f"{path}/grade", {"grade": 40, "feedback": "Copied"}))
        assert ok(await student.http("GET", path))["grade"] == 95
        ok(await teacher.http("PUT", f"{path}/return"))
        assert ok(await student.http("GET", path))["grade"] == 40
        kept = await execute(
            server,
            "select grade::int from grade_history where submission_id = $1::text::uuid order by id",
            receipt["id"],
        )
        assert [row["grade"] for row in kept] == [95, 40]
        told = await execute(
            server, "select kind from course_events where course_id = $1::text::uuid order by id", course["id"]
        )
        assert [row["kind"] for row in told if row["kind"] != "grade.changed"][-4:] == [
            "assignment.published",
            "submission.received",
            "submission.graded",
            "submission.graded",
        ]


@pytest.mark.parametrize(
    ("policy", "hours_late", "status", "worth"),
    [
        ({"late_policy": "refuse"}, 1, 409, None),
        ({"late_policy": "refuse"}, -1, 201, 80),
        ({"late_policy": "accept"}, 49, 201, 80),
        ({"late_policy": "reduce", "late_percent": 10}, 1, 201, 72),
        ({"late_policy": "reduce", "late_percent": 10}, 25, 201, 64),
        ({"late_policy": "reduce", "late_percent": 60}, 49, 201, 0),
    ],
)
async def test_what_is_late(server: Server, policy: dict[str, Any], hours_late: int, status: int, worth: Any) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        work = await assign(teacher, course, due_date=hours(-hours_late), **policy)
        answer = await student.http("POST", at(course, "assignments", work["id"], "submissions"), {"text": "Here"})
        assert answer.status == status, answer.body
        if status == 201:
            assert answer.body["late"] == (hours_late > 0)
            await graded(teacher, course, answer.body, 80)
            assert ok(await student.http("GET", at(course, "submissions", answer.body["id"])))["worth"] == worth
            assert ok(await student.http("GET", at(course, "grades")))["students"][0]["total"] == worth


async def test_an_extension_is_for_one_person(server: Server) -> None:
    async with school(server, "teacher", "ill", "well") as (teacher, ill, well):
        course = await published_course(teacher)
        for person in (ill, well):
            await enrol(person, course)
        work = await assign(
            teacher, course, due_date=hours(-48), late_policy="reduce", late_percent=10, late_until=hours(-24)
        )
        path = at(course, "assignments", work["id"])
        ok(await teacher.http("PUT", f"{path}/extensions/{ill.id}", {"due_date": hours(24)}), 204)
        assert (await well.http("POST", f"{path}/submissions", {"text": "Late"})).status == 409
        assert (await hand_in(ill, course, work))["late"] is False
        due = ok(await ill.http("GET", path))
        assert due["due_for_me"] > due["due_date"]
        assert (await teacher.http("PUT", f"{path}/extensions/{uuid4()}", {"due_date": hours(1)})).status == 404


async def test_rules_that_change_hold_for_what_was_handed_in(server: Server) -> None:
    """More time and milder rules forgive; a due date that is moved back makes no receipt a late one."""
    async with school(server, "teacher", "ill", "well", "prompt") as (teacher, *students):
        course = await published_course(teacher)
        ill, well, prompt = students
        for person in students:
            await enrol(person, course)
        rules = {"late_policy": "reduce", "late_percent": 10}
        work = await assign(teacher, course, due_date=hours(1), **rules)
        path = at(course, "assignments", work["id"])
        await graded(teacher, course, await hand_in(prompt, course, work), 80)
        a_day_goes_by = "update assignments set due_date = now() - interval '30 hours' where id = $1::text::uuid"
        await execute(server, a_day_goes_by, work["id"])
        for person in (ill, well):
            await graded(teacher, course, await hand_in(person, course, work), 80)

        async def totals() -> dict[str, Any]:
            lines = ok(await teacher.http("GET", at(course, "gradebook")))["students"]
            return {each["name"]: each["total"] for each in lines}

        assert await totals() == {"ill": 64, "well": 64, "prompt": 80}
        ok(await teacher.http("PUT", f"{path}/extensions/{ill.id}", {"due_date": hours(-1)}), 204)
        assert await totals() == {"ill": 72, "well": 64, "prompt": 80}
        ok(await teacher.http("PATCH", path, {"late_percent": 5}))
        assert await totals() == {"ill": 76, "well": 72, "prompt": 80}
        ok(await teacher.http("PATCH", path, {"due_date": hours(2)}))
        assert await totals() == {"ill": 76, "well": 80, "prompt": 80}
        ok(await teacher.http("PATCH", path, {"due_date": hours(-100)}))
        assert await totals() == {"ill": 76, "well": 80, "prompt": 80}
        mine = ok(await well.http("GET", f"{path}/submissions/mine"))["submissions"][0]
        assert (mine["late"], mine["worth"]) == (False, 80)


async def test_of_attempts_that_are_given_back_at_once_the_best_counts(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        for _ in range(4):
            work = await assign(teacher, course, attempts=8)
            paths = []
            for grade in (90, 10, 20, 30, 40, 50, 60, 70):
                handed_in = await hand_in(student, course, work)
                paths.append(at(course, "submissions", handed_in["id"]))
                ok(await teacher.http("PUT", f"{paths[-1]}/grade", {"grade": grade}))
            returned = await asyncio.gather(
                *(teacher.http("PUT", f"{path}/return", node=i % 2) for i, path in enumerate(paths))
            )
            assert {each.status for each in returned} == {200}
            assert ok(await student.http("GET", at(course, "grades")))["students"][0]["total"] == 90


async def test_attempts_are_exact_when_all_come_at_once(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        work = await assign(teacher, course, attempts=3)
        path = at(course, "assignments", work["id"], "submissions")
        answers = await asyncio.gather(
            *(student.http("POST", path, {"text": f"Try {i}"}, node=i % 2) for i in range(12))
        )
        assert sorted(each.status for each in answers) == [201] * 3 + [409] * 9
        mine = ok(await student.http("GET", f"{path}/mine"))["submissions"]
        assert [each["attempt"] for each in mine] == [1, 2, 3]
        for handed_in, grade in zip(mine, (50, 90, 70), strict=True):
            await graded(teacher, course, handed_in, grade)
        assert ok(await student.http("GET", at(course, "grades")))["students"][0]["total"] == 90  # the best counts


async def test_the_same_key_hands_in_once(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        work = await assign(teacher, course)
        path = at(course, "assignments", work["id"], "submissions")
        key = {"Idempotency-Key": "once"}
        first = ok(await student.http("POST", path, {"text": "One"}, headers=key), 201)
        again = ok(await student.http("POST", path, {"text": "One"}, headers=key), 200)
        assert again["id"] == first["id"]
        assert (await student.http("POST", path, {"text": "Two"})).status == 409  # one attempt


async def test_two_graders_are_told_of_each_other(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        handed_in = await hand_in(student, course, await assign(teacher, course))
        path = at(course, "submissions", handed_in["id"])
        tag = (await teacher.http("GET", path)).headers["etag"]
        ok(await teacher.http("PUT", f"{path}/grade", {"grade": 1}, headers={"If-Match": tag}))
        assert (await teacher.http("PUT", f"{path}/grade", {"grade": 2}, headers={"If-Match": tag})).status == 412
        assert ok(await teacher.http("GET", path))["grade"] == 1


async def test_a_rubric_adds_up(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        rubric = [{"id": "style", "title": "Style", "points": 40}, {"id": "works", "title": "It works", "points": 60}]
        handed_in = await hand_in(student, course, await assign(teacher, course, rubric=rubric))
        path = at(course, "submissions", handed_in["id"], "grade")
        done = ok(await teacher.http("PUT", path, {"scores": {"style": 30, "works": 55.5}}))
        assert done["grade"] == 85.5
        for scores in ({"style": 41}, {"style": -1}, {"taste": 1}):
            refused = await teacher.http("PUT", path, {"scores": scores})
            assert (refused.status, refused.pointers) == (422, ["/scores"])


async def test_the_gradebook_weighs_pages_and_is_exported(server: Server) -> None:
    async with school(server, "teacher", "=cmd()", "Ben", "Cleo") as (teacher, *students):
        course = await published_course(teacher)
        for student in students:
            await enrol(student, course)
        small = await assign(teacher, course, title="Small", points=10, weight=1)
        big = await assign(teacher, course, title="Big, with a comma", points=100, weight=3)
        for student, (one, two) in zip(students[:2], ((10, 50), (5, 100)), strict=True):
            await graded(teacher, course, await hand_in(student, course, small), one)
            await graded(teacher, course, await hand_in(student, course, big), two)
        lines: list[dict[str, Any]] = []
        path = at(course, "gradebook?limit=1")
        while path:
            answer = await teacher.http("GET", path)
            lines += ok(answer)["students"]
            link = answer.headers.get("link", "")
            path = link[1 : link.index(">")] if link else ""
        totals = {each["name"]: each["total"] for each in lines}
        assert totals == {"=cmd()": 62.5, "Ben": 87.5, "Cleo": None}
        table = await teacher.http("GET", at(course, "gradebook.csv"))
        assert table.headers["content-type"].startswith("text/csv")
        rows = list(csv.reader(io.StringIO(table.content.decode())))
        assert rows[0] == ["student", "email", "Small (10)", "Big, with a comma (100)", "total %"]
        by_name = {row[0]: row[2:] for row in rows[1:]}
        assert by_name == {"'=cmd()": ["10", "50", "62.5"], "Ben": ["5", "100", "87.5"], "Cleo": ["", "", ""]}
        assert (await students[0].http("GET", at(course, "gradebook"))).status == 403


async def test_bad_input_is_refused_at_its_place(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        for fields, pointer in (
            ({"title": " "}, "/title"),
            ({"title": "x", "points": 0}, "/points"),
            ({"title": "x", "attempts": 0}, "/attempts"),
            ({"title": "x", "late_policy": "maybe"}, "/late_policy"),
            ({"title": "x", "due_date": "2027-01-01T00:00:00"}, "/due_date"),
            ({"title": "x", "due_date": hours(2), "late_until": hours(1)}, "/late_until"),
            ({"title": "x", "rubric": [{"id": "a", "title": "A", "points": 101}]}, "/rubric/0/points"),
            ({"title": "x", "rubric": [{"id": "a", "title": "A", "points": 1}] * 2}, "/rubric"),
        ):
            refused = await teacher.http("POST", at(course, "assignments"), fields)
            assert (refused.status, refused.pointers) == (422, [pointer]), fields
        work = await assign(teacher, course)
        path = at(course, "assignments", work["id"], "submissions")
        theirs = await upload(teacher, course, b"the answers")
        for fields, pointer in (
            ({}, "/text"),
            ({"text": " "}, "/text"),
            ({"text": "\0"}, "/text"),
            ({"text": "x", "files": [str(uuid4())]}, "/files"),
            ({"text": "x", "files": [theirs]}, "/files"),
        ):
            refused = await student.http("POST", path, fields)
            assert (refused.status, refused.pointers) == (422, [pointer]), fields
        handed_in = await hand_in(student, course, work)
        grade = at(course, "submissions", handed_in["id"], "grade")
        for value in (-1, 101, None):
            refused = await teacher.http("PUT", grade, {"grade": value})
            assert (refused.status, refused.pointers) == (422, ["/grade"])
        assert (await teacher.http("PUT", at(course, "submissions", handed_in["id"], "return"))).status == 409
        assert (await teacher.http("DELETE", at(course, "assignments", work["id"]))).status == 409
        assert (await teacher.http("PATCH", at(course, "assignments", work["id"]), {"points": 5})).status == 409
        draft = ok(await teacher.http("POST", at(course, "assignments"), {"title": "Later"}), 201)
        assert (await student.http("GET", at(course, "assignments", draft["id"]))).status == 404
        assert (
            await student.http("POST", at(course, "assignments", draft["id"], "submissions"), {"text": "x"})
        ).status == 404
        ok(await teacher.http("DELETE", at(course, "assignments", draft["id"])), 204)


async def test_a_course_knows_nothing_of_the_work_of_another(server: Server) -> None:
    async with school(server, "teacher", "teacher too", "student") as (teacher, other, student):
        course, foreign = await published_course(teacher), await published_course(other)
        await enrol(student, course)
        work = await assign(teacher, course)
        handed_in = await hand_in(student, course, work)
        for method, path in (
            ("GET", ("assignments", work["id"])),
            ("PATCH", ("assignments", work["id"])),
            ("DELETE", ("assignments", work["id"])),
            ("GET", ("submissions", handed_in["id"])),
            ("PUT", ("submissions", handed_in["id"], "grade")),
            ("PUT", ("submissions", handed_in["id"], "return")),
        ):
            body = {"grade": 1} if path[-1] == "grade" else {} if method == "PATCH" else None
            assert (await other.http(method, at(foreign, *path), body)).status == 404, path
        listed = ok(await other.http("GET", at(foreign, "assignments", work["id"], "submissions")))
        assert listed["submissions"] == []


async def test_a_lesson_has_a_file_for_whoever_takes_part(server: Server) -> None:
    async with school(server, "teacher", "student", "stranger") as (teacher, student, stranger):
        course = await published_course(teacher)
        await enrol(student, course)
        video = await upload(teacher, course, bytes(range(256)) * 10, "lesson.mp4")
        assert (await student.http("GET", f"/v1/files/{video}")).status == 404  # nothing refers to it yet
        module = ok(await teacher.http("POST", at(course, "modules"), {"title": "One"}), 201)["id"]
        lesson = {"title": "Watch", "status": "published", "content": [{"type": "video", "file_id": video}]}
        made = ok(await teacher.http("POST", at(course, "modules", module, "lessons"), lesson), 201)
        part = await student.http("GET", f"/v1/files/{video}", headers={"Range": "bytes=256-259"})
        assert (part.status, part.content) == (206, bytes(range(4)))
        assert (await stranger.http("GET", f"/v1/files/{video}")).status == 404
        wrong = {**lesson, "content": [{"type": "file", "file_id": str(uuid4())}]}
        refused = await teacher.http("POST", at(course, "modules", module, "lessons"), wrong)
        assert (refused.status, refused.pointers) == (422, ["/content"])
        text = await upload(teacher, course, b"A script of the talk")
        wrong = {"content": [*lesson["content"], {"type": "video", "file_id": text}]}
        refused = await teacher.http("PATCH", at(course, "lessons", made["id"]), wrong)
        assert (refused.status, refused.pointers) == (422, ["/content/1/file_id"])
        ok(await teacher.http("PATCH", at(course, "lessons", made["id"]), {"content": []}))
        assert (await student.http("GET", f"/v1/files/{video}")).status == 404
