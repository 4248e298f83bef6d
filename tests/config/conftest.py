"""A clean environment for the settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty, with no setting in the environment."""
    for name in list(os.environ):
        if name.upper().startswith("CHALKWIRE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
