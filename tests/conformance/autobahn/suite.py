"""Install the suite once, run it against a server, read its verdicts."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[3] / "build" / "autobahn"
PYTHON = HOME / "venv" / "bin" / "python"
PORT = HOME / "port"
READY = HOME / "ready"  # written last

REQUIREMENTS = (
    "twisted==22.10.0",
    "six==1.17.0",
    "txaio==26.6.1",
    "zope.interface==8.7",
    "wsaccel==0.6.7",
    "setuptools<80",
    "wheel",
)
SOURCES = ("autobahn==0.10.9", "autobahntestsuite==25.10.1")

RANKS = {"OK": 0, "INFORMATIONAL": 0, "NON-STRICT": 1, "UNIMPLEMENTED": 2}
FAILED = 3


class SuiteUnavailable(Exception):
    """The suite cannot be installed here; the message says why."""


@dataclass(frozen=True, order=True)
class Verdict:
    """How a case went, the better the smaller."""

    rank: int
    close_rank: int
    behavior: str
    close: str

    @property
    def failed(self) -> bool:
        return self.rank >= FAILED or self.close in ("FAILED", "UNCLEAN")

    def worse_than(self, other: Verdict) -> bool:
        return (self.rank, self.close_rank) > (other.rank, other.close_rank)

    def __str__(self) -> str:
        return self.behavior if self.close == "OK" else f"{self.behavior} (close {self.close})"


def install() -> None:
    """Build the suite under `build/autobahn/` from the configured package index, once (some 15 s).

    Raises `SuiteUnavailable`.
    """
    if sys.version_info >= (3, 13):
        raise SuiteUnavailable("the port needs lib2to3, which Python 3.13 dropped")
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if READY.exists():
            return
        venv.create(HOME / "venv", with_pip=True, clear=True)
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
        downloads = HOME / "downloads"
        _run(*pip, "install", *REQUIREMENTS)
        # Only unpacked; their setup.py runs once for the metadata, with the setuptools from above.
        no_building = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation")
        _run(*pip, "download", *no_building, "--dest", str(downloads), *SOURCES)
        subprocess.run([PYTHON, Path(__file__).with_name("port.py"), downloads, PORT], check=True)
        READY.touch()


def _run(*arguments: str) -> None:
    done = subprocess.run([PYTHON, *arguments], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SuiteUnavailable(done.stderr.strip()[-2000:] or f"exit status {done.returncode}")


def start(url: str, out: Path, cases: Sequence[str] = ("*",), messages: int = 1000) -> subprocess.Popen[bytes]:
    """Begin to run the cases (patterns) against the echo server at `url`. Reports go to `out`.

    `messages`: how many each case of compression (12.*, 13.*) sends.
    """
    out.mkdir(parents=True, exist_ok=True)
    for report in out.glob("*.json"):
        report.unlink()
    spec = out / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(out),
                "servers": [{"agent": "server", "url": url}],
                "cases": list(cases),
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    with (out / "log").open("wb") as log:
        return subprocess.Popen(
            [str(PYTHON), "-W", "ignore", "-m", "autobahntestsuite", "-m", "fuzzingclient", "-s", str(spec)],
            env={**os.environ, "PYTHONPATH": str(PORT), "WSTEST_COMPRESS_COUNT": str(messages)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def verdicts(out: Path) -> dict[str, Verdict]:
    """The verdict of every case that was asked for; one that left no report has failed."""
    log = (out / "log").read_text(errors="replace")
    asked = re.search(r"^Cases = (\[.*\])$", log, re.M)
    index = out / "index.json"
    results = next(iter(json.loads(index.read_text()).values()), {}) if index.exists() else {}
    names: list[str] = re.findall(r"'([\d.]+)'", asked[1]) if asked else list(results)
    if not names:
        raise SuiteUnavailable(f"the suite ran no case:\n{log[-2000:]}")
    missing = Verdict(FAILED, 1, "NOT RUN", "OK")
    return {name: _verdict(results[name]) if name in results else missing for name in sorted(names, key=case_order)}


def _verdict(result: dict[str, str]) -> Verdict:
    behavior, close = result["behavior"], result["behaviorClose"]
    return Verdict(RANKS.get(behavior, FAILED), RANKS.get(close, FAILED), behavior, close)


def case_order(name: str) -> list[int]:
    return [int(part) for part in name.split(".")]
