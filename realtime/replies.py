"""Acknowledgements that leave together.

The log answers many publishes at once, and a write a publish was a fifth of what a durable message cost the node. Those
of one turn of the loop share a write, and a frame, for each connection.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from realtime.codes import WRITE_ERROR

if TYPE_CHECKING:
    from realtime.client import ClientConnection

logger = logging.getLogger("chalkwire.replies")


class Replies:
    """Encoded replies until the end of the turn. Whoever writes something that belongs behind them flushes first."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[ClientConnection, list[bytes]] = {}

    def add(self, connection: ClientConnection, reply: bytes) -> None:
        waiting = self._waiting
        if not waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        replies = waiting.get(connection)
        if replies is None:
            waiting[connection] = [reply]
        else:
            replies.append(reply)

    def flush(self) -> None:
        """Write what waits. Does nothing for connections that have ended."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for connection, replies in waiting.items():
            try:
                connection.send_text(b"\n".join(replies))
            except Exception:  # a transport that refuses to be written to must cost its own client only
                logger.exception("replies could not be written", extra={"client": connection.client})
                with suppress(Exception):
                    connection.end(WRITE_ERROR)
