"""The reference: the asyncio server of `websockets` as an echo server on a free port of 127.0.0.1, which it prints."""

from __future__ import annotations

import asyncio
import logging

from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    logging.disable()
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"reference ready on ws://127.0.0.1:{port}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
