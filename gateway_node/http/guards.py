"""Who a request comes from, and whether it may come: guards run before a body is read."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler

from gateway_node.http.problems import BEARER
from gateway_node.http.services import Services, services_of
from gateway_node.limits import subject_of
from gateway_node.rights import Scope, scope_of
from gateway_node.services.keys import KeyRefused, is_key
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
    """Whom the access token or the API key in `Authorization: Bearer <token>` names; their requests are counted.

    Raises: `NotAuthorizedException`, `CommandError` or `DisconnectError` for a token that does not do,
    `PermissionDeniedException` where the key's scopes do not, `LimitExceeded`.
    """
    known = request.scope["state"].get("identity")
    if known is not None:  # asked before, of this request
        assert isinstance(known, Identity)
        return known
    services = services_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotAuthorizedException("an access token is wanted: Authorization: Bearer <token>", headers=BEARER)
    token = token.strip()
    if is_key(token):
        identity = await _by_key(request, token)
    else:
        identity = await services.authoriser.connect(token)
        if not identity.user:
            raise NotAuthorizedException("the token is an anonymous one", headers=BEARER)
        await services.limits.requests_per_user.spend(identity.user)
    request.scope["state"]["identity"] = identity
    return identity


async def _by_key(request: Request[Any, Any, Any], key: str) -> Identity:
    """A key's requests are counted with its owner's: more keys are not more requests."""
    services = services_of(request)
    try:
        identity, scopes = await services.keys.use(key)
    except KeyRefused as error:
        raise NotAuthorizedException(str(error), headers=BEARER) from None
    await services.limits.requests_per_user.spend(identity.user)
    wanted = scope_of(str(getattr(request.route_handler, "operation_id", "")), request.method)
    if wanted not in scopes:
        raise PermissionDeniedException(_lacking(wanted), headers=_insufficient(wanted))
    return identity


def _lacking(wanted: Scope | None) -> str:
    if wanted is None:
        return "that takes a login: an API key may not"
    return f"the API key has not the scope {wanted}"


def _insufficient(wanted: Scope | None) -> dict[str, str]:
    """RFC 6750, section 3.1."""
    scope = f', scope="{wanted}"' if wanted else ""
    return {"WWW-Authenticate": f'{BEARER["WWW-Authenticate"]}, error="insufficient_scope"{scope}'}
