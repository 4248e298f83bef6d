"""The floor under a redirect: an ASGI function on uvicorn and uvloop that answers every request with the same 302.

    python -m loadtest.bare_redirect

Prints its port. Runs until it is ended.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
import uvloop

START = {
    "type": "http.response.start",
    "status": 302,
    "headers": [(b"location", b"https://example.org/lesson?week=1"), (b"content-length", b"0")],
}
END = {"type": "http.response.body", "body": b""}


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(END)


async def serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = uvicorn.Server(
        uvicorn.Config(application, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    )
    print(listener.getsockname()[1], flush=True)
    await server.serve([listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
