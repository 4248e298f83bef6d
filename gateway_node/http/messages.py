"""Messages over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID, uuid4, uuid5

from litestar import Response, Router, delete, get, patch, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from msgspec import Raw, Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.preconditions import IfMatch, etag, expected
from gateway_node.http.services import services_of
from gateway_node.services.messages import MAX_OFFSET, Said, Talk
from gateway_node.services.rooms import user_id_of
from realtime.interfaces import Identity
from realtime.messages import AttachedFile, Content, Kind, Mentions, Reaction, SentMessage
from storage.messages import Row

Offset = Annotated[int | None, QueryParameter(ge=0, lt=MAX_OFFSET, description="An offset of the room's log.")]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Says that the request may be a retry: becomes the message's id, unless the body has one.",
    ),
]


class NewMessage(Struct, forbid_unknown_fields=True):
    content: Content = ""
    type: Kind = "text"
    id: UUID | None = None
    reply_to: UUID | None = None
    mentions: Mentions = []
    file_id: UUID | None = None


class NewDirectMessage(Struct, forbid_unknown_fields=True):
    to_user_id: UUID
    content: Content = ""
    type: Kind = "text"
    id: UUID | None = None
    reply_to: UUID | None = None
    mentions: Mentions = []
    file_id: UUID | None = None


class NewContent(Struct, forbid_unknown_fields=True):
    content: Content


class Message(Struct, omit_defaults=True):
    """A message as it is read. System lines have more fields (docs/chat.md)."""

    offset: int
    id: UUID
    from_user_id: str
    room_id: UUID
    content: str
    type: str
    timestamp: str
    to_user_id: str = ""
    reply_to: UUID | None = None
    mentions: list[UUID] = []
    file: AttachedFile | None = None
    reactions: dict[str, Reaction] = {}
    edited_at: str = ""
    deleted_at: str = ""


class MessageList(Struct):
    """Messages and system lines, oldest first. `users`: the names of those that they speak of."""

    messages: list[Message]
    users: dict[str, str]
    offset: int
    epoch: str


# The stored JSON is answered as it is; what is described here is never built.
DESCRIBED = {HTTPStatus.OK.value: ResponseSpec(Message, generate_examples=False)}
SENT = {HTTPStatus.CREATED.value: ResponseSpec(Message, generate_examples=False), **DESCRIBED}
LISTED = {HTTPStatus.OK.value: ResponseSpec(MessageList, generate_examples=False)}


@post("/rooms/{room_id:uuid}/messages", operation_id="sendMessage", responses=SENT)
async def send(
    request: AnyRequest, room_id: FromPath[UUID], data: JSONBody[NewMessage], idempotency_key: IdempotencyKey = None
) -> Response[Raw]:
    """Say something in a room. A retry is answered with 200."""
    identity = await bearer(request)
    sent = _sent(identity, data, idempotency_key)
    return _said(await services_of(request).chat.messages.send(identity, room_id, sent))


@post("/messages", operation_id="sendDirectMessage", responses=SENT)
async def send_to(
    request: AnyRequest, data: JSONBody[NewDirectMessage], idempotency_key: IdempotencyKey = None
) -> Response[Raw]:
    """Say something to somebody; the room of the two is opened where there is none."""
    identity = await bearer(request)
    sent = _sent(identity, data, idempotency_key)
    return _said(await services_of(request).chat.messages.send_to(identity, data.to_user_id, sent))


@get("/rooms/{room_id:uuid}/messages", operation_id="listMessages", responses=LISTED)
async def list_messages(
    request: AnyRequest,
    room_id: FromPath[UUID],
    *,
    before: Offset = None,
    after: Offset = None,
    around: Offset = None,
    limit: Limit = MAX_PAGE,
) -> Response[Talk]:
    """A part of a room's talk: before, after or around an offset, or the newest. `Link` leads on in the direction asked
    for, otherwise back."""
    identity = await bearer(request)
    found = await services_of(request).chat.messages.page(
        identity, room_id, before=before, after=after, around=around, limit=limit
    )
    following = None
    if found.more and around is None:
        following = {"after": str(found.last)} if after is not None else {"before": str(found.first)}
    return page(request, found.talk, following)


@get("/rooms/{room_id:uuid}/messages/{message_id:uuid}", operation_id="getMessage", responses=DESCRIBED)
async def get_message(request: AnyRequest, room_id: FromPath[UUID], message_id: FromPath[UUID]) -> Response[Raw]:
    """One message."""
    identity = await bearer(request)
    return _shown(await services_of(request).chat.messages.get(identity, room_id, message_id))


@patch("/rooms/{room_id:uuid}/messages/{message_id:uuid}", operation_id="editMessage", responses=DESCRIBED)
async def edit(
    request: AnyRequest,
    room_id: FromPath[UUID],
    message_id: FromPath[UUID],
    data: JSONBody[NewContent],
    if_match: IfMatch = None,
) -> Response[Raw]:
    """Say it differently."""
    identity = await bearer(request)
    row = await services_of(request).chat.messages.edit(
        identity, room_id, message_id, data.content, lambda changed_at: expected(request, changed_at)
    )
    return _shown(row)


@delete("/rooms/{room_id:uuid}/messages/{message_id:uuid}", operation_id="deleteMessage")
async def delete_message(request: AnyRequest, room_id: FromPath[UUID], message_id: FromPath[UUID]) -> None:
    """Unsay it. Once more is fine."""
    identity = await bearer(request)
    await services_of(request).chat.messages.delete(identity, room_id, message_id)


def _sent(identity: Identity, data: NewMessage | NewDirectMessage, key: str | None) -> SentMessage:
    id = data.id or (uuid5(user_id_of(identity), key) if key is not None else uuid4())
    return SentMessage(id, data.content, data.type, data.reply_to, data.mentions, data.file_id)


def _said(said: Said) -> Response[Raw]:
    status = HTTPStatus.CREATED if said.new else HTTPStatus.OK
    location = f"/v1/rooms/{said.room_id}/messages/{said.id}"
    return Response(said.message, status_code=status, headers={"Location": location})


def _shown(row: Row) -> Response[Raw]:
    return Response(row.shown(), headers={"ETag": etag(row.changed_at)})


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[send, send_to, list_messages, get_message, edit, delete_message],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["Messages"],
    )
