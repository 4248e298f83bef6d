"""The HTTP application: routes, limits, errors and their description, over the node's services."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from litestar import Litestar, Response, Router
from litestar.config.cors import CORSConfig
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OpenAPIType, Schema, SecurityScheme
from litestar.plugins import OpenAPISchemaPlugin
from litestar.types import ASGIApp
from litestar.typing import FieldDefinition
from msgspec import Raw

from gateway_node.http import (
    accounts,
    files,
    health,
    keys,
    links,
    messages,
    people,
    pins,
    problems,
    push,
    reactions,
    reading,
    recovery,
    redirects,
    rooms,
    search,
    server_api,
    web,
)
from gateway_node.http.body import CheckedRequest
from gateway_node.http.envelope import Envelope
from gateway_node.http.lms import (
    assignments,
    classes,
    courses,
    enrolments,
    forums,
    notifications,
    progress,
    quizzes,
    school,
)
from gateway_node.http.reference import POLICY, ReferencePage
from gateway_node.http.retries import check_retry
from gateway_node.http.services import Services, Shape
from realtime.protocol import ClientInfo

API = (
    *(accounts, recovery, keys, rooms, messages, reactions, pins, search, reading, people, files),
    *(courses, enrolments, assignments, quizzes, progress, forums, classes, notifications, school),
    *(links, redirects, push, server_api, web),
)
"""What only processes with the role `api` serve."""

DESCRIPTION = (
    "A real-time messaging server for chat and live classes. Clients speak the Centrifuge protocol on "
    "/connection/websocket; this page describes what is asked over HTTP. Every error is a problem document (RFC 9457)."
)


class WireSchema(OpenAPISchemaPlugin):
    """Describes the wire types that carry raw JSON, which Litestar does not know."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        return value is Raw or value is ClientInfo

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        if field_definition.annotation is Raw:
            return Schema(description="Any JSON value.")
        text = Schema(type=OpenAPIType.STRING)
        value = Schema(description="Any JSON value.")
        return Schema(
            type=OpenAPIType.OBJECT,
            description="A user on one connection.",
            properties={"user": text, "client": text, "conn_info": value, "chan_info": value},
        )


_built_ahead: dict[Shape, Litestar] = {}


def build_ahead(shape: Shape) -> None:
    """Build what `create_app` will give out. Done before the fork, so that its memory is the nodes' in common."""
    _built_ahead[shape] = _build(shape)


def create_app(services: Services) -> ASGIApp:
    # Popped, because two applications of one process must not share their state.
    app = _built_ahead.pop(services.shape, None) or _build(services.shape)
    app.state["services"] = services
    return Envelope(app)


def _build(shape: Shape) -> Litestar:
    return Litestar(
        route_handlers=[
            *([each.router() for each in API] if shape.api else []),
            *(health.live, health.ready, health.metrics),
        ],
        request_class=CheckedRequest,
        before_request=check_retry,
        request_max_body_size=shape.max_body,
        exception_handlers=problems.HANDLERS,
        cors_config=_cors(shape.allowed_origins),
        openapi_config=OpenAPIConfig(
            title="Chalkwire",
            version=version("chalkwire"),
            description=DESCRIPTION,
            openapi_router=Router(
                path="/schema",
                route_handlers=[],
                after_request=_as_problem,
                response_headers={"Content-Security-Policy": POLICY},
                include_in_schema=False,
            ),
            render_plugins=[JsonRenderPlugin(), ReferencePage()],
            use_handler_docstrings=True,
            components=Components(
                security_schemes={
                    "apiKey": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                    "accessToken": SecurityScheme(
                        type="http",
                        scheme="bearer",
                        bearer_format="JWT",
                        description="An access token, or an API key (`cw_…`) within its scopes.",
                    ),
                }
            ),
        ),
        plugins=[WireSchema()],
        logging_config=None,  # the process has configured logging
        debug=False,
    )


def _as_problem(response: Response[Any]) -> Response[Any]:
    """Litestar answers an unknown path under `/schema` with a page of its own."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return response


def _cors(allowed_origins: tuple[str, ...]) -> CORSConfig | None:
    if not allowed_origins:
        return None
    return CORSConfig(
        allow_origins=list(allowed_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Range", "X-Request-ID"],
        expose_headers=[
            "Content-Disposition",
            "Content-Range",
            "ETag",
            "Link",
            "Location",
            "Retry-After",
            "X-Request-ID",
        ],
        max_age=600,
    )
