"""Whether the node lives, whether it can work, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

import structlog
from litestar import Request, Response, get
from msgspec import Struct

from gateway_node.http.services import Check, services_of

CHECK_TIMEOUT = 2.0  # seconds for a dependency's sign of life

_log = structlog.get_logger(__name__)


class Alive(Struct):
    status: Literal["alive"] = "alive"


class Dependency(Struct, omit_defaults=True):
    """`needed`: without it the node is not ready. `error` names the kind of trouble, the log has the rest."""

    status: Literal["up", "down"]
    needed: bool
    error: str = ""


class Readiness(Struct):
    """`degraded`: what is down is not needed. `unready` and `draining` come with 503: send requests elsewhere."""

    status: Literal["ready", "degraded", "unready", "draining"]
    dependencies: dict[str, Dependency]


@get("/health/live", operation_id="live", tags=["Operations"])
async def live() -> Alive:
    """The process runs its loop."""
    return Alive()


@get("/health/ready", operation_id="ready", tags=["Operations"])
async def ready(request: Request[Any, Any, Any]) -> Response[Readiness]:
    """Each dependency, asked within the last half second."""
    services = services_of(request)
    errors = await services.answers.ask(lambda: _ask_all(services.checks))
    dependencies = {
        name: Dependency("down" if error else "up", name in services.needed, error) for name, error in errors.items()
    }
    down = {name for name, dependency in dependencies.items() if dependency.status == "down"}
    status: Literal["ready", "degraded", "unready", "draining"] = "degraded" if down else "ready"
    if services.draining():
        status = "draining"
    elif down & services.needed:
        status = "unready"
    return Response(
        Readiness(status, dependencies),
        status_code=HTTPStatus.OK if status in {"ready", "degraded"} else HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"Cache-Control": "no-store"},
    )


async def _ask_all(checks: Mapping[str, Check]) -> dict[str, str]:
    errors = await asyncio.gather(*(_ask(name, check) for name, check in checks.items()))
    return dict(zip(checks, errors, strict=True))


async def _ask(name: str, check: Check) -> str:
    """The kind of trouble, empty when there is none."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except Exception as error:
        _log.warning("health.down", dependency=name, error=str(error) or type(error).__name__)
        return type(error).__name__
    return ""


@get("/metrics", operation_id="metrics", tags=["Operations"], media_type="text/plain; version=0.0.4; charset=utf-8")
async def metrics(request: Request[Any, Any, Any]) -> bytes:
    """What the nodes count, in Prometheus's text format."""
    return await asyncio.to_thread(services_of(request).metrics)
