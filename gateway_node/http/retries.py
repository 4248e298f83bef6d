"""`Idempotency-Key`: the same key with another body is a mistake of the client's, and is said to be one (422).

What a key has made is found by the services themselves, under an id that is made of it. Here it is only held against
the request of then: its digest is in Redis for a day. While Redis is away nobody is accused, and the answer is what
the first request made. A request that is refused uses no key up, and gives back none that was used before.

Left out are operations that want no access token (`register` compares by itself, the server API has keys of its own)
and those that take no JSON: an upload is streamed, and never in memory as a whole.
"""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from typing import Any

from litestar import Request

from gateway_node.http.guards import bearer
from gateway_node.http.problems import Trouble, Unprocessable
from gateway_node.http.services import services_of
from gateway_node.rights import KEY, OPERATIONS, PUBLIC

HEADER = "Idempotency-Key"


async def check_retry(request: Request[Any, Any, Any]) -> None:
    """Before a handler. Raises `Unprocessable`, and what `bearer` raises."""
    key, handler = request.headers.get(HEADER.lower(), ""), request.route_handler
    right = OPERATIONS.get(str(getattr(handler, "operation_id", "")), PUBLIC)
    if not key or handler.parsed_data_field is None or right in (PUBLIC, KEY):
        return
    digests, user = services_of(request).digests, (await bearer(request)).user
    name = f"retry:{_hex(user, request.method, request.url.path, key)}"
    digest = blake2b(await request.body(), digest_size=16).digest()
    before = await digests.before(name, digest)
    if before is None:
        request.scope["state"]["undo"] = partial(digests.forget, name)
    elif before != digest:
        detail = "this key was used with another body: use a new one for a new request"
        raise Unprocessable(detail, extra=[Trouble(detail, parameter=HEADER)])


def _hex(*parts: str) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
