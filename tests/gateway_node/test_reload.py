"""SIGHUP to the command itself: wrong settings cost nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

READY = 60.0  # seconds


def eventually(process: subprocess.Popen[bytes], log: Path, text: str) -> None:
    deadline = time.monotonic() + READY
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, f"{text} never came:\n{log.read_text()[-2000:]}"
        time.sleep(0.05)


@pytest.mark.integration
@pytest.mark.parametrize("wrong", ['[log]\nlevel = "loud"\n', "[log", "nodez = 3\n"])
def test_a_reload_with_wrong_settings_is_refused_and_the_server_goes_on(tmp_path: Path, wrong: str) -> None:
    settings, log = tmp_path / "chalkwire.toml", tmp_path / "log"
    settings.write_text("nodes = 1\n[http]\nport = 0\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHALKWIRE_")}
    arguments = ["serve", "--config", str(settings), "--data-dir", str(tmp_path / "data")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway_node", *arguments], stdout=output, stderr=output, env=environment
        )
        try:
            eventually(process, log, "is ready on http://")
            address = log.read_text().partition("is ready on ")[2].split()[0]
            settings.write_text(wrong)
            process.send_signal(signal.SIGHUP)
            eventually(process, log, "reload.refused")
            assert httpx.get(f"{address}/health/ready").status_code == 200
            settings.write_text('nodes = 1\n[http]\nport = 0\n[log]\nlevel = "info"\n')
            process.send_signal(signal.SIGHUP)
            eventually(process, log, "reload.done")
            assert httpx.get(f"{address}/health/ready").status_code == 200
        finally:
            process.terminate()
            process.wait(40)
    assert process.returncode == 0
