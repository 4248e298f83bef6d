"""Reactions over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, put
from litestar.params import FromPath, QueryParameter

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.services import services_of
from gateway_node.services.reactions import ReactionPage

PATH = "/rooms/{room_id:uuid}/messages/{message_id:uuid}/reactions"

After = Annotated[str | None, QueryParameter(name="after", max_length=255, description="`next` of the page before.")]


@put(f"{PATH}/{{emoji:str}}", operation_id="addReaction", status_code=HTTPStatus.NO_CONTENT)
async def add(request: AnyRequest, room_id: FromPath[UUID], message_id: FromPath[UUID], emoji: FromPath[str]) -> None:
    """Give an emoji to a message. Once more is fine."""
    identity = await bearer(request)
    await services_of(request).chat.reactions.add(identity, room_id, message_id, emoji)


@delete(f"{PATH}/{{emoji:str}}", operation_id="removeReaction")
async def remove(
    request: AnyRequest, room_id: FromPath[UUID], message_id: FromPath[UUID], emoji: FromPath[str]
) -> None:
    """Take an emoji back. Once more is fine."""
    identity = await bearer(request)
    await services_of(request).chat.reactions.remove(identity, room_id, message_id, emoji)


@get(PATH, operation_id="listReactions")
async def list_(
    request: AnyRequest,
    room_id: FromPath[UUID],
    message_id: FromPath[UUID],
    after: After = None,
    limit: Limit = MAX_PAGE,
) -> Response[ReactionPage]:
    """Who gave what, by emoji and user."""
    identity = await bearer(request)
    found = await services_of(request).chat.reactions.page(identity, room_id, message_id, after, limit)
    return page(request, found, {"after": found.next} if found.next else None)


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[add, remove, list_],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["Messages"],
    )
