"""Every refusal over HTTP, as a problem document (RFC 9457).

`errors[]` points into the body (JSON pointers, RFC 6901) or names a parameter; `request_id` is the one of the
`X-Request-ID` header and of the log lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.typing import FieldDefinition
from msgspec import Struct

from gateway_node.http.envelope import request_id_of
from gateway_node.limits import LimitExceeded
from realtime import codes
from realtime.pointers import locate
from storage.database import DatabaseUnavailable

MEDIA_TYPE = "application/problem+json"
BEARER = {"WWW-Authenticate": 'Bearer realm="chalkwire"'}
SOON = {"Retry-After": "1"}
STATUSES = {
    codes.PERMISSION_DENIED.code: HTTPStatus.FORBIDDEN,
    codes.UNKNOWN_CHANNEL.code: HTTPStatus.NOT_FOUND,
    codes.NOT_FOUND.code: HTTPStatus.NOT_FOUND,
    codes.CONFLICT.code: HTTPStatus.CONFLICT,
    codes.LIMIT_EXCEEDED.code: HTTPStatus.CONFLICT,
}
"""How the refusals of services are said over HTTP."""

_log = structlog.get_logger(__name__)


class Trouble(Struct, omit_defaults=True):
    """One thing that is wrong with a request, and where: in the body (`pointer`) or in a `parameter`."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(Struct, omit_defaults=True):
    """RFC 9457, section 3.1. `type` is always `about:blank`: the status says what kind of problem it is."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[Trouble] = []


class Unprocessable(HTTPException):
    """422: the body is JSON, but not what the operation takes. `extra` holds the `Trouble`s."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY


def problem(
    scope: Mapping[str, Any],
    status: int,
    detail: str = "",
    errors: list[Trouble] | None = None,
) -> Problem:
    title = HTTPStatus(status).phrase
    return Problem(
        type="about:blank",
        title=title,
        status=status,
        detail=detail or title,
        instance=str(scope["path"]),
        request_id=request_id_of(scope),
        errors=errors or [],
    )


def trouble(error: msgspec.ValidationError, wanted: Any = None) -> Trouble:
    """Where a message of msgspec points: "Expected `str`, got `int` - at `$.tags[...]`" is `/tags`. `wanted`: its
    type."""
    pointer, detail = locate(error, wanted)
    return Trouble(detail, pointer=pointer)


def answer(
    request: Request[Any, Any, Any],
    status: int,
    detail: str = "",
    errors: list[Trouble] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    body = msgspec.json.encode(problem(request.scope, status, detail, errors))
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
        return _unexpected(request, error)
    errors = error.extra if isinstance(error, Unprocessable) else None
    return answer(request, error.status_code, error.detail, errors, error.headers)  # type: ignore[arg-type]


def _validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[bytes]:
    """What Litestar found wrong outside of the body, or that there is no body."""
    details: list[Any] = error.extra if isinstance(error.extra, list) else []
    parameters = request.route_handler.parsed_fn_signature.parameters
    errors = [
        Trouble("a JSON body is wanted", pointer="")
        if detail.get("key") == "data"
        else _parameter(parameters.get(detail.get("key")), detail)
        for detail in details
    ]
    return answer(request, HTTPStatus.BAD_REQUEST, "the request is not what this operation takes", errors)


def _parameter(field: FieldDefinition | None, detail: Mapping[str, Any]) -> Trouble:
    """By the name that it has in the request: the handler's own may be another one."""
    if field is None:
        return Trouble(detail["message"], parameter=detail.get("key"))
    name = getattr(field.kwarg_definition, "name", None) or field.name
    _, message = locate(msgspec.ValidationError(detail["message"]), field.annotation)
    return Trouble(message, parameter=name)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("http.failed", method=request.method, path=request.scope["path"], exc_info=error)
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; the log has the request's id")


def unavailable(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.warning("http.unavailable", path=request.scope["path"], error=type(error).__name__)
    return answer(request, HTTPStatus.SERVICE_UNAVAILABLE, "try again in a moment", headers=SOON)


def _limited(request: Request[Any, Any, Any], error: LimitExceeded) -> Response[bytes]:
    headers = {"Retry-After": str(math.ceil(error.retry_after))}
    return answer(request, HTTPStatus.TOO_MANY_REQUESTS, str(error), headers=headers)


def _command(request: Request[Any, Any, Any], error: codes.CommandError) -> Response[bytes]:
    if error.temporary:
        return unavailable(request, error)
    if error.code in {codes.TOKEN_EXPIRED.code, codes.EXPIRED.code}:
        return answer(request, HTTPStatus.UNAUTHORIZED, error.message, headers=BEARER)
    if error.pointer is not None:
        detail = error.message.removeprefix(f"{error.pointer}: ")
        if request.method == "GET":  # there is no body: the field is a parameter
            place = Trouble(detail, parameter=error.pointer.removeprefix("/"))
            return answer(request, HTTPStatus.BAD_REQUEST, error.message, [place])
        return answer(request, HTTPStatus.UNPROCESSABLE_ENTITY, error.message, [Trouble(detail, pointer=error.pointer)])
    return answer(request, STATUSES.get(error.code, HTTPStatus.BAD_REQUEST), error.message)


def _disconnect(request: Request[Any, Any, Any], error: codes.DisconnectError) -> Response[bytes]:
    return answer(request, HTTPStatus.UNAUTHORIZED, error.disconnect.reason, headers=BEARER)


HANDLERS: dict[int | type[Exception], Any] = {
    HTTPException: _http,
    ValidationException: _validation,
    LimitExceeded: _limited,
    DatabaseUnavailable: unavailable,
    codes.CommandError: _command,
    codes.DisconnectError: _disconnect,
    Exception: _unexpected,
}
