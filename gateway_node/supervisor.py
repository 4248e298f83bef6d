"""The supervisor: starts everything in order, keeps it running, stops it in the opposite order.

It forks, so it runs no event loop and no thread; it waits in `poll` for signals and for its children's pipes. Its
children are the embedded servers, the log writer and the nodes. They end when it ends, even by SIGKILL.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from config.embedded import EmbeddedStack, StackError, StackUrls, has_janus, socket_directory
from config.secrets import with_secrets
from config.settings import SettingsError
from gateway_node import garbage, logs, metrics
from gateway_node.checks import NATS_ENVELOPE, embedded_max_connections, raise_file_limit
from gateway_node.context import NodeContext
from gateway_node.ports import ReservedPort
from gateway_node.process_list import NODES, described, write_processes
from gateway_node.processes import Backoff, Child, StartError, Worker, fork
from gateway_node.programs import Programs
from gateway_node.signals import Interrupted, Signals

if TYPE_CHECKING:
    from config.sections import Settings

START_TIMEOUT = 60.0  # seconds until a node or log writer that is neither ready nor dead is killed
START_ATTEMPTS = 3  # of a node that has never been ready, before the whole start is given up
WRITER_STOP_TIMEOUT = 10.0  # seconds for the log writer to commit what it has
DRAIN_MARGIN = 2.0  # seconds above drain.cap, in which a node ends by itself
SLEEP = 1.0  # seconds at most; a change wakes the supervisor at once
BUSY_SLEEP = 0.02  # seconds, while an embedded server comes back: its start goes on in steps that nothing wakes for
RECOVERY = 10.0  # seconds after a server's restart in which it may be coming back
FIXED = (  # what the supervisor itself has built on; a change needs a restart
    ("nodes",),
    ("data_dir",),
    ("http", "host"),
    ("http", "port"),
    ("http", "node_port_base"),
    ("database", "url"),
    ("database", "pool_size"),
    ("redis", "url"),
    ("nats", "url"),
    ("media", "janus_urls"),
    ("client", "max_message_size"),
)
LOG_SOCKET = "log.sock"
INCARNATION_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648, section 6

_log = structlog.get_logger("supervisor")


@dataclass(slots=True)
class _Server:
    """An embedded server's restarts."""

    backoff: Backoff
    started: float
    due: float | None = None
    restarts: int = 0


class Supervisor:
    """Runs one host's server from `run` until a signal to stop.

    `reload` reads the settings again for SIGHUP; it raises `SettingsError`. `demo` fills a server that has started with
    people and rooms to look at.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reload: Callable[[], Settings] | None = None,
        programs: Programs | None = None,
        backoff: Callable[[], Backoff] = Backoff,
        demo: bool = False,
    ) -> None:
        self._given = settings
        self._demo = demo
        self._settings = settings  # from the start on with secrets, the stores' addresses and the port filled in
        self._reload = reload or (lambda: settings)
        self._programs = programs or Programs()
        self._backoff = backoff
        self._signals = Signals()
        self._stack: EmbeddedStack | None = None
        self._servers: dict[str, _Server] = {}
        self._server_pids: dict[str, int] = {}
        self._port: ReservedPort | None = None
        self._own_ports: list[ReservedPort] = []
        self._writer: Worker | None = None
        self._nodes: list[Worker] = []
        self._incarnations: dict[str, str] = {}  # of the nodes, by name
        self._others: list[Child] = []  # the migration, and nodes on their way in or out of a rolling restart
        self._stopping = False
        self._had_terminal = os.isatty(2)
        self._run_dir = Path()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT. The exit status: 0, or 1 with a sentence on stderr when it cannot start."""
        logs.configure(self._settings.log.level, node="supervisor")
        self._signals.open()
        try:
            self._start()
            self._serve()
        except Interrupted:
            pass
        except (StartError, StackError, SettingsError) as error:
            print(f"chalkwire: {error}", file=sys.stderr)
            return 1
        finally:
            self._stop()
            self._signals.close()
        return 0

    # Start

    def _start(self) -> None:
        settings = self._settings
        began = time.monotonic()
        raise_file_limit()
        self._port = ReservedPort(settings.http.host, settings.http.port)
        if settings.http.node_port_base is not None:
            for index in range(settings.nodes):
                self._own_ports.append(ReservedPort(settings.http.host, settings.http.node_port_base + index))
        urls = self._start_stack()
        self._run_dir = socket_directory(settings.data_dir)
        self._clear_run_dir()
        self._settings = _resolved(with_secrets(settings), urls, self._port.port)
        self._migrate()
        self._writer = Worker("log-writer", self._launch_writer, self._backoff())
        self._writer.start()
        self._await_first([self._writer])
        garbage.freeze()
        self._nodes = [
            Worker(_node_name(index), partial(self._launch_node, index), self._backoff())
            for index in range(settings.nodes)
        ]
        for worker in self._nodes:
            worker.start()
        self._await_first(self._nodes)
        _log.info(
            "server.ready", port=self._port.port, nodes=settings.nodes, seconds=round(time.monotonic() - began, 3)
        )
        self._announce()
        if self._demo:
            self._fill()

    def _fill(self) -> None:
        """In a child, like everything that talks to a server."""
        child = fork("demo", lambda _ready: self._programs.demo(self._settings, self._url), patience=START_TIMEOUT)
        self._others.append(child)
        self._until(lambda: not child.alive)
        if child.status != 0:
            raise StartError(child.reason)

    def _start_stack(self) -> StackUrls:
        settings = self._settings
        self._stack = EmbeddedStack(
            settings.data_dir,
            postgres=settings.database.url is None,
            valkey=settings.redis.url is None,
            nats=settings.nats.url is None,
            janus=not settings.media.janus_urls and has_janus(),
            max_connections=embedded_max_connections(settings),
            max_payload=int(settings.client.max_message_size) + NATS_ENVELOPE,
        )
        with self._signals.interrupting():
            urls = self._stack.start()
        now = time.monotonic()
        self._server_pids = self._stack.pids
        self._servers = {name: _Server(self._backoff(), now) for name in self._stack.names}
        for name, pid in self._server_pids.items():
            _log.info("store.started", process=name, pid=pid)
        return urls

    def _migrate(self) -> None:
        """In a child, because it needs an event loop; what the nodes need is imported meanwhile."""
        child = fork("migration", lambda _ready: self._programs.migrate(self._settings), patience=float("inf"))
        self._others.append(child)
        self._programs.preload(self._settings)
        self._until(lambda: not child.alive)
        if child.status != 0:
            raise StartError(child.reason)

    def _await_first(self, workers: list[Worker]) -> None:
        """Until each is ready. Raises `StartError` when one fails again and again."""

        def settled() -> bool:
            return all(worker.ready for worker in workers) or any(w.failures >= START_ATTEMPTS for w in workers)

        self._until(settled)
        for worker in workers:
            if worker.failures >= START_ATTEMPTS:
                raise StartError(f"{worker.name} cannot start: {worker.reason}")

    def _launch_writer(self) -> Child:
        socket_path = self._run_dir / LOG_SOCKET
        return self._launch("log-writer", lambda ready: self._programs.log_writer(self._settings, socket_path, ready))

    def _launch_node(self, index: int) -> Child:
        assert self._port is not None
        ports = [self._port, *self._own_ports[index : index + 1]]
        settings = self._settings
        incarnation = "".join(secrets.choice(INCARNATION_ALPHABET) for _ in range(8))
        self._incarnations[_node_name(index)] = incarnation

        def main(ready_fd: int) -> None:
            try:
                sockets = tuple(sock for port in ports for sock in port.listen())
            except OSError as error:
                raise StartError(f"a port that this server had is taken: {error.strerror}") from None
            context = NodeContext(
                index=index,
                name=_node_name(index),
                incarnation=incarnation,
                settings=settings,
                sockets=sockets,
                port=ports[-1].port,
                log_socket=self._run_dir / LOG_SOCKET,
                run_dir=self._run_dir,
                ready_fd=ready_fd,
                started_at=time.time(),
            )
            self._programs.node(context)

        return self._launch(_node_name(index), main)

    def _launch(self, name: str, main: Callable[[int], None]) -> Child:
        child = fork(name, main, patience=START_TIMEOUT)
        _log.info("process.started", process=name, pid=child.pid)
        return child

    def _announce(self) -> None:
        """The start for people, on stdout; the logs are on stderr."""
        assert self._port is not None
        assert self._stack is not None
        embedded = ", ".join(self._stack.pids) or "none"
        nodes = ", ".join(f"{w.name} (pid {w.child.pid})" for w in self._nodes if w.child)
        lines = [
            f"Chalkwire {metrics.version()} is ready on {self._url}",
            f"  nodes     {nodes}",
            f"  embedded  {embedded}",
            f"  data      {self._settings.data_dir}",
            "  secrets   token_secret and api_key in the data directory, unless given",
            "  stop      Ctrl-C, or SIGTERM",
        ]
        with suppress(OSError):  # nobody reads it
            print("\n".join(lines), flush=True)

    @property
    def _url(self) -> str:
        """Where someone on this machine reaches the server."""
        assert self._port is not None
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._port.host, self._port.host)  # noqa: S104
        return f"http://[{host}]:{self._port.port}" if ":" in host else f"http://{host}:{self._port.port}"

    # Run

    def _serve(self) -> None:
        while True:
            self._until(lambda: self._signals.reload)
            self._signals.reload = False
            if self._had_terminal and not os.isatty(2):
                _log.warning("server.hangup")  # the terminal is gone: that SIGHUP was its farewell
                return
            self._roll()

    def _until(self, done: Callable[[], bool], timeout: float = float("inf")) -> None:
        """See to everything that happens until `done()`, a signal to stop (when not stopping yet), or `timeout` s."""
        deadline = time.monotonic() + timeout
        while not done() and time.monotonic() < deadline:
            if self._signals.stops and not self._stopping:
                raise Interrupted
            self._step(deadline)

    def _step(self, deadline: float) -> None:
        now = time.monotonic()
        workers = self._workers()
        children = [worker.child for worker in workers if worker.child] + self._others
        waking = [worker.due for worker in workers if worker.due is not None]
        waking += [server.due for server in self._servers.values() if server.due is not None]
        waking += [child.deadline for child in children if not child.ready]
        recovering = any(now - server.started < RECOVERY and server.restarts for server in self._servers.values())
        self._signals.wait(
            min([deadline, now + (BUSY_SLEEP if recovering else SLEEP), *waking]) - now,
            [child.pipe for child in children if child.pipe >= 0 and not child.ready],
        )
        for child in children:
            self._observe(child)
        for worker in workers:
            self._look_after(worker)
        self._others = [child for child in self._others if child.alive]
        if self._stack is not None and not self._stopping:
            self._look_after_servers(self._stack)

    def _observe(self, child: Child) -> None:
        if not child.alive:
            return
        if not child.ready:
            child.listen()
            if child.ready:
                seconds = round(time.monotonic() - child.started, 3)
                _log.info("process.ready", process=child.name, pid=child.pid, seconds=seconds)
                self._write_processes()
            elif time.monotonic() > child.deadline:
                child.signal(signal.SIGKILL)
        if child.poll() is not None:
            tell = _log.info if child.status == 0 or child.ending else _log.error
            tell("process.ended", process=child.name, pid=child.pid, status=child.status, reason=child.reason)

    def _look_after(self, worker: Worker) -> None:
        if self._stopping:
            return
        if worker.child is not None and not worker.child.alive:
            metrics.remove_snapshot(self._run_dir, worker.name)
            pause = worker.ended()
            _log.warning("process.restarting", process=worker.name, seconds=pause)
            self._write_processes()
        if worker.due is not None and worker.due <= time.monotonic():
            worker.restart()

    def _look_after_servers(self, stack: EmbeddedStack) -> None:
        now = time.monotonic()
        for name in stack.poll():
            server = self._servers[name]
            pause = server.backoff.pause(now - server.started)
            server.due = now + pause
            _log.error("store.ended", process=name, reason=stack.reason(name))
            _log.warning("process.restarting", process=name, seconds=pause)
        for name, server in self._servers.items():
            if server.due is not None and server.due <= now:
                server.due = None
                server.restarts += 1
                server.started = now
                stack.restart(name)  # which goes on in poll()
        if (pids := stack.pids) != self._server_pids:
            for name in pids.keys() - self._server_pids.keys():
                _log.info("store.started", process=name, pid=pids[name])
            self._server_pids = pids
            self._write_processes()

    # Reload

    def _roll(self) -> None:
        """Replace the nodes one by one: a new one serves before the old one is told to drain.

        A setting that a node cannot start with costs nothing: the old nodes stay, with the old settings.
        """
        previous = self._settings
        try:
            given = self._reload()
            self._settings, fixed = _refreshed(self._given, previous, with_secrets(given))
        except SettingsError as error:
            _log.error("reload.refused", reason=str(error))
            return
        logs.configure(self._settings.log.level, node="supervisor")
        if fixed:
            _log.warning("reload.needs_restart", settings=fixed)
        for index, worker in enumerate(self._nodes):
            fresh = self._launch_node(index)
            self._others.append(fresh)
            self._until(partial(_settled, fresh))
            if not fresh.alive:
                self._settings = previous
                _log.error("reload.failed", process=worker.name, reason=fresh.reason)
                return
            self._others.remove(fresh)
            old, worker.child, worker.due = worker.child, fresh, None
            worker.restarts += 1
            self._write_processes()
            if old is not None:
                self._others.append(old)
                self._end([old], self._settings.drain.cap + DRAIN_MARGIN)
        _log.info("reload.done", nodes=len(self._nodes))

    # Stop

    def _stop(self) -> None:
        """Nodes first, while what they need is there; then the log writer; then the stores."""
        self._stopping = True
        workers = [*self._nodes, *([self._writer] if self._writer else [])]
        if workers:
            _log.info("server.stopping")
        nodes = [worker.child for worker in self._nodes if worker.child]
        nodes += self._others
        self._end(nodes, self._settings.drain.cap + DRAIN_MARGIN)
        if self._writer is not None and self._writer.child is not None:
            self._end([self._writer.child], WRITER_STOP_TIMEOUT)
        if self._stack is not None:
            self._stack.stop()
        for port in [*([self._port] if self._port else []), *self._own_ports]:
            port.close()
        if self._run_dir != Path():
            self._clear_run_dir()
        if workers:
            _log.info("server.stopped")

    def _end(self, children: list[Child], timeout: float) -> None:
        """SIGTERM, then SIGKILL after `timeout` seconds, or at once when the second signal to stop comes."""

        def ended() -> bool:
            return not any(child.alive for child in children)

        for child in children:
            child.signal(signal.SIGTERM)
        self._until(lambda: ended() or self._signals.stops > 1, timeout)
        for child in children:
            if child.alive:
                _log.warning("process.killed", process=child.name, pid=child.pid)
                child.signal(signal.SIGKILL)
        self._until(ended)

    def _workers(self) -> list[Worker]:
        return [*([self._writer] if self._writer else []), *self._nodes]

    def _write_processes(self) -> None:
        """What `chalkwire nodes` reads. A full disk must not stop the server: the old list then stays."""
        assert self._stack is not None
        nodes = [
            described(
                worker.child.pid,
                name=worker.name,
                port=self._node_port(index),
                restarts=worker.restarts,
                incarnation=self._incarnations[worker.name],
            )
            for index, worker in enumerate(self._nodes)
            if worker.ready and worker.child
        ]
        others = [
            described(worker.child.pid, name=worker.name, restarts=worker.restarts)
            for worker in ([self._writer] if self._writer else [])
            if worker.child
        ]
        others += [
            described(pid, name=name, restarts=self._servers[name].restarts) for name, pid in self._server_pids.items()
        ]
        try:
            write_processes(
                self._run_dir,
                {
                    "supervisor": described(os.getpid(), name="supervisor"),
                    "url": self._url,
                    "nodes": nodes,
                    "others": others,
                },
            )
            restarts = {process["name"]: process["restarts"] for process in (*nodes, *others)}
            metrics.write_snapshot(
                self._run_dir / "metrics" / f"{metrics.SUPERVISOR}.prom", metrics.restart_families(restarts)
            )
        except OSError as error:
            _log.error("processes.unwritable", reason=str(error))

    def _node_port(self, index: int) -> int:
        assert self._port is not None
        return self._own_ports[index].port if self._own_ports else self._port.port

    def _clear_run_dir(self) -> None:
        for path in [self._run_dir / NODES, self._run_dir / LOG_SOCKET, *(self._run_dir / "metrics").glob("*")]:
            path.unlink(missing_ok=True)


def _node_name(index: int) -> str:
    return f"node-{index + 1}"


def _settled(child: Child) -> bool:
    return child.ready or not child.alive


def _resolved(settings: Settings, urls: StackUrls, port: int) -> Settings:
    """With what is known only after the start: where the stores are, and which port a port of 0 became."""
    return settings.model_copy(
        update={
            "http": settings.http.model_copy(update={"port": port}),
            "database": settings.database.model_copy(update={"url": settings.database.url or urls.database}),
            "redis": settings.redis.model_copy(update={"url": settings.redis.url or urls.redis}),
            "nats": settings.nats.model_copy(update={"url": settings.nats.url or urls.nats}),
            "media": settings.media.model_copy(
                update={"janus_urls": settings.media.janus_urls or ((urls.janus,) if urls.janus else ())}
            ),
        }
    )


def _refreshed(given: Settings, running: Settings, fresh: Settings) -> tuple[Settings, list[str]]:
    """`fresh` with the running values of what cannot change, and the names of those that were meant to."""
    wanted = [".".join(path) for path in FIXED if _at(fresh, path) != _at(given, path)]
    for path in FIXED:
        fresh = _replaced(fresh, path, _at(running, path))
    return fresh, wanted


def _at(settings: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        settings = getattr(settings, name)
    return settings


def _replaced(settings: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    inner = _replaced(getattr(settings, name), tuple(rest), value) if rest else value
    return settings.model_copy(update={name: inner})
