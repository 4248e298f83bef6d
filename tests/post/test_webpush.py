"""Web push: encryption by the RFC's own example, and pushes to browsers on the real server."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services import webpush
from loadtest.server import Server
from tests.lms.school import enrol, ok, published_course, school
from tests.post.pushservice import Browser, PushService, claims_of, decode

# RFC 8291, section 5 and appendix A
PLAIN = b"When I grow up, I want to be a watermelon"
P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
PRIVATE = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
SEALED = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
    "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def test_the_example_of_the_rfc() -> None:
    private = ec.derive_private_key(int.from_bytes(decode(PRIVATE), "big"), ec.SECP256R1())
    sealed = webpush.encrypt(PLAIN, decode(P256DH), decode(AUTH), salt=decode(SALT), private=private)
    assert webpush.base64url(sealed) == SEALED


def test_what_is_too_long_is_not_sent() -> None:
    webpush.encrypt(b"x" * 3993, decode(P256DH), decode(AUTH))
    with pytest.raises(ValueError, match="3,993"):
        webpush.encrypt(b"x" * 3994, decode(P256DH), decode(AUTH))


SERVICES = ("fcm.googleapis.com", "push.apple.com", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("https://fcm.googleapis.com/fcm/send/abc", True),
        ("https://web.push.apple.com/abc", True),
        ("http://127.0.0.1:9000/abc", True),
        ("http://fcm.googleapis.com/abc", False),
        ("https://fcm.googleapis.com:8443/abc", False),
        ("https://fcm.googleapis.com.evil.example/abc", False),
        ("https://evilpush.apple.com/abc", False),
        ("https://user@fcm.googleapis.com/abc", False),
        ("https://fcm.googleapis.com@10.0.0.1/abc", False),
        ("http://127.0.0.1:9001/abc", False),
        ("https://169.254.169.254/latest", False),
        ("https://[::1/abc", False),
        ("https://fcm.googleapis.com/\0", False),  # nor what `urlsplit` takes and httpx does not, or reads otherwise
        ("https://fcm.googleapis.com/\x01", False),
        ("https://fcm.googleapis.com/a b", False),
        ("\thttps://fcm.googleapis.com/abc", False),
        ("https://10.0.0.1\\.fcm.googleapis.com/abc", False),
        ("https://\u00fc.fcm.googleapis.com/abc", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_whom_pushes_may_go_to(endpoint: str, allowed: bool) -> None:
    assert webpush.allowed(endpoint, SERVICES) is allowed


@given(st.binary(max_size=100))
def test_any_bytes_are_a_key_or_none(key: bytes) -> None:
    assert isinstance(webpush.is_public_key(key), bool)


@pytest.mark.integration
async def test_a_push_reaches_the_browser_and_nobody_else_can_read_it(
    server: Server, push_service: PushService
) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        browser = Browser(push_service)
        key = ok(await ann.http("GET", "/v1/push/key"))["key"]
        made = ok(await ann.http("POST", "/v1/me/push", browser.subscription), 201)
        assert ok(await ann.http("POST", "/v1/me/push", browser.subscription), 201)["id"] == made["id"]
        await assign(teacher, course, "Pushed")
        (pushed,) = await browser.pushed()
        assert (pushed["kind"], pushed["title"], pushed["body"]) == (
            "assignment.published",
            "Pushed",
            "Introduction to Go",
        )
        headers, body = push_service.to(browser)[0]
        assert (headers["content-encoding"], headers["ttl"]) == ("aes128gcm", "86400")
        claims, public = claims_of(headers["authorization"])
        assert (claims["aud"], claims["sub"], public) == (push_service.origin, "mailto:admin@school.example", key)
        assert b"Pushed" not in body

        assert [each["id"] for each in ok(await ann.http("GET", "/v1/me/push"))["subscriptions"]] == [made["id"]]
        ok(await ann.http("DELETE", f"/v1/me/push/{made['id']}"), 204)
        assert (await ann.http("DELETE", f"/v1/me/push/{made['id']}")).status == 404


@pytest.mark.integration
async def test_a_service_that_is_busy_is_asked_again_and_a_browser_that_is_gone_is_forgotten(
    server: Server, push_service: PushService
) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        busy, gone, refusing = (Browser(push_service) for _ in range(3))
        for browser in (busy, gone, refusing):
            ok(await ann.http("POST", "/v1/me/push", browser.subscription), 201)
        push_service.answers = {busy.path: [503, 429], gone.path: [410], refusing.path: [400]}
        await assign(teacher, course, "Again")
        pushed = await busy.pushed(3)
        assert len({each["id"] for each in pushed}) == 1  # one message, known again by its id
        await gone.pushed(), await refusing.pushed()
        async with asyncio.timeout(10):
            while len(ok(await ann.http("GET", "/v1/me/push"))["subscriptions"]) > 2:
                await asyncio.sleep(0.05)
        await assign(teacher, course, "Later")
        await refusing.pushed(2)
        assert len(push_service.to(gone)) == 1


@pytest.mark.integration
async def test_who_wants_no_push_gets_none(server: Server, push_service: PushService) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        browsers = {}
        for person in (ann, ben):
            await enrol(person, course)
            browsers[person.name] = Browser(push_service)
            ok(await person.http("POST", "/v1/me/push", browsers[person.name].subscription), 201)
        ok(await ann.http("PUT", "/v1/me/notifications", {"push": ["quiz.due"]}), 204)
        assert ok(await ann.http("GET", "/v1/me/notifications"))["push"] == ["quiz.due"]
        await assign(teacher, course, "Quiet")
        await browsers[ben.name].pushed()
        assert push_service.to(browsers[ann.name]) == []


@pytest.mark.integration
async def test_a_browser_gets_pushes_until_its_login_ends(server: Server, push_service: PushService) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        account = {"email": f"{uuid4().hex}@example.org", "password": "correct horse"}
        async with httpx.AsyncClient(base_url=server.url("")) as client:
            assert (await client.post("/v1/auth/register", json=account)).status_code == 201
            logins = [(await client.post("/v1/auth/login", json=account)).json() for _ in range(2)]
            browsers = [Browser(push_service) for _ in logins]
            for login, browser in zip(logins, browsers, strict=True):
                headers = {"Authorization": f"Bearer {login['access_token']}"}
                made = await client.post("/v1/me/push", json=browser.subscription, headers=headers)
                assert made.status_code == 201
            await client.post(f"/v1/courses/{course['id']}/enrollments", json={"code": course["code"]}, headers=headers)
            await assign(teacher, course, "First")
            await browsers[0].pushed(), await browsers[1].pushed()
            await client.post("/v1/auth/logout", json={"refresh_token": logins[0]["refresh_token"]})
        await assign(teacher, course, "Second")
        await browsers[1].pushed(2)
        assert len(push_service.to(browsers[0])) == 1


@pytest.mark.integration
async def test_bad_subscriptions(server: Server, push_service: PushService) -> None:
    async with school(server, "ann") as (ann,):
        good = Browser(push_service).subscription
        for change, pointer in (
            ({"endpoint": "https://127.0.0.1/"}, "/endpoint"),
            ({"endpoint": ""}, "/endpoint"),
            ({"keys": {"p256dh": "!", "auth": good["keys"]["auth"]}}, "/keys"),
            ({"keys": {"p256dh": good["keys"]["p256dh"], "auth": "AAAA"}}, "/keys"),
            ({"keys": {"p256dh": "AAAA", "auth": good["keys"]["auth"]}}, "/keys"),
        ):
            refused = await ann.http("POST", "/v1/me/push", {**good, **change})
            assert (refused.status, refused.pointers) == (422, [pointer]), refused.body
        for _ in range(20):
            ok(await ann.http("POST", "/v1/me/push", Browser(push_service).subscription), 201)
        assert (await ann.http("POST", "/v1/me/push", Browser(push_service).subscription)).status == 409


async def assign(teacher: Any, course: dict[str, Any], title: str) -> None:
    path = f"/v1/courses/{course['id']}/assignments"
    ok(await teacher.http("POST", path, {"title": title, "status": "published"}), 201)
