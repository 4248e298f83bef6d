"""Every case of the Autobahn suite against our connection and against `websockets`' own server, side by side.

`script/conformance` runs this. Exit status 0: no case failed, and none went worse than with `websockets`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conformance.autobahn import suite
from tests.conformance.autobahn.suite import Verdict

ROOT = Path(__file__).parents[2]
OURS = ("tests.conformance.echo", "--port", "0")
REFERENCE = ("tests.conformance.reference",)


@contextmanager
def echo_server(module: str, *arguments: str) -> Iterator[str]:
    """An echo server in a process of its own; yields its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "WEBSOCKETS_MAX_FRAGMENTS": "1000000"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def summary(verdicts: dict[str, Verdict]) -> str:
    count = Counter("FAILED" if verdict.failed else verdict.behavior for verdict in verdicts.values())
    return " / ".join(f"{behavior} {number}" for behavior, number in sorted(count.items(), key=lambda item: -item[1]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/conformance", description=__doc__)
    parser.add_argument("cases", nargs="*", default=["*"], help="patterns such as 6.* (default: all 517)")
    parser.add_argument("--messages", type=int, default=1000, help="messages of a compression case (default: 1000)")
    parser.add_argument("--out", type=Path, help="where to keep the suite's reports")
    options = parser.parse_args()
    suite.install()
    with ExitStack() as stack:
        out = options.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autobahn-")))
        running = {
            name: (
                suite.start(stack.enter_context(echo_server(*server)), out / name, options.cases, options.messages),
                out / name,
            )
            for name, server in (("ours", OURS), ("websockets", REFERENCE))
        }
        for process, _ in running.values():
            process.wait()
        ours, reference = (suite.verdicts(path) for _, path in running.values())
    print(f"ours:       {summary(ours)}\nwebsockets: {summary(reference)}")
    worse = [case for case in ours if ours[case].worse_than(reference[case])]
    for case in ours:
        if str(ours[case]) != str(reference[case]):
            print(f"{case:>8}  ours {ours[case]}, websockets {reference[case]}{'  WORSE' * (case in worse)}")
    failed = [case for case, verdict in ours.items() if verdict.failed]
    print(f"{len(ours)} cases: {len(failed)} failed, {len(worse)} worse than websockets")
    return 1 if failed or worse else 0


if __name__ == "__main__":
    sys.exit(main())
