"""The embedded NATS: loopback TCP (it has no Unix sockets), a port that stays ours, a token in a private file."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from config.embedded.binaries import find_nats
from config.embedded.child import Child
from config.embedded.server import Server

_HOST = "127.0.0.1"


class Nats(Server):
    """`max_payload` in bytes: the largest message it takes."""

    def __init__(self, data_dir: Path, max_payload: int) -> None:
        self.child = Child("nats", data_dir, (signal.SIGTERM,))
        self._config = data_dir / "nats.conf"
        self._max_payload = max_payload
        self._token = secrets.token_urlsafe(24)
        self._reserved, self._port = _reserve_port()

    @property
    def url(self) -> str:
        return f"nats://{self._token}@{_HOST}:{self._port}"

    def starting(self) -> Iterator[None]:
        self._config.touch(mode=0o600)
        self._config.write_text(
            f"host: {json.dumps(_HOST)}\n"
            f"port: {self._port}\n"
            f"authorization {{ token: {json.dumps(self._token)} }}\n"
            f"max_payload: {self._max_payload}\n"
            'write_deadline: "5s"\n'
        )
        self.child.launch([find_nats(), "-c", self._config])
        while not self._answers():
            yield
            if self.child.exit_code is not None:
                raise self.child.failure()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((_HOST, self._port), timeout=1.0) as probe:
                return probe.recv(5) == b"INFO "
        except OSError:
            return False

    def close(self) -> None:
        super().close()
        if self._reserved is not None:
            os.close(self._reserved)
            self._reserved = None


def _reserve_port() -> tuple[int | None, int]:
    """A free port and the descriptor that keeps it for the whole run: clients remember the URL over a restart.

    On Linux a bound socket that does not listen keeps the port from everyone (outgoing connections too) but from a
    server that also sets SO_REUSEADDR, as Go's do. Elsewhere it would keep the server out: the port is only chosen.
    """
    with socket.socket() as holder:
        holder.bind((_HOST, 0))
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            return None, port
        # After the bind: set before it, two such sockets could be given one port.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return holder.detach(), port
