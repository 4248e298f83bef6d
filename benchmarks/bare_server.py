"""The floor under a connection's memory: TCP connections on uvloop, each with a protocol that does nothing.

    python -m benchmarks.bare_server

Prints its port. Each client gets one byte, which tells it that it was accepted. Runs until it is ended.
"""

from __future__ import annotations

import asyncio

import uvloop


class Nothing(asyncio.Protocol):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"!")  # type: ignore[attr-defined]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
