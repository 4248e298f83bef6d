"""What every answer over HTTP has around it: a request id and security headers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
"""Defaults. An answer that sets one of them itself keeps its own: a page has another content security policy."""

_WELL_FORMED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id_of(scope: Mapping[str, Any]) -> str:
    return str(scope["state"]["request_id"])


class Envelope:
    """ASGI middleware around the whole application.

    A well-formed `X-Request-ID` of the caller is taken over, so that a proxy's log and ours can be joined.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope["headers"]) or uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        status = 0

        async def send_enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                nonlocal status
                status = message["status"]
                headers = list(message["headers"])
                given = {name.lower() for name, _ in headers}
                headers += [(name, value) for name, value in SECURITY_HEADERS.items() if name not in given]
                headers.append((b"x-request-id", request_id.encode()))
                message["headers"] = headers
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_enveloped)
            if status >= HTTPStatus.BAD_REQUEST and (undo := scope["state"].get("undo")) is not None:
                await undo()  # what was noted for a request that came to nothing


def _given_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"x-request-id" and _WELL_FORMED_ID.fullmatch(value):
            return value.decode()
    return None
