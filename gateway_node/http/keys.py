"""API keys over HTTP: one's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from gateway_node.http.accounts import NO_STORE, AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.services import services_of
from gateway_node.rights import Scope
from gateway_node.services.rooms import user_id_of
from storage.keys import ApiKey


class NewKey(Struct, forbid_unknown_fields=True):
    """`expires_at`: null is never."""

    name: str
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=10)]
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class MadeKey(ApiKey, frozen=True, kw_only=True):
    """`key` is what a program sends; it is told this once."""

    key: str


class ApiKeys(Struct):
    keys: Sequence[ApiKey]


@post("/me/keys", operation_id="createKey")
async def create(request: AnyRequest, data: JSONBody[NewKey]) -> Response[MadeKey]:
    """Make an API key: what a program sends as `Authorization: Bearer cw_…` to act for its owner."""
    identity = await bearer(request)
    made, key = await services_of(request).keys.make(identity, data.name, data.scopes, data.expires_at)
    body = MadeKey(**msgspec.structs.asdict(made), key=key)
    return Response(body, status_code=HTTPStatus.CREATED, headers={**NO_STORE, "Location": f"/v1/me/keys/{made.id}"})


@get("/me/keys", operation_id="listKeys")
async def mine(request: AnyRequest) -> Response[ApiKeys]:
    """One's API keys, by how they begin, the oldest first."""
    identity = await bearer(request)
    return Response(ApiKeys(await services_of(request).keys.list(user_id_of(identity))), headers=NO_STORE)


@delete("/me/keys/{key_id:uuid}", operation_id="revokeKey")
async def revoke(request: AnyRequest, key_id: FromPath[UUID]) -> None:
    """Revoke an API key: from the next request on it opens nothing."""
    await services_of(request).keys.revoke(await bearer(request), key_id)


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[create, mine, revoke],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["API keys"],
    )
