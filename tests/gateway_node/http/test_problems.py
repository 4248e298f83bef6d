"""Every refusal is a problem document, on every route; and what else every answer carries."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import httpx
import msgspec
import pytest
from msgspec import UNSET, Struct, UnsetType

from gateway_node.http.problems import trouble
from gateway_node.http.server_api import METHODS
from gateway_node.http.services import Shape
from gateway_node.limits import Buckets, Limits
from tests.gateway_node.http.conftest import API_KEY, client_of, make_services, serving

JSON = {"Content-Type": "application/json"}
KEY = {"X-API-Key": API_KEY}
API_ROUTES = [f"/api/{method}" for method in [*METHODS, "batch"]]


class Blank(Struct, tag="blank", tag_field="kind"):
    size: Literal["s", "m"] | None = None


class Filled(Struct, tag="filled", tag_field="kind"):
    colour: Literal["red"] | UnsetType = UNSET


class Sheet(Struct, rename={"by_name": "byName"}):
    parts: list[Annotated[Blank | Filled, "the metadata"]] = []
    by_name: dict[str, Blank] = {}
    state: Literal["draft", "kept", "gone"] = "draft"
    number: int = 0


def problem_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of a reply, checked for what RFC 9457 and the other answers have in common."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == reply.request.url.path
    assert problem["request_id"] == reply.headers["x-request-id"]
    return problem  # type: ignore[no-any-return]


async def test_an_unknown_path(client: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/page", "/api/no_such_method", "/health", "/v1", "/%00", "/..%2f..", "/schema/x"):
        problem_of(await client.get(path), 404)


async def test_a_wrong_method_says_which_are_right(client: httpx.AsyncClient) -> None:
    reply = await client.get("/api/publish")
    problem_of(reply, 405)
    assert "POST" in reply.headers["allow"]
    problem_of(await client.delete("/health/live"), 405)


async def test_a_body_that_is_not_json(client: httpx.AsyncClient) -> None:
    bodies = [b"{", b"\xff", b'{"a": "\xff"}', b"[" * 65 + b"]" * 65, b"{}{}", b'{"a": NaN}', b"\0", b"[" * 100_000]
    for path, body in itertools.product(API_ROUTES, bodies):
        problem_of(await client.post(path, content=body, headers=KEY | JSON), 400)


async def test_no_body(client: httpx.AsyncClient) -> None:
    for path in API_ROUTES:
        problem = problem_of(await client.post(path, headers=KEY | JSON), 400)
        assert problem["errors"] == [{"detail": "a JSON body is wanted", "pointer": ""}]


async def test_a_body_of_another_kind(client: httpx.AsyncClient) -> None:
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "")
    for path, kind in itertools.product(API_ROUTES, kinds):
        problem_of(await client.post(path, content=b"{}", headers=KEY | {"Content-Type": kind}), 415)


async def test_a_body_of_another_type(client: httpx.AsyncClient) -> None:
    for path, body in itertools.product(API_ROUTES, (b"[]", b"1", b"null", b'"x"')):
        problem = problem_of(await client.post(path, content=body, headers=KEY | JSON), 422)
        assert problem["errors"][0]["pointer"] == ""


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_limit(address: str, chunked: bool) -> None:
    body = b'{"channel":"c","data":"' + b"x" * 1024 * 1024 + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with httpx.AsyncClient(base_url=address, timeout=10) as client:
        content: Any = chunks() if chunked else body
        problem_of(await client.post("/api/publish", content=content, headers=KEY | JSON), 413)


async def test_the_largest_body_is_taken(client: httpx.AsyncClient) -> None:
    frame = b'{"channel":"c","data":""}'
    body = frame.replace(b'""', b'"' + b"x" * (1024 * 1024 - len(frame)) + b'"')
    reply = await client.post("/api/publish", content=body, headers=KEY | JSON)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"data": 1}, "/channel"),
        ({"channel": 5, "data": 1}, "/channel"),
        ({"channel": "c", "data": 1, "tags": {"a": 1}}, "/tags"),
        ({"channel": "c", "data": 1, "skip_history": "yes"}, "/skip_history"),
    ],
)
async def test_errors_point_into_the_body(client: httpx.AsyncClient, body: Any, pointer: str) -> None:
    reply = await client.post("/api/publish", json=body, headers=KEY)
    assert [error["pointer"] for error in problem_of(reply, 422)["errors"]] == [pointer]


async def test_errors_point_into_lists(client: httpx.AsyncClient) -> None:
    body = {"commands": [{"info": {}}, {"publish": {"data": 1}}]}
    reply = await client.post("/api/batch", json=body, headers=KEY)
    assert problem_of(reply, 422)["errors"][0]["pointer"] == "/commands/1/publish/channel"


def test_pointers_escape_what_separates_them() -> None:
    class Odd(Struct, rename={"a": "a/b~c"}):
        a: int

    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"a/b~c": "x"}', type=Odd)
    assert trouble(caught.value).pointer == "/a~1b~0c"


def test_what_may_stand_there_is_said() -> None:
    def said(body: Any) -> tuple[str | None, str]:
        with pytest.raises(msgspec.ValidationError) as caught:
            msgspec.json.decode(msgspec.json.encode(body), type=Sheet)
        found = trouble(caught.value, Sheet)
        return found.pointer, found.detail

    assert said({"state": "x"}) == ("/state", "Invalid enum value 'x': draft, gone or kept")
    assert said({"parts": [{"kind": "blank"}, {"kind": "x"}]}) == (
        "/parts/1/kind",
        "Invalid value 'x': blank or filled",
    )
    assert said({"parts": [{"kind": "blank", "size": "x"}]}) == ("/parts/0/size", "Invalid enum value 'x': m or s")
    assert said({"parts": [{"kind": "filled", "colour": "x"}]}) == ("/parts/0/colour", "Invalid enum value 'x': red")
    assert said({"byName": {"a": {"kind": "blank", "size": "x"}}}) == ("/byName/size", "Invalid enum value 'x': m or s")
    assert said({"number": "x"}) == ("/number", "Expected `int`, got `str`")


async def test_a_missing_key_is_a_problem_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    for path in API_ROUTES:
        problem_of(await client.post(path, content=b"\xff", headers={"Content-Type": "text/plain"}), 401)


async def test_guessing_keys_is_limited() -> None:
    services = make_services(limits=Limits(Buckets(None), requests_per_address=3))
    async with client_of(services) as client:
        for _ in range(3):
            problem_of(await client.post("/api/info", json={}, headers={"X-API-Key": "guess"}), 401)
        reply = await client.post("/api/info", json={}, headers={"X-API-Key": "guess"})
        problem_of(reply, 429)
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert (await client.post("/api/info", json={}, headers=KEY)).status_code == 200


async def test_only_trusted_proxies_say_who_asked() -> None:
    """Else a guesser would have a bucket for every address that it can think of."""

    async def guesses(trusted: list[str]) -> list[int]:
        services = make_services(limits=Limits(Buckets(None), requests_per_address=1))
        async with client_of(services, trusted) as client:
            return [
                (await client.post("/api/info", json={}, headers={"X-Forwarded-For": said})).status_code
                for said in ("192.0.2.1", "192.0.2.2", "192.0.2.3, 192.0.2.1")
            ]

    assert await guesses([]) == [401, 429, 429]
    assert await guesses(["127.0.0.0/8"]) == [401, 401, 429]


async def test_a_fault_of_ours_is_a_500_that_tells_nothing() -> None:
    def broken() -> bytes:
        raise RuntimeError("a password, perhaps")

    async with client_of(make_services(metrics=broken)) as client:
        reply = await client.get("/metrics")
        problem_of(reply, 500)
        assert "password" not in reply.text


async def test_every_answer_has_an_id_and_the_security_headers(client: httpx.AsyncClient) -> None:
    seen = set()
    for path in ("/health/live", "/nowhere", "/schema", "/schema/openapi.json", "/metrics"):
        reply = await client.get(path)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers.get_list("content-security-policy") == [reply.headers["content-security-policy"]]
        seen.add(reply.headers["x-request-id"])
    assert len(seen) == 5


async def test_a_callers_id_is_taken_over_when_it_is_one(client: httpx.AsyncClient) -> None:
    reply = await client.get("/nowhere", headers={"X-Request-ID": "trace-1.2_3"})
    assert problem_of(reply, 404)["request_id"] == "trace-1.2_3"
    for bad in ("", "a b", "x" * 65, 'a"b', "é".encode("latin-1").decode("latin-1")):
        reply = await client.get("/nowhere", headers={"X-Request-ID": bad.encode("latin-1")})  # type: ignore[dict-item]
        assert problem_of(reply, 404)["request_id"] != bad


async def test_pages_of_other_origins_only_where_they_are_allowed() -> None:
    origin = {"Origin": "https://school.example"}
    ask = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with client_of(make_services()) as client:
        assert "access-control-allow-origin" not in (await client.get("/health/live", headers=origin)).headers
    async with client_of(make_services(shape=Shape(allowed_origins=("https://school.example",)))) as client:
        reply = await client.get("/health/live", headers=origin)
        assert reply.headers["access-control-allow-origin"] == "https://school.example"
        preflight = await client.options("/health/live", headers=ask)
        assert preflight.headers["access-control-allow-origin"] == "https://school.example"
        stranger = await client.get("/health/live", headers={"Origin": "https://evil.example"})
        assert stranger.headers.get("access-control-allow-origin") != "https://evil.example"


async def test_live(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "alive"}


async def _fails() -> None:
    raise ConnectionRefusedError("postgresql://user:password@host is away")


async def _hangs() -> None:
    await asyncio.Event().wait()


async def _fine() -> None:
    return None


FINE = dict.fromkeys(("postgres", "redis", "nats", "log_writer"), _fine)


async def test_ready(client: httpx.AsyncClient) -> None:
    reply = await client.get("/health/ready")
    assert reply.status_code == 200
    assert reply.json()["status"] == "ready"
    assert reply.json()["dependencies"]["postgres"] == {"status": "up", "needed": True}
    assert reply.json()["dependencies"]["nats"] == {"status": "up", "needed": False}


@pytest.mark.parametrize("down", ["redis", "nats"])
async def test_what_is_not_needed_degrades(down: str) -> None:
    async with client_of(make_services(checks=FINE | {down: _fails})) as client:
        reply = await client.get("/health/ready")
        assert (reply.status_code, reply.json()["status"]) == (200, "degraded")
        assert reply.json()["dependencies"][down] == {
            "status": "down",
            "needed": False,
            "error": "ConnectionRefusedError",
        }


@pytest.mark.parametrize("down", ["postgres", "log_writer"])
async def test_what_is_needed_makes_unready(down: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_node.http.health.CHECK_TIMEOUT", 0.05)
    for check in (_fails, _hangs):
        async with client_of(make_services(checks=FINE | {down: check})) as client:
            reply = await client.get("/health/ready")
            assert (reply.status_code, reply.json()["status"]) == (503, "unready")
            assert "password" not in reply.text


async def test_many_who_ask_for_readiness_ask_the_stores_once() -> None:
    asked = 0

    async def count() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)

    async with client_of(make_services(checks=FINE | {"postgres": count})) as client:
        replies = await asyncio.gather(*(client.get("/health/ready") for _ in range(20)))
    assert {reply.status_code for reply in replies} == {200}
    assert asked <= 2  # twice, if it took longer than the answer counts


async def test_a_draining_node_is_not_ready() -> None:
    async with client_of(make_services(draining=lambda: True)) as client:
        reply = await client.get("/health/ready")
        assert (reply.status_code, reply.json()["status"]) == (503, "draining")
        assert (await client.get("/health/live")).status_code == 200


async def test_metrics(client: httpx.AsyncClient) -> None:
    reply = await client.get("/metrics")
    assert reply.text == "chalkwire_up 1\n"
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_the_description_covers_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/schema/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    described = set(document["paths"])
    assert set(API_ROUTES) | {"/health/live", "/health/ready", "/metrics"} <= described
    publish = document["paths"]["/api/publish"]["post"]
    assert publish["security"] == [{"apiKey": []}]
    assert publish["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("PublishParams")
    assert len({operation["operationId"] for item in document["paths"].values() for operation in item.values()}) == sum(
        len(item) for item in document["paths"].values()
    )


async def test_the_reference_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    reply = await client.get("/schema")
    assert reply.headers["content-type"].startswith("text/html")
    assert "/api/publish" in reply.text
    for foreign in ("http://", "https://", "<script", "@import", "url("):
        assert foreign not in reply.text
    assert "style-src 'sha256-" in reply.headers["content-security-policy"]


async def test_requests_that_break_off_do_no_harm() -> None:
    async with serving(make_services()) as address:
        host, port = address.removeprefix("http://").split(":")
        for start in (b"POST /api/info HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{", b"GET /health/live HT"):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(start)
            await writer.drain()
            writer.close()
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/health/live")).status_code == 200


async def test_who_hangs_up_within_a_body_is_no_fault_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(make_services()) as address:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
            head = f"POST /api/info HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
            writer.write(head.encode() + b"Content-Length: 99\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.01)  # the handler waits for the rest; if it does not yet, it will find the end
            writer.close()
            with contextlib.suppress(ConnectionError):
                await reader.read()
    assert "http.failed" not in "".join(capsys.readouterr())
