"""API keys: what a program may with one, and what none may."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Answer, Device, Person
from tests.lms.school import new_course, ok, published_course, school

pytestmark = pytest.mark.integration


async def key_of(person: Person, *scopes: str, **fields: Any) -> dict[str, Any]:
    body = {"name": "a program", "scopes": list(scopes or ("read", "write")), **fields}
    made: dict[str, Any] = ok(await person.http("POST", "/v1/me/keys", body), 201)
    return made


async def by(key: dict[str, Any], person: Person, method: str, path: str, body: Any = None, node: int = 0) -> Answer:
    headers = {"Authorization": f"Bearer {key['key']}"}
    return await person.http(method, path, body, headers=headers, node=node)


async def test_a_key_acts_for_its_owner_until_it_is_revoked(server: Server) -> None:
    async with school(server, "teacher", "student") as (teacher, student):
        key = await key_of(teacher)
        assert key["key"].startswith(key["prefix"])
        assert (key["prefix"][:3], len(key["prefix"]), len(key["key"])) == ("cw_", 11, 67)
        course = ok(await by(key, teacher, "POST", "/v1/courses", {"title": "By a program"}), 201)
        assert ok(await teacher.http("GET", f"/v1/courses/{course['id']}"))["title"] == "By a program"
        assert ok(await by(key, teacher, "GET", "/v1/me", node=1))["id"] == teacher.id
        theirs = await key_of(student)
        assert (await by(theirs, student, "POST", "/v1/courses", {"title": "Mine"})).status == 403, "a student's key"

        answer = await teacher.http("GET", "/v1/me/keys")
        (listed,) = ok(answer)["keys"]
        assert listed.pop("last_used_at")
        assert listed == {name: value for name, value in key.items() if name != "key"}
        assert key["key"].encode() not in answer.content
        path = f"/v1/me/keys/{key['id']}"
        assert (await student.http("DELETE", path)).status == 404, "it is not theirs"
        ok(await teacher.http("DELETE", path), 204)
        assert (await teacher.http("DELETE", path)).status == 404
        refused = await by(key, teacher, "GET", "/v1/me", node=1)
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert ok(await teacher.http("GET", "/v1/me/keys")) == {"keys": []}


async def test_a_key_may_what_its_scopes_say(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await new_course(teacher)
        path = f"/v1/courses/{course['id']}"
        reads, writes, links = [await key_of(teacher, scope) for scope in ("read", "write", "links")]
        for key, got, posted in ((reads, 200, 403), (writes, 403, 201), (links, 403, 403)):
            assert (await by(key, teacher, "GET", path)).status == got
            answer = await by(key, teacher, "POST", f"{path}/modules", {"title": "Basics"})
            assert answer.status == posted
        assert 'error="insufficient_scope", scope="write"' in answer.headers["www-authenticate"]
        assert (await by(writes, teacher, "GET", "/v1/rooms")).status == 403, "also where no guard of courses is"


async def test_no_key_makes_another_or_ends_a_login(server: Server) -> None:
    async with school(server, "admin") as (admin,):
        key = await key_of(admin)
        body = {"name": "x", "scopes": ["read"]}
        for method, path, sent in (
            ("POST", "/v1/me/keys", body),
            ("GET", "/v1/me/keys", None),
            ("DELETE", f"/v1/me/keys/{key['id']}", None),
            ("GET", "/v1/me/sessions", None),
            ("DELETE", f"/v1/me/sessions/{uuid4()}", None),
            ("PUT", "/v1/me/password", {"password": "x", "new_password": "y" * 10}),
            ("POST", "/v1/me/push", {"endpoint": "https://x.example", "keys": {"p256dh": "x", "auth": "x"}}),
            ("GET", f"/v1/school/people/{admin.id}/keys", None),
            ("DELETE", f"/v1/school/people/{admin.id}/keys/{key['id']}", None),
        ):
            answer = await by(key, admin, method, path, sent)
            assert answer.status == 403, (method, path, answer.body)
            assert "login" in answer.body["detail"]
        assert ok(await by(key, admin, "GET", "/v1/school/people"))["people"], "and yet it is an admin's"


async def test_a_key_opens_no_websocket(server: Server) -> None:
    async with school(server, "student") as (student,):
        device = Device(server.websocket(0), (await key_of(student))["key"], comes_back=False)
        await device.open()
        await device.close()
        assert [code for code, _ in device.closes] == [3500]


async def test_what_is_no_key_opens_nothing(server: Server) -> None:
    async with school(server, "student") as (student,):
        good = (await key_of(student))["key"]
        for key in ("cw_", "cw_x", good[:-1], good + "0", good.upper(), "cw_" + "0" * 64):
            headers = {"Authorization": f"Bearer {key}"}
            assert (await student.http("GET", "/v1/me", headers=headers)).status == 401, key


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": " "}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "a\nb"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["all"]}, "/scopes/0"),
        ({"scopes": "read"}, "/scopes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({"user_id": "88bb3213-bac4-4e7b-b5f9-094699825ec7"}, "/user_id"),
    ],
    ids=str,
)
async def test_keys_that_cannot_be(server: Server, changes: dict[str, Any], pointer: str) -> None:
    async with school(server, "student") as (student,):
        body = {"name": "a program", "scopes": ["read"]} | changes
        answer = await student.http("POST", "/v1/me/keys", body)
        assert (answer.status, answer.pointers) == (422, [pointer])
        assert ok(await student.http("GET", "/v1/me/keys")) == {"keys": []}


async def test_whoever_has_no_account_has_no_keys(server: Server) -> None:
    async with school(server, "student") as (student,):
        for user in ("somebody of another issuer", str(uuid4())):
            headers = {"Authorization": f"Bearer {server.token(user)}"}
            body = {"name": "x", "scopes": ["read"]}
            assert (await student.http("POST", "/v1/me/keys", body, headers=headers)).status == 403, user


async def test_admins_see_and_revoke_keys_of_others(server: Server) -> None:
    async with school(server, "admin", "teacher") as (admin, teacher):
        end = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        key = await key_of(teacher, "read", expires_at=end)
        path = f"/v1/school/people/{teacher.id}/keys"
        assert (await teacher.http("GET", path)).status == 403
        (listed,) = ok(await admin.http("GET", path))["keys"]
        assert (listed["prefix"], listed["scopes"]) == (key["prefix"], ["read"])
        assert datetime.fromisoformat(listed["expires_at"]) == datetime.fromisoformat(end)
        assert (await teacher.http("DELETE", f"{path}/{key['id']}")).status == 403
        ok(await admin.http("DELETE", f"{path}/{key['id']}"), 204)
        assert (await admin.http("DELETE", f"{path}/{key['id']}")).status == 404
        assert (await by(key, teacher, "GET", "/v1/me")).status == 401
        (act,) = ok(await admin.http("GET", f"/v1/school/audit?subject_id={teacher.id}"))["acts"]
        assert (act["act"], act["actor_id"]) == ("key.revoked", admin.id)
        assert act["data"] == {"key_id": key["id"], "name": "a program", "prefix": key["prefix"]}


async def test_a_key_follows_its_owners_role(server: Server) -> None:
    async with school(server, "admin", "teacher") as (admin, teacher):
        key = await key_of(teacher)
        course = await published_course(teacher)
        ok(await admin.http("PUT", f"/v1/school/people/{teacher.id}/role", {"role": "student"}), 204)
        assert (await by(key, teacher, "POST", "/v1/courses", {"title": "x"})).status == 403
        assert (await by(key, teacher, "GET", f"/v1/courses/{course['id']}")).status == 200, "still its teacher"
