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
from collections.abc import Iterator
from pathlib import Path

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

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PERIOD = 1.0  # seconds between snapshots while somebody asks for them
IDLE_PERIOD = 15.0  # seconds between snapshots otherwise: one costs 1.3 ms, which 54 nodes would pay every second
ATTENTION = 60.0  # seconds that one question for the page counts as somebody asking
ASKED = "asked"  # the file whose time says when somebody asked
STALE = 45.0  # seconds after which a snapshot that nobody removed is left out
LATENCIES = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds

GAUGES = {
    "connections": "WebSocket connections that are open.",
    "subscriptions": "Subscriptions of those connections.",
    "channels": "Channels with a subscriber on this node.",
    "users": "Different users among the connections.",
}
COUNTERS = {
    "connections_accepted": "Connections accepted.",
    "messages_in": "Commands received from clients.",
    "messages_out": "Replies and pushes written to clients.",
    "bytes_in": "Bytes received from clients, of messages.",
    "bytes_out": "Bytes written to clients, of messages.",
    "deliveries": "Publications handed to a subscriber.",
    "publishes": "Publications accepted.",
    "publish_errors": "Publications refused or failed.",
    "append_duplicates": "Appends that the log had already.",
    "gaps_repaired": "Holes in a channel's offsets that were filled from the log.",
    "gaps_lost": "Holes that history could not fill; the subscribers were told to start again.",
    "recoveries": "Subscriptions that got what they had missed.",
    "recoveries_failed": "Subscriptions for which too much was missing.",
    "slow_disconnects": "Connections closed because their outbox was full.",
    "broker_published": "Messages sent to other nodes.",
    "broker_received": "Messages received from other nodes.",
}
HISTOGRAMS = {
    "publish_seconds": "From a client's publish to its reply.",
    "append_seconds": "From handing an entry to the log until it is committed.",
}
DEPENDENCIES = ("postgresql", "redis", "nats", "log_writer")


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


class NodeMetrics:
    """The numbers of one node. Increment the attributes; a snapshot reads them."""

    __slots__ = (*GAUGES, *COUNTERS, *HISTOGRAMS, "collections", "dependencies", "disconnects", "loop_lag", "node")

    connections: int
    subscriptions: int
    channels: int
    users: int
    connections_accepted: int
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    deliveries: int
    publishes: int
    publish_errors: int
    append_duplicates: int
    gaps_repaired: int
    gaps_lost: int
    recoveries: int
    recoveries_failed: int
    slow_disconnects: int
    broker_published: int
    broker_received: int
    publish_seconds: Histogram
    append_seconds: Histogram

    def __init__(self, node: str) -> None:
        self.node = node
        for name in (*GAUGES, *COUNTERS):
            setattr(self, name, 0)
        for name in HISTOGRAMS:
            setattr(self, name, Histogram())
        self.disconnects: dict[int, int] = {}  # by code
        self.dependencies: dict[str, bool] = {}  # by name, of DEPENDENCIES
        self.loop_lag = 0.0  # seconds, the most within the last period
        self.collections = Collections()

    def disconnected(self, code: int) -> None:
        self.disconnects[code] = self.disconnects.get(code, 0) + 1

    def families(self) -> Iterator[Metric]:
        node = [self.node]
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"chalkwire_{name}", text, labels=["node"])
            gauge.add_metric(node, getattr(self, name))
            yield gauge
        for name, text in COUNTERS.items():
            counter = CounterMetricFamily(f"chalkwire_{name}", text, labels=["node"])
            counter.add_metric(node, getattr(self, name))
            yield counter
        for name, text in HISTOGRAMS.items():
            histogram: Histogram = getattr(self, name)
            family = HistogramMetricFamily(f"chalkwire_{name}", text, labels=["node"])
            family.add_metric(node, histogram.buckets(), histogram.sum)
            yield family
        disconnects = CounterMetricFamily(
            "chalkwire_disconnects", "Connections closed, by code (0: by the client).", labels=["node", "code"]
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
        node = [self.node]
        passes = CounterMetricFamily(
            "chalkwire_gc", "Garbage collections, by generation.", labels=["node", "generation"]
        )
        for generation, count in enumerate(self.collections.count):
            passes.add_metric([self.node, str(generation)], count)
        yield passes
        yield _one(
            CounterMetricFamily, "gc_pause_seconds", "Time in garbage collections.", node, self.collections.seconds
        )
        yield _one(GaugeMetricFamily, "gc_longest_seconds", "The longest collection.", node, self.collections.longest)
        yield _one(GaugeMetricFamily, "loop_lag_seconds", "How late the event loop was, at most.", node, self.loop_lag)
        cpu = os.times()
        yield _one(CounterMetricFamily, "cpu_seconds", "Processor time, user and system.", node, cpu.user + cpu.system)
        if memory := _resident_memory():
            yield _one(GaugeMetricFamily, "resident_memory_bytes", "Memory, shared pages included.", node, memory)
        build = InfoMetricFamily("chalkwire_build", "What runs.", labels=["node"])
        build.add_metric(node, {"version": version(), "python": platform.python_version()})
        yield build


@functools.cache
def version() -> str:
    """The installed version of Chalkwire."""
    try:
        return importlib.metadata.version("chalkwire")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _one(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], name: str, text: str, node: list[str], value: float
) -> Metric:
    family = kind(f"chalkwire_{name}", text, labels=["node"])
    family.add_metric(node, value)
    return family


def _resident_memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
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

    def __init__(self, metrics: NodeMetrics, run_dir: Path, *, period: float = PERIOD) -> None:
        self._metrics = metrics
        self._path = run_dir / "metrics" / f"{metrics.node}.prom"
        self._asked = run_dir / "metrics" / ASKED
        self._period = period
        self._written = float("-inf")

    def write(self) -> None:
        """Raises OSError (a full disk)."""
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
            if path.stat().st_mtime < oldest and path.stem.startswith("node-"):
                continue
            text = path.read_bytes()
        except FileNotFoundError:  # its node ended between the two lines
            continue
        for block in text.split(b"# HELP ")[1:]:
            heading, kind, *samples = block.splitlines(keepends=True)
            name = heading.split(b" ", 1)[0]
            families.setdefault(name, (b"# HELP " + heading + kind, []))[1].extend(samples)
    return b"".join(heading + b"".join(samples) for heading, samples in families.values())
