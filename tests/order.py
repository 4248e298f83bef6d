"""A pytest plugin for `script/test`: what is quick runs first, and the last line names what this machine lacks.

A test that cannot run here skips with the reason `needs <name>` (`needs node`); any other reason is named as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

RANK = {"integration": 1, "chaos": 2}
WORKER = "PYTEST_XDIST_WORKER" in os.environ  # one of several processes: the one that began them reports
_skips: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: max((RANK.get(mark.name, 0) for mark in item.iter_markers()), default=0))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skips.append(_reason(report))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skips.append(_reason(report))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
    needs = re.search(r"needs (\w+)", text)
    return needs[1].lower() if needs else text.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_unconfigure() -> Iterator[None]:
    yield
    if WORKER:
        return
    print(f"SKIPPED {len(_skips)}: {', '.join(sorted(set(_skips)))}" if _skips else "SKIPPED 0")
