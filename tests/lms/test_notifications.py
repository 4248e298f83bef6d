"""What people are told, live and later, each thing once; and what is counted for reports."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from config.embedded import read_urls
from loadtest.server import Server
from storage.database import Database
from storage.lms.notifications import NotificationStore
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


async def assign(teacher: Person, course: dict[str, Any], title: str, **fields: Any) -> dict[str, Any]:
    asked = {"title": title, "status": "published", **fields}
    return dict(ok(await teacher.http("POST", at(course, "assignments"), asked), 201))


def told(person: Person, kind: str) -> list[Any]:
    return [each for each in person.device.heard(person.channel) if each.get("kind") == kind]


async def test_a_new_assignment_reaches_every_student_live_and_once(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        for title in ("First", "Second"):
            await assign(teacher, course, title)
        for person in (ann, ben):
            await person.hears(
                person.channel, kind="assignment.published", holds=lambda each: each["data"]["title"] == "Second"
            )
            assert sorted(each["data"]["title"] for each in told(person, "assignment.published")) == ["First", "Second"]
        assert told(teacher, "assignment.published") == []
        page = ok(await ann.http("GET", "/v1/notifications"))
        assert [each["data"]["title"] for each in page["notifications"]] == ["Second", "First"]
        assert page["unread"] == 2
        first = page["notifications"][1]["id"]
        tablet = await ann.another_device()
        assert ok(await ann.http("PUT", f"/v1/notifications/{first}/read"))["unread"] == 1
        await tablet.hears(ann.channel, event="notifications_read", unread=1)
        assert ok(await ann.http("PUT", f"/v1/notifications/{first}/read"))["unread"] == 1  # once more is fine
        assert ok(await ben.http("PUT", f"/v1/notifications/{page['notifications'][0]['id']}/read"))["unread"] == 2
        assert ok(await ann.http("PUT", "/v1/notifications/read"))["unread"] == 0
        small = await ann.http("GET", "/v1/notifications?limit=1")
        link = small.headers["link"]
        assert ok(await ann.http("GET", link[1 : link.index(">")]))["notifications"][0]["id"] == first


async def test_a_grade_is_told_to_its_student_when_it_is_given_back(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        work = await assign(teacher, course, "Essay")
        path = at(course, "assignments", work["id"], "submissions")
        handed_in = ok(await ann.http("POST", path, {"text": "Here"}), 201)
        grade = at(course, "submissions", handed_in["id"])
        ok(await teacher.http("PUT", f"{grade}/grade", {"grade": 77}))
        ok(await teacher.http("PUT", f"{grade}/return"))
        heard = await ann.hears(ann.channel, kind="submission.graded")
        assert heard["data"] == {"submission_id": handed_in["id"], "title": "Essay", "grade": 77, "out_of": 100}
        await assign(teacher, course, "After it")
        await ben.hears(
            ben.channel, kind="assignment.published", holds=lambda each: each["data"]["title"] == "After it"
        )
        assert told(ben, "submission.graded") == []


async def test_whoever_was_away_finds_it_later(server: Server) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await ann.device.close()
        ok(await teacher.http("PUT", at(course, "participants", ann.id), {}), 204)
        async with asyncio.timeout(10):
            while not (page := ok(await ann.http("GET", "/v1/notifications")))["notifications"]:
                await asyncio.sleep(0.05)
        assert page["notifications"][0]["kind"] == "enrollment.added"


async def test_what_somebody_does_not_want_to_be_told(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        ok(await ann.http("PUT", "/v1/me/notifications", {"muted": ["assignment.published"]}), 204)
        assert ok(await ann.http("GET", "/v1/me/notifications"))["muted"] == ["assignment.published"]
        await assign(teacher, course, "Quiet")
        await ben.hears(ben.channel, kind="assignment.published")
        assert ok(await ann.http("GET", "/v1/notifications"))["unread"] == 0
        refused = await ann.http("PUT", "/v1/me/notifications", {"muted": ["everything"]})
        assert (refused.status, refused.pointers) == (422, ["/muted/0"])


async def test_a_due_date_is_told_a_day_before_to_whoever_has_not_handed_in(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben", "ill") as (teacher, ann, ben, ill):
        course = await published_course(teacher)
        for person in (ann, ben, ill):
            await enrol(person, course)
        soon = datetime.now(UTC) + timedelta(hours=20)
        work = await assign(teacher, course, "Due", due_date=soon.isoformat())
        path = at(course, "assignments", work["id"])
        ok(await ben.http("POST", f"{path}/submissions", {"text": "Done"}), 201)
        later = (soon + timedelta(days=3)).isoformat()
        ok(await teacher.http("PUT", f"{path}/extensions/{ill.id}", {"due_date": later}), 204)
        await remind(server)
        await ann.hears(ann.channel, kind="assignment.due")
        (row,) = await execute(
            server,
            "select count(*) from notifications where kind = 'assignment.due' and course_id = $1::text::uuid",
            course["id"],
        )
        assert row["count"] == 1
        assert told(ben, "assignment.due") == told(ill, "assignment.due") == []


async def test_a_notification_that_was_published_before_its_worker_died_is_heard_once(server: Server) -> None:
    """Published, and not noted: as if the worker had been killed between the two."""
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        await assign(teacher, course, "Once")
        await ann.hears(ann.channel, kind="assignment.published")
        await execute(server, "update notifications set told_at = null where user_id = $1::text::uuid", ann.id)
        async with asyncio.timeout(10):
            while await execute(
                server, "select from notifications where user_id = $1::text::uuid and told_at is null", ann.id
            ):
                await asyncio.sleep(0.05)
        await ann.device.in_step()
        assert len(told(ann, "assignment.published")) == 1


async def test_reports_add_up_what_happened(server: Server) -> None:
    async with school(server, "admin", "teacher", "ann", "ben") as (admin, teacher, ann, ben):
        before = ok(await admin.http("GET", "/v1/school/report"))["totals"]
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        await assign(teacher, course, "Work")
        ok(await ben.http("DELETE", at(course, "enrollments")), 204)
        expected = {"course.published": 1, "enrollment.added": 2, "assignment.published": 1, "enrollment.ended": 1}
        async with asyncio.timeout(10):
            while (report := ok(await teacher.http("GET", at(course, "report"))))["totals"] != expected:
                await asyncio.sleep(0.05)
        assert {each["kind"]: each["events"] for each in report["days"]} == expected
        rows = list(csv.DictReader(io.StringIO((await teacher.http("GET", at(course, "report.csv"))).content.decode())))
        assert rows[0]["enrollment.added"] == "2"
        after = ok(await admin.http("GET", "/v1/school/report"))["totals"]
        assert after["enrollment.added"] >= before.get("enrollment.added", 0) + 2
        assert (await teacher.http("GET", "/v1/school/report")).status == 403
        assert (await ann.http("GET", at(course, "report"))).status == 403
        assert (await teacher.http("GET", at(course, "report?days=0"))).status == 400


async def test_nobody_reads_what_another_was_told(server: Server) -> None:
    async with school(server, "ann") as (ann,):
        assert ok(await ann.http("GET", "/v1/notifications")) == {"notifications": [], "unread": 0}
        assert ok(await ann.http("PUT", f"/v1/notifications/{uuid4()}/read"))["unread"] == 0


async def test_a_class_is_told_a_quarter_of_an_hour_before_it(server: Server) -> None:
    async with school(server, "teacher", "ann", "other") as (teacher, ann, other):
        course = await published_course(teacher)
        await enrol(ann, course)
        begins = datetime.now(UTC) + timedelta(minutes=10)

        def at_time(moment: datetime) -> dict[str, str]:
            return {"starts_at": moment.isoformat(), "ends_at": (moment + timedelta(hours=1)).isoformat()}

        later = {"title": "Tomorrow", **at_time(begins + timedelta(days=1))}
        ok(await teacher.http("POST", at(course, "classes"), later), 201)
        soon = ok(await teacher.http("POST", at(course, "classes"), {"title": "Channels", **at_time(begins)}), 201)
        await remind(server)
        for person in (teacher, ann):
            heard = await person.hears(person.channel, kind="class.soon")
            assert (heard["data"]["title"], heard["data"]["class_id"]) == ("Channels", soon["id"])
        # At another time it is another class to whoever has to be there.
        moved = at_time(begins + timedelta(minutes=3))
        ok(await teacher.http("PATCH", at(course, "classes", soon["id"]), moved))
        await remind(server)
        await ann.device.until(lambda: len(told(ann, "class.soon")) == 2)
        assert told(other, "class.soon") == []


async def remind(server: Server) -> None:
    """What a minute of waiting would do, and once more."""
    database = Database(str(read_urls(server.data_dir).database))
    for _ in range(2):
        await NotificationStore(database).remind()
    await database.close()
