"""What all connections of a node share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from realtime.crowd import Crowds
from realtime.hub import Hub
from realtime.interfaces import Authoriser, Clock, Followed, Identity, MessageLog, PresenceStore
from realtime.namespaces import Namespaces
from realtime.publisher import Publisher

VERSION = "0.1.0"

NEW, CONNECTING, CONNECTED, ENDED = range(4)
"""The phases of a connection."""

RPC = Callable[[Identity, bytes], Awaitable[bytes]]
"""A method that clients call: who calls, and JSON in; JSON out. Raises `CommandError` to refuse."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one connection may do, and how long it may be silent. Seconds, bytes, or plain numbers; 0: no limit."""

    ping_interval: int = 25
    pong_timeout: int = 8
    connect_timeout: int = 10
    expired_grace: int = 25
    outbox: int = 1024 * 1024
    message: int = 64 * 1024
    channels: int = 128
    commands_per_second: float = 100.0
    commands_burst: int = 500
    publishes_per_second: float = 20.0
    publishes_burst: int = 100
    connections_per_user: int = 0
    history: int = 1000
    recovery: int = 1000
    in_flight: int = 32  # publishes of one connection between command and commit


@dataclass(slots=True)
class CommandCounters:
    """Plain numbers for the metrics."""

    commands: int = 0
    publishes: int = 0
    errors: int = 0


@dataclass(slots=True)
class Core:
    """The parts that a client session works with."""

    hub: Hub
    log: MessageLog
    presence: PresenceStore
    publisher: Publisher
    authoriser: Authoriser
    namespaces: Namespaces
    limits: ClientLimits
    node: str  # its name, as the connect reply tells it
    incarnation: str  # random, of this process: client ids begin with it
    rpc: Mapping[str, RPC] = field(default_factory=dict)
    writes: frozenset[str] = frozenset()  # methods that are counted as publications
    followed: Followed | None = None  # the classes
    clock: Clock = time.time
    counters: CommandCounters = field(default_factory=CommandCounters)
    observe_publish: Callable[[float], None] = lambda seconds: None
    draining: bool = False
    crowds: Crowds = field(init=False)
    _last_client: int = 0

    def __post_init__(self) -> None:
        self.crowds = Crowds(self.presence, self.publisher.push)
        self.hub.on_crowd = self.crowds.changed

    def new_client_id(self) -> str:
        """Unique over all nodes and restarts; the prefix lets presence find a dead node's entries."""
        self._last_client += 1
        return f"{self.incarnation}.{self._last_client:x}"
