"""The proof of the core, in small: processes die while two nodes carry messages, and the books balance."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.chaos
def test_nothing_is_lost_doubled_or_reordered_while_processes_die() -> None:
    command = [sys.executable, "-m", "loadtest.check_core", "--messages", "2000", "--rooms", "20", "--seconds", "6"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Offsets are 1..n in 20 rooms" in result.stdout
