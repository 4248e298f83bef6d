"""Files over HTTP: the body of an upload is the file, and streamed; so is a download, whole or in part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, get, head, post
from litestar.exceptions import ClientException, InternalServerException
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect, Stream

from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.problems import answer, unavailable
from gateway_node.http.ranges import part_of
from gateway_node.http.services import services_of
from gateway_node.services.files import EmptyFile, FileTooLarge, Link, UploadsBusy, content_disposition
from gateway_node.services.media_types import SHOWN
from gateway_node.services.rooms import user_id_of
from gateway_node.services.thumbnails import MEDIA_TYPE
from realtime.messages import AttachedFile
from storage.files import File

AnyRequest = Request[Any, Any, Any]
Name = Annotated[str, QueryParameter(name="name", max_length=1024, description="The file's name.")]
Ticket = Annotated[
    str, QueryParameter(name="ticket", max_length=256, description="Of a link, instead of an access token.")
]
Inline = Annotated[
    bool, QueryParameter(name="inline", description="To show an image, a video, audio or a PDF in place.")
]

CACHED = "private, no-cache"  # kept by the browser, and asked for again: a right may be over
POLICY = (
    "sandbox; default-src 'none'; frame-ancestors 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
)
# Browsers show no PDF in a sandbox.
PDF_POLICY = "default-src 'none'; frame-ancestors 'none'; object-src 'self'; style-src 'unsafe-inline'"


@dataclass
class UploadOperation(Operation):
    """Says that the body is the file."""

    def __post_init__(self) -> None:
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
        self.request_body = RequestBody(content={"*/*": file}, required=True, description="The file itself.")


@post(
    "/rooms/{room_id:uuid}/files",
    operation_id="uploadFile",
    operation_class=UploadOperation,
    request_max_body_size=None,  # the service counts: files have a limit of their own
    security=[{"accessToken": []}],
)
async def upload(request: AnyRequest, room_id: FromPath[UUID], name: Name = "") -> Response[AttachedFile]:
    """Take a file into a room, to be sent by a message that names it. The body is the file."""
    identity = await bearer(request)
    said = request.headers.get("content-type", "")
    files = services_of(request).chat.files
    file = await files.upload(identity, room_id, _body(request), name=name, said=said, length=request.content_length)
    uploaded = AttachedFile(**{name: getattr(file, name) for name in AttachedFile.__struct_fields__})
    return Response(uploaded, status_code=HTTPStatus.CREATED, headers={"Location": f"/v1/files/{file.id}"})


@get("/files/{file_id:uuid}", operation_id="downloadFile", security=[{"accessToken": []}, {}])
async def download(
    request: AnyRequest, file_id: FromPath[UUID], ticket: Ticket = "", inline: Inline = False
) -> Response[Any]:
    """The file, or by `Range` a part of it. Where the object store is a cloud, 307 to an address there."""
    file = await _asked_for(request, file_id, ticket)
    files = services_of(request).chat.files
    inline = inline and file.content_type in SHOWN
    headers = _headers(file, inline=inline)
    etag = headers["ETag"]
    if _has(request, etag):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if not inline and (address := await files.address(file)) is not None:
        return Redirect(address, status_code=307, headers={"Cache-Control": "no-store"})
    part = part_of(file.size, request.headers.get("range", ""), request.headers.get("if-range", ""), etag)
    start, end = part or (0, file.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    headers["Content-Length"] = str(end - start)
    return Stream(
        await files.read(file, part),
        status_code=HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT,
        headers=headers,
    )


@head("/files/{file_id:uuid}", operation_id="describeFile", security=[{"accessToken": []}, {}])
async def describe(
    request: AnyRequest, file_id: FromPath[UUID], ticket: Ticket = "", inline: Inline = False
) -> Response[None]:
    """What a download would say of the file."""
    file = await _asked_for(request, file_id, ticket)
    return Response(None, headers=_headers(file, inline=inline and file.content_type in SHOWN))


@get("/files/{file_id:uuid}/thumbnail", operation_id="fileThumbnail", security=[{"accessToken": []}, {}])
async def thumbnail(request: AnyRequest, file_id: FromPath[UUID], ticket: Ticket = "") -> Response[bytes]:
    """A small picture of an image: WebP, at most 400 x 400 pixels."""
    return await _thumbnail(request, await _asked_for(request, file_id, ticket))


@get("/users/{user_id:uuid}/avatar", operation_id="getAvatar", security=[{"accessToken": []}])
async def avatar(request: AnyRequest, user_id: FromPath[UUID]) -> Response[bytes]:
    """A small picture of somebody: WebP, at most 400 x 400 pixels."""
    user_id_of(await bearer(request))
    return await _thumbnail(request, await services_of(request).chat.files.avatar(user_id))


async def _thumbnail(request: AnyRequest, file: File) -> Response[bytes]:
    etag = _etag(file)
    headers = {"Cache-Control": CACHED, "ETag": etag, "Content-Security-Policy": POLICY}
    if _has(request, etag):
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    picture = await services_of(request).chat.files.read_thumbnail(file)
    return Response(picture, headers=headers, media_type=MEDIA_TYPE)


@post("/files/{file_id:uuid}/link", operation_id="linkFile", security=[{"accessToken": []}], status_code=HTTPStatus.OK)
async def link(request: AnyRequest, file_id: FromPath[UUID]) -> Response[Link]:
    """An address of the file, and of its thumbnail, that needs no header for a while: for `<img>`, `<video>`, `<a>`."""
    identity = await bearer(request)
    made = await services_of(request).chat.files.link(identity, file_id)
    return Response(made, headers={"Cache-Control": "no-store"})


async def _asked_for(request: AnyRequest, file_id: UUID, ticket: str) -> File:
    services = services_of(request)
    if ticket:
        user_id = services.chat.files.bearer(ticket, file_id)
        await services.limits.requests_per_user.spend(str(user_id))
    else:
        user_id = user_id_of(await bearer(request))
    return await services.chat.files.get(user_id, file_id)


async def _body(request: AnyRequest) -> AsyncIterator[bytes]:
    """The request's body as it comes; while nobody asks for more, none is read from the socket."""
    try:
        async for chunk in request.stream():
            yield chunk
    except InternalServerException as error:  # it hung up, which Litestar calls a fault of ours
        raise ClientException(error.detail) from None


def _headers(file: File, *, inline: bool) -> dict[str, str]:
    return {
        "Cache-Control": CACHED,
        "ETag": _etag(file),
        "Accept-Ranges": "bytes",
        "Content-Type": f"{file.content_type}; charset=utf-8"
        if file.content_type == "text/plain"
        else file.content_type,
        "Content-Length": str(file.size),
        "Content-Disposition": content_disposition(file.name, inline=inline),
        "Content-Security-Policy": PDF_POLICY if inline and file.content_type == "application/pdf" else POLICY,
    }


def _has(request: AnyRequest, etag: str) -> bool:
    """Whether the client has it already."""
    given = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return etag in given or given == ["*"]


def _etag(file: File) -> str:
    return f'"{file.sha256.hex()}"'


def _too_large(request: AnyRequest, error: Exception) -> Response[bytes]:
    return answer(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the file is too large: {error}")


def _empty(request: AnyRequest, _error: Exception) -> Response[bytes]:
    return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, "the file is empty")


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[upload, download, describe, thumbnail, avatar, link],
        guards=[limit_address],
        exception_handlers={FileTooLarge: _too_large, EmptyFile: _empty, UploadsBusy: unavailable},
        tags=["Files"],
    )
