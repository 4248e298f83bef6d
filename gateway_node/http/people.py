"""People over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from litestar import Router, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.services import services_of
from gateway_node.services.people import MAX_ASKED, MAX_QUERY, Status
from gateway_node.services.profiles import Public
from storage.people import Person

Query = Annotated[
    str,
    QueryParameter(
        name="query", min_length=1, max_length=MAX_QUERY, description="The beginning of a name, or a whole address."
    ),
]
Ids = Annotated[
    list[UUID],
    QueryParameter(name="id", min_items=1, max_items=MAX_ASKED, description="Users; may be given several times."),
]


class FoundUsers(Struct):
    users: list[Person]


class Statuses(Struct):
    users: dict[str, Status]


@get("/users", operation_id="findUsers", security=[{"accessToken": []}])
async def find(request: AnyRequest, wanted: Query) -> FoundUsers:
    """Find people: at most 20."""
    identity = await bearer(request)
    return FoundUsers(await services_of(request).chat.people.find(identity, wanted))


@get("/users/status", operation_id="userStatus", security=[{"accessToken": []}])
async def status(request: AnyRequest, ids: Ids) -> Statuses:
    """Who is online, of those with whom one shares a room."""
    identity = await bearer(request)
    return Statuses(await services_of(request).chat.people.status(identity, ids))


@get("/users/{user_id:uuid}", operation_id="getUser", security=[{"accessToken": []}])
async def get_user(request: AnyRequest, user_id: FromPath[UUID]) -> Public:
    """What everybody may know of somebody."""
    return await services_of(request).chat.people.get(await bearer(request), user_id)


def router() -> Router:
    return Router(path="/v1", route_handlers=[find, status, get_user], guards=[limit_address], tags=["People"])
