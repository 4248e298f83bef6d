"""`chalkwire loadtest class`: everybody is seated, and each vote counts once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.plan import BadPlan, Open, Phase, Plan, Rpc, check

pytestmark = pytest.mark.integration


def test_a_class_of_fifty_is_seated_and_counted(tmp_path: Path) -> None:
    options = ["--serve", "1", "--members", "50", "--join-rate", "0", "--seconds", "1", "--quiet"]
    command = [sys.executable, "-m", "gateway_node", "loadtest", "class", *options, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [report["server"][name] for name in ("seats", "votes", "voters", "attended")] == [50] * 4
    # The first one is tried alone before the run, and joins again in it.
    assert report["counts"]["entered"] == 50
    assert report["counts"]["calls_answered"] == report["counts"]["calls"]
    assert not report["errors"]


def test_an_rpc_is_called_at_a_rate_or_once() -> None:
    for rpc in (Rpc(method="x"), Rpc(method="x", rate=1, once=True)):
        with pytest.raises(BadPlan, match="either rate or once"):
            check(Plan(name="x", clients=1, phases=[Phase(name="connect", activities=[Open(), rpc])]))
