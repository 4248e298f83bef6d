"""A server of two nodes for the real SDKs, and the npm SDK for those who have Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtest.server import Server
from tests.npm import installed

HERE = Path(__file__).parent
OPEN = {
    "allow_subscribe_for_client": True,
    "allow_publish_for_client": True,
    "allow_presence_for_subscriber": True,
    "allow_history_for_subscriber": True,
}
NAMESPACES = {
    "chat": {
        **OPEN,
        "presence": True,
        "join_leave": True,
        "history_size": 1000,
        "history_ttl": 3600,
        "force_recovery": True,
    },
    "short": {**OPEN, "history_size": 3, "history_ttl": 3600, "force_recovery": True},
    "live": OPEN,
    "closed": {"history_size": 100, "history_ttl": 3600},
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "CHANNEL__NAMESPACES": json.dumps(NAMESPACES),
        "CLIENT__PUBLISHES_PER_SECOND": "0",
        "CLIENT__COMMANDS_PER_SECOND": "0",
    }
    with Server(tmp_path_factory.mktemp("clients") / "data", settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def npm_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the npm packages, installed when they are not there."""
    return installed(HERE, tmp_path_factory.mktemp("npm"))


@pytest.fixture
def run_javascript(npm_sdk: Path, server: Server) -> Callable[..., str]:
    """Run a scenario of `scenarios.mjs`, which fails by its exit code; returns what it printed."""

    def run(scenario: str, **parameters: object) -> str:
        node = shutil.which("node")
        assert node is not None
        result = subprocess.run(
            [
                node,
                "scenarios.mjs",
                scenario,
                json.dumps({"urls": [server.websocket(0), server.websocket(1)], **parameters}),
            ],
            cwd=npm_sdk,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
        return result.stdout

    return run
