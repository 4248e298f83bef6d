"""People of another issuer on two whole nodes: rooms and courses are theirs as anybody's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.chat.person import Device, Person
from tests.invariants.conftest import poll
from tests.issuer import Issuer
from tests.lms.school import enrol, ok, published_course, school
from tests.stack import short_folder

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


@pytest.fixture(scope="module")
def server(issuer: Issuer) -> Iterator[Server]:
    settings = {**SETTINGS, "TOKEN__ISSUERS": json.dumps({"campus": issuer.settings(role_claim="role")})}
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running


@asynccontextmanager
async def stranger(server: Server, token: str, node: int = 0) -> AsyncIterator[Person]:
    """Somebody with nothing but a token."""
    async with httpx.AsyncClient(trust_env=False, timeout=15) as http:
        device = Device(server.websocket(node), token, comes_back=False)
        await device.open()
        try:
            me = await http.get(server.url("/v1/me", node), headers={"Authorization": f"Bearer {token}"})
            assert me.status_code == 200, me.content
            yield Person(server, me.json()["id"], me.json()["name"], node, token, device, http)
        finally:
            await device.close()


async def test_a_term_with_somebody_of_another_issuer(server: Server, issuer: Issuer) -> None:
    jane_token = issuer.token("jane", name="Jane", email="jane@campus.example", email_verified=True)
    teacher_token = issuer.token("prof", name="Prof", role="teacher")
    async with (
        school(server, "admin") as (admin,),
        stranger(server, teacher_token) as teacher,
        stranger(server, jane_token, node=1) as jane,
    ):
        profile = ok(await jane.http("GET", "/v1/me"))
        assert (profile["name"], profile["email"], profile["role"]) == ("Jane", "jane@campus.example", "student")
        assert profile["email_verified"]
        assert (await jane.http("POST", "/v1/courses", {"title": "Mine"})).status == 403
        course = await published_course(teacher)
        await enrol(jane, course)
        room = course["room_id"]
        await jane.device.is_in(f"room:{room}")
        await teacher.rpc("message.send", room_id=room, content="Welcome")
        await jane.hears(room, content="Welcome")
        mine = ok(await jane.http("POST", "/v1/rooms", {"title": "Homework", "members": [admin.id]}), 201)
        await admin.device.is_in(f"room:{mine['id']}")
        everybody: list[Any] = ok(await admin.http("GET", "/v1/school/people?limit=100"))["people"]
        assert {teacher.id: "teacher", jane.id: "student"}.items() <= {p["id"]: p["role"] for p in everybody}.items()
        login = {"email": "jane@campus.example", "password": "!"}
        assert (await jane.http("POST", "/v1/auth/login", login)).status == 401, "there is no password"
        key = ok(await jane.http("POST", "/v1/me/keys", {"name": "mine", "scopes": ["read"]}), 201)["key"]
        assert ok(await jane.http("GET", "/v1/me", headers={"Authorization": f"Bearer {key}"}))["id"] == jane.id


async def test_a_connection_goes_on_with_the_next_token(server: Server, issuer: Issuer) -> None:
    async with stranger(server, issuer.token("ben", ttl=60)) as ben:
        answer = await ben.device.ask(refresh={"token": issuer.token("ben", ttl=600)})
        assert 500 < answer["ttl"] <= 600


async def test_the_issuer_changes_its_keys_and_goes_away(server: Server, issuer: Issuer) -> None:
    """The new key is good as soon as tokens name it, which may be ten seconds after somebody asked for another."""
    issuer.add("second", "EdDSA")

    async def enters() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"Authorization": f"Bearer {issuer.token('cy', by='second')}"}
            answers = [await http.get(server.url("/v1/me", node), headers=headers) for node in (0, 1)]
            assert {each.status_code for each in answers} <= {200, 401}
            return all(each.status_code == 200 for each in answers)

    await poll(enters, "the new key", 30)
    issuer.answer = 503, b""
    async with stranger(server, issuer.token("dee")) as dee, stranger(server, issuer.token("eve", by="second")) as eve:
        assert dee.id != eve.id
    issuer.answer = None
