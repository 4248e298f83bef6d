"""Mail on the real server, to a real mail server: notifications, lost passwords, addresses."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gateway_node.services.mail import TEMPLATES
from gateway_node.services.recovery import RecoveryTokens
from loadtest.server import Server
from storage.users import NO_PASSWORD
from tests.chat.conftest import SETTINGS
from tests.chat.person import Person
from tests.lms.school import enrol, execute, ok, published_course, school
from tests.post.mailbox import Mailbox, link_in, text_of
from tests.stack import short_folder

pytestmark = pytest.mark.integration


async def address_of(person: Person) -> str:
    return str(ok(await person.http("GET", "/v1/me"))["email"])


async def verify(server: Server, mailbox: Mailbox, person: Person) -> str:
    """By the link that came when the account was made; the address."""
    address = await address_of(person)
    token = link_in(await mailbox.letter(address, "your address"), "verify")
    assert (await post(server, "/v1/auth/verification", {"token": token})).status_code == 204
    return address


async def post(server: Server, path: str, body: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(server.url(path), json=body)


async def assign(teacher: Person, course: dict[str, Any], title: str) -> None:
    path = f"/v1/courses/{course['id']}/assignments"
    ok(await teacher.http("POST", path, {"title": title, "status": "published"}), 201)


async def test_only_who_has_verified_their_address_is_told_by_mail(server: Server, mailbox: Mailbox) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        assert ok(await ann.http("GET", "/v1/me"))["email_verified"] is False
        address = await verify(server, mailbox, ann)
        assert ok(await ann.http("GET", "/v1/me"))["email_verified"] is True
        await assign(teacher, course, "Parser & <b>lexer</b>")
        letter = await mailbox.letter(address, "Parser")
        assert letter["Subject"] == "Introduction to Go: a new assignment, Parser & <b>lexer</b>"
        assert letter["From"] == "The School <no-reply@school.example>"
        assert letter["Message-ID"].endswith("@school.example>")
        assert letter["Auto-Submitted"] == "auto-generated"
        assert "https://school.example/" in text_of(letter)
        html: Any = letter.get_body(("html",))
        assert "Parser &amp; &lt;b&gt;lexer&lt;/b&gt;" in html.get_content()
        assert mailbox.to(await address_of(ben), "Parser") == []


async def test_a_grade_comes_by_mail_and_what_is_not_wanted_does_not(server: Server, mailbox: Mailbox) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        addresses = {}
        for person in (ann, ben):
            await enrol(person, course)
            addresses[person.name] = await verify(server, mailbox, person)
        ok(await ben.http("PUT", "/v1/me/notifications", {"mail": []}), 204)
        path = f"/v1/courses/{course['id']}"
        work = ok(await teacher.http("POST", f"{path}/assignments", {"title": "Essay", "status": "published"}), 201)
        for person in (ben, ann):
            handed_in = ok(
                await person.http("POST", f"{path}/assignments/{work['id']}/submissions", {"text": "x"}), 201
            )
            ok(await teacher.http("PUT", f"{path}/submissions/{handed_in['id']}/grade", {"grade": 77.5}))
            ok(await teacher.http("PUT", f"{path}/submissions/{handed_in['id']}/return"))
        letter = await mailbox.letter(addresses[ann.name], "your grade")
        assert "77.5 of 100 points" in text_of(letter)
        assert mailbox.to(addresses[ben.name], "Essay") == []


async def test_a_mail_server_that_says_later_is_asked_again_with_the_same_letter(
    server: Server, mailbox: Mailbox
) -> None:
    async with school(server, "admin", "teacher", "ann", "ben") as (admin, teacher, ann, ben):
        course = await published_course(teacher)
        addresses = {}
        for person in (ann, ben):
            await enrol(person, course)
            addresses[person.name] = await verify(server, mailbox, person)
        before = mailbox.arrived[addresses[ben.name]]
        mailbox.answers[addresses[ann.name]] = ["451 try again later", "421 busy"]
        mailbox.answers[addresses[ben.name]] = ["550 no such user"]
        await assign(teacher, course, "Later")
        await mailbox.letter(addresses[ann.name], "Later")
        failed: list[Any] = []
        async with asyncio.timeout(10):
            while not failed:
                await asyncio.sleep(0.05)
                failures = ok(await admin.http("GET", "/v1/school/outbox"))["failures"]
                mine = [each for each in failures if each["user_id"] in (ann.id, ben.id)]  # other tests leave some
                failed = [(each["user_id"], each["error"]) for each in mine if each["failed_at"]]
        assert failed == [(ben.id, "550 no such user")]
        assert mailbox.arrived[addresses[ben.name]] == before + 1
        assert (await teacher.http("GET", "/v1/school/outbox")).status == 403


async def test_a_lost_password(server: Server, mailbox: Mailbox) -> None:
    address = f"{uuid4().hex}@example.org"
    account = {"email": address, "password": "correct horse"}
    assert (await post(server, "/v1/auth/register", account)).status_code == 201
    login = (await post(server, "/v1/auth/login", account)).json()
    for asked in (address, address.upper(), "nobody@example.org"):
        assert (await post(server, "/v1/auth/forgotten", {"email": asked})).status_code == 202
    token = link_in(await mailbox.letter(address, "new password"), "reset")
    for bad in (token[:-2], "x", link_in(await mailbox.letter(address, "your address"), "verify")):
        refused = await post(server, "/v1/auth/password", {"token": bad, "password": "battery staple"})
        assert refused.status_code == 422 and refused.json()["errors"][0]["pointer"] == "/token"
    assert (await post(server, "/v1/auth/password", {"token": token, "password": "short"})).status_code == 422
    answers = await asyncio.gather(
        *(post(server, "/v1/auth/password", {"token": token, "password": f"battery staple {i}"}) for i in range(4))
    )
    statuses = [each.status_code for each in answers]
    assert sorted(statuses) == [204, 422, 422, 422]  # it works once
    password = f"battery staple {statuses.index(204)}"
    assert (await post(server, "/v1/auth/login", {"email": address, "password": password})).status_code == 200
    assert (await post(server, "/v1/auth/login", account)).status_code == 401
    # The logins from before are over, and no link is a login.
    assert (await post(server, "/v1/auth/refresh", {"refresh_token": login["refresh_token"]})).status_code == 401
    async with httpx.AsyncClient() as client:
        for dead in (login["access_token"], token):
            refused = await client.get(server.url("/v1/me"), headers={"Authorization": f"Bearer {dead}"})
            assert refused.status_code == 401
    assert len(mailbox.to(address, "new password")) == 1  # one a minute


async def test_a_new_password_for_whoever_knows_the_old_one(server: Server) -> None:
    email, old, new = f"{uuid4().hex}@example.org", "correct horse", "battery staple"
    assert (await post(server, "/v1/auth/register", {"email": email, "password": old})).status_code == 201
    first, second = [(await post(server, "/v1/auth/login", {"email": email, "password": old})).json() for _ in range(2)]
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {first['access_token']}"}) as client:
        wrong = await client.put(server.url("/v1/me/password"), json={"password": "wrong", "new_password": new})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/password")
        done = await client.put(server.url("/v1/me/password"), json={"password": old, "new_password": new})
        assert done.status_code == 204
        assert (await client.get(server.url("/v1/me"))).status_code == 200  # this login stays
    refreshed = [
        (await post(server, "/v1/auth/refresh", {"refresh_token": each["refresh_token"]})).status_code
        for each in (first, second)
    ]
    assert refreshed == [200, 401]
    assert (await post(server, "/v1/auth/login", {"email": email, "password": old})).status_code == 401


async def test_the_link_for_the_address_once_more(server: Server, mailbox: Mailbox) -> None:
    async with school(server, "ann") as (ann,):
        address = await verify(server, mailbox, ann)
        assert (await ann.http("POST", "/v1/me/verification")).status == 202  # verified: nothing to send
        await execute(server, "update users set email_verified_at = null where email = $1", address)
        await execute(server, "update deliveries set created_at = created_at - interval '2 minutes'")
        assert (await ann.http("POST", "/v1/me/verification")).status == 202
        link_in(await mailbox.letter(address, "your address", number=2), "verify")


@pytest.mark.chaos
async def test_no_mail_is_lost_when_workers_are_killed(mailbox: Mailbox) -> None:
    """Nodes are killed again and again while they send; every letter comes, each under one Message-ID of its own."""
    settings = {**SETTINGS, "MAIL__URL": mailbox.url, "MAIL__RETRY_AFTER": "1", "MAIL__SENDER": "kill@example.org"}
    students = 12
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as server:
        async with school(server, "teacher", *(f"s{i}" for i in range(students))) as (teacher, *everybody):
            course = await published_course(teacher)
            for person in everybody:
                await enrol(person, course)
            await execute(server, "update users set email_verified_at = now()")
            addresses = [await address_of(person) for person in everybody]
            mailbox.pause = 0.05  # a round takes a while, so that they are killed in the middle of one
            for number in range(4):
                pids = [each.pid for each in server.processes().values() if each.name.startswith("node")]
                await assign(teacher, course, f"Work {number}.")
                async with asyncio.timeout(10):
                    while not any(mailbox.to(address, f"Work {number}.") for address in addresses):
                        await asyncio.sleep(0.01)
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                assert not all(mailbox.to(address, f"Work {number}.") for address in addresses)
                async with asyncio.timeout(30):
                    while not await _all_ready(server):
                        await asyncio.sleep(0.1)
            mailbox.pause = 0.0
            for address in addresses:
                for number in range(4):
                    await mailbox.letter(address, f"Work {number}.")
                    ids = {each["Message-ID"] for each in mailbox.to(address, f"Work {number}.")}
                    assert len(ids) == 1


async def _all_ready(server: Server) -> bool:
    async with httpx.AsyncClient(timeout=2) as client:
        try:
            answers = [await client.get(server.url("/health/ready", node)) for node in range(server.nodes)]
        except httpx.HTTPError:
            return False
    return all(each.status_code == 200 for each in answers)


def test_every_kind_that_is_told_has_a_letter() -> None:
    from typing import get_args

    from gateway_node.services.lms.notifications import Kind

    named = {path.stem for path in Path(TEMPLATES).iterdir()}
    assert named == {*get_args(Kind), "password.reset", "email.verification"}


async def test_people_of_another_issuer_get_no_password_by_mail(server: Server) -> None:
    """They have none; with one they would come in when their issuer lets them no more."""
    async with school(server, "ann") as (ann,):
        address = await address_of(ann)
        await execute(server, "update users set password_hash = $2 where email = $1", address, NO_PASSWORD)
        assert (await post(server, "/v1/auth/forgotten", {"email": address})).status_code == 202
        letters = "select from deliveries where user_id = $1::text::uuid and kind = 'password.reset'"
        assert await execute(server, letters, ann.id) == []
        link = RecoveryTokens(server.secret).for_reset(UUID(ann.id), NO_PASSWORD)
        refused = await post(server, "/v1/auth/password", {"token": link, "password": "a new password"})
        assert refused.status_code == 422
