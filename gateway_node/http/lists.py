"""Lists over HTTP: a page, and how to get the next one."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.params import QueryParameter
from msgspec import Struct

MAX_PAGE = 100  # items, documented in docs/http.md

Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=MAX_PAGE, description=f"Items; at most {MAX_PAGE}.")]

S = TypeVar("S", bound=Struct)


def page(request: Request[Any, Any, Any], body: S, following: dict[str, str] | None) -> Response[S]:
    """The answer, with a `Link` header (RFC 8288) to the next page, whose query differs from this one's in `following`.

    `None`: this is the last page. The body's own field `next` is the handler's to fill.
    """
    headers = {}
    if following is not None:
        query = {**request.query_params.dict(), **following}
        headers["Link"] = f'<{request.scope["path"]}?{urlencode(query, doseq=True)}>; rel="next"'
    return Response(body, headers=headers)
