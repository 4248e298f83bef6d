"""The command line, as processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.embedded.process import start_time
from config.secrets import with_secrets
from config.sections import Settings
from gateway_node.tokens import TokenVerifier
from tests.stack import short_folder

DEADLINE = 60.0  # seconds, for what takes a few
PROCESSES = {"node-1", "node-2", "supervisor", "log-writer", "postgres", "valkey", "nats"}
PROCESSES |= {"janus"} if shutil.which("janus") else set()

Done = subprocess.CompletedProcess[str]


def chalkwire(
    *arguments: str | Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALKWIRE_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway_node", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=clean | (env or {}),
        check=False,
    )


def sentence(done: Done, status: int) -> str:
    """What a command that failed says: no traceback, nothing on stdout."""
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_help_names_every_command_and_imports_little() -> None:
    done = chalkwire("--help")
    assert done.returncode == 0
    for command in ("serve", "nodes", "migrate", "token", "user", "doctor", "config"):
        assert f"  {command} " in done.stdout
    loaded = subprocess.run(
        [sys.executable, "-c", "import gateway_node.cli, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"pydantic", "asyncpg", "litestar", "uvloop", "nats", "redis", "structlog"} & set(loaded)


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--no-such-option"),
        ("serve", "--nodes", "many"),
        ("token",),
        ("token", "--user", "5", "--ttl", "-1"),
        ("token", "--user", "5", "--channel", "news", "--role", "admin"),
        ("user", "add", "not an address"),
        ("nosuch",),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    sentence(chalkwire(*arguments, env={"CHALKWIRE_DATA_DIR": str(tmp_path / "data")}), 2)


@pytest.mark.parametrize("command", [("serve",), ("nodes",), ("migrate",), ("token", "--user", "5"), ("config",)])
def test_a_wrong_setting_is_status_2_and_named(command: tuple[str, ...], tmp_path: Path) -> None:
    env = {"CHALKWIRE_DATA_DIR": str(tmp_path / "data"), "CHALKWIRE_HTTP__PORT": "eighty"}
    said = sentence(chalkwire(*command, env=env), 2)
    assert "CHALKWIRE_HTTP__PORT" in said
    assert "eighty" in said
    assert not (tmp_path / "data").exists()


def test_an_option_of_serve_is_checked_like_its_setting(tmp_path: Path) -> None:
    assert "nodes" in sentence(chalkwire("serve", "--nodes", "0", "--data-dir", tmp_path), 2)
    assert "roles" in sentence(chalkwire("serve", "--roles", "cook", "--data-dir", tmp_path), 2)


def test_a_config_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    assert "absent.toml" in sentence(chalkwire("config", "--config", tmp_path / "absent.toml"), 2)


def test_config_prints_what_holds_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "chalkwire.toml"
    file.write_text('nodes = 3\n[database]\nurl = "postgresql://me:hush-hush@db/chalk"\n')
    env = {"CHALKWIRE_TOKEN__HMAC_SECRET": "0123456789abcdef-hush-hush-0123456789", "CHALKWIRE_HTTP__PORT": "8123"}
    done = chalkwire("config", "--config", file, env=env)
    shown = tomllib.loads(done.stdout)
    assert (shown["nodes"], shown["http"]["port"]) == (3, 8123)
    assert "hush" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "--user", "5"),
        ("user", "list"),
        ("user", "add", "ada@example.org"),
        ("user", "disable", "ada@example.org"),
        ("user", "enable", "ada@example.org"),
        ("user", "role", "ada@example.org", "admin"),
    ],
)
def test_a_command_in_another_folder_than_the_servers_says_so_and_makes_nothing(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = chalkwire(*arguments, stdin="correct horse\n", env={"CHALKWIRE_DATA_DIR": str(tmp_path / "data")})
    said = sentence(done, 1)
    assert f"There is no server's data in {tmp_path / 'data'}." in said
    assert "--data-dir" in said
    assert list(tmp_path.iterdir()) == []


def test_a_token_by_a_given_secret_needs_no_data(tmp_path: Path) -> None:
    secret = "0123456789abcdef-hush-hush-0123456789"
    env = {"CHALKWIRE_TOKEN__HMAC_SECRET": secret, "CHALKWIRE_DATA_DIR": str(tmp_path / "data")}
    made = chalkwire("token", "--user", "42", env=env).stdout.strip()
    assert TokenVerifier(secret).connection(made).user == "42"
    assert list(tmp_path.iterdir()) == []


def secret_in(folder: Path) -> str:
    """As a server has made it there."""
    return str(with_secrets(Settings(data_dir=folder)).token.hmac_secret)


def test_tokens_are_made_without_a_server_and_with_its_secret(tmp_path: Path) -> None:
    secret = secret_in(tmp_path)
    connection = chalkwire("token", "--user", "42", "--role", "teacher", "--data-dir", tmp_path).stdout.strip()
    subscription = chalkwire("token", "--user", "42", "--channel", "news", "--data-dir", tmp_path).stdout.strip()
    verifier = TokenVerifier(secret)
    identity = verifier.connection(connection)
    assert (identity.user, identity.role) == ("42", "teacher")
    assert 0 < identity.expires_at - time.time() <= 3600
    assert verifier.subscription(subscription, identity, "news").expires_at > time.time()


def test_a_token_for_ever(tmp_path: Path) -> None:
    secret = secret_in(tmp_path)
    made = chalkwire("token", "--user", "42", "--ttl", "0", "--data-dir", tmp_path).stdout.strip()
    assert TokenVerifier(secret).connection(made).expires_at == 0


def test_no_nodes_without_a_server(tmp_path: Path) -> None:
    assert f"No server runs on {tmp_path}" in sentence(chalkwire("nodes", "--json", "--data-dir", tmp_path), 1)


def test_stores_that_are_away_are_a_sentence(tmp_path: Path) -> None:
    env = {"CHALKWIRE_DATABASE__URL": "postgresql://me:hush@127.0.0.1:1/none", "CHALKWIRE_DATA_DIR": str(tmp_path)}
    for command in (("migrate",), ("user", "list"), ("user", "disable", "a@example.org")):
        said = sentence(chalkwire(*command, env=env), 1)
        assert said.startswith("chalkwire: ")
        assert "hush" not in said


def test_doctor_names_what_fails_and_goes_on(tmp_path: Path) -> None:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        env = {
            "CHALKWIRE_DATA_DIR": str(tmp_path / "data"),
            "CHALKWIRE_HTTP__PORT": str(occupant.getsockname()[1]),
            "CHALKWIRE_DATABASE__URL": "postgresql://me:hush@127.0.0.1:1/none",
            "CHALKWIRE_REDIS__URL": "redis://127.0.0.1:1",
            "CHALKWIRE_NATS__URL": "nats://127.0.0.1:1",
        }
        done = chalkwire("doctor", env=env)
    assert done.returncode == 1
    found = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert {name for name, status in found.items() if status == "fail"} == {"port", "postgresql", "redis", "nats"}
    assert found["versions"] == "ok"
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stdout + done.stderr


@pytest.mark.integration
def test_doctor_tries_the_embedded_servers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = chalkwire("doctor", env={"CHALKWIRE_DATA_DIR": str(tmp_path / "data"), "CHALKWIRE_HTTP__PORT": "0"})
    assert done.returncode == 0, done
    for store in ("postgresql", "redis", "nats"):
        assert f"ok    {store}" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.integration
def test_users_without_a_server(tmp_path: Path) -> None:
    with short_folder() as folder:
        env = {"CHALKWIRE_DATA_DIR": str(folder / "data")}
        assert "applied" in chalkwire("migrate", env=env).stdout
        assert "up to date" in chalkwire("migrate", env=env).stdout
        added = chalkwire("user", "add", "ada@example.org", "--role", "teacher", stdin="correct horse\n", env=env)
        assert "already" in sentence(chalkwire("user", "add", "Ada@example.org", stdin="correct horse\n", env=env), 1)
        assert "8 characters" in sentence(chalkwire("user", "add", "bob@example.org", stdin="short\n", env=env), 2)
        assert chalkwire("user", "disable", "ada@example.org", env=env).returncode == 0
        assert "no user" in sentence(chalkwire("user", "disable", "nobody@example.org", env=env), 1)
        (user,) = [json.loads(line) for line in chalkwire("user", "list", "--json", env=env).stdout.splitlines()]
        assert user["id"] == added.stdout.strip()
        assert (user["email"], user["role"], bool(user["disabled_at"])) == ("ada@example.org", "teacher", True)
        assert "is enabled" in chalkwire("user", "enable", "Ada@example.org", env=env).stdout
        assert "is admin" in chalkwire("user", "role", "ada@example.org", "admin", env=env).stdout
        (user,) = [json.loads(line) for line in chalkwire("user", "list", "--json", env=env).stdout.splitlines()]
        assert (user["role"], user["disabled_at"]) == ("admin", None)
        assert "last admin" in sentence(chalkwire("user", "role", "ada@example.org", "student", env=env), 1)
        assert "no user" in sentence(chalkwire("user", "role", "nobody@example.org", "admin", env=env), 1)
        assert "is no role: student" in sentence(chalkwire("user", "role", "ada@example.org", "boss", env=env), 2)


class Served:
    """`chalkwire serve` on the embedded stack."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "log"
        self.env = {"CHALKWIRE_DATA_DIR": str(self.data_dir), "CHALKWIRE_HTTP__PORT": "0"}
        self.start()

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway_node", "serve", "--nodes", "2"],
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | self.env,
            )
        assert self.process.stdout is not None
        banner = self.process.stdout.readline().decode()
        assert "is ready on http://127.0.0.1:" in banner, self.log.read_text()
        self.url = banner.split()[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def processes(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(chalkwire("nodes", "--all", "--json", env=self.env).stdout)
        return listed


@pytest.fixture
def served() -> Iterator[Served]:
    with short_folder() as folder:
        served = Served(folder)
        yield served
        if served.process.poll() is None:
            served.stop()


@pytest.mark.integration
def test_a_served_stack_is_ready_and_the_commands_use_it(served: Served) -> None:
    with urllib.request.urlopen(f"{served.url}/health/ready") as answer:
        assert json.load(answer)["status"] == "ready"
    names = {process["name"] for process in served.processes()}
    assert names == PROCESSES
    nodes = json.loads(chalkwire("nodes", "--json", env=served.env).stdout)
    assert [node["name"] for node in nodes] == ["node-1", "node-2"]
    assert all({"name", "pid", "port"} <= node.keys() for node in nodes)
    assert "up to date" in chalkwire("migrate", env=served.env).stdout
    assert chalkwire("user", "add", "ada@example.org", stdin="correct horse\n", env=served.env).returncode == 0
    assert chalkwire("user", "disable", "ada@example.org", env=served.env).stdout == "ada@example.org is disabled.\n"
    assert chalkwire("doctor", env=served.env).returncode == 0
    refused = chalkwire("serve", "--port", "0", "--data-dir", served.data_dir)
    assert f"in use by process {served.process.pid}" in sentence(refused, 1)
    with urllib.request.urlopen(f"{served.url}/metrics") as answer:
        assert b'chalkwire_connections{node="node-1"}' in answer.read()
    assert served.stop() == 0
    assert "No server runs" in chalkwire("nodes", env=served.env).stderr


@pytest.mark.chaos
def test_kill_9_takes_the_stores_along_and_the_next_start_works(served: Served) -> None:
    pids = [process["pid"] for process in served.processes()]
    assert len(pids) == len(PROCESSES)
    served.stop(signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while any(start_time(pid) for pid in pids):
        assert time.monotonic() < deadline, "an orphan"
        time.sleep(0.01)
    served.start()
    assert len(served.processes()) == len(PROCESSES)


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["postgres", "valkey", "nats"])
def test_a_dead_store_comes_back_under_the_same_nodes(served: Served, name: str) -> None:
    before = {process["name"]: process for process in served.processes()}
    os.kill(before[name]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    while True:
        after = {process["name"]: process for process in served.processes()}
        if name in after and after[name]["pid"] != before[name]["pid"]:
            break
        assert time.monotonic() < deadline, f"{name} did not come back"
    assert after[name]["restarts"] >= 1
    assert after["node-1"]["pid"] == before["node-1"]["pid"]
    while True:
        try:
            with urllib.request.urlopen(f"{served.url}/health/ready") as answer:
                if json.load(answer)["status"] == "ready":
                    break
        except urllib.error.HTTPError as error:
            assert error.code == 503
        assert time.monotonic() < deadline, f"not ready again after {name}'s end"
        time.sleep(0.05)


def test_a_role_that_is_none_is_refused() -> None:
    refused = chalkwire("user", "add", "ada@example.org", "--role", "headmaster", stdin="correct horse\n")
    assert "'headmaster' is no role: student, teacher, assistant, admin." in sentence(refused, 2)
