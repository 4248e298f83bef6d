"""The page of settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import documentation
from config.catalogue import every_setting


def test_the_page_is_up_to_date() -> None:
    assert documentation.PAGE.read_text("utf-8") == documentation.page(), "run python -m config.documentation"


def test_the_page_has_every_setting() -> None:
    page = documentation.page()
    missing = [s.toml for s in every_setting() if f"`{s.toml}`" not in page or f"`{s.environment}`" not in page]
    assert missing == []


def test_check_tells_a_stale_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documentation, "PAGE", tmp_path / "settings.md")
    monkeypatch.setattr("sys.argv", ["documentation", "--check"])
    assert documentation.main() == 1
    assert "is stale" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["documentation"])
    assert documentation.main() == 0
    monkeypatch.setattr("sys.argv", ["documentation", "--check"])
    assert documentation.main() == 0
