"""One connection to NATS: nats-py for the handshake, TLS and parsing, without its subscriptions and reconnects.

nats-py gives every subscription a queue and a task, 4.9 KB in all; a node holds tens of thousands. Here a message goes
straight from the parser to one callback with its subscription's number, and whoever opened the connection keeps the
numbers. A connection that is lost stays lost: its owner opens another, so that there is one place that decides what is
sent again. Nothing in nats-py promises the methods overridden here, hence the exact version; the tests of this module
hold what is relied upon.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, StreamWriter
from collections.abc import Callable
from importlib.metadata import version

import structlog
from nats import errors
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

NATS_PY = "2.16.0"
if version("nats-py") != NATS_PY:
    raise ImportError(
        f"nats-py {version('nats-py')} is installed; gateway_node/nats_client.py is written for {NATS_PY}"
    )

log = structlog.get_logger(__name__)

PING = b"PING\r\n"
PONG = b"PONG\r\n"

UNREACHABLE = (OSError, TimeoutError, errors.Error)

CONNECT_SECONDS = 2
PING_SECONDS = 5
PINGS_UNANSWERED = 2  # a silent server is given up after 15 s


class NatsConnection(Client):
    """`deliver(sid, payload)` gets every message, in order; it must not raise. `lost` is set once, for good."""

    def __init__(self, deliver: Callable[[int, bytes], None]) -> None:
        super().__init__()
        self._deliver = deliver
        self.lost = asyncio.Event()
        self.reason = ""  # of the failure to connect or of the loss
        self._writer: StreamWriter | None = None

    async def open(self, servers: list[str], name: str) -> None:
        """Raises `OSError`, `TimeoutError` or `nats.errors.Error`; then `abort()` is due, as after a loss."""

        async def failed(error: Exception) -> None:
            self.reason = str(error) or type(error).__name__

        await self.connect(
            servers,
            name=name,
            error_cb=failed,
            no_echo=True,
            allow_reconnect=False,
            max_reconnect_attempts=1,  # a second try of each server, then `NoServersError`; fewer means for ever
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=PINGS_UNANSWERED,
        )
        if (
            not self.is_connected
        ):  # something else came before the answer to CONNECT, which nats-py does not see as a failure
            raise errors.Error("unexpected handshake")
        self._writer = self._stream_writer()

    def _stream_writer(self) -> StreamWriter | None:
        """asyncio's end of the socket: the encrypted one after the upgrade to TLS."""
        return self._transport._io_writer if isinstance(self._transport, TcpTransport) else None

    def send(self, data: bytes) -> None:
        """Write protocol lines at once. They are dropped after a loss."""
        if self._writer is not None and not self.lost.is_set():
            self._writer.write(data)

    def ping(self, pong: Future[bool]) -> None:
        """Have `pong` set when the server has worked through all that was sent before: `True`, or `False` at a loss.

        nats-py's own `flush` writes its PING ahead of subscriptions that still wait in its buffer.
        """
        if self.lost.is_set():
            pong.set_result(False)
            return
        self._pongs.append(pong)
        self.send(PING)

    @property
    def buffered(self) -> int:
        """Bytes that the server has not taken yet."""
        return 0 if self._writer is None else self._writer.transport.get_write_buffer_size()

    async def abort(self) -> None:
        """Let go of the socket and the tasks, whatever state they are in, without waiting for the server."""
        self._lose("closed")
        self._status = Client.CLOSED
        tasks = [task for task in (self._reading_task, self._ping_interval_task, self._flusher_task) if task]
        for task in tasks:
            task.cancel()
        if (writer := self._stream_writer()) is not None:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lose(self, reason: str) -> None:
        if self.lost.is_set():
            return
        self.reason = reason
        self.lost.set()
        for pong in self._pongs:
            if not pong.done():
                pong.set_result(False)

    # --- what nats-py calls ------------------------------------------------------------------------------------

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self._deliver(sid, data)

    async def _process_ping(self) -> None:
        self.send(PONG)

    async def _process_pong(self) -> None:
        """As nats-py's, but a pong that nobody waits for any more does not end the read loop."""
        self._pings_outstanding = 0
        if self._pongs:
            pong = self._pongs.pop(0)
            if not pong.done():
                pong.set_result(True)

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            log.error("broker.refused", reason=err_msg)  # the connection goes on
        else:
            self._lose(err_msg.strip("'"))

    async def _process_op_err(self, e: Exception) -> None:
        self._lose(str(e) or type(e).__name__)

    async def _read_loop(self) -> None:
        """nats-py's loop ends silently at an unknown exception; then the connection is as good as lost."""
        try:
            await super()._read_loop()
        finally:
            self._lose("the read loop ended")
