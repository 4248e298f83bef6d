"""The README's examples work as they are pasted, with both SDKs in one room."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.server import Server

pytestmark = pytest.mark.integration
README = Path(__file__).parents[2] / "README.md"


def example(language: str, server: Server) -> str:
    code = re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code) == 1, f"one {language} example is expected"
    assert "127.0.0.1:8000" in code[0]
    return str(code[0]).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")


def run_until(command: list[str], wanted: str, cwd: Path, server: Server) -> None:
    """Start a program and wait for a line of its output, then end it."""
    environment = {**os.environ, "TOKEN": server.token("ana"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if wanted in line:
                break
        process.kill()
    assert seen, "the example printed nothing"
    assert wanted in seen[-1], "".join(seen)


def test_the_python_example(server: Server, tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(example("python", server))
    run_until([sys.executable, "hello.py"], "hello from Python", tmp_path, server)


def test_the_javascript_example(server: Server, npm_sdk: Path, tmp_path: Path) -> None:
    (tmp_path / "hello.mjs").write_text(example("javascript", server))
    (tmp_path / "node_modules").symlink_to(npm_sdk / "node_modules")
    node = shutil.which("node")
    assert node is not None
    run_until([node, "hello.mjs"], "hello from JavaScript", tmp_path, server)
