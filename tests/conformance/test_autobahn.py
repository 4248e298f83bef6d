"""A quick part of the Autobahn suite (frames, pings, reserved bits, opcodes, fragments, UTF-8, closes, a little
compression), and proof that the suite would notice a defect. `script/conformance` runs all of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conformance.autobahn import suite
from tests.conformance.compare import OURS, echo_server

FRAMES = ("1.*", "2.*", "3.*", "4.*", "5.1*", "5.3", "5.6")
TEXT_AND_CLOSES = ("6.1.*", "6.2.*", "6.3.*", "6.22.*", "7.*")
COMPRESSION = ("12.1.1", "13.3.1")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    try:
        suite.install()
    except (suite.SuiteUnavailable, subprocess.TimeoutExpired) as error:
        pytest.skip(f"needs autobahn: {error}")


def run(server: tuple[str, ...], out: Path, cases: tuple[str, ...]) -> dict[str, suite.Verdict]:
    with echo_server(*server) as url:
        suite.start(url, out, cases, messages=20).wait(100)
    return suite.verdicts(out)


def test_no_quick_case_fails(tmp_path: Path) -> None:
    verdicts = run(OURS, tmp_path, FRAMES + TEXT_AND_CLOSES + COMPRESSION)
    assert len(verdicts) > 120
    assert {case: str(verdict) for case, verdict in verdicts.items() if verdict.rank > 0} == {}


def test_the_suite_notices_a_defect(tmp_path: Path) -> None:
    verdicts = run(("tests.conformance.mutant",), tmp_path, ("1.1.1", "6.3.1", "7.9.1"))
    assert [verdict.failed for verdict in verdicts.values()] == [False, True, False]
