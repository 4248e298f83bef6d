import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loadtest.report.model import ProcessSample
from loadtest.sampling import KEPT, Sampler, _thin, machine

MIB = 1 << 20
# A child that holds memory and, for each line, computes for as many CPU seconds as the line says.
CHILD = """
import sys, time
held = bytearray(b"x") * (40 << 20)
print("ready", flush=True)
for line in sys.stdin:
    end = time.process_time() + float(line)
    while time.process_time() < end: pass
    print("done", flush=True)
"""


class Child:
    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            command or (sys.executable, "-c", CHILD), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._wait("ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def compute(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self._wait("done")

    def _wait(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def child(*command: str) -> Iterator[Child]:
    made = Child(*command)
    try:
        yield made
    finally:
        made.close()


class Watch:
    """Names for a sampler; `sampled` returns when two samples have begun after it was called."""

    def __init__(self, **pids: int) -> None:
        self.pids = pids
        self._asked = threading.Condition()
        self._times = 0

    def __call__(self) -> dict[str, int]:
        with self._asked:
            self._times += 1
            self._asked.notify_all()
            return dict(self.pids)

    def sampled(self) -> None:
        with self._asked:
            wanted = self._times + 2
            assert self._asked.wait_for(lambda: self._times >= wanted, timeout=60)


def test_cpu_and_memory_of_a_process() -> None:
    with child() as worker:
        worker.compute(0.3)  # before the run: not its business
        watch = Watch(node=worker.pid)
        with Sampler(watch, lambda: {"harness": os.getpid()}, interval=0.05) as sampler:
            watch.sampled()
            worker.compute(0.5)
            watch.sampled()
            assert sampler.now.server_pss > 40 * MIB
            assert sampler.now.available > 0
        node, harness = sampler.processes()
    assert (node.name, node.side, node.pid) == ("node", "server", worker.pid)
    assert (harness.name, harness.side) == ("harness", "harness")
    assert 0.48 <= node.cpu_seconds < 0.75
    assert max(sample.pss for sample in node.samples) > 40 * MIB
    assert sum(sample.pss > 0 for sample in node.samples) < len(node.samples)  # PSS is read rarely
    # The samples tell the same as the sum.
    steps = zip(node.samples, node.samples[1:], strict=False)
    assert sum(after.cpu * (after.at - before.at) for before, after in steps) > 0


def test_a_name_is_taken_over_by_another_process() -> None:
    with child() as first, child() as second:
        watch = Watch(node=first.pid)
        with Sampler(watch, interval=0.05) as sampler:
            watch.sampled()
            first.compute(0.3)
            watch.sampled()
            first.close()
            del watch.pids["node"]
            watch.sampled()
            watch.pids["node"] = second.pid
            watch.sampled()
            second.compute(0.3)
            watch.sampled()
        (node,) = sampler.processes()
    assert node.pid == second.pid
    assert 0.58 <= node.cpu_seconds < 0.9


def test_descendants_count_and_those_with_a_name_do_not() -> None:
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdin=0)\n"
        "child.wait()\n"
        "print('reaped', flush=True)\n"
        "import time; time.sleep(600)\n"
    )
    with child(sys.executable, "-c", parent) as worker:
        watch = Watch(postgres=worker.pid)
        with Sampler(watch, interval=0.05) as sampler:
            watch.sampled()
            worker.compute(0.3)
            watch.sampled()
            assert sampler.memory()["postgres"] > 40 * MIB
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            worker._wait("reaped")
            watch.sampled()
        (postgres,) = sampler.processes()
        assert 0.28 <= postgres.cpu_seconds < 0.6  # also what the child used, which is no longer there
        worker.process.stdin = None


def test_a_process_that_is_gone_is_no_error() -> None:
    with child() as worker:
        worker.close()
        watch = Watch(gone=worker.pid)
        with Sampler(watch, interval=0.01) as sampler:
            watch.sampled()
        (gone,) = sampler.processes()
    assert gone.cpu_seconds == 0
    assert {sample.pss for sample in gone.samples} == {0}


def test_the_kernel_apart() -> None:
    watch = Watch()
    with Sampler(watch, interval=0.01) as sampler:
        watch.sampled()
    assert len(sampler.kernel()) >= 3
    for sample in sampler.kernel():
        assert 0 < sample.slab < sample.available
        assert sample.sockets >= 0 and sample.tcp_memory >= 0


def test_the_machine() -> None:
    here = machine()
    assert here.cpus >= 1
    assert here.memory > 100 * MIB
    assert here.processor and here.kernel and here.python.startswith("CPython 3.")
    assert here.file_limit > 0


@pytest.mark.parametrize("count", [1, KEPT, KEPT + 1, 5 * KEPT + 3])
def test_long_runs_are_thinned_out(count: int) -> None:
    samples = [ProcessSample(float(n), 0.5, n if n % 5 == 0 else 0) for n in range(count)]
    thin = _thin(samples)
    assert len(thin) <= KEPT
    assert thin[-1].at == samples[-1].at
    assert {sample.cpu for sample in thin} == {0.5}
    assert max(sample.pss for sample in thin) == max(sample.pss for sample in samples)
