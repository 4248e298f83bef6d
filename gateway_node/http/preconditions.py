"""What two people may edit at once: `ETag` and `If-Match` (RFC 9110, section 13)."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from litestar import Request
from litestar.exceptions import HTTPException
from litestar.params import HeaderParameter

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match", max_length=512, description="The `ETag` that the change is based on; 412 when it is another."
    ),
]


class PreconditionFailed(HTTPException):
    status_code = HTTPStatus.PRECONDITION_FAILED


def etag(changed_at: datetime) -> str:
    """A strong validator of what was last changed at this moment."""
    return f'"{int(changed_at.timestamp() * 1_000_000):x}"'


def version_tag(version: int) -> str:
    """A strong validator of what counts its changes."""
    return f'"{version}"'


def expected_version(request: Request[Any, Any, Any], current: int) -> None:
    """Raises `PreconditionFailed` when the request is based on another version."""
    _require(request, version_tag(current))


def expected(request: Request[Any, Any, Any], current: datetime) -> None:
    """Raises `PreconditionFailed` when the request is based on another version than the one of `current`."""
    _require(request, etag(current))


def _require(request: Request[Any, Any, Any], present: str) -> None:
    wanted = request.headers.get("if-match", "").strip()
    if wanted and wanted != "*" and present not in [each.strip() for each in wanted.split(",")]:
        raise PreconditionFailed("it was changed meanwhile: get it again, and decide again", headers={"ETag": present})
