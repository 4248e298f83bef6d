"""A whole term, as people would go through it: over HTTP and on the connections that are open anyway."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, school
from tests.post.mailbox import Mailbox, link_in, text_of
from tests.stack import short_folder

pytestmark = pytest.mark.integration

STUDENTS = 30
QUESTIONS = [
    {
        "type": "choice",
        "id": "1",
        "text": "What does a lexer make?",
        "points": 4,
        "options": [{"id": "t", "text": "Tokens"}, {"id": "n", "text": "Trees"}],
        "right": "t",
    },
    {"type": "text", "id": "2", "text": "What does a parser make?", "points": 6, "right": ["trees", "a tree"]},
]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as running:
        yield running


@pytest.fixture
def server(mailbox: Mailbox) -> Iterator[Server]:
    settings = SETTINGS | {"MAIL__URL": mailbox.url, "MAIL__SENDER": "The School <no-reply@school.example>"}
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running


async def test_a_term(server: Server, mailbox: Mailbox) -> None:
    names = [f"student {i:02}" for i in range(STUDENTS)]
    async with school(server, "admin", "Ms Hopper", *names) as (admin, hopper, *students):
        # The school: an admin makes a teacher.
        assert (await hopper.http("POST", "/v1/courses", {"title": "Compilers"})).status == 403
        ok(await admin.http("PUT", f"/v1/school/people/{hopper.id}/role", {"role": "teacher"}), 204)

        # The course is made, filled and published; nobody saw it before.
        course = ok(await hopper.http("POST", "/v1/courses", {"title": "Compilers", "capacity": STUDENTS}), 201)
        at = f"/v1/courses/{course['id']}"
        module = ok(await hopper.http("POST", f"{at}/modules", {"title": "Front end"}), 201)["id"]
        slides = await upload(hopper, course, b"%PDF-1.7 slides", "slides.pdf")
        lessons = [
            {"title": "Lexing", "content": [{"type": "markdown", "text": "# Tokens"}], "completion": "open"},
            {"title": "Parsing", "content": [{"type": "file", "file_id": slides}], "completion": "done"},
            {"title": "A talk", "videoUrl": "https://video.example/1", "duration": 600, "completion": "video"},
        ]
        made = [
            ok(await hopper.http("POST", f"{at}/modules/{module}/lessons", {**each, "status": "published"}), 201)["id"]
            for each in lessons
        ]
        assert (await students[0].http("GET", at)).status == 404
        ok(await hopper.http("PUT", f"{at}/publication"), 204)
        course = ok(await hopper.http("GET", at))

        # Thirty come by its code; a thirty-first has no seat.
        await asyncio.gather(*(enrol(each, course) for each in students))
        assert (await admin.http("POST", f"{at}/enrollments", {"code": course["code"]})).status == 409
        await asyncio.gather(*(each.device.is_in(f"room:{course['room_id']}") for each in students))
        await hopper.say(course["room_id"], "Welcome")
        await asyncio.gather(*(each.hears(course["room_id"], content="Welcome") for each in students))

        # Ann says that her address is hers, by the link that came when she made her account.
        address = ok(await students[0].http("GET", "/v1/me"))["email"]
        token = link_in(await mailbox.letter(address, "your address"), "verify")
        ok(await students[0].http("POST", "/v1/auth/verification", {"token": token}), 204)

        # Lessons.
        for student in students[:20]:
            await student.rpc("lesson.step", course_id=course["id"], lesson_id=made[0])
        ann = students[0]
        assert (await ann.http("GET", f"/v1/files/{slides}")).content == b"%PDF-1.7 slides"
        await ann.rpc("lesson.step", course_id=course["id"], lesson_id=made[1], done=True)
        await ann.rpc("lesson.step", course_id=course["id"], lesson_id=made[2], position=580)
        assert ok(await ann.http("GET", f"{at}/progress"))["percent"] == 100
        assert (await hopper.rpc("course.active", course_id=course["id"]))["users"] == 20
        class_progress = ok(await hopper.http("GET", f"{at}/progress/students"))["students"]
        assert sorted(each["lessons_done"] for each in class_progress) == [0] * 10 + [1] * 19 + [3]

        # Two assignments: one due soon, one that was due yesterday; both are told live.
        parser = await assign(hopper, at, "A parser", weight=3, due_date=hours(12))
        lexer = await assign(hopper, at, "A lexer", due_date=hours(-20), late_policy="reduce", late_percent=10)
        for student in students:
            await student.hears(student.channel, kind="assignment.published", holds=titled("A lexer"))
        for i, student in enumerate(students[:10]):
            file = await upload(student, course, f"parser of {i}".encode(), "parser.go")
            handed_in = await hand_in(student, at, parser, {"text": "Here", "files": [file]})
            assert handed_in["late"] is False
            assert (await hand_in(student, at, lexer, {"text": "Sorry"}))["late"] is True
        listed = ok(await hopper.http("GET", f"{at}/assignments/{parser['id']}/submissions"))["submissions"]
        assert len(listed) == 10
        for work in (parser, lexer):
            for each in ok(await hopper.http("GET", f"{at}/assignments/{work['id']}/submissions"))["submissions"]:
                path = f"{at}/submissions/{each['id']}"
                ok(await hopper.http("PUT", f"{path}/grade", {"grade": 90, "feedback": "Well done"}))
                ok(await hopper.http("PUT", f"{path}/return"))
        await ann.hears(ann.channel, kind="submission.graded", holds=titled("A lexer"))
        assert "90 of 100 points" in text_of(await mailbox.letter(address, "your grade for A parser"))

        # A quiz of ten minutes: ten take it, one of them forgets to hand in.
        asked = {"title": "Words", "status": "published", "time_limit": 600, "questions": QUESTIONS}
        quiz = ok(await hopper.http("POST", f"{at}/quizzes", asked), 201)
        await mailbox.letter(address, "a new quiz, Words")
        path = f"{at}/quizzes/{quiz['id']}/attempts"
        for i, student in enumerate(students[:10]):
            attempt = ok(await student.http("POST", path), 201)
            assert not any("right" in each for each in attempt["questions"])
            answers = {"1": "t", "2": "A Tree" if i % 2 == 0 else "a forest"}
            ok(await student.http("PUT", f"{path}/{attempt['id']}/answers", {"answers": answers}))
            if student is not ann:
                done = ok(await student.http("PUT", f"{path}/{attempt['id']}/submission"))
                assert done["points"] == (10 if i % 2 == 0 else 4)
        # Her time is up: as if ten minutes had gone by.
        await execute(server, "update quiz_attempts set ends_at = clock_timestamp() where handed_in_at is null")
        await ann.hears(ann.channel, kind="quiz.marked", holds=titled("Words"))
        assert "10 of 10 points" in text_of(await mailbox.letter(address, "your result of Words"))

        mine = ok(await ann.http("GET", f"{at}/grades"))["students"][0]
        assert mine["points"] == {parser["id"]: 90, lexer["id"]: 81, quiz["id"]: 10}
        assert mine["total"] == pytest.approx((3 * 90 + 81 + 100) / 5)

        # The forum: a question, an answer, and who is told.
        ben = students[1]
        thread = ok(await ann.http("POST", f"{at}/threads", {"title": "Left recursion", "content": "Why not?"}), 201)
        await ben.device.subscribe(thread["channel"])
        answer = ok(await hopper.http("POST", f"{at}/threads/{thread['id']}/posts", {"content": "It never ends"}), 201)
        await ben.device.hears(thread["channel"], event="post_created")
        await ann.hears(ann.channel, kind="post.created")
        ok(await ann.http("PUT", f"{at}/threads/{thread['id']}/answer", {"post_id": answer["id"]}), 204)
        await hopper.hears(hopper.channel, kind="post.accepted")
        post = {"content": "Ann knows", "mentions": [ann.id]}
        ok(await hopper.http("POST", f"{at}/threads/{thread['id']}/posts", post), 201)
        assert "Left recursion" in text_of(await mailbox.letter(address, "you were mentioned"))

        # The gradebook and the reports.
        table = (await hopper.http("GET", f"{at}/gradebook.csv")).content.decode()
        rows = list(csv.DictReader(io.StringIO(table)))
        assert len(rows) == STUDENTS
        assert sum(row["A parser (100)"] == "90" for row in rows) == 10
        assert sum(row["Words (10)"] == "10" for row in rows) == 5
        expected = {
            "enrollment.added": 30,
            "submission.received": 20,
            "submission.graded": 20,
            "lesson.completed": 22,
            "quiz.marked": 10,
            "course.completed": 1,
            "message.sent": 1,
        }
        async with asyncio.timeout(30):
            while not expected.items() <= (report := ok(await hopper.http("GET", f"{at}/report")))["totals"].items():
                await asyncio.sleep(0.05)
        assert report["completed"] == 1
        assert [each["completed"] for each in report["lessons"]] == [20, 1, 1]
        spreads = {each["title"]: each["tenths"] for each in report["grades"]}
        assert spreads["Words"] == [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 5]
        assert spreads["A parser"][9] == 10 and spreads["A lexer"][8] == 10

        # Somebody goes, and is out of everything at once.
        ok(await ben.http("DELETE", f"{at}/enrollments"), 204)
        await ben.device.is_out(f"room:{course['room_id']}")
        await ben.device.is_out(thread["channel"])
        assert (await ben.http("GET", f"{at}/lessons/{made[0]}")).status == 403
        assert len(ok(await hopper.http("GET", f"{at}/gradebook"))["students"]) == STUDENTS - 1

        # The end of the term.
        ok(await hopper.http("PUT", f"{at}/archive"), 204)
        assert ok(await ann.http("GET", at))["status"] == "archived"
        assert (await ann.http("POST", f"{at}/threads", {"title": "One more", "content": "?"})).status == 409


def hours(number: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=number)).isoformat()


def titled(title: str) -> Any:
    return lambda each: each["data"]["title"] == title


async def upload(person: Person, course: dict[str, Any], content: bytes, name: str) -> str:
    path = f"/v1/rooms/{course['room_id']}/files?name={name}"
    return str(ok(await person.http("POST", path, content=content), 201)["id"])


async def assign(teacher: Person, at: str, title: str, **fields: Any) -> Any:
    return ok(await teacher.http("POST", f"{at}/assignments", {"title": title, "status": "published", **fields}), 201)


async def hand_in(student: Person, at: str, work: dict[str, Any], fields: dict[str, Any]) -> Any:
    return ok(await student.http("POST", f"{at}/assignments/{work['id']}/submissions", fields), 201)
