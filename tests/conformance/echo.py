"""The server's connection class as an echo server, for conformance suites: `python -m tests.conformance.echo --port N`.

Text and binary come back as they came, compressed where the client asked for it, without a limit on their size.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import uvloop

from gateway_node.server import HTTPServer, listening_socket
from realtime.frames import binary_frame, deflated_binary_frame
from realtime.websocket import WebSocketConnection, WebSocketEndpoint
from realtime.wheel import TimingWheel, WheelDriver


class Echo(WebSocketConnection):
    __slots__ = ()

    def message_received(self, payload: bytes, binary: bool) -> None:
        if not binary:
            self.send_text(payload)
        else:
            self.write(deflated_binary_frame(payload) if self.deflate else binary_frame(payload))

    def ping_due(self) -> None:
        """A suite that compares frames expects none that it did not cause."""

    def silent(self) -> None:
        """Nothing was asked."""


async def no_application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


async def serve(host: str, port: int) -> None:
    wheel = TimingWheel()
    endpoint = WebSocketEndpoint(
        wheel, paths=("/",), allowed_origins=("*",), max_message_size=None, outbox_limit=1 << 30, compression=True
    )
    listener = listening_socket(host, port)
    server = HTTPServer(no_application, endpoint, Echo)
    await server.start([listener])
    driver = WheelDriver(wheel)
    driver.start()
    print(f"echo server ready on ws://{host}:{listener.getsockname()[1]}/", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001, help="0: a free one, which is printed")
    options = parser.parse_args()
    try:
        uvloop.run(serve(options.host, options.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
