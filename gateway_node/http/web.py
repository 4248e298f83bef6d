"""The chat page: static files of `gateway_node/web`, served at `/`."""

from __future__ import annotations

from litestar import Router


def router() -> Router:
    return Router(path="/", route_handlers=[], include_in_schema=False)
