"""A class by way of Janus, whose ICE finds no way over the loopback interface: so its tests (`class_over_janus.py`) run
in a network namespace with a pair of interfaces of its own. That needs root, `unshare`, `ip`, Janus and Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config.embedded import has_janus
from tests.page.conftest import chromium

pytestmark = pytest.mark.integration

TESTS = Path(__file__).with_name("class_over_janus.py")
SETUP = (
    "ip link set lo up && ip link add v0 type veth peer name v1 && ip addr add 10.99.0.1/24 dev v0 &&"
    ' ip link set v0 up && ip link set v1 up && exec "$@"'
)


@pytest.mark.timeout(400)  # three tests, in a pytest of their own
def test_a_class_over_janus() -> None:
    chromium()
    if not has_janus():
        pytest.skip("needs janus: it is not installed")
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs janus in a network namespace: that takes root, unshare and ip")
    if subprocess.run(["unshare", "-n", "true"], check=False).returncode != 0:
        pytest.skip("needs janus in a network namespace: none can be made here")
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "--durations=5", "-p", "no:cacheprovider", str(TESTS)]
    result = subprocess.run(
        ["unshare", "-n", "sh", "-c", SETUP, "sh", *tests], capture_output=True, text=True, timeout=400, check=False
    )
    assert result.returncode == 0, result.stdout[-20000:] + result.stderr[-5000:]
