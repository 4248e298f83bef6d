"""The same Idempotency-Key again: with the same body, with another one, at once, after a refusal."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.server import Server
from tests.lms.school import enrol, ok, published_course, school

pytestmark = pytest.mark.integration


async def test_the_same_key_with_another_body_is_refused(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        key = {"Idempotency-Key": "a course"}
        made = ok(await teacher.http("POST", "/v1/courses", {"title": "Go"}, headers=key), 201)
        assert ok(await teacher.http("POST", "/v1/courses", {"title": "Go"}, headers=key, node=1))["id"] == made["id"]
        other = await teacher.http("POST", "/v1/courses", {"title": "Rust"}, headers=key, node=1)
        assert (other.status, other.pointers) == (422, ["Idempotency-Key"])
        # Another person's key, and another operation's, is another key.
        course = await published_course(teacher)
        await enrol(student, course)
        path = f"/v1/courses/{course['id']}"
        ok(await teacher.http("POST", f"{path}/threads", {"title": "Go", "content": "!"}, headers=key), 201)
        ok(await student.http("POST", f"{path}/threads", {"title": "Rust", "content": "?"}, headers=key), 201)
        room = ok(await teacher.http("POST", "/v1/rooms", {"title": "Go"}, headers=key), 201)
        assert (await teacher.http("POST", "/v1/rooms", {"title": "Rust"}, headers=key)).status == 422
        say = f"/v1/rooms/{room['id']}/messages"
        message = {"Idempotency-Key": "7b0a1b7e-8a53-4a2f-9a3a-2f0a5ac6e3f1"}
        ok(await teacher.http("POST", say, {"content": "Hello"}, headers=message), 201)
        ok(await teacher.http("POST", say, {"content": "Hello"}, headers=message), 200)
        assert (await teacher.http("POST", say, {"content": "Bye"}, headers=message)).status == 422


async def test_of_two_bodies_at_once_one_is_made(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        key = {"Idempotency-Key": "race"}
        answers = await asyncio.gather(
            *(
                teacher.http("POST", "/v1/courses", {"title": title}, headers=key, node=i % 2)
                for i, title in enumerate(("Go", "Rust") * 4)
            )
        )
        made = {each.body["id"] for each in answers if each.status in (200, 201)}
        assert len(made) == 1
        assert sorted(each.status for each in answers if each.status == 422) == [422] * 4


async def test_a_refused_request_uses_no_key_up(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        key = {"Idempotency-Key": "again"}
        assert (await teacher.http("POST", "/v1/courses", {"title": ""}, headers=key)).status == 422
        assert (await teacher.http("POST", "/v1/courses", {"title": 7}, headers=key)).status == 422
        ok(await teacher.http("POST", "/v1/courses", {"title": "Go"}, headers=key), 201)


async def test_ten_megabytes_of_json(server: Server) -> None:
    """Refused by its size, before it is read; the connection and everybody else's go on."""
    async with school(server, "teacher") as (teacher,):
        big = b'{"title": "' + b"x" * 10_000_000 + b'"}'
        for headers in (
            {"Content-Type": "application/json"},
            {"Content-Type": "application/json", "Idempotency-Key": "big"},
        ):
            assert (await teacher.http("POST", "/v1/courses", content=big, headers=headers)).status == 413
        deep = b"[" * 100_000 + b"]" * 100_000
        json = {"Content-Type": "application/json"}
        assert (await teacher.http("POST", "/v1/courses", content=deep, headers=json)).status == 400
        cut = await teacher.http("POST", "/v1/courses", content=b'{"title": "Go', headers=json)
        assert cut.status == 400
        ok(await teacher.http("POST", "/v1/courses", {"title": "Small"}), 201)
