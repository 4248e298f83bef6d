"""The same Idempotency-Key again: with the same body, with another one, at once, after a refusal."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from loadtest.server import Server
from tests.invariants.rawclient import PATIENCE
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


async def test_a_retry_that_is_refused_frees_no_key_that_was_used(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        room = ok(await teacher.http("POST", "/v1/rooms", {"title": "Go", "members": [student.id]}), 201)
        say, key = f"/v1/rooms/{room['id']}/messages", {"Idempotency-Key": str(uuid4())}
        ok(await student.http("POST", say, {"content": "Hello"}, headers=key), 201)
        await student.rpc("room.leave", room_id=room["id"])
        assert (await student.http("POST", say, {"content": "Hello"}, headers=key)).status >= 400
        await teacher.rpc("room.invite", room_id=room["id"], user_id=student.id)
        refused = await student.http("POST", say, {"content": "Bye"}, headers=key)
        assert refused.pointers == ["Idempotency-Key"], refused.body


async def test_whoever_needs_no_access_token_may_give_a_key(server: Server) -> None:
    """The server API by its own key, and a login by whoever sends the token along that is over."""
    publication = {"channel": "chat:lobby", "data": {}}
    async with httpx.AsyncClient() as client:
        for authorization in (f"apikey {server.api_key}", f"ApiKey {server.api_key}"):
            headers = {"Authorization": authorization, "Idempotency-Key": "again"}
            answer = await client.post(server.url("/api/publish"), json=publication, headers=headers)
            assert (answer.status_code, "result" in answer.json()) == (200, True), answer.text
        headers = {"Authorization": "Bearer over", "Idempotency-Key": "again"}
        nobody = {"email": "nobody@example.org", "password": "wrong"}
        answer = await client.post(server.url("/v1/auth/login"), json=nobody, headers=headers)
        assert "password is wrong" in answer.json()["detail"]


async def test_an_upload_with_a_key_is_not_read_into_memory(server: Server) -> None:
    """A file that is too large is refused by its length, before any of it has come."""
    async with school(server, "teacher") as (teacher,):
        room = ok(await teacher.http("POST", "/v1/rooms", {"title": "Go"}), 201)
        address = urlsplit(server.url("/"))
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST /v1/rooms/{room['id']}/files?name=big.bin HTTP/1.1",
            f"Host: {address.netloc}",
            f"Authorization: Bearer {teacher.token}",
            "Idempotency-Key: big",
            f"Content-Length: {10**12}",
        )
        writer.write("\r\n".join([*head, "", ""]).encode())
        try:
            async with asyncio.timeout(PATIENCE):
                assert b" 413 " in await reader.readline()
        finally:
            writer.close()


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
