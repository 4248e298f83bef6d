"""The pages keep their word: every requirement has a state, and every file that a page names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / name for name in ("docs", "benchmarks", "deploy")]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in folder.rglob("*.md"))])
STATES = {"met", "replaced", "not yet"}


def links(text: str) -> list[str]:
    """The files that a page links to: no addresses, no places within the page."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    missing = [link for link in links(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def rows() -> list[tuple[str, str, str, str]]:
    """Requirement, state, where, shown by."""
    found = []
    for line in (ROOT / "docs" / "requirements.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[1] in STATES:
            found.append((cells[0], cells[1], cells[2], cells[3]))
    return found


def test_the_table_is_whole() -> None:
    page = (ROOT / "docs" / "requirements.md").read_text()
    table_lines = [
        line
        for line in page.splitlines()
        if line.startswith("|") and not line.startswith("|---") and not line.startswith("| requirement |")
    ]
    assert len(rows()) == len(table_lines), "a row without one of the states, or with a cell too many"
    assert len(rows()) >= 120


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_a_requirement_says_where_and_how_it_is_shown(row: tuple[str, str, str, str]) -> None:
    _, state, where, shown = row
    assert where
    if state == "met":
        assert links(where), "what is met names the file that meets it"
        assert any("tests/" in link or "script/" in link for link in links(shown)), "and the test that shows it"
    if state == "replaced":
        assert where.startswith("By "), "what is replaced says by what"
