"""The embedded Valkey: a Unix socket, an append-only file, no eviction."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from config.embedded.binaries import find_valkey
from config.embedded.child import Child
from config.embedded.server import Server

_MEMORY = "2gb"  # a bound, not a reservation: 1 M connections with presence need a part of it


class Valkey(Server):
    def __init__(self, data_dir: Path, sockets: Path) -> None:
        self.child = Child("valkey", data_dir, (signal.SIGTERM,))
        self._data = data_dir / "valkey"
        self._socket = sockets / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def starting(self) -> Iterator[None]:
        self._data.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        options: dict[str, str | Path] = {
            "port": "0",
            "unixsocket": self._socket,
            "unixsocketperm": "700",
            "dir": self._data,
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": _MEMORY,
            "maxmemory-policy": "noeviction",  # full means an error that is seen, not a session that vanished
            "maxclients": "10000",
        }
        argv: list[str | Path] = [find_valkey()]
        for name, value in options.items():
            argv += [f"--{name}", value]
        self.child.launch(argv)
        while not self._answers():
            yield
            if self.child.exit_code is not None:
                raise self.child.failure()

    def _answers(self) -> bool:
        """Whether it has loaded its data: until then PING is answered with -LOADING."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False
