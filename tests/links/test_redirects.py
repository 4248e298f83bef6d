"""What somebody gets who follows a short link."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway_node.http.redirects import redirect_to
from loadtest.server import Server
from tests.chat.person import Person, people
from tests.links.visitor import TARGET, is_counted, new_link, visitor
from tests.lms.school import execute, ok

pytestmark = pytest.mark.integration

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"


async def change(person: Person, link: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return ok(await person.http("PATCH", f"/v1/links/{link['code']}", fields))


async def test_a_link_leads_to_its_target_and_is_counted(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as one, visitor(server, 1) as other:
        link = await new_link(ann)
        assert urlsplit(link["short_url"]).path == f"/s/{link['code']}"
        assert len(link["code"]) <= 7
        for someone in (one, other, one):
            answer = await someone.get(f"/s/{link['code']}")
            assert (answer.status_code, answer.headers["location"]) == (302, TARGET)
            assert "private" in answer.headers["cache-control"]
            assert answer.content == b""
        await is_counted(server, link["code"], 3)
        assert ok(await ann.http("GET", f"/v1/links/{link['code']}"))["click_count"] == 3


async def test_a_look_is_no_click(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann, max_visits=1)
        plain = await new_link(ann)
        for code in (link["code"], plain["code"], plain["code"]):
            answer = await someone.head(f"/s/{code}")
            assert (answer.status_code, answer.headers["location"]) == (302, TARGET)
        assert (await someone.get(f"/s/{link['code']}")).status_code == 302  # the one visit was not used up
        assert (await someone.get(f"/s/{plain['code']}")).status_code == 302
        await is_counted(server, link["code"], 1)
        await is_counted(server, plain["code"], 1)
        assert (await someone.head(f"/s/{link['code']}")).status_code == 410
        assert (await someone.head("/s/nobodys")).status_code == 404


async def test_links_that_lead_nowhere(server: Server) -> None:
    """With the right status, and as a page or a problem document."""
    async with people(server, "Ann") as (ann,), visitor(server, 0) as one, visitor(server, 1) as other:
        disabled, deleted = await new_link(ann), await new_link(ann)
        await change(ann, disabled, disabled=True)
        ok(await ann.http("DELETE", f"/v1/links/{deleted['code']}"), 204)
        for code, status, word in (
            ("nobodys", 404, "no such link"),
            ("%3Cscript%3E", 404, "no such link"),
            (disabled["code"], 410, "switched off"),
            (deleted["code"], 410, "deleted"),
        ):
            for someone in (one, other):
                page = await someone.get(f"/s/{code}", headers={"Accept": HTML})
                assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
                assert word in page.text
                assert "script" not in page.text
                assert page.headers["cache-control"] == "no-store"
                assert "default-src 'none'" in page.headers["content-security-policy"]
                said = await someone.get(f"/s/{code}", headers={"Accept": "application/json"})
                assert said.status_code == said.json()["status"] == status
                assert said.headers["content-type"] == "application/problem+json"
                assert word in said.json()["detail"]


async def test_an_expired_link_refuses_at_once_though_it_is_cached(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as one, visitor(server, 1) as other:
        end = datetime.now(UTC) + timedelta(seconds=2)
        link = await new_link(ann, expires_at=end.isoformat())
        for someone in (one, other, one, other):
            assert (await someone.get(f"/s/{link['code']}")).status_code == 302
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 0.001)
        for someone in (one, other):
            answer = await someone.get(f"/s/{link['code']}")
            assert answer.status_code == 410
            assert "expired" in answer.json()["detail"]
        assert ok(await ann.http("GET", f"/v1/links/{link['code']}"))["state"] == "expired"


async def test_fifty_at_once_of_whom_ten_may(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as one, visitor(server, 1) as other:
        link = await new_link(ann, max_visits=10)
        answers = await asyncio.gather(*((one, other)[n % 2].get(f"/s/{link['code']}") for n in range(50)))
        assert sorted(answer.status_code for answer in answers) == [302] * 10 + [410] * 40
        await is_counted(server, link["code"], 10)
        now = ok(await ann.http("GET", f"/v1/links/{link['code']}"))
        assert (now["state"], now["visits"]) == ("used_up", 10)
        await change(ann, link, max_visits=11)  # one more
        answers = await asyncio.gather(*(one.get(f"/s/{link['code']}") for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [302] + [410] * 4


async def test_a_change_holds_on_every_node(server: Server) -> None:
    """Both nodes have the link near, and Redis has it: what they say agrees with the database after each change."""
    async with people(server, "Ann", "Ben") as (ann, ben), visitor(server, 0) as one, visitor(server, 1) as other:
        link = await new_link(ann)

        async def leads_to(status: int, target: str | None = None) -> None:
            async with asyncio.timeout(2):  # NATS is on its way; `NEAR_TTL` is 5 s
                for someone in (one, other):
                    while True:
                        answer = await someone.get(f"/s/{link['code']}")
                        if (answer.status_code, answer.headers.get("location")) == (status, target):
                            break
                        await asyncio.sleep(0.01)

        await leads_to(302, TARGET)
        await leads_to(302, TARGET)
        for person, fields, expected in (
            (ann, {"url": "https://example.org/other"}, (302, "https://example.org/other")),
            (ann, {"disabled": True}, (410, None)),
            (ann, {"disabled": False}, (302, "https://example.org/other")),
            (ann, {"password": "open sesame"}, (401, None)),
            (ann, {"password": None, "url": TARGET}, (302, TARGET)),
        ):
            await change(person, link, **fields)
            await leads_to(*expected)
        assert (await ben.http("DELETE", f"/v1/links/{link['code']}")).status == 404
        await leads_to(302, TARGET)
        ok(await ann.http("DELETE", f"/v1/links/{link['code']}"), 204)
        await leads_to(410)
        (row,) = await execute(server, "select * from urls where short_code = $1", link["code"])
        assert (row["original_url"], row["deleted_at"] is None) == ("", False)


async def test_a_code_that_somebody_looked_for_before_it_was_made(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as one, visitor(server, 1) as other:
        code = f"q{ann.id[:8]}"
        for someone in (one, other):
            assert (await someone.get(f"/s/{code}")).status_code == 404
        await new_link(ann, code=code)
        async with asyncio.timeout(1.5):  # less than `MISSING_TTL`
            for someone in (one, other):
                while (await someone.get(f"/s/{code}")).status_code != 302:
                    await asyncio.sleep(0.01)


async def test_a_password(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann, password="<open sesame>", max_visits=1)
        path = f"/s/{link['code']}"
        assert link["password"] is True
        form = await someone.get(path, headers={"Accept": HTML})
        assert (form.status_code, "<form" in form.text) == (401, True)
        assert "form-action" in form.headers["content-security-policy"]
        assert TARGET not in form.text
        wrong = await someone.post(path, data={"password": "<b>"}, headers={"Accept": HTML})
        assert (wrong.status_code, "<b>" in wrong.text, "location" in wrong.headers) == (403, False, False)
        for body in ({"data": {}}, {"json": {"password": 7}}, {"content": b"\xff"}, {"json": {"password": ""}}):
            assert (await someone.post(path, **body)).status_code == 400
        right = await someone.post(path, data={"password": "<open sesame>"})
        assert (right.status_code, right.headers["location"]) == (303, TARGET)
        assert (await someone.post(path, json={"password": "<open sesame>"})).status_code == 410  # used up
        await is_counted(server, link["code"], 1)
        assert (await someone.get(path)).json()["detail"].startswith("this link was followed")


async def test_passwords_cannot_be_tried_for_ever(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as one, visitor(server, 1) as other:
        link = await new_link(ann, password="open sesame")
        tries = [await (one, other)[n % 2].post(f"/s/{link['code']}", data={"password": "x"}) for n in range(12)]
        assert [each.status_code for each in tries[:10]] == [403] * 10
        assert tries[-1].status_code == 429
        assert int(tries[-1].headers["retry-after"]) > 0


async def test_a_blocked_domain(server: Server) -> None:
    """A link that was made before its domain was blocked leads nowhere."""
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann)
        await execute(
            server, "update urls set original_url = 'https://x.evil.example/' where short_code = $1", link["code"]
        )
        await execute(server, "select 1")
        await change(ann, link, title="so that it is read again")
        assert (await someone.get(f"/s/{link['code']}")).status_code == 410


def test_what_browsers_keep() -> None:
    """Nothing of a temporary redirect; a permanent one for a minute and a half, and never beyond the link's end."""
    for status, left, age in ((302, 1000, 0), (307, 1000, 0), (301, 1000, 90), (308, 12.7, 12)):
        headers = dict(redirect_to(status)(TARGET, left)["headers"])  # type: ignore[call-overload]
        assert headers[b"cache-control"] == b"private, max-age=%d" % age
