"""Packages from npm that tests need: those that the `package.json` of a folder pins."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest


def installed(folder: Path, cache: Path) -> Path:
    """The folder with its packages, installed when they are not there; skips the test where that cannot be.

    `cache`: npm's; the home folder need not be ours to write to.
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node: Node.js and npm are not installed")
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    if any(_version(folder, name) != version for name, version in wanted.items()):
        options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        installation = subprocess.run(
            [npm, "install", *options, f"--cache={cache}"], cwd=folder, capture_output=True, text=True, timeout=110
        )
        if installation.returncode != 0:
            pytest.skip(f"needs node: npm cannot install the packages: {installation.stderr[-500:]}")
    return folder


def _version(folder: Path, package: str) -> str | None:
    manifest = folder / "node_modules" / package / "package.json"
    return json.loads(manifest.read_text())["version"] if manifest.exists() else None
