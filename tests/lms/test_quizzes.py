"""Quizzes: taken against the server's clock and marked by themselves, over HTTP on two nodes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration

OPTIONS = [{"id": "a", "text": "A goroutine"}, {"id": "b", "text": "A channel"}]
QUESTIONS = [
    {"type": "choice", "id": "one", "text": "What carries values?", "points": 2, "options": OPTIONS, "right": "b"},
    {"type": "number", "id": "two", "text": "6 x 7?", "points": 3, "right": 42},
    {"type": "text", "id": "three", "text": "Which language?", "points": 5, "right": ["Go", "Golang"]},
]
RIGHT = {"one": "b", "two": 42, "three": "golang"}


def hours(number: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=number)).isoformat()


async def quiz_of(teacher: Person, course: dict[str, Any], **fields: Any) -> tuple[dict[str, Any], str]:
    path = f"/v1/courses/{course['id']}/quizzes"
    asked = {"title": "Basics", "status": "published", "questions": QUESTIONS, **fields}
    made = ok(await teacher.http("POST", path, asked), 201)
    return made, f"{path}/{made['id']}"


async def begin(student: Person, path: str) -> tuple[dict[str, Any], str]:
    attempt = ok(await student.http("POST", f"{path}/attempts"), 201)
    return attempt, f"{path}/attempts/{attempt['id']}"


async def run_out(server: Server, attempt: dict[str, Any]) -> None:
    """Its time is up: as if somebody had waited."""
    await execute(
        server,
        "update quiz_attempts set ends_at = clock_timestamp() - interval '1 second' where id = $1::text::uuid",
        attempt["id"],
    )


async def test_taken_marked_and_in_the_gradebook(server: Server) -> None:
    async with school(server, "teacher", "student", "other") as (teacher, student, other):
        course = await published_course(teacher)
        for person in (student, other):
            await enrol(person, course)
        quiz, path = await quiz_of(teacher, course, time_limit=600, weight=2)
        assert (quiz["points"], quiz["questions"][1]["right"]) == (10, 42)
        await student.hears(student.channel, kind="quiz.published")

        # Students see neither the questions before they begin nor what is right before it is over.
        (listed,) = ok(await student.http("GET", f"/v1/courses/{course['id']}/quizzes"))["quizzes"]
        assert listed["number_of_questions"] == 3 and "questions" not in listed
        seen = ok(await student.http("GET", path))
        assert seen["number_of_questions"] == 3 and "questions" not in seen
        attempt, at = await begin(student, path)
        assert [sorted(each) for each in attempt["questions"] if each["type"] == "number"] == [
            ["id", "points", "text", "type"]
        ]
        left = datetime.fromisoformat(attempt["ends_at"]) - datetime.fromisoformat(attempt["now"])
        assert timedelta(seconds=590) < left <= timedelta(seconds=600)
        again = ok(await student.http("POST", f"{path}/attempts"), 200)
        assert again["id"] == attempt["id"]
        assert [q["id"] for q in again["questions"]] == [q["id"] for q in attempt["questions"]]

        ok(await student.http("PUT", f"{at}/answers", {"answers": {"one": "a", "two": 42}}))
        saved = ok(await student.http("PUT", f"{at}/answers", {"answers": {"one": "b", "two": None}}))
        assert saved["answers"] == {"one": "b", "two": None}
        assert "points" not in saved
        done = ok(await student.http("PUT", f"{at}/submission"))
        assert (done["points"], done["out_of"]) == (2, 10)
        assert done["marks"] == {"one": 2, "two": 0, "three": 0}
        assert {each["id"]: each["right"] for each in done["questions"]}["three"] == ["Go", "Golang"]
        assert ok(await student.http("PUT", f"{at}/submission"))["handed_in_at"] == done["handed_in_at"]
        assert (await student.http("PUT", f"{at}/answers", {"answers": RIGHT})).status == 409
        assert (await student.http("POST", f"{path}/attempts")).status == 409

        assert ok(await student.http("GET", f"/v1/courses/{course['id']}/grades"))["students"][0]["total"] == 20
        book = ok(await teacher.http("GET", f"/v1/courses/{course['id']}/gradebook"))
        assert [(each["title"], each["points"], each["weight"]) for each in book["items"]] == [("Basics", 10, 2)]

        assert (await other.http("GET", at)).status == 404
        assert (await other.http("PUT", f"{at}/answers", {"answers": RIGHT})).status == 404
        assert (await other.http("GET", f"{path}/attempts")).status == 403
        assert ok(await teacher.http("GET", at))["answers"] == {"one": "b", "two": None}


async def test_the_clock_hands_in_for_whoever_does_not(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        _, path = await quiz_of(teacher, course, time_limit=600)
        attempt, at = await begin(student, path)
        ok(await student.http("PUT", f"{at}/answers", {"answers": {"three": " go "}}))
        await run_out(server, attempt)
        told = await student.hears(student.channel, kind="quiz.marked")
        assert (told["data"]["points"], told["data"]["out_of"]) == (5, 10)
        mine = ok(await student.http("GET", f"{path}/attempts/mine"))["attempts"]
        assert [each["points"] for each in mine] == [5]
        assert mine[0]["handed_in_at"] == mine[0]["ends_at"]


async def test_answers_that_come_when_the_time_is_up_count_not(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        _, path = await quiz_of(teacher, course, time_limit=600)
        attempt, at = await begin(student, path)
        await run_out(server, attempt)
        late = await student.http("PUT", f"{at}/answers", {"answers": RIGHT})
        assert (late.status, late.body["detail"]) == (409, "the attempt is over: what was saved until then counts")
        assert ok(await student.http("GET", at))["points"] == 0


async def test_attempts_are_exact_when_all_begin_at_once_and_the_best_counts(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        _, path = await quiz_of(teacher, course, attempts=2)
        for answers in ({"two": 42}, {"one": "b"}):
            begun = await asyncio.gather(*(student.http("POST", f"{path}/attempts", node=i % 2) for i in range(8)))
            assert sorted(each.status for each in begun) == [200] * 7 + [201]
            (id,) = {each.body["id"] for each in begun}
            ok(await student.http("PUT", f"{path}/attempts/{id}/answers", {"answers": answers}))
            handed_in = await asyncio.gather(
                *(student.http("PUT", f"{path}/attempts/{id}/submission", node=i % 2) for i in range(4))
            )
            assert {(each.status, each.body["points"]) for each in handed_in} == {
                (200, sum({"two": 3, "one": 2}[k] for k in answers))
            }
        assert (await student.http("POST", f"{path}/attempts")).status == 409
        assert ok(await student.http("GET", f"/v1/courses/{course['id']}/grades"))["students"][0]["total"] == 30
        events = await execute(
            server,
            "select count(*) from course_events where kind = 'quiz.marked' and course_id = $1::text::uuid",
            course["id"],
        )
        assert events[0]["count"] == 2


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"opens_at": hours(1)}, 409),
        ({"due_date": hours(-1)}, 409),
        ({"status": "draft"}, 404),
        ({"opens_at": hours(-1), "due_date": hours(1)}, 201),
    ],
)
async def test_when_a_quiz_can_be_begun(server: Server, fields: dict[str, Any], status: int) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        quiz, path = await quiz_of(teacher, course, **fields)
        answer = await student.http("POST", f"{path}/attempts")
        assert answer.status == status, answer.body
        if status == 201:
            assert answer.body["ends_at"] == quiz["due_date"].replace("+00:00", "Z")
        assert (await teacher.http("POST", f"{path}/attempts")).status == 403


async def test_right_answers_are_shown_when_the_teacher_wants(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        for answers in ("never", "due"):
            _, path = await quiz_of(teacher, course, answers=answers, due_date=hours(1))
            _, at = await begin(student, path)
            done = ok(await student.http("PUT", f"{at}/submission"))
            assert not any("right" in each for each in done["questions"])
            assert "marks" not in done and done["points"] == 0
            await execute(server, "update quizzes set due_date = now() - interval '1 hour'")
            shown = any("right" in each for each in ok(await student.http("GET", at))["questions"])
            assert shown == (answers == "due")


async def test_questions_that_were_answered_stay(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        quiz, path = await quiz_of(teacher, course)
        fewer = ok(await teacher.http("PATCH", path, {"questions": QUESTIONS[:2]}))
        assert fewer["points"] == 5
        stale = await teacher.http("PATCH", path, {"title": "Old"}, headers={"If-Match": f'"{quiz["version"]}"'})
        assert stale.status == 412
        await begin(student, path)
        assert (await teacher.http("PATCH", path, {"questions": QUESTIONS})).status == 409
        assert ok(await teacher.http("PATCH", path, {"title": "Same questions", "questions": QUESTIONS[:2]}))
        assert (await teacher.http("DELETE", path)).status == 409
        _, unused = await quiz_of(teacher, course)
        ok(await teacher.http("DELETE", unused), 204)
        assert (await teacher.http("DELETE", unused)).status == 404
        assert (await teacher.http("DELETE", f"/v1/courses/{course['id']}")).status == 409


async def test_what_a_quiz_cannot_be(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        course = await published_course(teacher)
        await enrol(student, course)
        path = f"/v1/courses/{course['id']}/quizzes"
        for fields, pointer in (
            ({"questions": []}, "/questions"),
            ({"title": ""}, "/title"),
            ({"time_limit": 0}, "/time_limit"),
            ({"opens_at": hours(2), "due_date": hours(1)}, "/due_date"),
            ({"due_date": "2027-01-01T00:00:00"}, "/due_date"),
            ({"questions": [{**QUESTIONS[0], "right": "z"}]}, "/questions/0/right"),
            ({"questions": [{"type": "riddle", "id": "a", "text": "?"}]}, "/questions/0/type"),
        ):
            answer = await teacher.http("POST", path, {"title": "Bad", "questions": QUESTIONS, **fields})
            assert (answer.status, answer.pointers) == (422, [pointer]), answer.body
        _, quiz = await quiz_of(teacher, course)
        _, at = await begin(student, quiz)
        for answers, pointer in (
            ({"four": 1}, "/answers/four"),
            ({"one": "z"}, "/answers/one"),
            ({"two": "x"}, "/answers/two"),
        ):
            refused = await student.http("PUT", f"{at}/answers", {"answers": answers})
            assert (refused.status, refused.pointers) == (422, [pointer])
        assert (await student.http("PUT", f"{quiz}/attempts/{uuid4()}/answers", {"answers": {}})).status == 404


async def test_attempts_of_a_class_come_in_pages(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        _, path = await quiz_of(teacher, course, attempts=2)
        for person in (ann, ann, ben):
            _, at = await begin(person, path)
            ok(await person.http("PUT", f"{at}/submission"))
        seen = []
        url = f"{path}/attempts?limit=1"
        while url:
            answer = await teacher.http("GET", url)
            seen += [(each["student_id"], each["attempt"]) for each in ok(answer)["attempts"]]
            link = answer.headers.get("link", "")
            url = link[1 : link.index(">")] if link else ""
        assert seen == sorted([(ann.id, 1), (ann.id, 2), (ben.id, 1)])


async def test_the_end_of_a_quiz_is_told_a_day_before(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        _, path = await quiz_of(teacher, course, due_date=hours(20))
        await begin(ben, path)
        from config.embedded import read_urls
        from storage.database import Database
        from storage.lms.notifications import NotificationStore

        database = Database(str(read_urls(server.data_dir).database))  # a minute of waiting less
        for _ in range(2):
            await NotificationStore(database).remind()
        await database.close()
        await ann.hears(ann.channel, kind="quiz.due")
        told = await execute(
            server,
            "select user_id::text from notifications where kind = 'quiz.due' and course_id = $1::text::uuid",
            course["id"],
        )
        assert [row["user_id"] for row in told] == [ann.id]
