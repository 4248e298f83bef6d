"""Processes known by pid and start time, so that a pid that was given to someone else is not taken for ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def start_time(pid: int) -> str:
    """When a live process started (an opaque text); empty for none, and for a zombie: in a container, nobody may reap
    it for long."""
    if sys.platform != "linux":
        argv = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()
        return "" if not said or said[0].startswith("Z") else "_".join(said[1:])
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
    return "" if fields[0] in ("Z", "X") else fields[19]


def write_pid(path: Path, pid: int) -> None:
    path.write_text(f"{pid} {start_time(pid)}\n")


def live_pid(path: Path) -> int | None:
    """The process that the file names, if that very process is alive."""
    try:
        pid, started = path.read_text().split()
        return int(pid) if start_time(int(pid)) == started else None
    except (OSError, ValueError):
        return None


def end_leftover(path: Path, stop: tuple[signal.Signals, ...], grace: float = 15.0) -> None:
    """End the process that the file names, gently first: a server whose supervisor died without taking it along."""
    for number in (*stop, signal.SIGKILL):
        deadline = time.monotonic() + grace
        if (pid := live_pid(path)) is None:
            break
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            break
        while live_pid(path) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
    path.unlink(missing_ok=True)
