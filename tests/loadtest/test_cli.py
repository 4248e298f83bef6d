"""`chalkwire loadtest` as people call it: every scenario against a real server, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.report import model
from loadtest.run import OWN_SETTINGS
from loadtest.server import Server

pytestmark = pytest.mark.integration

SMALL = {
    "connect": ["--connections", "60", "--members", "20", "--hold", "0.2"],
    "broadcast": ["--readers", "30", "--rate", "100", "--burst", "5", "--seconds", "1"],
    "rooms": ["--rooms", "5", "--members", "6", "--rate", "100", "--seconds", "1"],
    "durable": ["--publishers", "10", "--in-flight", "4", "--seconds", "0.5"],
    "storm": ["--connections", "60", "--members", "20", "--rate", "100", "--seconds", "2"],
    "slow": ["--readers", "20", "--stall", "1", "--rate", "50"],
    "churn": ["--connections", "40", "--members", "10", "--leaves", "20", "--seconds", "1"],
    "mix": ["--connections", "30", "--members", "10", "--requests", "60", "--seconds", "2"],
}
PLAN = """
name = "monday"
clients = 40

[[channels]]
prefix = "chat:monday-"
size = 10

[[phases]]
name = "arrive"
activities = [{ do = "open" }]

[[phases]]
name = "talk"
activities = [
  { do = "publish", publishers = 0, rate = 100, seconds = 1 },
  { do = "cut", share = 0.5, after = 0.3, back_within = 0.3 },
]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("load") / "data", settings=OWN_SETTINGS) as running:
        yield running


def loadtest(server: Server | None, *words: str, files: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with a limit of open files if there is one."""
    return subprocess.run(
        command(*words),
        env=server.environment if server else None,
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))) if files else None,
    )


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "gateway_node", "loadtest", *words]


def on(server: Server) -> list[str]:
    return ["--data-dir", str(server.data_dir)]


@pytest.mark.parametrize("scenario", SMALL)
def test_every_scenario_balances_and_its_report_verifies(server: Server, tmp_path: Path, scenario: str) -> None:
    ran = loadtest(
        server, scenario, *SMALL[scenario], *on(server), "--channel", f"chat:{scenario}", "--out", str(tmp_path)
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = model.read(tmp_path / "report.json")
    assert report.ledger.clean
    assert report.counts["published"] == report.counts["acknowledged"] > 0
    stored = sum(channel.stored for channel in report.ledger.channels)
    assert stored == report.counts["acknowledged"], "the history was not read"
    assert report.facts["server_cpu_seconds"] > 0
    assert (report.server["fsync"], report.server["synchronous_commit"]) == ("on", "on")
    assert b"<svg" in (tmp_path / "report.html").read_bytes()
    verified = loadtest(None, "verify", str(tmp_path / "report.json"))
    missed = [line for line in verified.stdout.splitlines() if not line.startswith("budget:")]
    assert verified.returncode in (0, 1)
    assert not [line for line in missed if line.startswith(("ledger:", "counts:", "latency:", "facts:", "fault:"))], (
        missed
    )


def test_a_plan_of_ones_own(server: Server, tmp_path: Path) -> None:
    plan = tmp_path / "monday.toml"
    plan.write_text(PLAN)
    ran = loadtest(server, "run", str(plan), *on(server), "--out", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    report = model.read(tmp_path / "out" / "report.json")
    # Everybody publishes, so nobody may be cut off without being told so.
    assert (report.scenario, report.counts["published"], report.counts.get("cut", 0)) == ("monday", 100, 0)
    compared = loadtest(None, "compare", *[str(tmp_path / "out" / "report.json")] * 2)
    assert compared.returncode == 0
    assert "acknowledged" in compared.stdout


def test_ctrl_c_leaves_a_report_that_says_it_is_not_whole(server: Server, tmp_path: Path) -> None:
    words = ["rooms", "--rooms", "2", "--members", "5", "--rate", "50", "--seconds", "60", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command(*words, *on(server)),
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    shown = ""
    for line in process.stdout:  # the live view, a line every few seconds
        shown += line
        if "published" in line:
            process.send_signal(signal.SIGINT)
            break
    shown += process.communicate(timeout=60)[0]
    assert process.returncode == 130, shown
    report = model.read(tmp_path / "report.json")
    assert "talk" in report.partial
    assert report.ledger.clean, report.ledger.faults
    assert report.counts["acknowledged"] > 0
    verified = loadtest(None, "verify", str(tmp_path / "report.json"))
    assert verified.returncode == 1
    assert "partial:" in verified.stdout


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"ws://127.0.0.1:{unused.getsockname()[1]}"
        ran = loadtest(None, "connect", "--target", target, "--out", str(tmp_path))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Nothing listens on 127.0.0.1" in ran.stderr
    assert "--target" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target", "{ws}"], "wants a token"),
        (["--target", "{ws}", "--secret", "x" * 40], "does not accept the token"),
        (["--target", "{ws}", "--token", "rubbish"], "does not accept the token"),
        (["--target", "{http}/health/live"], "is no WebSocket"),
        (
            ["--target", "{ws}", "--secret", "{secret}", "--channel", "nowhere:x"],
            "does not let a client into nowhere:x",
        ),
        (["--target", "192.0.2.1:80"], "--i-own-this-server"),
        (["--target", "ftp://127.0.0.1"], "is no address"),
        (["--target", "wss://127.0.0.1"], "TLS"),
        (["--target", "no-such-host.invalid:80"], "cannot be resolved"),
        (["--serve", "1", "--setting", "nonsense"], "NAME=VALUE"),
        (["--setting", "A=B", "--target", "{ws}"], "--serve"),
        (["--connections", "0"], "--connections"),
        (["--conections", "5"], "No such option"),
    ],
)
def test_what_cannot_begin_says_why(server: Server, tmp_path: Path, words: list[str], said: str) -> None:
    known = {"ws": server.url("").replace("http", "ws"), "http": server.url(""), "secret": server.secret}
    ran = loadtest(None, "connect", *(word.format(**known) for word in words), "--out", str(tmp_path))
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert said in " ".join(ran.stderr.split())
    assert not (tmp_path / "report.json").exists()


def test_too_few_files(server: Server, tmp_path: Path) -> None:
    words = ["connect", "--connections", "500", "--workers", "1", *on(server), "--out", str(tmp_path)]
    ran = loadtest(server, *words, files=300)
    assert ran.returncode == 2
    assert "--workers 3" in ran.stderr
    assert "ulimit -n" in ran.stderr


def test_without_a_server_it_says_how_to_have_one(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHALKWIRE_")}
    words = command("connect", "--data-dir", str(tmp_path / "none"))
    ran = subprocess.run(words, env=clean, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2
    assert "--serve 2" in ran.stderr


def test_the_command_in_a_report_has_no_secrets(server: Server, tmp_path: Path) -> None:
    target = server.url("").replace("http", "ws")
    words = ["connect", "--connections", "3", "--hold", "0", "--target", target, "--secret", server.secret]
    ran = loadtest(None, *words, "--out", str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert server.secret not in (tmp_path / "report.json").read_text()
    assert "--secret" in json.loads((tmp_path / "report.json").read_text())["command"]


@pytest.mark.parametrize("content", ["[]", "{}", "not json", '{"format": 99}'])
def test_what_is_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    ran = loadtest(None, "verify", str(tmp_path / "report.json"))
    assert ran.returncode == 2
    assert "report.json" in ran.stderr


def test_requests_that_fail_are_counted_and_a_mix_needs_the_folder(server: Server, tmp_path: Path) -> None:
    plan = tmp_path / "requests.toml"
    plan.write_text(
        'name = "asking"\nclients = 4\n'
        '[[phases]]\nname = "arrive"\nactivities = [{ do = "open" }]\n'
        '[[phases]]\nname = "ask"\nactivities = [{ do = "request", rate = 50, seconds = 1, groups = ['
        '{ name = "mine", share = 3, calls = [{ path = "/v1/rooms", user = "nobody" }] },'
        '{ name = "none", share = 1, calls = [{ path = "/v1/nothing" }] }] }]\n'
    )
    done = loadtest(server, "run", str(plan), "--out", str(tmp_path / "out"), "--quiet", *on(server))
    assert done.returncode == 0, done.stderr
    report = model.read(tmp_path / "out" / "report.json")
    assert (
        report.facts["requests"] == 50 == report.counts["requests_failed"] + report.counts.get("requests_answered", 0)
    )
    assert any(name.startswith("request: none: 404") for name in report.errors)
    assert {"request", "mine", "none"} <= report.latency.keys()
    only_an_address = ["--target", server.url(""), "--secret", server.secret]
    refused = loadtest(None, "mix", "--connections", "10", "--quiet", *only_an_address)
    assert refused.returncode == 2 and "makes a school in the server's folder" in refused.stderr
