# mypy: disable-error-code="import-untyped"
"""CPU and memory of the processes of a run, once a second, and of the machine's kernel apart from them.

A name stands for a process and its descendants, as far as those have no name of their own: a PostgreSQL server is a
hundred backends. What its ended children used counts too.

Memory is PSS (`/proc/PID/smaps_rollup`): pages that forked nodes share are divided among them, so that a sum is the
truth. Reading it walks the page tables: 1.3 ms for a node of 80 MB, 2.7 ms for a PostgreSQL backend that touched 128 MB
of shared buffers. Names are therefore read one after another, each at most every `PSS_EVERY` seconds, and altogether
for at most `PSS_SHARE` of a core: 54 nodes and 100 such backends take 17 s for a round. A sample without a reading has
PSS 0. Meanwhile the process can run, but not map or unmap memory.

Everything else takes 6 ms a second on a machine with 80 processes, in a thread of its own: neither the harness's event
loop nor its sockets wait for it.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from loadtest.report.model import KernelSample, Machine, Process, ProcessSample

Names = Callable[[], Mapping[str, int]]  # process ids by name, as they are now

INTERVAL = 1.0  # seconds
PSS_EVERY = 5.0  # seconds
PSS_SHARE = 0.02  # of a core
KEPT = 600  # samples of one process; a longer run keeps every second one, every fourth …
PAGE = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Now:
    """The latest sample, added up: what a live view shows."""

    server_cpu: float = 0.0  # cores
    server_pss: int = 0  # bytes; of each process the last that was read
    harness_cpu: float = 0.0
    harness_pss: int = 0
    available: int = 0
    kernel: int = 0  # slab and TCP buffers


class Sampler:
    """Samples until it is stopped. Use as a context manager, or call `start` and `stop`.

    `server` and `harness` are asked each second, from the sampler's thread, for the process ids by name: they must
    return at once. An id may be replaced (a node that restarts) and a name may vanish and come back.
    `started` is the run's zero on `time.monotonic()`.
    """

    def __init__(
        self, server: Names, harness: Names = dict, *, started: float | None = None, interval: float = INTERVAL
    ) -> None:
        self.now = Now()
        self._names = {"server": server, "harness": harness}
        self.started = time.monotonic() if started is None else started
        self._started_wall = time.time() - (time.monotonic() - self.started)
        self._interval = interval
        self._rows: dict[tuple[str, str], _Row] = {}
        self._kernel: list[KernelSample] = []
        self._turns: deque[_Row] = deque()  # whose PSS is read next
        self._allowance = 0.0  # seconds that may be spent on PSS; negative after a long reading
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end. Returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()

    def processes(self) -> list[Process]:
        """Every name that was seen, in the order of the first sample; servers first."""
        rows = sorted(self._rows.values(), key=lambda row: row.side != "server")
        return [Process(row.name, row.pid, row.side, round(row.cpu_seconds, 2), _thin(row.samples)) for row in rows]

    def kernel(self) -> list[KernelSample]:
        samples = list(self._kernel)
        return samples[:: len(samples) // KEPT + 1]

    def memory(self, side: str = "server") -> dict[str, int]:
        """PSS of each process of a side, read now: before and after, the cost of a connection can be told.

        Takes milliseconds for each process; the caller's thread waits. May be called at any time, without `start` too.
        """
        tree = _children()
        named = set(self._pids().values())
        return {name: _pss(_family(pid, tree, named)) for name, pid in self._names[side]().items()}

    # --- in the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        due = time.monotonic()
        last = False
        while not last:
            last = self._stopped.wait(max(0.0, due - time.monotonic()))
            self._sample()
            due = max(due + self._interval, time.monotonic())

    def _pids(self) -> dict[tuple[str, str], int]:
        return {(side, name): pid for side, names in self._names.items() for name, pid in names().items()}

    def _sample(self) -> None:
        at = time.monotonic() - self.started
        pids = self._pids()
        tree = _children()
        named = set(pids.values())
        present: list[_Row] = []
        for (side, name), pid in pids.items():
            row = self._rows.get((side, name))
            if row is None:
                row = self._rows[side, name] = _Row(side, name)
                self._turns.append(row)
            row.pid = pid
            row.family = _family(pid, tree, named)
            # What ended children used moves to their parent. A parent of named processes would count them twice.
            row.parent_of_named = row.parent_of_named or any(child in named for child in tree.get(pid, ()))
            row.use(at, self._started_wall)
            present.append(row)
        self._read_pss(at, present)
        for row in present:
            row.write(at)
        self._kernel.append(_kernel(at))
        self.now = self._added_up(present)

    def _read_pss(self, at: float, present: Iterable[_Row]) -> None:
        self._allowance = min(self._allowance, 0.0) + PSS_SHARE * self._interval  # what was not spent is not saved up
        alive = {id(row) for row in present}
        for _ in range(len(self._turns)):
            row = self._turns[0]
            if self._allowance <= 0 or at - row.read_at < PSS_EVERY:
                return  # the others were read later than this one
            self._turns.rotate(-1)
            row.read_at = at
            if id(row) in alive:
                before = time.thread_time()
                row.pss = _pss(row.family)
                row.fresh = True
                self._allowance -= time.thread_time() - before

    def _added_up(self, present: list[_Row]) -> Now:
        server = [row for row in present if row.side == "server"]
        harness = [row for row in present if row.side == "harness"]
        kernel = self._kernel[-1]
        return Now(
            server_cpu=sum(row.cpu for row in server),
            server_pss=sum(row.pss for row in server),
            harness_cpu=sum(row.cpu for row in harness),
            harness_pss=sum(row.pss for row in harness),
            available=kernel.available,
            kernel=kernel.slab + kernel.tcp_memory,
        )


@dataclass(slots=True, eq=False)
class _Row:
    """What is known of one name."""

    side: str
    name: str
    pid: int = 0
    family: list[int] = field(default_factory=list)  # the process and its descendants without a name
    parent_of_named: bool = False
    used: float = 0.0  # CPU seconds of the process with `used_of` for id, since it began
    used_of: int = 0
    used_at: float = 0.0
    cpu: float = 0.0
    cpu_seconds: float = 0.0
    pss: int = 0
    read_at: float = -PSS_EVERY
    fresh: bool = False  # `pss` was read for this sample
    first: bool = True
    samples: list[ProcessSample] = field(default_factory=list)

    def use(self, at: float, run_started: float) -> None:
        used = sum(_cpu(pid, with_ended=not self.parent_of_named) for pid in self.family)
        if self.pid != self.used_of:
            # All of a process that began during the run belongs to it; of one that was there before, what follows.
            self.used = 0.0 if _born(self.pid) >= run_started else used
            self.used_of = self.pid
        spent = max(0.0, used - self.used)
        self.used = max(self.used, used)  # less after a child ended, until its parent has reaped it
        self.cpu = 0.0 if self.first else spent / max(at - self.used_at, 1e-3)
        self.cpu_seconds += spent
        self.used_at = at

    def write(self, at: float) -> None:
        self.samples.append(ProcessSample(round(at, 2), round(self.cpu, 3), self.pss if self.fresh else 0))
        self.fresh = self.first = False


def machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        cpus=len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        processor=_processor(),
        file_limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _processor() -> str:
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(errors="replace"), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for pid in psutil.pids():
        with suppress(psutil.Error):
            children.setdefault(psutil.Process(pid).ppid(), []).append(pid)
    return children


def _family(pid: int, children: Mapping[int, list[int]], named: set[int]) -> list[int]:
    family = [pid]
    for member in family:  # grows meanwhile
        family += [child for child in children.get(member, ()) if child not in named]
    return family


def _cpu(pid: int, with_ended: bool) -> float:
    """CPU seconds of a process since it began; 0 when it has ended or must not be seen."""
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0) if with_ended else 0.0
        return float(times.user + times.system + ended)
    return 0.0


def _born(pid: int) -> float:
    with suppress(psutil.Error):
        return float(psutil.Process(pid).create_time())
    return 0.0


def _pss(pids: Iterable[int]) -> int:
    """Proportional set size in bytes, added up; 0 where the system does not tell (macOS, other people's processes)."""
    total = 0
    for pid in pids:
        with suppress(psutil.Error, OSError):
            total += int(getattr(psutil.Process(pid).memory_full_info(), "pss", 0))
    return total


def _kernel(at: float) -> KernelSample:
    memory = psutil.virtual_memory()
    pages = sockets = 0
    for path in ("/proc/net/sockstat", "/proc/net/sockstat6"):
        with suppress(OSError):
            for protocol, *words in map(str.split, Path(path).read_text().splitlines()):
                if protocol in ("TCP:", "TCP6:"):
                    numbers = dict(zip(words[::2], map(int, words[1::2]), strict=True))
                    sockets += numbers["inuse"]
                    pages += numbers.get("mem", 0)
    return KernelSample(round(at, 2), getattr(memory, "slab", 0), pages * PAGE, sockets, memory.available)


def _thin(samples: list[ProcessSample]) -> list[ProcessSample]:
    """At most `KEPT` samples: the mean CPU of each few in a row, and the last PSS that was read among them."""
    step = -(-len(samples) // KEPT) or 1
    if step == 1:
        return list(samples)
    thin = []
    before = 0.0
    for start in range(0, len(samples), step):
        some = samples[start : start + step]
        spent, since = 0.0, before
        for sample in some:
            spent += sample.cpu * (sample.at - since)
            since = sample.at
        pss = next((sample.pss for sample in reversed(some) if sample.pss), 0)
        thin.append(ProcessSample(since, round(spent / max(since - before, 1e-3), 3), pss))
        before = since
    return thin
