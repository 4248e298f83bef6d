"""The guard that holds every request against the table of rights, before its body is read.

A course that somebody may not know of is 404 to them, whatever they try; what they may see and not do is 403.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from msgspec import Struct

from gateway_node.http.guards import bearer
from gateway_node.http.services import Services
from gateway_node.rights import OPERATIONS, Archived, Refused, Standing, require
from gateway_node.services.rooms import user_id_of
from realtime import codes
from realtime.interfaces import Identity


class Caller(Struct, frozen=True):
    """Who asks, and how they stand to the school and to the course in the path."""

    identity: Identity
    user_id: UUID
    standing: Standing


async def enforce(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard: refuse whom the table does not name, and keep for the handler who asks.

    Raises as `bearer`; `NotFoundException`, `PermissionDeniedException`; `CommandError` 103 to people of another
    issuer, who have no account here, and 1003 in an archived course.
    """
    assert isinstance(handler, HTTPRouteHandler) and isinstance(handler.operation_id, str)
    right = OPERATIONS[handler.operation_id]
    services: Services = connection.app.state.services
    identity = await bearer(Request(connection.scope))
    user_id = user_id_of(identity)
    standing = await services.lms.standing(user_id, connection.path_params.get("course_id"))
    try:
        require(right, standing)
    except Refused as refused:
        raise (PermissionDeniedException if refused.known else NotFoundException)(refused.reason) from None
    except Archived as archived:
        raise codes.CONFLICT.saying(str(archived)) from None
    connection.scope["state"]["caller"] = Caller(identity, user_id, standing)


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """What the guard has left."""
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller
