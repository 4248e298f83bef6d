"""Links made, found, changed and deleted by whoever they belong to, and by programs with a key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from loadtest.server import Server
from tests.chat.person import Person, people
from tests.links.conftest import SETTINGS
from tests.links.visitor import TARGET, is_counted, new_link, visitor
from tests.lms.school import execute, ok, school
from tests.stack import short_folder

pytestmark = pytest.mark.integration


async def refused(person: Person, status: int, pointer: str | None = None, /, **fields: Any) -> str:
    answer = await person.http("POST", "/v1/links", {"url": TARGET, **fields})
    assert answer.status == status, answer.content
    assert answer.headers["content-type"] == "application/problem+json"
    if pointer is not None:
        assert answer.pointers == [pointer], answer.body
    return str(answer.body["detail"])


async def test_a_link_with_everything(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        end = datetime.now(UTC) + timedelta(days=1)
        answer = await ann.http(
            "POST",
            "/v1/links",
            {
                "url": "https://exämple.org/x y",
                "code": f"c{ann.id[:6]}",
                "title": " Week 1 <b> ",
                "tags": ["maths", "maths", " week "],
                "expires_at": end.isoformat(),
                "max_visits": 3,
                "password": "p",
            },
        )
        link = ok(answer, 201)
        assert answer.headers["location"] == f"/v1/links/{link['code']}"
        assert answer.headers["etag"] == '"1"'
        assert link["original_url"] == "https://xn--exmple-cua.org/x%20y"
        assert (link["title"], link["tags"], link["visits"]) == ("Week 1 <b>", ["maths", "week"], 0)
        assert datetime.fromisoformat(link["expires_at"]) == end
        assert ok(await ann.http("GET", f"/v1/links/{link['code']}")) == link
        assert "password_hash" not in link


async def test_codes_are_short_and_in_no_order(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        links = await asyncio.gather(*(new_link(ann) for _ in range(50)))
        found = {link["code"] for link in links}
        assert len(found) == 50
        assert all(len(code) <= 7 and code.isalnum() for code in found)


async def test_values_that_cannot_be(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        for pointer, fields in (
            ("/url", {"url": "javascript:alert(1)"}),
            ("/url", {"url": "https://user:secret@example.org"}),
            ("/url", {"url": "http://10.0.0.1/"}),
            ("/url", {"url": "https://www.evil.example/"}),
            ("/url", {"url": "https://example.org/" + "x" * 9000}),
            ("/url", {"url": "https://example.org/\r\nX: y"}),
            ("/url", {"url": server.url("/s/abc")}),
            ("/url", {"url": 7}),
            ("/code", {"code": "admin"}),
            ("/code", {"code": "staff"}),
            ("/code", {"code": "x" * 11}),
            ("/code", {"code": "sh1t"}),
            ("/code", {"code": ""}),
            ("/title", {"title": "x" * 256}),
            ("/title", {"title": "a\nb"}),
            ("/tags", {"tags": ["x"] * 21}),
            ("/tags/1", {"tags": ["x", " "]}),
            ("/expires_at", {"expires_at": past}),
            ("/expires_at", {"expires_at": "tomorrow"}),
            ("/expires_at", {"expires_at": "2999-01-01T00:00:00Z"}),
            ("/expires_at", {"expires_at": "2030-01-01T00:00:00"}),
            ("/max_visits", {"max_visits": 0}),
            ("/max_visits", {"max_visits": 10**12}),
            ("/password", {"password": ""}),
            ("/password", {"password": "x" * 256}),
        ):
            await refused(ann, 422, pointer, **fields)
        await refused(ann, 422, None, surprise=1)


async def test_a_code_is_given_once(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        code = f"t{ann.id[:8]}"
        answers = await asyncio.gather(
            *(each.http("POST", "/v1/links", {"url": TARGET, "code": code}) for each in (ann, ben) * 5)
        )
        assert sorted(answer.status for answer in answers) == [201] + [409] * 9
        owner = ann if (await ann.http("GET", f"/v1/links/{code}")).status == 200 else ben
        ok(await owner.http("DELETE", f"/v1/links/{code}"), 204)
        assert "taken" in await refused(ann, 409, code=code)  # it leads nowhere else, ever


async def test_the_same_target_twice(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        url = f"https://example.org/{ann.id}"
        first = await new_link(ann, url)
        assert (await new_link(ann, url))["code"] != first["code"]
        again = ok(await ann.http("POST", "/v1/links", {"url": url, "reuse": True}))
        assert again["code"] == first["code"]
        assert (await new_link(ben, url, reuse=True))["code"] != first["code"]
        # Those who ask at once, for a target that has no link yet.
        body = {"url": f"{url}/x", "reuse": True}
        both = await asyncio.gather(*(ann.http("POST", "/v1/links", body, node=n % 2) for n in range(10)))
        assert sorted(answer.status for answer in both) == [200] * 9 + [201]
        assert len({answer.body["code"] for answer in both}) == 1
        # A link that leads elsewhere by now, or does not lead any more, is not the one.
        code = both[0].body["code"]
        ok(await ann.http("PATCH", f"/v1/links/{code}", {"url": TARGET}))
        assert (await new_link(ann, f"{url}/x", reuse=True))["code"] != code
        # One that somebody wants with a password is another.
        assert (await new_link(ann, url, reuse=True, password="x"))["code"] != first["code"]
        for number, fields in enumerate(({"password": "x"}, {"max_visits": 1}, {"expires_at": "2090-01-01T00:00:00Z"})):
            target = f"{url}/{number}"
            plain = await new_link(ann, target, reuse=True)
            assert (await new_link(ann, target, reuse=True, **fields))["code"] != plain["code"]
            limited = await new_link(ann, f"{target}/limited", reuse=True, **fields)
            assert (await new_link(ann, f"{target}/limited", reuse=True))["code"] != limited["code"]


async def test_a_request_that_comes_again(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        body, headers = {"url": TARGET, "code": f"k{ann.id[:8]}"}, {"Idempotency-Key": "once"}
        first = ok(await ann.http("POST", "/v1/links", body, headers=headers), 201)
        assert ok(await ann.http("POST", "/v1/links", body, headers=headers)) == first
        other = ok(await ben.http("POST", "/v1/links", {"url": TARGET}, headers=headers), 201)
        assert other["code"] != first["code"]


async def test_many_at_once(server: Server) -> None:
    """Each line has its own result; what is wrong with one stops no other."""
    async with people(server, "Ann") as (ann,):
        code = f"b{ann.id[:8]}"
        lines: list[Any] = [
            {"url": TARGET},
            {"url": TARGET, "code": code},
            {"url": "nonsense"},
            {"url": TARGET, "code": code},
            {"url": TARGET, "code": "admin"},
            {"url": 7},
            "no object",
            {"url": TARGET, "title": "last"},
        ]
        headers = {"Idempotency-Key": "all of them"}
        answer = ok(await ann.http("POST", "/v1/links/bulk", {"links": lines}, headers=headers))
        results = answer["results"]
        assert [line["status"] for line in results] == [201, 201, 422, 409, 422, 422, 422, 201]
        assert [line.get("pointer") for line in results] == [None, None, "/url", None, "/code", "/url", "", None]
        assert (answer["created"], answer["failed"]) == (3, 5)
        assert results[1]["link"]["code"] == code
        again = ok(await ann.http("POST", "/v1/links/bulk", {"links": lines}, headers=headers))
        assert [line["status"] for line in again["results"]] == [200, 200, 422, 409, 422, 422, 422, 200]
        for wrong in ([], [{"url": TARGET}] * 1001):
            assert (await ann.http("POST", "/v1/links/bulk", {"links": wrong})).status == 422
        secrets = [{"url": TARGET, "password": f"secret {n}"} for n in range(70)]  # more than may wait to be hashed
        assert ok(await ann.http("POST", "/v1/links/bulk", {"links": secrets}))["created"] == 70
        thousand = ok(await ann.http("POST", "/v1/links/bulk", {"links": [{"url": TARGET}] * 1000}))
        assert thousand["created"] == 1000
        assert len({line["link"]["code"] for line in thousand["results"]}) == 1000


async def test_ones_links_page_by_page(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        made = [await new_link(ann, title=f"Title {n} 100%", tags=["even"] if n % 2 == 0 else []) for n in range(5)]
        await new_link(ben)
        codes: list[str] = []
        path = "/v1/links?limit=2"
        while path:
            answer = await ann.http("GET", path)
            codes += [link["code"] for link in ok(answer)["links"]]
            following = answer.body.get("next")
            path = f"/v1/links?limit=2&after={following}" if following else ""
            assert ("link" in answer.headers) == bool(following)
        assert codes == [link["code"] for link in reversed(made)]
        even = ok(await ann.http("GET", "/v1/links?tag=even"))["links"]
        assert [link["title"] for link in even] == ["Title 4 100%", "Title 2 100%", "Title 0 100%"]
        found = ok(await ann.http("GET", "/v1/links?query=title%203%20100%25"))["links"]
        assert [link["title"] for link in found] == ["Title 3 100%"]
        assert ok(await ann.http("GET", "/v1/links?query=_"))["links"] == []  # no wildcard
        assert (await ann.http("GET", "/v1/links?after=nonsense")).status == 400


async def test_two_who_edit(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben):
        link = await new_link(ann)
        path = f"/v1/links/{link['code']}"
        changed = await ann.http("PATCH", path, {"title": "First"}, headers={"If-Match": '"1"'})
        assert (ok(changed)["title"], changed.headers["etag"]) == ("First", '"2"')
        late = await ann.http("PATCH", path, {"title": "Second"}, headers={"If-Match": '"1"'})
        assert (late.status, late.headers["etag"]) == (412, '"2"')
        for method, below in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/stats"), ("GET", "/qr.svg")):
            body = {} if method == "PATCH" else None
            assert (await ben.http(method, path + below, body)).status == 404
        assert (await ann.http("PATCH", path, {"expires_at": "2001-01-01T00:00:00Z"})).pointers == ["/expires_at"]
        assert (await ann.http("PATCH", path, {"url": "ftp://x"})).pointers == ["/url"]


async def test_an_admin_takes_a_link_down(server: Server) -> None:
    async with school(server, "admin", "teacher", "student") as (admin, teacher, student):
        link = await new_link(student)
        path = f"/v1/links/{link['code']}"
        assert (await teacher.http("PATCH", path, {"disabled": True})).status == 404
        assert ok(await admin.http("PATCH", path, {"disabled": True}))["state"] == "disabled"
        assert ok(await student.http("GET", path))["state"] == "disabled"
        ok(await admin.http("DELETE", path), 204)
        ok(await student.http("DELETE", f"/v1/links/{(await new_link(student))['code']}"), 204)
        acts = ok(await admin.http("GET", f"/v1/school/audit?subject={student.id}"))["acts"]
        assert [(act["act"], act["actor_id"], act["data"]) for act in acts] == [
            (done, admin.id, {"code": link["code"], "url": TARGET}) for done in ("link.deleted", "link.updated")
        ]


async def test_qr_codes(server: Server) -> None:
    async with people(server, "Ann") as (ann,):
        link = await new_link(ann)
        svg = await ann.http("GET", f"/v1/links/{link['code']}/qr.svg")
        assert (svg.status, svg.headers["content-type"]) == (200, "image/svg+xml")
        assert b"<svg" in svg.content
        png = await ann.http("GET", f"/v1/links/{link['code']}/qr.png?scale=2")
        assert (png.status, png.headers["content-type"]) == (200, "image/png")
        assert png.content.startswith(b"\x89PNG\r\n")
        assert (await ann.http("GET", f"/v1/links/{link['code']}/qr.png?scale=99")).status == 400
        long = {"Host": "x" * 5000}
        assert (await ann.http("GET", f"/v1/links/{link['code']}/qr.svg", headers=long)).status == 400


async def test_keys_of_programs(server: Server) -> None:
    """A key with the scope `links` may all with its owner's links; others nothing."""
    async with people(server, "Ann", "Ben") as (ann, ben):
        link = await new_link(ann)
        path = f"/v1/links/{link['code']}"

        async def key(*scopes: str) -> dict[str, str]:
            made = ok(await ann.http("POST", "/v1/me/keys", {"name": "x", "scopes": scopes}), 201)
            return {"Authorization": f"Bearer {made['key']}"}

        links, others = await key("links"), await key("read", "write")
        for method, where, body, status in (
            ("GET", path, None, 200),
            ("PATCH", path, {"title": "by a program"}, 200),
            ("POST", "/v1/links", {"url": TARGET}, 201),
            ("GET", "/v1/links", None, 200),
            ("GET", f"{path}/stats", None, 200),
        ):
            assert (await ben.http(method, where, body, headers=links)).status == status
            assert (await ben.http(method, where, body, headers=others)).status == 403
        assert (await ben.http("GET", "/v1/rooms", headers=links)).status == 403
        assert (await ben.http("GET", path, headers={"Authorization": "Bearer cw_nonsense"})).status == 401


async def test_nobody_makes_links_without_an_account(server: Server) -> None:
    async with visitor(server) as someone:
        assert (await someone.post("/v1/links", json={"url": TARGET})).status_code == 401
        assert (await someone.get("/v1/links")).status_code == 401


async def test_a_server_with_other_settings() -> None:
    """Links without an account, another status, an address of its own, private targets, a limit, a proxy before it."""
    settings = {
        **SETTINGS,
        "LINKS__ANONYMOUS": "true",
        "LINKS__REDIRECT_STATUS": "307",
        "LINKS__BASE_URL": "https://go.example.org",
        "LINKS__PRIVATE_ADDRESSES": "true",
        "LIMITS__LINKS_PER_USER": "3",
        "HTTP__TRUSTED_PROXIES": "127.0.0.1",
    }
    with short_folder() as folder, Server(folder / "data", nodes=1, settings=settings) as other:
        async with visitor(other) as someone, people(other, "Ann") as (ann,):
            made = await someone.post("/v1/links", json={"url": "http://10.0.0.1:8080/x"})
            link = made.json()
            assert (made.status_code, link["short_url"]) == (201, f"https://go.example.org/s/{link['code']}")
            answer = await someone.get(f"/s/{link['code']}")
            assert (answer.status_code, answer.headers["location"]) == (307, "http://10.0.0.1:8080/x")
            await someone.get(f"/s/{link['code']}", headers={"X-Forwarded-For": "8.8.8.8"})
            await is_counted(other, link["code"], 2)
            clicks = await execute(other, "select host(ip_address), country from clicks order by id")
            assert [tuple(click) for click in clicks] == [("127.0.0.0", None), ("8.8.8.0", "US")]
            assert (await someone.get(f"/v1/links/{link['code']}")).status_code == 401
            assert (await ann.http("GET", f"/v1/links/{link['code']}")).status == 404
            assert (await someone.post("/v1/links/bulk", json={"links": []})).status_code == 401
            self_made = await ann.http("POST", "/v1/links", {"url": "https://go.example.org/s/x"})
            assert self_made.pointers == ["/url"]
            over = await ann.http("POST", "/v1/links/bulk", {"links": [{"url": TARGET}] * 3})
            assert (over.status, "retry-after" in over.headers) == (429, True)
            limited = httpx.codes.TOO_MANY_REQUESTS
            answers = [await someone.post("/v1/links", json={"url": TARGET}) for _ in range(3)]
            assert [each.status_code for each in answers] == [201, 201, limited]
