"""What a process costs, as the kernel counts it (Linux)."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def name(pid: int) -> str:
    return (PROC / str(pid) / "comm").read_text().strip()


def proportional_memory(pid: int) -> int:
    """PSS in bytes: private memory, and a fair part of what is shared with other processes."""
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


def kernel_memory() -> int:
    """Bytes of kernel slab (sockets, epoll entries, TCP state of both ends) on the whole machine."""
    values = dict(line.split(":") for line in (PROC / "meminfo").read_text().splitlines())
    return int(values["Slab"].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, user and kernel, to the nanosecond."""
    threads = (PROC / str(pid) / "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@contextmanager
def beside(command: Sequence[str | Path]) -> Iterator[tuple[int, IO[str]]]:
    """Run a floor: its process id and what it prints. It ends by itself, and by force where the measurement fails."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout
        except BaseException:
            process.kill()
            raise


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated measurements: the median, and how far they lie apart."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({min(self.values):{spec}}-{max(self.values):{spec}})"
