"""Search over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.lists import Limit, page
from gateway_node.http.messages import Message
from gateway_node.http.services import services_of
from gateway_node.services.search import PAGE, Found

Wanted = Annotated[
    str,
    QueryParameter(
        name="query",
        description='Words that all have to be there, the last one perhaps unfinished; `"a phrase"`, `or`, `-not`.',
    ),
]
Room = Annotated[UUID | None, QueryParameter(name="room_id", description="In this room alone.")]
Before = Annotated[str | None, QueryParameter(name="before", max_length=255, description="`next` of the page before.")]


class FoundMessages(Struct):
    """Messages, newest first. `users`: the names of their authors."""

    messages: list[Message]
    users: dict[str, str]
    next: str


FOUND = {HTTPStatus.OK.value: ResponseSpec(FoundMessages, generate_examples=False)}


@get("/search", operation_id="searchMessages", responses=FOUND)
async def find(
    request: AnyRequest, wanted: Wanted, room_id: Room = None, before: Before = None, limit: Limit = PAGE
) -> Response[Found]:
    """What was said in one's rooms, newest first."""
    identity = await bearer(request)
    found = await services_of(request).chat.search.find(identity, wanted, room_id, before, limit)
    return page(request, found, {"before": found.next} if found.next else None)


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[find],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["Messages"],
    )
