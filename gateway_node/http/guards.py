"""Who a request comes from, and whether it may come: guards run before a body is read."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from gateway_node.http.problems import BEARER
from gateway_node.http.services import Services, services_of
from gateway_node.limits import subject_of
from realtime.interfaces import Identity

Connection = ASGIConnection[Any, Any, Any, Any]


def address_of(connection: Connection) -> str:
    """The client as the limits count it. The HTTP server has looked through trusted proxies already."""
    return subject_of(connection.client.host if connection.client else "")


async def limit_address(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard: requests a minute from one address. Raises: `LimitExceeded`."""
    services: Services = connection.app.state.services
    await services.limits.requests_per_address.spend(address_of(connection))


async def bearer(request: Request[Any, Any, Any]) -> Identity:
    """Whom the access token in `Authorization: Bearer <token>` names; its requests are counted.

    Raises: `NotAuthorizedException`, `CommandError` or `DisconnectError` for a token that does not do, `LimitExceeded`.
    """
    known = request.scope["state"].get("identity")
    if known is not None:  # asked before, of this request
        assert isinstance(known, Identity)
        return known
    services = services_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorizedException("an access token is wanted: Authorization: Bearer <token>", headers=BEARER)
    identity = await services.authoriser.connect(token.strip())
    if not identity.user:
        raise NotAuthorizedException("the token is an anonymous one", headers=BEARER)
    await services.limits.requests_per_user.spend(identity.user)
    request.scope["state"]["identity"] = identity
    return identity
