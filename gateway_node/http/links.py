"""Short links over HTTP, for whom they belong to.

An admin of the school may look at, change and delete every link, to take down what should not be there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, patch, post
from litestar.connection import ASGIConnection
from litestar.exceptions import ClientException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Raw, Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import address_of, bearer, limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.preconditions import IfMatch, expected_version, version_tag
from gateway_node.http.problems import STATUSES, unavailable
from gateway_node.http.rooms import IdempotencyKey
from gateway_node.http.services import Services, services_of
from gateway_node.links import ShortLinks
from gateway_node.passwords import PasswordsBusy
from gateway_node.services.links.links import LinkFields, LinkPage, LinkView, NewLinkFields, Origin
from gateway_node.services.links.qr import Kind, qr_code
from gateway_node.services.links.statistics import MAX_DAYS, Statistics, Unit
from gateway_node.services.rooms import user_id_of
from realtime import codes
from realtime.pointers import locate

T = TypeVar("T")
MAX_HOST = 260  # characters: a name of 253 (RFC 1035) and a port

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
Words = Annotated[
    str, QueryParameter(name="query", max_length=255, description="Part of the title, the target or the code.")
]
Tag = Annotated[str, QueryParameter(name="tag", max_length=50, description="Links with this tag.")]
Scale = Annotated[int, QueryParameter(name="scale", ge=1, le=40, description="Pixels of a module.")]
Units = Annotated[Unit, QueryParameter(name="unit", description="Of the series.")]
Days = Annotated[int, QueryParameter(name="days", ge=1, le=MAX_DAYS, description="How far back, today included.")]
CSV = "text/csv"  # the character set is added


class NewLinks(Struct, forbid_unknown_fields=True):
    """Each line is what `createLink` takes."""

    links: list[Raw]


class BulkLine(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of a line: the link (201; 200 when it was there), or what is wrong with it."""

    status: int
    link: LinkView | None = None
    detail: str = ""
    pointer: str | None = None


class BulkResult(Struct, frozen=True):
    results: list[BulkLine]
    created: int
    failed: int


async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard: whose links, by an access token or an API key; without one, where `links.anonymous` is set.

    Raises as `bearer`, and `CommandError` 103 for users whose id is none of an account.
    """
    services: Services = connection.app.state.services
    host = connection.headers.get("host", "")
    if len(host) > MAX_HOST:  # it is in the answer, and a QR code holds no more than 2,331 bytes
        raise ClientException("the Host header is too long")
    base = services.links.base or f"{connection.scope['scheme']}://{host}"
    user_id: UUID | None = None
    if "authorization" in connection.headers or not (services.links.anonymous and handler.opt.get("anonymous")):
        user_id = user_id_of(await bearer(Request(connection.scope)))
    connection.scope["state"]["origin"] = Origin(user_id, base, host)


@post("/links", operation_id="createLink", opt={"anonymous": True})
async def create(
    request: AnyRequest, data: JSONBody[NewLinkFields], idempotency_key: IdempotencyKey = None
) -> Response[LinkView]:
    """Make a short link."""
    origin = _origin(request)
    link, new = await _service(request).links.create(origin, data, idempotency_key or "", address_of(request))
    return _tagged(link, HTTPStatus.CREATED if new else HTTPStatus.OK, Location=f"/v1/links/{link.code}")


@post("/links/bulk", operation_id="createLinks", status_code=HTTPStatus.OK)
async def create_all(
    request: AnyRequest, data: JSONBody[NewLinks], idempotency_key: IdempotencyKey = None
) -> Response[BulkResult]:
    """Make up to 1,000 short links: each line has a result of its own, in order."""
    lines = [_line(raw) for raw in data.links]
    made = await _service(request).links.create_all(_origin(request), lines, idempotency_key or "")
    results = [_result(each) for each in made]
    created = sum(line.status == HTTPStatus.CREATED for line in results)
    return Response(BulkResult(results, created, sum(line.link is None for line in results)))


@get("/links", operation_id="listLinks")
async def list_(
    request: AnyRequest, *, words: Words = "", tag: Tag = "", after: After = None, limit: Limit = MAX_PAGE
) -> Response[LinkPage]:
    """One's links, newest first."""
    found = await _service(request).links.list(_origin(request), words=words, tag=tag, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/links/{code:str}", operation_id="getLink")
async def get_(request: AnyRequest, code: FromPath[str]) -> Response[LinkView]:
    """One link, with how often it was followed."""
    links = _service(request).links
    return _tagged(await _or_admin(request, lambda origin: links.get(origin, code)))


@patch("/links/{code:str}", operation_id="updateLink")
async def update(
    request: AnyRequest, code: FromPath[str], data: JSONBody[LinkFields], if_match: IfMatch = None
) -> Response[LinkView]:
    """Change a link: its target, title, tags, expiry, most visits, password, and whether it is disabled."""
    links = _service(request).links

    def check(version: int) -> None:
        expected_version(request, version)

    return _tagged(await _or_admin(request, lambda origin: links.update(origin, code, data, check)))


@delete("/links/{code:str}", operation_id="deleteLink")
async def delete_(request: AnyRequest, code: FromPath[str]) -> None:
    """Delete a link, for good: its code leads nowhere any more, and is not given to another."""
    links = _service(request).links
    await _or_admin(request, lambda origin: links.delete(origin, code))


@get("/links/{code:str}/qr.svg", operation_id="getLinkQrSvg", media_type="image/svg+xml")
async def svg(request: AnyRequest, code: FromPath[str], scale: Scale = 8) -> Response[bytes]:
    """Its QR code as SVG."""
    return await _image(request, code, "svg", scale)


@get("/links/{code:str}/qr.png", operation_id="getLinkQrPng", media_type="image/png")
async def png(request: AnyRequest, code: FromPath[str], scale: Scale = 8) -> Response[bytes]:
    """Its QR code as PNG."""
    return await _image(request, code, "png", scale)


@get("/links/{code:str}/stats", operation_id="getLinkStats")
async def stats(request: AnyRequest, code: FromPath[str], unit: Units = "day", days: Days = 30) -> Response[Statistics]:
    """Who followed a link: when, from where, with what."""
    service = _service(request)
    link = await _or_admin(request, lambda origin: service.links.own(origin, code))
    return Response(await service.statistics.of(link, unit, days))


@get("/links/{code:str}/stats.csv", operation_id="exportLinkStats", media_type=CSV)
async def table(request: AnyRequest, code: FromPath[str], unit: Units = "day", days: Days = 30) -> Response[bytes]:
    """The same as a table."""
    service = _service(request)
    link = await _or_admin(request, lambda origin: service.links.own(origin, code))
    headers = {"Content-Disposition": f'attachment; filename="link-{link.short_code}.csv"'}
    return Response(await service.statistics.table(link, unit, days), media_type=CSV, headers=headers)


@post("/links/{code:str}/recount", operation_id="recountLink", status_code=HTTPStatus.NO_CONTENT)
async def recount(request: AnyRequest, code: FromPath[str]) -> None:
    """Judge every click that is kept again, by the present rules of what a bot is, and count anew."""
    service = _service(request)
    await service.statistics.recount(await _or_admin(request, lambda origin: service.links.own(origin, code)))


def _service(request: AnyRequest) -> ShortLinks:
    return services_of(request).links


def _origin(request: AnyRequest) -> Origin:
    origin = request.scope["state"]["origin"]
    assert isinstance(origin, Origin)
    return origin


async def _or_admin(request: AnyRequest, work: Callable[[Origin], Awaitable[T]]) -> T:
    """Do it as whoever asks, and where there is no such link of theirs, as an admin, if they are one."""
    origin = _origin(request)
    try:
        return await work(origin)
    except codes.NOT_FOUND as refusal:
        if origin.user_id is None:
            raise
        try:
            standing = await services_of(request).lms.standing(origin.user_id, None)
        except codes.PERMISSION_DENIED:
            raise refusal from None
        if not standing.is_admin:
            raise
        return await work(msgspec.structs.replace(origin, is_admin=True))


async def _image(request: AnyRequest, code: str, kind: Kind, scale: int) -> Response[bytes]:
    links = _service(request).links
    link = await _or_admin(request, lambda origin: links.get(origin, code))
    media_type = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return Response(await qr_code(link.short_url, kind, scale), media_type=media_type)


def _tagged(link: LinkView, status: int = HTTPStatus.OK, **headers: str) -> Response[LinkView]:
    return Response(link, status_code=status, headers={"ETag": version_tag(link.version), **headers})


def _line(raw: Raw) -> NewLinkFields | codes.CommandError:
    try:
        return msgspec.json.decode(raw, type=NewLinkFields)
    except msgspec.ValidationError as error:
        pointer, detail = locate(error, NewLinkFields)
        return codes.BAD_REQUEST.at(pointer, detail)
    except msgspec.DecodeError as error:
        return codes.BAD_REQUEST.at("", f"that is no JSON: {error}")


def _result(made: tuple[LinkView, bool] | codes.CommandError) -> BulkLine:
    if isinstance(made, codes.CommandError):
        pointer = made.pointer
        if pointer is not None:
            detail = made.message.removeprefix(f"{pointer}: ")
            return BulkLine(status=HTTPStatus.UNPROCESSABLE_ENTITY, detail=detail, pointer=pointer)
        return BulkLine(status=STATUSES.get(made.code, HTTPStatus.BAD_REQUEST), detail=made.message)
    link, new = made
    return BulkLine(status=HTTPStatus.CREATED if new else HTTPStatus.OK, link=link)


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[
            *(create, create_all, list_, get_, update, delete_),
            *(svg, png, stats, table, recount),
        ],
        guards=[limit_address, authorise],
        exception_handlers={PasswordsBusy: unavailable},
        security=[{"accessToken": []}],
        tags=["Short links"],
    )
