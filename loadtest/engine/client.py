"""One load client: a socket, where it stands in the protocol, and its subscriptions. The swarm does the work."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.engine.books import Reader
    from loadtest.engine.protocol import Reply

AWAY, OPENING, UPGRADING, JOINING, LIVE, GIVEN_UP = range(6)

CONNECT_ID = 1
FIRST_SUBSCRIBE_ID = 2


class Client:
    """With a subscription about 1 KB: a million of them share this machine with the server."""

    __slots__ = (
        "attempts",
        "began",
        "deliveries",
        "joining",
        "next_id",
        "number",
        "out",
        "phase",
        "pong",
        "readers",
        "rest",
        "socket",
        "waiting",
    )

    def __init__(self, number: int, deliveries: dict[int, int]) -> None:
        self.number = number  # over all processes
        self.deliveries = deliveries  # us -> times: where the latency of what it gets is counted
        self.socket: socket.socket | None = None
        self.phase = AWAY
        self.rest = b""  # of a frame that is not complete
        self.out = b""  # what the socket did not take yet
        self.readers: tuple[Reader, ...] = ()
        self.next_id = FIRST_SUBSCRIBE_ID
        self.joining = 0  # a bit for each answer that is missing until the client is live
        self.waiting: dict[int, Callable[[Reply, int], None]] | None = None  # what becomes of an answer
        self.began = 0  # ns of the run's clock: when it began, or should have begun, to connect
        self.attempts = 0  # in a row, without success
        self.pong = False
