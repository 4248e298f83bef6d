"""The page's modules that need no browser, by Node.js's own test runner: see `unit/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway_node.http.web import FOLDER

UNIT = Path(__file__).parent / "unit"


@pytest.mark.parametrize("name", sorted(path.name for path in UNIT.glob("*.test.mjs")))
def test_module(name: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node: it is not installed")
    # A browser takes any file for a module that a module imports; Node.js wants to be told.
    shutil.copytree(FOLDER, tmp_path / "web")
    shutil.copytree(UNIT, tmp_path / "unit")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    result = subprocess.run(
        [node, "--test", f"unit/{name}"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
