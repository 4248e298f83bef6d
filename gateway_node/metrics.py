"""Metrics: plain numbers on the hot path, a snapshot file a node, one page for all nodes.

A node's code does `metrics.deliveries += 19000`: no library object in between. While somebody scrapes, the node writes
its numbers once a second to `run_dir/metrics/<node>.prom`; whoever is asked for `/metrics` puts the files of all nodes
together. The supervisor removes a dead node's file, so nothing outlives the process it speaks of (prometheus-client's
own multiprocess mode keeps files of every process id there ever was).
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import os
import platform
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway_node.garbage import Collections

PERIOD = 1.0  # seconds between snapshots while somebody asks for them
IDLE_PERIOD = 15.0  # seconds between snapshots otherwise: one costs 1.3 ms, which 54 nodes would pay every second
ATTENTION = 60.0  # seconds that one question for the page counts as somebody asking
SUPERVISOR = "supervisor"  # whose snapshot changes only when something happens
ASKED = "asked"  # the file whose time says when somebody asked
STALE = 45.0  # seconds after which a snapshot that nobody removed is left out
LATENCIES = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds


class Histogram:
    """Counts of observations up to each bound, and their sum; bounds in seconds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = LATENCIES) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        total, result = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            result.append((bound, float(total)))
        return result


def _gauge(text: str) -> Any:
    return field(default=0, init=False, metadata={"family": GaugeMetricFamily, "text": text})


def _counter(text: str) -> Any:
    return field(default=0, init=False, metadata={"family": CounterMetricFamily, "text": text})


@dataclass(slots=True)
class NodeMetrics:
    """The numbers of one node. Increment or set the attributes; a snapshot reads them, as `chalkwire_<attribute>`."""

    node: str

    connections: int = _gauge("WebSocket connections that are open.")
    subscriptions: int = _gauge("Subscriptions of those connections.")
    channels: int = _gauge("Channels with a subscriber on this node.")
    users: int = _gauge("Different users among the connections.")

    connections_accepted: int = _counter("Connections accepted.")
    messages_in: int = _counter("Messages received from clients.")
    writes: int = _counter("Writes of publications to subscribers; several publications may share one.")
    bytes_in: int = _counter("Bytes of the messages received.")
    deliveries: int = _counter("Publications handed to a subscriber.")
    publishes: int = _counter("Publications of clients that were acknowledged.")
    commands: int = _counter("Commands of clients that were begun.")
    commands_refused: int = _counter("Commands answered with an error.")
    broker_published: int = _counter("Messages handed to NATS for the other nodes.")
    broker_received: int = _counter("Messages of other nodes that came by NATS.")
    broker_dropped: int = _counter("Messages for other nodes that NATS could not take; the log repairs durable ones.")
    gaps_repaired: int = _counter("Holes in a channel's offsets that were filled from the log.")
    gaps_lost: int = _counter("Holes that history could not fill; the subscribers were told to start again.")
    slow_disconnects: int = _counter("Connections closed because their outbox was full.")

    redirects: int = _counter("Short links followed.")
    clicks_dropped: int = _counter("Clicks on short links that are not counted: Redis was away for too long.")
    clicks_stored: int = _counter("Clicks that this node has written to PostgreSQL.")
    clicks_lost: int = _counter("Batches of clicks that could not be read or stored.")
    clicks_backlog: int = _gauge("Batches of clicks in Redis that are not in PostgreSQL yet, as this node sees it.")
    clicks_backlog_seconds: float = _gauge("Age of the oldest of them.")

    publish_seconds: Histogram = field(
        default_factory=Histogram,
        init=False,
        metadata={"family": HistogramMetricFamily, "text": "From a client's publish to its reply."},
    )

    disconnects: dict[int, int] = field(default_factory=dict, init=False)  # by code
    dependencies: dict[str, bool] = field(default_factory=dict, init=False)  # whether each can be used, by name
    loop_lag: float = field(default=0.0, init=False)  # seconds, of the last period
    collections: Collections = field(default_factory=Collections, init=False)

    def families(self) -> Iterator[Metric]:
        node = [self.node]
        for number in fields(self):
            if "family" not in number.metadata:
                continue
            family = number.metadata["family"](f"chalkwire_{number.name}", number.metadata["text"], labels=["node"])
            value = getattr(self, number.name)
            if isinstance(value, Histogram):
                family.add_metric(node, value.buckets(), value.sum)
            else:
                family.add_metric(node, value)
            yield family
        disconnects = CounterMetricFamily(
            "chalkwire_disconnects",
            "Connections closed, by code (1005: the client gave none; 1006: lost).",
            labels=["node", "code"],
        )
        for code, count in sorted(self.disconnects.items()):
            disconnects.add_metric([self.node, str(code)], count)
        yield disconnects
        up = GaugeMetricFamily(
            "chalkwire_dependency_up", "1 while the node can use it, else 0.", labels=["node", "dependency"]
        )
        for name, works in sorted(self.dependencies.items()):
            up.add_metric([self.node, name], float(works))
        yield up
        yield from self._process()

    def _process(self) -> Iterator[Metric]:
        passes = CounterMetricFamily("chalkwire_gc", "Garbage collections.", labels=["node", "generation"])
        for generation, count in enumerate(self.collections.count):
            passes.add_metric([self.node, str(generation)], count)
        yield passes
        cpu = os.times()
        for kind, name, text, value in (
            (CounterMetricFamily, "gc_pause_seconds", "Time in garbage collections.", self.collections.seconds),
            (GaugeMetricFamily, "gc_longest_seconds", "The longest collection so far.", self.collections.longest),
            (GaugeMetricFamily, "loop_lag_seconds", "How late the event loop came round last.", self.loop_lag),
            (CounterMetricFamily, "cpu_seconds", "Processor time, user and system.", cpu.user + cpu.system),
            (GaugeMetricFamily, "resident_memory_bytes", "Memory, shared pages included.", _resident_memory()),
        ):
            family = kind(f"chalkwire_{name}", text, labels=["node"])
            family.add_metric([self.node], value)
            yield family
        build = InfoMetricFamily("chalkwire_build", "What runs.", labels=["node"])
        build.add_metric([self.node], {"version": version(), "python": platform.python_version()})
        yield build


@functools.cache
def version() -> str:
    """The installed version of Chalkwire."""
    try:
        return importlib.metadata.version("chalkwire")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _resident_memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux: not known
        return 0


class _Families(Collector):
    def __init__(self, families: Iterator[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return self._families

    def describe(self) -> list[Metric]:
        return []


def exposition(families: Iterator[Metric]) -> bytes:
    """Prometheus' text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry)


class Snapshots:
    """Writes a node's snapshot when it is due, and measures how late the loop wakes it up."""

    def __init__(
        self,
        metrics: NodeMetrics,
        run_dir: Path,
        *,
        collect: Callable[[], object] = lambda: None,
        period: float = PERIOD,
    ) -> None:
        self._collect = collect  # brings the numbers up to date before each snapshot
        self._metrics = metrics
        self._path = run_dir / "metrics" / f"{metrics.node}.prom"
        self._asked = run_dir / "metrics" / ASKED
        self._period = period
        self._written = float("-inf")

    def write(self) -> None:
        """Raises OSError (a full disk)."""
        self._collect()
        write_snapshot(self._path, self._metrics.families())
        self._written = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self._written >= IDLE_PERIOD:
            return True
        try:
            return time.time() - self._asked.stat().st_mtime < ATTENTION
        except OSError:
            return False

    async def run(self) -> None:
        """Until cancelled. A snapshot that cannot be written is left out: metrics stop nobody."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self.due():
                    self.write()
            except OSError:
                pass
            wanted = loop.time() + self._period
            await asyncio.sleep(self._period)
            self._metrics.loop_lag = max(0.0, loop.time() - wanted)


def write_snapshot(path: Path, families: Iterator[Metric]) -> None:
    """Replace the file in one step: a reader sees the old one or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.new")
    fresh.write_bytes(exposition(families))
    fresh.replace(path)


def restart_families(restarts: Mapping[str, int]) -> Iterator[Metric]:
    """The supervisor's page: how often each process was started again."""
    family = CounterMetricFamily("chalkwire_restarts", "Starts again, by process.", labels=["process"])
    for name, count in restarts.items():
        family.add_metric([name], count)
    yield family


def remove_snapshot(run_dir: Path, node: str) -> None:
    (run_dir / "metrics" / f"{node}.prom").unlink(missing_ok=True)


def render(run_dir: Path) -> bytes:
    """The snapshots of all live nodes as one page: each metric's samples stand together under one heading."""
    families: dict[bytes, tuple[bytes, list[bytes]]] = {}
    directory = run_dir / "metrics"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / ASKED).touch()
    oldest = time.time() - STALE
    for path in sorted(directory.glob("*.prom")):
        try:
            if path.stat().st_mtime < oldest and path.stem != SUPERVISOR:
                continue
            text = path.read_bytes()
        except FileNotFoundError:  # its node ended between the two lines
            continue
        for block in text.split(b"# HELP ")[1:]:
            heading, kind, *samples = block.splitlines(keepends=True)
            name = heading.split(b" ", 1)[0]
            families.setdefault(name, (b"# HELP " + heading + kind, []))[1].extend(samples)
    return b"".join(heading + b"".join(samples) for heading, samples in families.values())
