"""Admins give roles, and what they do is kept."""

from __future__ import annotations

import asyncio
import secrets
from uuid import uuid4

import httpx
import pytest

from loadtest.server import Server
from tests.invariants.rawclient import raw_client
from tests.lms.school import enrol, execute, new_course, ok, published_course, school

pytestmark = pytest.mark.integration


async def test_an_admin_makes_a_teacher(server: Server) -> None:
    async with school(server, "admin", "new") as (admin, new):
        assert (await new.http("POST", "/v1/courses", {"title": "Mine"})).status == 403
        path = f"/v1/school/people/{new.id}/role"
        assert (await new.http("PUT", path, {"role": "admin"})).status == 403
        ok(await admin.http("PUT", path, {"role": "teacher"}), 204)
        ok(await admin.http("PUT", path, {"role": "teacher"}), 204)  # no change, and not noted
        await new_course(new)
        acts = ok(await admin.http("GET", f"/v1/school/audit?subject_id={new.id}"))["acts"]
        assert [(each["act"], each["actor_id"], each["data"]) for each in acts] == [
            ("role.set", admin.id, {"from": "student", "to": "teacher"})
        ]
        assert (await admin.http("PUT", f"/v1/school/people/{uuid4()}/role", {"role": "teacher"})).status == 404
        refused = await admin.http("PUT", path, {"role": "headmaster"})
        assert (refused.status, refused.pointers) == (422, ["/role"])
        assert "admin, assistant, student or teacher" in refused.body["errors"][0]["detail"]


async def test_what_the_staff_does_to_people_and_courses_is_kept(server: Server) -> None:
    async with school(server, "admin", "teacher", "ann", "ben") as (admin, teacher, ann, ben):
        course = await published_course(teacher)
        path = f"/v1/courses/{course['id']}"
        await enrol(ann, course)
        thread = ok(await ann.http("POST", f"{path}/threads", {"title": "Buy this", "content": "Cheap"}), 201)
        posts = f"{path}/threads/{thread['id']}/posts"
        (spam,) = ok(await ann.http("GET", posts))["posts"]
        for role in ("student", "assistant", "assistant"):  # how a student came is in the reports; once more is nothing
            ok(await teacher.http("PUT", f"{path}/participants/{ben.id}", {"role": role}), 204)
        mine = ok(await ann.http("POST", posts, {"content": "Oops"}), 201)
        ok(await ann.http("DELETE", f"{posts}/{mine['id']}"), 204)  # her own: nobody in charge did it
        for _ in range(2):
            ok(await ben.http("DELETE", f"{posts}/{spam['id']}"), 204)
            ok(await ben.http("DELETE", f"{path}/participants/{ann.id}"), 204)
        ok(await ben.http("DELETE", f"{path}/enrollments"), 204)
        ok(await admin.http("PUT", f"{path}/archive"), 204)
        empty = await new_course(teacher)
        ok(await teacher.http("DELETE", f"/v1/courses/{empty['id']}"), 204)

        async def acts(subject: str) -> list[tuple[str, str]]:
            found = ok(await admin.http("GET", f"/v1/school/audit?subject_id={subject}"))["acts"]
            return [(each["act"], each["actor_id"]) for each in found]

        assert await acts(ann.id) == [("participant.removed", ben.id), ("post.deleted", ben.id)]
        assert await acts(ben.id) == [("course_role.set", teacher.id)]
        assert await acts(course["id"]) == [("course.archived", admin.id), ("course.published", teacher.id)]
        assert await acts(empty["id"]) == [("course.deleted", teacher.id)]
        (role,) = ok(await admin.http("GET", f"/v1/school/audit?subject_id={ben.id}"))["acts"]
        assert role["data"] == {
            "course_id": course["id"],
            "course": course["title"],
            "from": "student",
            "to": "assistant",
        }


async def test_the_last_admin_stays_one(server: Server) -> None:
    async with school(server, "admin one", "admin two") as admins:
        others = (
            "update users set role = 'teacher' where role = 'admin' and not id = any ($1::text[]::uuid[]) returning id"
        )
        await execute(server, others, [each.id for each in admins])
        answers = await asyncio.gather(
            *(
                each.http("PUT", f"/v1/school/people/{other.id}/role", {"role": "student"})
                for each, other in (admins, admins[::-1])
            )
        )
        # Each takes the other's role: one of the two is too late, or not an admin any more.
        assert sorted(each.status for each in answers)[0] == 204
        left = await execute(server, "select id::text from users where role = 'admin'")
        assert len(left) == 1
        (last,) = [each for each in admins if each.id == left[0]["id"]]
        assert (await last.http("PUT", f"/v1/school/people/{last.id}/role", {"role": "student"})).status == 409


async def test_people_are_listed_page_by_page(server: Server) -> None:
    async with school(server, "admin", "a", "b", "c") as (admin, *others):
        seen: list[str] = []
        path = "/v1/school/people?limit=2"
        while path:
            answer = await admin.http("GET", path)
            seen += [each["id"] for each in ok(answer)["people"]]
            link = answer.headers.get("link", "")
            path = link[1 : link.index(">")] if link else ""
        assert len(set(seen)) == len(seen)
        assert {each.id for each in others} < set(seen)


async def test_logins_are_listed_and_ended(server: Server) -> None:
    account = {"email": f"{secrets.token_hex(8)}@example.org", "password": secrets.token_hex(8)}
    async with httpx.AsyncClient(base_url=server.url(""), trust_env=False) as http:
        assert (await http.post("/v1/auth/register", json=account)).status_code == 201
        phone, laptop = [
            (await http.post("/v1/auth/login", json=account, headers={"User-Agent": name})).json()
            for name in ("phone", "laptop")
        ]
        here = {"Authorization": f"Bearer {laptop['access_token']}"}
        listed = (await http.get("/v1/me/sessions", headers=here)).json()["sessions"]
        assert {(each["user_agent"], each["current"]) for each in listed} == {("phone", False), ("laptop", True)}
        (other,) = [each["id"] for each in listed if not each["current"]]
        async with (
            raw_client(server.websocket(1), phone["access_token"]) as lost,
            raw_client(server.websocket(1), laptop["access_token"]) as kept,
        ):
            assert (await http.delete(f"/v1/me/sessions/{other}", headers=here)).status_code == 204
            await lost.until(lambda: lost.refused)  # on whatever node it is
            await kept.rpc("room.unread")
            assert not kept.closes
        assert (await http.delete(f"/v1/me/sessions/{other}", headers=here)).status_code == 404
        there = {"Authorization": f"Bearer {phone['access_token']}"}
        assert (await http.get("/v1/me", headers=there)).status_code == 401
        refreshed = await http.post("/v1/auth/refresh", json={"refresh_token": phone["refresh_token"]})
        assert refreshed.status_code == 401
        assert (await http.get("/v1/me", headers=here)).status_code == 200


async def test_an_admin_keeps_somebody_out_and_lets_them_in_again(server: Server) -> None:
    async with school(server, "admin", "ann") as (admin, ann):
        account = {"email": f"{uuid4().hex}@example.org", "password": "correct horse"}
        async with httpx.AsyncClient(base_url=server.url("")) as client:
            user = (await client.post("/v1/auth/register", json=account)).json()["id"]
            login = (await client.post("/v1/auth/login", json=account)).json()
            path = f"/v1/school/people/{user}/access"
            assert (await ann.http("PUT", path, {"allowed": False})).status == 403
            ok(await admin.http("PUT", path, {"allowed": False}), 204)
            me = {"Authorization": f"Bearer {login['access_token']}"}
            assert (await client.get("/v1/me", headers=me)).status_code == 401
            refresh = {"refresh_token": login["refresh_token"]}
            assert (await client.post("/v1/auth/refresh", json=refresh)).status_code == 401
            assert (await client.post("/v1/auth/login", json=account)).status_code == 401
            ok(await admin.http("PUT", path, {"allowed": True}), 204)
            assert (await client.post("/v1/auth/login", json=account)).status_code == 200
            assert (await client.get("/v1/me", headers=me)).status_code == 401  # that login stays over
        ok(await admin.http("PUT", f"/v1/school/people/{ann.id}/access", {"allowed": False}), 204)
        await ann.device.until(lambda: not ann.device.connected)
        acts = ok(await admin.http("GET", f"/v1/school/audit?subject_id={user}"))["acts"]
        assert [each["act"] for each in acts] == ["access.allowed", "access.denied"]
        assert (await admin.http("PUT", f"/v1/school/people/{uuid4()}/access", {"allowed": True})).status == 404


async def test_the_last_admin_keeps_nobody_out_but_others(server: Server) -> None:
    async with school(server, "admin", "admin two") as (admin, other):
        admins = "update users set role = 'teacher' where role = 'admin' and id <> all ($1::text[]::uuid[])"
        await execute(server, admins, [admin.id, other.id])
        ok(await admin.http("PUT", f"/v1/school/people/{other.id}/access", {"allowed": False}), 204)
        assert (await admin.http("PUT", f"/v1/school/people/{admin.id}/access", {"allowed": False})).status == 409
