"""Following short links: `GET /s/{code}`.

`Shortcut` answers what the node or Redis knows before anything else of the application runs: a redirect costs a lookup,
two headers and two calls of the server. All that needs more (PostgreSQL, a password, a page that says why not) is a
route like others, where requests are limited by address; those that the shortcut answers cost less than counting them.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qs

import msgspec
from litestar import MediaType, Response, Router, get, post, route
from litestar.enums import ScopeType
from litestar.exceptions import ClientException
from litestar.params import FromPath
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from msgspec import Meta, Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import address_of, limit_address
from gateway_node.http.problems import answer, unavailable
from gateway_node.http.services import services_of
from gateway_node.links import ShortLinks
from gateway_node.passwords import PasswordsBusy
from gateway_node.services.links.redirects import Ending, Passage

PREFIX = "/s/"
NO_STORE = "no-store"
STATUSES = {
    Ending.UNKNOWN: HTTPStatus.NOT_FOUND,
    Ending.DELETED: HTTPStatus.GONE,
    Ending.DISABLED: HTTPStatus.GONE,
    Ending.EXPIRED: HTTPStatus.GONE,
    Ending.USED_UP: HTTPStatus.GONE,
    Ending.PASSWORD: HTTPStatus.UNAUTHORIZED,
    Ending.WRONG_PASSWORD: HTTPStatus.FORBIDDEN,
}
KEPT = 90  # s that a browser may keep a permanent redirect
MAX_FORM = 4096  # bytes
# Chromium holds a redirect after a form against `form-action`, and the target may be anywhere.
FORM_POLICY = "default-src 'none'; form-action 'self' http: https:; base-uri 'none'; frame-ancestors 'none'"

_CODE = re.compile(r"[0-9A-Za-z_-]{1,10}")
_END: Any = {"type": "http.response.body", "body": b""}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">
<title>{title}</title></head>
<body><h1>{title}</h1>{body}</body>
</html>
"""
_FORM = (
    '<form method="post"><label>Password <input type="password" name="password" required autofocus '
    'autocomplete="off"></label> <button>Go on</button></form>'
)


class Password(Struct):
    password: Annotated[str, Meta(min_length=1, max_length=255)]


def redirect_to(status: int) -> Callable[[str, float], dict[str, object]]:
    """What ASGI sends to whoever follows a link to a target that ends in so many seconds.

    No `Referrer-Policy`: it would hide from the target where its visitors come from, which is the link's to decide.
    """
    permanent = status in (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT)

    def start(url: str, left: float) -> dict[str, object]:
        # Without an age, browsers keep permanent redirects for ever: nobody would see a change.
        age = int(min(left, KEPT)) if permanent else 0
        headers = [
            (b"location", url.encode("ascii")),
            (b"cache-control", b"private, max-age=%d" % age),
            (b"content-length", b"0"),
        ]
        return {"type": "http.response.start", "status": status, "headers": headers}

    return start


class Shortcut:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, links: ShortLinks) -> None:
        self._app = app
        self._cache = links.redirects.cache
        self._near = self._cache.near
        self._note = links.clicks.note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            path = scope["path"]
            if path.startswith(PREFIX):
                method = scope["method"]
                if method == "GET" or method == "HEAD":  # noqa: PLR1714  # half of the time of a set
                    code = path[3:]
                    near, now = self._near.get(code), time.time()
                    if near is None or near.until <= now:
                        near = await self._cache.quickly(code) if _CODE.fullmatch(code) else None
                    if near is not None and near.start is not None:
                        if method == "GET":
                            self._note(code, now, scope["client"], scope["headers"])
                        start: Message = near.start  # type: ignore[assignment]
                        await send(start)
                        await send(_END)
                        return
        await self._app(scope, receive, send)


@get("/s/{code:str}", operation_id="followLink")
async def follow(request: AnyRequest, code: FromPath[str]) -> Response[Any]:
    """Follow a short link; HEAD looks where it leads, and is no visit. What cannot be followed is a page, or a problem
    document for whoever does not want HTML."""
    return await _follow(request, code, counts=True)


@route("/s/{code:str}", http_method="HEAD", operation_id="lookAtLink", include_in_schema=False)
async def look(request: AnyRequest, code: FromPath[str]) -> Response[Any]:
    """The same without a visit."""
    return await _follow(request, code, counts=False)


@post("/s/{code:str}", operation_id="openLink", status_code=HTTPStatus.SEE_OTHER)
async def enter(request: AnyRequest, code: FromPath[str]) -> Response[Any]:
    """Follow a short link with its password, from a form (`password=…`) or as JSON (`{"password": "…"}`)."""
    return await _follow(request, code, counts=True, password=await _password(request))


async def _follow(request: AnyRequest, code: str, *, counts: bool, password: str | None = None) -> Response[Any]:
    links = services_of(request).links
    passage = Passage(ending=Ending.UNKNOWN)
    if _CODE.fullmatch(code):
        passage = await links.redirects.follow(code, counts=counts, password=password, address=address_of(request))
    if passage.ending is not None:
        return _refusal(request, passage.ending)
    if counts:
        client = request.scope["client"]
        links.clicks.note(code, time.time(), (client[0], 0) if client else None, request.scope["headers"])
    status = HTTPStatus.SEE_OTHER if request.method == "POST" else links.status
    headers = {"Location": passage.url, "Cache-Control": "private, no-store"}
    return Response(b"", status_code=status, headers=headers, media_type=MediaType.TEXT)


def _refusal(request: AnyRequest, ending: Ending) -> Response[Any]:
    status = STATUSES[ending]
    headers = {"Cache-Control": NO_STORE, "Vary": "Accept"}
    if "text/html" not in request.headers.get("accept", ""):
        return answer(request, status, ending.value, headers=headers)
    asks = ending in (Ending.PASSWORD, Ending.WRONG_PASSWORD)
    title = html.escape(ending.value[0].upper() + ending.value[1:])
    page = _PAGE.format(title=title, body=_FORM if asks else "")
    if asks:
        headers["Content-Security-Policy"] = FORM_POLICY
    return Response(page.encode(), status_code=status, media_type=MediaType.HTML, headers=headers)


async def _password(request: AnyRequest) -> str:
    body = await request.body()
    if len(body) > MAX_FORM:
        raise ClientException("the form is too long")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == "application/json":
            return msgspec.json.decode(body, type=Password).password
        (password,) = parse_qs(body.decode(), strict_parsing=True, max_num_fields=1)["password"]
    except (ValueError, KeyError):  # msgspec's errors are ValueErrors
        raise ClientException("a password is wanted") from None
    return password[:256]


def router() -> Router:
    return Router(
        path="/",
        route_handlers=[follow, look, enter],
        guards=[limit_address],
        exception_handlers={PasswordsBusy: unavailable},
        tags=["Following links"],
    )
