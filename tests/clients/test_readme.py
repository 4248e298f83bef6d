"""The README's examples work as they are pasted, against a server with nothing configured."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from loadtest.server import Server

pytestmark = pytest.mark.integration
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("readme") / "data", nodes=1) as running:
        yield running


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def example(language: str, server: Server) -> str:
    (code,) = blocks(language)
    assert "127.0.0.1:8000" in code
    return code.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")


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


def test_the_configuration(tmp_path: Path) -> None:
    (configuration,) = blocks("toml")
    (tmp_path / "chalkwire.toml").write_text(configuration)
    settings = load_settings(tmp_path / "chalkwire.toml")
    assert settings.nodes == 4
    assert settings.channel.namespaces["news"].history_size == 1000
