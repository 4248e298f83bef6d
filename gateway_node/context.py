"""What a node is given by the supervisor that forked it."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.sections import Settings


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node's place in the set.

    `sockets` are bound and listening, and are the node's own: they close with it. `port` is the one that leads to
    this node alone where `node_port_base` is set, else the shared one. `ready_fd` takes one byte when the node serves.
    `incarnation` differs between two lives of the same name. `started_at` is in Unix seconds.
    """

    index: int  # 0, 1, 2 …: it also listens on `node_port_base` + index
    name: str  # node-1, node-2, node-3 …
    incarnation: str
    settings: Settings  # with the addresses of the stores resolved
    sockets: tuple[socket.socket, ...]
    port: int
    log_socket: Path
    run_dir: Path
    ready_fd: int
    started_at: float
