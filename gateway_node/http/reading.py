"""Reading over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Router, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta, Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.services import services_of
from gateway_node.services.reading import MAX_OFFSET, Receipts, UnreadCounts


class ReadUpTo(Struct, forbid_unknown_fields=True):
    offset: Annotated[int, Meta(ge=0, le=MAX_OFFSET)]


Upto = Annotated[
    int | None,
    QueryParameter(name="offset", ge=0, le=MAX_OFFSET, description="Of big rooms: who has read up to here."),
]


@put("/rooms/{room_id:uuid}/cursor", operation_id="readRoom", status_code=HTTPStatus.NO_CONTENT)
async def read(request: AnyRequest, room_id: FromPath[UUID], data: JSONBody[ReadUpTo]) -> None:
    """Say that one has read everything up to an offset. It never goes back."""
    identity = await bearer(request)
    await services_of(request).chat.reading.read(identity, room_id, data.offset)


@get("/rooms/{room_id:uuid}/receipts", operation_id="getReceipts")
async def receipts(request: AnyRequest, room_id: FromPath[UUID], offset: Upto = None) -> Receipts:
    """Who has read what; of a big room, how many."""
    identity = await bearer(request)
    return await services_of(request).chat.reading.receipts(identity, room_id, offset)


@get("/unread", operation_id="countUnread")
async def unread(request: AnyRequest) -> UnreadCounts:
    """What one has not read, in all rooms that are not archived."""
    identity = await bearer(request)
    return await services_of(request).chat.reading.unread(identity)


@post("/rooms/{room_id:uuid}/typing", operation_id="typing", status_code=HTTPStatus.NO_CONTENT)
async def typing(request: AnyRequest, room_id: FromPath[UUID]) -> None:
    """Say that one is typing; again after a few seconds, for as long as it is so."""
    identity = await bearer(request)
    await services_of(request).chat.reading.typing(identity, room_id)


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[read, receipts, unread, typing],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["Reading"],
    )
