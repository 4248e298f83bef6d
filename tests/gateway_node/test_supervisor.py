"""The supervisor, in a process of its own, with stand-ins for what it runs (`standin.py`)."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest

from config.embedded import has_janus
from config.embedded.process import start_time
from gateway_node.process_list import read_processes

pytestmark = pytest.mark.chaos

DEADLINE = 30.0  # seconds, for what takes milliseconds

# Addresses that nothing connects to: the stand-ins use no stores.
EXTERNAL = """
[database]
url = "postgresql://nobody@127.0.0.1:1/none"
[redis]
url = "redis://127.0.0.1:1"
[nats]
url = "nats://127.0.0.1:1"
"""

T = TypeVar("T")


def until(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + DEADLINE
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.01)
    return found


def ask(port: int) -> str:
    """Who answers on the port: name, pid, incarnation, channel limit."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        return connection.recv(200).decode()


def alive(pid: int) -> bool:
    return start_time(pid) != ""


def another(process: dict[str, Any] | None, pid: int) -> dict[str, Any] | None:
    """`process`, when it runs and is not `pid`."""
    return process if process is not None and process["pid"] != pid and alive(process["pid"]) else None


class Server:
    """A supervisor's process and what it has said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "chalkwire.toml"
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, *, nodes: int = 2, channel_limit: int = 128, port: int = 0, cap: float = 20) -> None:
        self.config.write_text(
            f'nodes = {nodes}\ndata_dir = "{self.data_dir}"\n[http]\nport = {port}\n[client]\n'
            f"channel_limit = {channel_limit}\n[drain]\nwindow = 0\ncap = {cap}\n{EXTERNAL}"
        )

    def launch(self, **popen: Any) -> Server:
        with (self.folder / "out").open("wb") as out, (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.gateway_node.standin", self.folder, self.config],
                **{"stdout": out, "stderr": log, **popen},
            )
        return self

    def start(self) -> Server:
        self.launch()
        until(lambda: "is ready on" in self.out or self.pid_ended, "the start")
        assert not self.pid_ended, self.log
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def pid_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def events(self) -> list[str]:
        return (self.folder / "events").read_text().split("\n")[:-1]

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    @property
    def port(self) -> int:
        return int(self.out.split("is ready on http://127.0.0.1:")[1].split()[0])

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        processes = read_processes(self.data_dir)
        return {node["name"]: node for node in processes["nodes"]} if processes else {}

    @property
    def others(self) -> dict[str, dict[str, Any]]:
        processes = read_processes(self.data_dir)
        return {other["name"]: other for other in processes["others"]} if processes else {}

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE)

    def replaced(self, name: str, pid: int) -> dict[str, Any]:
        """The node of that name, once it is another process than `pid`."""
        return until(lambda: another(self.nodes.get(name), pid), f"{name} to come back")


@pytest.fixture
def server() -> Iterator[Server]:
    with TemporaryDirectory(prefix="cw-") as folder:
        server = Server(Path(folder))
        server.configure()
        yield server
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def test_every_node_serves_the_shared_port_and_its_own(server: Server) -> None:
    base = free_ports(2)
    server.configure(nodes=2)
    server.config.write_text(server.config.read_text().replace("[http]", f"[http]\nnode_port_base = {base}"))
    server.start()
    assert server.events[:3] == ["migrated", "preloaded", "log-writer ready"] or server.events[:3] == [
        "preloaded",
        "migrated",
        "log-writer ready",
    ]
    assert [(node["name"], node["port"]) for node in server.nodes.values()] == [("node-1", base), ("node-2", base + 1)]
    for name, node in server.nodes.items():
        assert ask(node["port"]).split()[:2] == [name, str(node["pid"])]
    until(lambda: {ask(server.port).split()[0] for _ in range(20)} == {"node-1", "node-2"}, "both on one port")
    assert len({ask(node["port"]).split()[2] for node in server.nodes.values()}) == 2  # incarnations


def free_ports(count: int) -> int:
    """The first of `count` free ports in a row."""
    while True:
        with ExitStack() as held:
            try:
                first = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                for port in range(first + 1, first + count):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue
            return int(first)


def test_a_stop_drains_the_nodes_before_what_they_need_ends(server: Server) -> None:
    (server.folder / "together").touch()  # they are told at once, not one after the other
    server.start()
    pids = [process["pid"] for process in (*server.nodes.values(), *server.others.values())]
    run_dir = server.data_dir / "run"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    *nodes, last = [event for event in server.events if event.endswith("ended")]
    assert sorted(nodes) == ["node-1 ended", "node-2 ended"]
    assert last == "log-writer ended"
    assert not server.logged("process.killed")
    assert not any(map(alive, pids))
    assert not (run_dir / "nodes.json").exists()
    assert not list((run_dir / "metrics").glob("*.prom"))


def test_a_node_that_does_not_end_is_killed_after_the_cap(server: Server) -> None:
    (server.folder / "deaf").touch()
    server.configure(cap=0.1)
    server.start()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert {line["process"] for line in server.logged("process.killed")} >= {"node-1", "node-2"}


def test_a_second_ctrl_c_does_not_wait_for_the_drain(server: Server) -> None:
    (server.folder / "deaf").touch()
    server.configure(cap=600)
    server.start()
    server.signal(signal.SIGINT)
    until(lambda: server.logged("server.stopping"), "the stop")
    server.signal(signal.SIGINT)
    assert server.wait() == 0


def test_a_dead_node_comes_back_and_the_others_stay(server: Server) -> None:
    server.start()
    before = server.nodes
    os.kill(before["node-1"]["pid"], signal.SIGKILL)
    fresh = server.replaced("node-1", before["node-1"]["pid"])
    assert fresh["restarts"] == 1
    assert server.nodes["node-2"] == before["node-2"]
    assert server.logged("process.ended")[-1]["reason"] == "node-1 was ended by SIGKILL"


def test_its_metrics_go_with_a_dead_node(server: Server) -> None:
    server.start()
    snapshot = server.data_dir / "run" / "metrics" / "node-1.prom"
    assert snapshot.exists()
    (server.folder / "refuse").touch()  # so that no successor writes it anew
    os.kill(server.nodes["node-1"]["pid"], signal.SIGKILL)
    until(lambda: not snapshot.exists(), "the snapshot's end")


def test_a_dead_log_writer_comes_back(server: Server) -> None:
    server.start()
    pid = server.others["log-writer"]["pid"]
    os.kill(pid, signal.SIGKILL)
    fresh = until(
        lambda: (found := server.others.get("log-writer")) and found["pid"] != pid and found, "the log writer"
    )
    assert fresh["restarts"] == 1


def test_restarts_come_at_growing_intervals_and_never_end(server: Server) -> None:
    server.start()
    (server.folder / "refuse").touch()
    os.kill(server.nodes["node-1"]["pid"], signal.SIGKILL)
    until(lambda: len(server.logged("process.restarting")) >= 5, "five attempts")
    assert [line["seconds"] for line in server.logged("process.restarting")][:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert ask(server.port).startswith("node-2")
    (server.folder / "refuse").unlink()
    server.replaced("node-1", 0)


def test_a_node_that_can_never_start_stops_the_start_with_its_reason(server: Server) -> None:
    (server.folder / "refuse").touch()
    server.launch()
    assert server.wait() == 1
    sentence = [line for line in server.log.splitlines() if not line.startswith("{")]
    assert len(sentence) == 1
    assert sentence[0].startswith("chalkwire: node-")
    assert sentence[0].endswith("cannot start: the stand-in was told to refuse.")
    assert "Traceback" not in server.log


def test_a_failed_migration_stops_the_start_with_its_reason(server: Server) -> None:
    (server.folder / "unmigratable").touch()
    server.launch()
    assert server.wait() == 1
    assert "chalkwire: the database is of a later version.\n" in server.log
    assert "log-writer ready" not in (server.folder / "events").read_text()


@pytest.mark.parametrize("shared", [False, True])
def test_a_used_port_stops_the_start_with_a_sentence(server: Server, shared: bool) -> None:
    with socket.socket() as occupant:
        if shared:  # with SO_REUSEPORT on both sides the kernel would not mind
            occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        server.configure(port=occupant.getsockname()[1])
        server.launch()
        assert server.wait() == 1
        port = occupant.getsockname()[1]
        assert f"chalkwire: Port {port} on 127.0.0.1 is in use: stop the program" in server.log


def test_a_second_server_on_the_same_data_is_refused_and_the_first_is_unharmed(server: Server) -> None:
    server.start()
    second = subprocess.run(
        [sys.executable, "-m", "tests.gateway_node.standin", server.folder, server.config],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert second.returncode == 1
    assert f"chalkwire: {server.data_dir} is in use by process {server.pid}" in second.stderr
    assert len(server.nodes) == 2
    assert ask(server.port)


def test_sighup_replaces_each_node_with_fresh_settings_while_the_port_is_served(server: Server) -> None:
    server.configure(nodes=1)
    server.start()
    pid = server.nodes["node-1"]["pid"]
    assert ask(server.port).split()[3] == "128"
    server.configure(nodes=1, channel_limit=7)
    server.signal(signal.SIGHUP)
    while not server.logged("reload.done"):
        # Never refused. A reset is possible: what a closing socket has queued goes with it (net.ipv4.tcp_migrate_req).
        with suppress(ConnectionResetError):
            socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE).close()
    assert ask(server.port).split()[3] == "7"
    assert server.nodes["node-1"]["restarts"] == 1
    assert not alive(pid)
    assert server.events[-2:] == ["node-1 draining", "node-1 ended"]
    assert server.events[-3] == "node-1 ready"  # the successor, before


def test_sighup_with_wrong_settings_keeps_the_old_ones(server: Server) -> None:
    server.start()
    before = server.nodes
    server.config.write_text("nodes = 0\n")
    server.signal(signal.SIGHUP)
    refused = until(lambda: server.logged("reload.refused"), "the refusal")
    assert "nodes" in refused[0]["reason"]
    assert server.nodes == before


def test_sighup_with_settings_that_no_node_starts_with_keeps_the_old_nodes(server: Server) -> None:
    server.start()
    before = server.nodes
    server.configure(channel_limit=13)  # the stand-in refuses it
    server.signal(signal.SIGHUP)
    failed = until(lambda: server.logged("reload.failed"), "the failure")
    assert failed[0]["reason"] == "the stand-in was told to refuse."
    assert server.nodes == before
    os.kill(before["node-1"]["pid"], signal.SIGKILL)  # its successor has the old settings
    server.replaced("node-1", before["node-1"]["pid"])
    assert ask(server.port).split()[3] == "128"


def test_sighup_says_which_settings_need_a_restart(server: Server) -> None:
    server.start()
    server.configure(nodes=3, channel_limit=9)
    server.signal(signal.SIGHUP)
    until(lambda: server.logged("reload.done"), "the reload")
    assert server.logged("reload.needs_restart")[0]["settings"] == ["nodes"]
    assert len(server.nodes) == 2
    assert {ask(server.port).split()[3] for _ in range(5)} == {"9"}


def test_kill_9_leaves_no_orphan_and_the_next_start_works(server: Server) -> None:
    server.start()
    pids = [process["pid"] for process in (*server.nodes.values(), *server.others.values())]
    assert len(pids) == 3 + has_janus()
    (server.folder / "deaf").touch()  # for the next: it does not matter, the end is SIGKILL
    server.signal(signal.SIGKILL)
    server.wait()
    until(lambda: not any(map(alive, pids)), "the children's end")
    assert server.nodes == {}
    (server.folder / "deaf").unlink()
    server.start()


def test_a_signal_of_the_terminal_reaches_only_the_supervisor(server: Server) -> None:
    server.start()
    sessions = {os.getsid(node["pid"]) for node in server.nodes.values()}
    assert os.getsid(server.pid) not in sessions


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_children_hold_nothing_of_the_supervisors(server: Server) -> None:
    """Neither the lock of the data directory nor a reservation of the port."""
    server.start()
    held = Path(f"/proc/{server.nodes['node-1']['pid']}/fd")
    targets = [str(number.readlink()) for number in held.iterdir()]
    assert sum(target.startswith("socket:") for target in targets) == 1
    assert not any("lock" in target for target in targets)


def test_closing_the_terminal_stops_the_server(server: Server) -> None:
    controller, terminal = pty.openpty()
    server.launch(stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    shown = b""
    while b"is ready on" not in shown:
        shown += os.read(controller, 4096)
    os.close(controller)  # the kernel sends SIGHUP only to a session that has it as its terminal
    server.signal(signal.SIGHUP)
    assert server.wait() == 0
