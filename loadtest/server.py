"""A server of one's own to test or measure: started by its command line, reached over its ports, stopped again."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jwt

START_TIMEOUT = 60.0  # seconds; a first start makes a database, which takes 1-3 s
STOP_TIMEOUT = 40.0  # seconds; the drain is capped at 30


class ServerFailed(Exception):
    """The server did not start or stop as it should; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    name: str
    pid: int
    port: int  # a node's own; 0 for the others


class Server:
    """`chalkwire serve` on free ports, with its data in `data_dir` and the embedded stack.

    `settings` are environment variables without their prefix `CHALKWIRE_`. `arguments` are further ones of the command;
    `command_prefix` is put before it (`taskset -c 0`). Use as a context manager.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        nodes: int = 2,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        command_prefix: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self.nodes = nodes
        self.port, self.node_port_base = _free_ports(nodes)
        self.api_key = secrets.token_urlsafe(24)
        self.secret = secrets.token_urlsafe(32)
        self._arguments = arguments
        self._command_prefix = command_prefix
        self._settings = {"TOKEN__HMAC_SECRET": self.secret, "API__KEY": self.api_key, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = data_dir.parent / f"{data_dir.name}.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- addresses and tokens ----------------------------------------------------------------------------------

    def url(self, path: str, node: int | None = None) -> str:
        """An HTTP address, of any node or of node `node` (from 0) alone."""
        return f"http://127.0.0.1:{self._port_of(node)}{path}"

    def websocket(self, node: int | None = None) -> str:
        return f"ws://127.0.0.1:{self._port_of(node)}/connection/websocket"

    def _port_of(self, node: int | None) -> int:
        return self.port if node is None else self.node_port_base + node

    def token(self, user: str, *, ttl: float = 3600, **claims: Any) -> str:
        """A connection token, or with `channel=` a subscription token."""
        now = int(time.time())
        return jwt.encode({"sub": user, "iat": now, "exp": now + ttl, **claims}, self.secret, "HS256")

    def api(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call the server API and return its result. Raises RuntimeError with the server's error."""
        request = urllib.request.Request(
            self.url(f"/api/{method}"),
            json.dumps(parameters).encode(),
            {"X-API-Key": self.api_key, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def register(self) -> str:
        """Make an account and return its user id."""
        account = {"email": f"{secrets.token_hex(8)}@example.org", "password": secrets.token_hex(16)}
        return str(self._post("/v1/auth/register", account, {})["id"])

    def _post(self, path: str, body: object, headers: Mapping[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url(path), json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    # --- life --------------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALKWIRE_")}
        clean |= {f"CHALKWIRE_{name}": value for name, value in self._settings.items()}
        clean["CHALKWIRE_DATA_DIR"] = str(self.data_dir)
        return clean

    def start(self) -> None:
        """Start and return when every node is ready. Raises `ServerFailed`."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*self._command_prefix, sys.executable, "-m", "gateway_node", "serve"),
                    *("--nodes", str(self.nodes), "--port", str(self.port)),
                    *("--node-port-base", str(self.node_port_base), "--data-dir", str(self.data_dir)),
                    *self._arguments,
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            for node in range(self.nodes):
                self.wait_ready(node)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, node: int, timeout: float = START_TIMEOUT) -> None:
        """Return when a node says that it and its stores are ready. Raises `ServerFailed`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(f"the server ended before it was ready:\n{self.log_tail()}")
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url("/health/ready", node), timeout=5):
                return
            time.sleep(0.02)
        raise ServerFailed(f"node {node} was not ready within {timeout:.0f} s:\n{self.log_tail()}")

    def stop(self) -> int | None:
        """End the server politely, by force after a while. Returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ServerFailed(f"the server did not stop within {STOP_TIMEOUT:.0f} s:\n{self.log_tail()}") from None

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None
        return self._process.pid

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def processes(self) -> dict[str, RunningProcess]:
        """What runs, by name: the nodes, the supervisor, the log writer and the embedded servers."""
        return {process.name: process for process in self._listed("--all")}

    def node_of(self, user: str, timeout: float = 30.0) -> str:
        """The name of the one node that holds a user's connections, once there is one. Raises `ServerFailed`."""
        deadline = time.monotonic() + timeout
        while len(found := self._listed("--user", user)) != 1:
            if time.monotonic() > deadline:
                raise ServerFailed(f"{user} is on {len(found)} nodes")
        return found[0].name

    def _listed(self, *arguments: str) -> list[RunningProcess]:
        answer = subprocess.run(
            [sys.executable, "-m", "gateway_node", "nodes", "--json", *arguments, "--data-dir", str(self.data_dir)],
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=30,
        )
        return [RunningProcess(each["name"], each["pid"], each.get("port", 0)) for each in json.loads(answer.stdout)]

    def kill(self, name: str, signal_number: int = signal.SIGKILL) -> int:
        """Send a signal to one of the processes; returns the process id that it had."""
        pid = self.processes()[name].pid
        os.kill(pid, signal_number)
        return pid

    def wait_restarted(self, name: str, old_pid: int, timeout: float = 30.0) -> None:
        """Return when the supervisor has replaced a process that ended. Raises `ServerFailed`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            process = self.processes().get(name)
            if process is not None and process.pid != old_pid:
                return
            time.sleep(0.1)
        raise ServerFailed(f"{name} was not restarted within {timeout:.0f} s:\n{self.log_tail()}")


def _free_ports(nodes: int) -> tuple[int, int]:
    """A free port, and the first of `nodes` free ports in a row.

    They lie below the range that the kernel takes for outgoing connections, as far as it leaves such ports at all.
    """
    for _ in range(100):
        base = 20000 + secrets.randbelow(10000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + nodes + 1):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return base, base + 1
    raise ServerFailed("no free ports between 20000 and 30000")
