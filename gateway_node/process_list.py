"""The list of a running server's processes, kept by its supervisor for `chalkwire nodes` and for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config.embedded import socket_directory
from config.embedded.process import start_time

NODES = "nodes.json"


def write_processes(run_dir: Path, processes: dict[str, Any]) -> None:
    """Replace the list in one step: a reader sees the old one or the new one. Raises OSError."""
    path = run_dir / NODES
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(processes, indent=1) + "\n")
    fresh.replace(path)


def read_processes(data_dir: Path) -> dict[str, Any] | None:
    """What the supervisor of this data directory last wrote; `None` when none runs."""
    if not data_dir.is_dir():
        return None
    try:
        found: dict[str, Any] = json.loads((socket_directory(data_dir) / NODES).read_text())
    except (OSError, ValueError):
        return None
    return found if is_running(found["supervisor"]) else None


def described(pid: int, **more: Any) -> dict[str, Any]:
    """A process for the list. `started` tells it from a later process with the same id."""
    return {**more, "pid": pid, "started": start_time(pid)}


def is_running(process: dict[str, Any]) -> bool:
    started: str = process["started"]
    return started != "" and start_time(process["pid"]) == started
