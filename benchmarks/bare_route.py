"""The floor under a request over HTTP: one Litestar route on uvicorn and uvloop that answers with bytes it has.

    python -m benchmarks.bare_route BYTES

Prints its port. Runs until it is ended.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from uuid import UUID

import uvicorn
import uvloop
from litestar import Litestar, Response, get
from litestar.params import FromPath


async def serve(size: int) -> None:
    body = b'"' + b"x" * (size - 2) + b'"'

    @get("/v1/courses/{course_id:uuid}")
    async def answer(course_id: FromPath[UUID]) -> Response[bytes]:
        return Response(body, media_type="application/json")

    listener = socket.create_server(("127.0.0.1", 0))
    app = Litestar([answer], openapi_config=None, logging_config=None)
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", ws="none", log_config=None, access_log=False))
    print(listener.getsockname()[1], flush=True)
    await server.serve([listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
