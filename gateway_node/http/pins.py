"""Pins over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from litestar import Response, Router, delete, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.messages import Message
from gateway_node.http.services import services_of
from gateway_node.services.pins import PinList


class PinnedMessage(Struct):
    message: Message
    pinned_by: UUID | None
    pinned_at: str


class PinnedMessages(Struct):
    """Latest pin first. `users`: the names of the authors, and of who pinned."""

    pins: list[PinnedMessage]
    users: dict[str, str]


PINNED = {HTTPStatus.OK.value: ResponseSpec(PinnedMessages, generate_examples=False)}


@put("/rooms/{room_id:uuid}/pins/{message_id:uuid}", operation_id="pinMessage", status_code=HTTPStatus.NO_CONTENT)
async def pin(request: AnyRequest, room_id: FromPath[UUID], message_id: FromPath[UUID]) -> None:
    """Pin a message. Once more is fine."""
    identity = await bearer(request)
    await services_of(request).chat.pins.pin(identity, room_id, message_id)


@delete("/rooms/{room_id:uuid}/pins/{message_id:uuid}", operation_id="unpinMessage")
async def unpin(request: AnyRequest, room_id: FromPath[UUID], message_id: FromPath[UUID]) -> None:
    """Unpin a message. Once more is fine."""
    identity = await bearer(request)
    await services_of(request).chat.pins.unpin(identity, room_id, message_id)


@get("/rooms/{room_id:uuid}/pins", operation_id="listPins", responses=PINNED)
async def list_(request: AnyRequest, room_id: FromPath[UUID]) -> Response[PinList]:
    """The pinned messages of a room."""
    identity = await bearer(request)
    return Response(await services_of(request).chat.pins.list(identity, room_id))


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[pin, unpin, list_],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["Messages"],
    )
