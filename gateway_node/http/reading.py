"""Reading over HTTP."""

from __future__ import annotations

from litestar import Router

from gateway_node.http.guards import limit_address


def router() -> Router:
    return Router(path="/v1", route_handlers=[], guards=[limit_address], tags=["Reading"])
