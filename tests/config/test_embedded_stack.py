"""The embedded stack: started, kept, broken and restarted."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
from websockets.sync.client import unix_connect
from websockets.typing import Subprotocol

from config.embedded import EmbeddedStack, StackError, StackUrls, has_janus, read_urls
from config.embedded.binaries import find_janus, find_postgres
from config.embedded.identity import Identity
from config.embedded.process import start_time, write_pid
from tests.stack import short_folder, sql

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds that anything awaited may take on a busy machine


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@contextmanager
def holder(data: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A process of its own with a stack. Killed at the end, should it still live."""
    argv = [*prefix, sys.executable, "-m", "tests.config.holder", str(data), *options]
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
        finally:
            process.kill()


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with any server."""
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
def normally() -> tuple[str, ...]:
    """What to put before a command so that it runs as a normal user, without a root's powers over files.

    For root that is a user namespace: this checkout and Python's own folder may be root's private ones.
    """
    if os.geteuid() != 0:
        return ()
    prefix = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs unshare")
    return prefix


def write_something(urls: StackUrls) -> None:
    with redis.Redis.from_url(str(urls.redis)) as valkey:
        valkey.set("kept", "yes")


class TestLife:
    def test_data_outlives_a_stop(self, folder: Path) -> None:
        stack = EmbeddedStack(folder)
        stack.start()
        sql(stack, "create table kept (it int)", "insert into kept values (7)", database="chalkwire")
        write_something(stack.urls)
        pids = stack.pids
        stack.stop()
        assert [start_time(pid) for pid in pids.values()] == ["", "", ""]
        again = EmbeddedStack(folder, max_connections=31)
        urls = again.start()
        try:
            assert sql(again, "select it from kept", database="chalkwire") == "7"
            assert sql(again, "show max_connections") == "31"
            with redis.Redis.from_url(str(urls.redis)) as valkey:
                assert valkey.get("kept") == b"yes"
        finally:
            again.stop()

    def test_a_stack_can_stop_twice_and_start_again(self, folder: Path) -> None:
        stack = EmbeddedStack(folder, postgres=False, nats=False)
        stack.start()
        stack.stop()
        stack.stop()
        stack.start()
        assert list(stack.pids) == ["valkey"]
        stack.stop()

    def test_only_what_is_wanted_is_started(self, folder: Path) -> None:
        stack = EmbeddedStack(folder, postgres=False, valkey=False, nats=False)
        assert stack.start() == StackUrls()
        assert stack.pids == {}
        assert read_urls(folder) == StackUrls()
        stack.stop()
        assert read_urls(folder) is None

    def test_urls_are_published_privately_while_it_runs(self, stack: EmbeddedStack) -> None:
        assert read_urls(stack.data_dir) == stack.urls
        assert stat.S_IMODE((stack.data_dir / "urls.json").stat().st_mode) == 0o600

    def test_urls_of_a_dead_process_are_not_believed(self, folder: Path) -> None:
        (folder / "urls.json").write_text(
            json.dumps({"database": None, "redis": None, "nats": "nats://x", "pid": os.getpid(), "started": "1"})
        )
        assert read_urls(folder) is None

    @pytest.mark.parametrize("name", ["a b'c", "d" * 90, "ü,:%&?"])
    def test_any_path_will_do(self, folder: Path, name: str) -> None:
        """Spaces; too long for a socket; what a URL cannot carry."""
        stack = EmbeddedStack(folder / name)
        urls = stack.start()
        try:
            assert sql(stack, "select 1") == "1"
            write_something(urls)
        finally:
            stack.stop()
        assert not list(Path("/tmp").glob(f"chalkwire-*/{name}"))

    def test_the_servers_have_a_session_and_signals_of_their_own(self, stack: EmbeddedStack) -> None:
        """Ctrl-C reaches the supervisor alone, and no signal is blocked or ignored that stops a server."""
        assert all(os.getsid(pid) == pid for pid in stack.pids.values())


class TestPostgres:
    async def test_the_application_owns_its_database_and_is_no_superuser(self, stack: EmbeddedStack) -> None:
        connection = await asyncpg.connect(stack.urls.database)
        try:
            row = await connection.fetchrow(
                """select current_user, rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls,
                          (select datdba = pg_roles.oid from pg_database where datname = current_database())
                   from pg_roles where rolname = current_user"""
            )
            assert tuple(row or ()) == ("chalkwire", False, True)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("copy (select 1) to program 'true'")
        finally:
            await connection.close()

    async def test_the_application_can_tell_histories_apart(self, stack: EmbeddedStack) -> None:
        connection = await asyncpg.connect(stack.urls.database)
        try:
            assert await connection.fetchval("select system_identifier from pg_control_system()")
            assert await connection.fetchval("select timeline_id from pg_control_checkpoint()") == 1
        finally:
            await connection.close()

    def test_a_commit_is_durable(self, stack: EmbeddedStack) -> None:
        settings = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
        assert [sql(stack, f"show {name}") for name in settings] == ["on"] * 4

    def test_nobody_else_can_connect(self, stack: EmbeddedStack) -> None:
        assert sql(stack, "show listen_addresses") == ""
        sockets = stack.data_dir / "run"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE((sockets / "pg" / ".s.PGSQL.5432").stat().st_mode) == 0o700
        assert stat.S_IMODE((sockets / "valkey.sock").stat().st_mode) == 0o700

    @pytest.mark.parametrize("version", ["17", "19"])
    def test_data_of_another_major_version_is_left_alone(self, folder: Path, version: str) -> None:
        data = folder / "postgres"
        data.mkdir()
        (data / "PG_VERSION").write_text(f"{version}\n")
        with pytest.raises(StackError, match=rf"written by PostgreSQL {version}, and the installed one is 18"):
            EmbeddedStack(folder, valkey=False, nats=False).start()
        assert [path.name for path in data.iterdir()] == ["PG_VERSION"]

    def test_a_creation_cut_short_is_begun_anew(self, folder: Path) -> None:
        (folder / "postgres.new" / "base").mkdir(parents=True)
        (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
        stack = EmbeddedStack(folder, valkey=False, nats=False)
        stack.start()
        stack.stop()
        assert not (folder / "postgres.new").exists()

    def test_a_bootstrap_cut_short_is_made_up_for(self, folder: Path) -> None:
        stack = EmbeddedStack(folder, valkey=False, nats=False)
        stack.start()
        sql(stack, "drop database chalkwire", "drop role chalkwire")
        stack.stop()
        stack.start()
        assert sql(stack, "select current_database()", database="chalkwire") == "chalkwire"
        stack.stop()

    def test_a_stranger_with_the_old_pid_does_not_stop_the_start(self, folder: Path) -> None:
        stack = EmbeddedStack(folder, valkey=False, nats=False)
        stack.start()
        lock_file = folder / "postgres" / "postmaster.pid"
        stack.kill_one("postgres")
        old = lock_file.read_text()
        stack.stop()
        with sleeper() as stranger:
            _, rest = old.split("\n", 1)
            lock_file.write_text(f"{stranger.pid}\n{rest}")
            stack.start()
            assert sql(stack, "select 1") == "1"
            stack.stop()
            assert stranger.poll() is None


class TestTrouble:
    def test_a_used_data_directory_is_refused(self, stack: EmbeddedStack) -> None:
        with pytest.raises(StackError, match=rf"is in use by process {os.getpid()}: stop it, or give another"):
            EmbeddedStack(stack.data_dir).start()
        assert len(stack.pids) == 3
        assert read_urls(stack.data_dir) == stack.urls

    def test_a_file_in_the_way(self, folder: Path) -> None:
        (folder / "file").touch()
        with pytest.raises(StackError, match=r"cannot use .*file.*: (File exists|Not a directory)"):
            EmbeddedStack(folder / "file").start()

    def test_one_failure_stops_all(self, folder: Path) -> None:
        (folder / "valkey").touch()
        stack = EmbeddedStack(folder)
        with pytest.raises(StackError, match=r"cannot use .*/valkey: File exists\.$"):
            stack.start()
        assert stack.pids == {}
        assert [path.name for path in folder.glob("*.pid")] == []
        (folder / "valkey").unlink()
        stack.start()
        stack.stop()

    def test_a_spoilt_append_only_file_is_said(self, folder: Path) -> None:
        stack = EmbeddedStack(folder, postgres=False, nats=False)
        stack.start()
        write_something(stack.urls)
        stack.stop()
        log = next((folder / "valkey" / "appendonlydir").glob("*.incr.aof"))
        log.write_bytes(b"spoilt" + log.read_bytes())
        with pytest.raises(StackError, match=r"(?s)valkey ended with code 1; .*valkey\.log:.*Bad file format"):
            stack.start()

    def test_a_full_disk_is_a_sentence_and_spoils_nothing(self, folder: Path) -> None:
        """On a file system of 24 MB, in a mount namespace of its own."""
        python = shlex.quote(sys.executable)
        script = (
            f"mount -t tmpfs -o size=24m none {folder} && "
            f"{python} -m tests.config.holder {folder}/data; ls {folder}/data; "
            f"mount -t tmpfs -o remount,size=200m none {folder} && exec {python} -m tests.config.holder {folder}/data"
        )
        unshare = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
        if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
            pytest.skip("needs unshare")
        with subprocess.Popen(
            [*unshare, "sh", "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout and process.stderr
            assert "no space is left for" in process.stderr.readline()
            listed = []
            for line in process.stdout:
                if line.startswith("{"):
                    break
                listed.append(line.strip())
            assert "postgres" not in listed
            process.terminate()
            assert process.wait(PATIENCE) == 0

    def test_the_log_is_set_aside_when_it_is_long(self, folder: Path) -> None:
        log = folder / "log" / "valkey.log"
        log.parent.mkdir()
        with log.open("wb") as file:
            file.truncate(9 * 1024 * 1024)
        stack = EmbeddedStack(folder, postgres=False, nats=False)
        stack.start()
        stack.stop()
        assert log.stat().st_size < 1024 * 1024
        assert log.with_name("valkey.log.1").stat().st_size == 9 * 1024 * 1024


@pytest.mark.chaos
class TestDeath:
    def test_a_dead_server_is_reported_once_and_returns_under_its_url(self, private_stack: EmbeddedStack) -> None:
        urls, before = private_stack.urls, private_stack.pids
        write_something(urls)
        sql(private_stack, "create table kept (it int)", "insert into kept values (7)")
        for name in ("postgres", "valkey", "nats"):
            private_stack.kill_one(name)
            assert private_stack.poll() == [name]
            assert private_stack.poll() == []
            assert "ended with code -9" in private_stack.reason(name)
            private_stack.restart(name)
            assert private_stack.pids[name]
            until(lambda: not private_stack.poll() and not private_stack.restarting)
        assert private_stack.urls == urls
        assert not set(private_stack.pids.values()) & set(before.values())
        assert sql(private_stack, "select it from kept") == "7"
        with socket.create_connection(("127.0.0.1", int(str(urls.nats).rpartition(":")[2]))) as connection:
            assert connection.recv(5) == b"INFO "

    def test_a_stopped_server_is_not_reported(self, private_stack: EmbeddedStack) -> None:
        private_stack.stop_one("nats")
        assert private_stack.poll() == []
        assert "nats" not in private_stack.pids
        private_stack.start_one("nats")
        assert "nats" in private_stack.pids

    def test_the_port_is_kept_while_nats_is_away(self, private_stack: EmbeddedStack) -> None:
        port = int(str(private_stack.urls.nats).rpartition(":")[2])
        private_stack.stop_one("nats")
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", port))

    def test_a_restart_that_fails_is_reported(self, private_stack: EmbeddedStack) -> None:
        private_stack.stop_one("valkey")
        shutil.rmtree(private_stack.data_dir / "valkey")
        (private_stack.data_dir / "valkey").touch()
        private_stack.restart("valkey")
        until(lambda: private_stack.poll() == ["valkey"])
        assert private_stack.reason("valkey")

    def test_no_server_outlives_its_supervisor(self, folder: Path) -> None:
        data = folder / "data"
        for _ in range(2):
            with holder(data) as (process, said):
                process.send_signal(signal.SIGKILL)
                process.wait(PATIENCE)
                # At once: the new one waits for what is left of the old.
                stack = EmbeddedStack(data)
                stack.start()
                stack.stop()
                assert [start_time(pid) for pid in said["pids"].values()] == ["", "", ""]
        assert "database system was not properly shut down" not in (data / "log" / "postgres.log").read_text()

    def test_servers_end_by_themselves(self, folder: Path) -> None:
        with holder(folder / "data") as (process, said):
            process.send_signal(signal.SIGKILL)
            until(lambda: not any(start_time(pid) for pid in said["pids"].values()))

    def test_servers_do_not_inherit_blocked_or_ignored_signals(self, folder: Path) -> None:
        with holder(folder / "data") as (process, said):
            status = Path(f"/proc/{said['pids']['valkey']}/status").read_text()
            blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
            assert int(blocked.split()[1], 16) == 0
            process.terminate()
            assert process.wait(PATIENCE) == 0

    def test_a_fork_that_lives_a_moment_longer_delays_the_next_start(self, folder: Path) -> None:
        """A forked process has the lock too; it dies with its supervisor, but not in the same instant."""
        with holder(folder / "data", "--fork") as (process, said):
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
            stack = EmbeddedStack(folder / "data")
            stack.start()
            stack.stop()
            assert not start_time(said["fork"])

    def test_a_leftover_is_ended_at_the_next_start(self, folder: Path) -> None:
        with sleeper() as leftover:
            write_pid(folder / "valkey.pid", leftover.pid)
            stack = EmbeddedStack(folder, postgres=False, nats=False)
            stack.start()
            stack.stop()
            assert leftover.wait(PATIENCE) == -signal.SIGTERM

    def test_a_stranger_with_a_leftover_s_pid_is_left_alone(self, folder: Path) -> None:
        with sleeper() as stranger:
            (folder / "valkey.pid").write_text(f"{stranger.pid} 1\n")
            stack = EmbeddedStack(folder, postgres=False, nats=False)
            stack.start()
            stack.stop()
            assert stranger.poll() is None


class TestAccounts:
    def test_a_normal_user(self, folder: Path, normally: tuple[str, ...]) -> None:
        for _ in range(2):
            with holder(folder / "data", prefix=normally) as (process, _said):
                process.terminate()
                assert process.wait(PATIENCE) == 0

    def test_data_that_cannot_be_written(self, folder: Path, normally: tuple[str, ...]) -> None:
        folder.chmod(0o500)
        argv = [*normally, sys.executable, "-m", "tests.config.holder", str(folder / "data")]
        done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
        folder.chmod(0o700)
        assert done.stderr.startswith("refused: The embedded servers cannot use ")
        assert "Permission denied" in done.stderr

    def test_root_without_user_namespaces(self, folder: Path) -> None:
        """PostgreSQL runs as an account; its data changes hands and back."""
        if os.geteuid() != 0:
            pytest.skip("needs root")
        account = Identity(account=pwd.getpwnam("nobody"))
        reach = ["test", "-x", str(find_postgres() / "postgres")]
        if subprocess.run(reach, **account.popen).returncode != 0:
            pytest.skip("needs nobody: this checkout is private")
        folder.chmod(0o755)
        for identity, owner in ((account, "nobody"), (Identity.choose(), "root"), (account, "nobody")):
            stack = EmbeddedStack(folder / "data", nats=False, valkey=False, identity=identity)
            stack.start()
            assert sql(stack, "select 1") == "1"
            assert (folder / "data" / "postgres").owner() == owner
            stack.stop()

    def test_an_account_that_cannot_reach_the_data(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        identity = Identity(account=pwd.getpwnam("nobody"))
        with pytest.raises(StackError, match=r"account nobody, .*, cannot reach .*: a folder above it is private"):
            EmbeddedStack(folder / "data", nats=False, valkey=False, identity=identity).start()

    def test_data_of_someone_else_is_not_taken(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        data = folder / "postgres"
        data.mkdir()
        (data / "PG_VERSION").write_text("18\n")
        os.chown(data, 12345, 12345)
        with pytest.raises(StackError, match="belongs to uid 12345: start as uid 12345, or give the folder away"):
            EmbeddedStack(folder, nats=False, valkey=False).start()
        assert data.stat().st_uid == 12345


@pytest.mark.skipif(not has_janus(), reason="needs janus: it is not installed")
class TestJanus:
    """The media server, which listens on a socket of ours alone."""

    def test_it_is_behind_a_private_socket_with_one_plugin(self, folder: Path) -> None:
        stack = EmbeddedStack(folder, postgres=False, valkey=False, nats=False, janus=True)
        try:
            url = stack.start().janus
            assert url is not None and url.startswith("unix://")
            while stack.restarting:
                assert stack.poll() == []
            pid = stack.pids["janus"]
            with unix_connect(url.removeprefix("unix://"), uri="ws://x/", subprotocols=[JANUS]) as socket:
                socket.send('{"janus": "info", "transaction": "1"}')
                info = json.loads(socket.recv(timeout=10))
            assert list(info["plugins"]) == ["janus.plugin.videoroom"]
            assert list(info["transports"]) == ["janus.transport.websockets"]
            sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
            listening = [line.split() for name in ("tcp", "tcp6") for line in tcp_lines(name)]
            assert not [line for line in listening if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]
            stack.kill_one("janus")
            assert stack.poll() == ["janus"]
            stack.start_one("janus")
            assert stack.pids["janus"] != pid
        finally:
            stack.stop()

    def test_nothing_else_waits_for_one_that_does_not_start(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("config.embedded.janus.find_janus", lambda: (Path("/bin/false"), find_janus()[1]))
        stack = EmbeddedStack(folder, postgres=False, nats=False, janus=True)
        try:
            assert stack.start().redis is not None
            while stack.restarting:
                stack.poll()
            assert "janus" not in stack.pids and "valkey" in stack.pids
        finally:
            stack.stop()


JANUS = Subprotocol("janus-protocol")


def tcp_lines(name: str) -> list[str]:
    return Path(f"/proc/net/{name}").read_text().splitlines()[1:]
