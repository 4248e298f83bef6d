"""The embedded stack: PostgreSQL, Valkey, NATS and Janus as children of one process, over one data directory.

It needs no event loop and no thread, because its owner forks. Every method belongs in the main thread.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from config.embedded.errors import StackError
from config.embedded.identity import Identity
from config.embedded.janus import Janus
from config.embedded.nats import Nats
from config.embedded.postgres import SUPERUSER, Postgres
from config.embedded.process import live_pid, start_time, write_pid
from config.embedded.server import Server
from config.embedded.sockets import socket_directory
from config.embedded.valkey import Valkey

_STEP = 0.005  # seconds between looks at a starting server
_START = 120.0  # seconds; replaying 1 GB of write-ahead log takes tens of them on a slow disk
OPTIONAL = frozenset({"janus"})  # which may fail: everything else works without it
_LOCK = 10.0  # seconds in which the children of a process that died must have let go


@dataclass(frozen=True, slots=True)
class StackUrls:
    """Where the embedded servers are; `None` for one that is not embedded."""

    database: str | None = None
    redis: str | None = None
    nats: str | None = None
    janus: str | None = None


class EmbeddedStack:
    """The servers that were not replaced by a URL. `start` raises `StackError`, after which nothing runs."""

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = True,
        valkey: bool = True,
        nats: bool = True,
        janus: bool = False,
        max_connections: int = 100,
        max_payload: int = 1024 * 1024,
        identity: Identity | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._wanted = {"postgres": postgres, "valkey": valkey, "nats": nats, "janus": janus}
        self._max_connections = max_connections
        self._max_payload = max_payload
        self._identity = identity
        self._lock: int | None = None
        self._sockets: Path | None = None
        self._servers: dict[str, Server] = {}
        self._starting: dict[str, Iterator[None]] = {}
        self._running: set[str] = set()
        self._died: list[str] = []  # not reported yet
        self._reasons: dict[str, str] = {}

    # -- the whole

    def start(self) -> StackUrls:
        """Start all at once and return when all answer."""
        try:
            self._acquire()
            self._build()
            for name in self._servers:
                self._begin(name)
            self._finish(self._servers.keys() - OPTIONAL)
            self._publish_urls()
        except OSError as error:
            self.stop()
            raise StackError(self._unusable(error)) from None
        except BaseException:
            self.stop()
            raise
        return self.urls

    def stop(self) -> None:
        """End Janus, NATS, Valkey and PostgreSQL, in that order: whoever uses a store ends before it."""
        for server in reversed(self._servers.values()):
            server.close()
        self._servers.clear()
        self._starting.clear()
        self._running.clear()
        self._died.clear()
        if self._lock is not None:
            (self.data_dir / "urls.json").unlink(missing_ok=True)
            if self._sockets is not None and self.data_dir not in self._sockets.parents:
                shutil.rmtree(self._sockets, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    @property
    def urls(self) -> StackUrls:
        return StackUrls(*(self._servers[name].url if name in self._servers else None for name in self._wanted))

    @property
    def pids(self) -> dict[str, int]:
        """The server processes that are alive."""
        return {name: server.child.pid for name, server in self._servers.items() if server.child.exit_code is None}

    @property
    def names(self) -> frozenset[str]:
        """The servers that there are."""
        return frozenset(self._servers)

    def admin_url(self, database: str = "postgres") -> str:
        """PostgreSQL as its superuser: for backups and tests, not for the application."""
        server = self._servers["postgres"]
        assert isinstance(server, Postgres)
        return server.url_of(SUPERUSER, database)

    # -- watching

    def poll(self) -> list[str]:
        """The servers that died since the last call, each once. Also carries restarts forward: call it often."""
        for name in list(self._starting):
            self._advance(name)
        for name in sorted(self._running):
            child = self._servers[name].child
            if child.exit_code is not None:
                self._running.remove(name)
                self._report(name, child.failure())
        died, self._died = self._died, []
        return died

    @property
    def restarting(self) -> bool:
        """Whether a server is on its way back."""
        return bool(self._starting)

    def reason(self, name: str) -> str:
        """Why the server died last."""
        return self._reasons.get(name, "")

    def restart(self, name: str) -> None:
        """Begin to start a server again and return at once; `poll` does the rest. When to try is the caller's choice.

        It comes back under the same URL.
        """
        self.stop_one(name)
        self._begin(name)

    # -- one by one

    def start_one(self, name: str) -> None:
        """Restart and wait until it answers."""
        self.restart(name)
        self._finish({name})

    def stop_one(self, name: str) -> None:
        """A clean stop that `poll` does not report."""
        self._starting.pop(name, None)
        self._running.discard(name)
        self._servers[name].child.stop()

    def kill_one(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the server's (main) process; after a SIGKILL, return when it is gone."""
        child = self._servers[name].child
        child.send(number)
        if number == signal.SIGKILL:
            child.wait(10.0)

    # -- inside

    def _acquire(self) -> None:
        """One supervisor a data directory. The kernel frees the lock however we die."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.data_dir / "lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _LOCK
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = live_pid(path)
                if holder is None and time.monotonic() < deadline:
                    time.sleep(_STEP)
                    continue
                os.close(self._lock)
                self._lock = None
                who = f"process {holder}" if holder else "another process"
                raise StackError(
                    f"{self.data_dir} is in use by {who}: stop it, or give another CHALKWIRE_DATA_DIR."
                ) from None
        write_pid(path, os.getpid())

    def _build(self) -> None:
        self._sockets = sockets = socket_directory(self.data_dir)
        identity = self._identity or Identity.choose() if self._wanted["postgres"] or self._wanted["janus"] else None
        if self._wanted["postgres"]:
            assert identity is not None
            self._servers["postgres"] = Postgres(self.data_dir, sockets, self._max_connections, identity)
        if self._wanted["valkey"]:
            self._servers["valkey"] = Valkey(self.data_dir, sockets)
        if self._wanted["nats"]:
            self._servers["nats"] = Nats(self.data_dir, self._max_payload)
        if self._wanted["janus"]:
            assert identity is not None
            self._servers["janus"] = Janus(self.data_dir, sockets, identity)
        for server in self._servers.values():
            server.child.end_leftover()

    def _begin(self, name: str) -> None:
        self._starting[name] = self._servers[name].starting()
        self._advance(name)

    def _advance(self, name: str) -> None:
        try:
            next(self._starting[name])
        except StopIteration:
            del self._starting[name]
            self._running.add(name)
        except (StackError, OSError) as error:
            del self._starting[name]
            self._report(name, error)

    def _report(self, name: str, error: StackError | OSError) -> None:
        self._reasons[name] = self._unusable(error) if isinstance(error, OSError) else str(error)
        self._died.append(name)

    def _unusable(self, error: OSError) -> str:
        return f"The embedded servers cannot use {error.filename or self.data_dir}: {error.strerror}."

    def _finish(self, names: set[str]) -> None:
        """Wait until these answer."""
        deadline = time.monotonic() + _START
        while names & (self._starting.keys() | set(self._died)):
            died = self.poll()
            if names.intersection(died):
                raise StackError(" ".join(self._reasons[name] for name in died))
            self._died += died
            if time.monotonic() > deadline:
                slow = ", ".join(sorted(names & self._starting.keys()))
                raise StackError(f"{slow} did not answer within {_START:.0f} s; see {self.data_dir / 'log'}.")
            time.sleep(_STEP)

    def _publish_urls(self) -> None:
        path = self.data_dir / "urls.json"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps({**asdict(self.urls), "pid": os.getpid(), "started": start_time(os.getpid())}))


def read_urls(data_dir: Path) -> StackUrls | None:
    """The URLs of the stack that runs on `data_dir` now; `None` when there is none."""
    try:
        said = json.loads((data_dir / "urls.json").read_text())
        alive = start_time(said.pop("pid")) == said.pop("started")
        return StackUrls(**said) if alive else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
