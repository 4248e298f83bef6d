"""Metrics: what a node counts, and one page for all nodes."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway_node import metrics
from gateway_node.garbage import Collections
from gateway_node.metrics import Histogram, NodeMetrics, Snapshots


def page(run_dir: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the page by name and labels, as Prometheus' own parser reads it."""
    samples = {}
    for family in text_string_to_metric_families(metrics.render(run_dir).decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, "the same series twice"
            samples[key] = sample.value
    return samples


def test_the_page_has_each_nodes_numbers_under_one_heading(tmp_path: Path) -> None:
    for index in (1, 2):
        numbers = NodeMetrics(f"node-{index}")
        numbers.connections = 10 * index
        numbers.deliveries += 19_000 * index
        numbers.disconnects = {3008: index}
        numbers.dependencies["nats"] = index == 1
        Snapshots(numbers, tmp_path).write()
    samples = page(tmp_path)
    assert samples["chalkwire_connections", (("node", "node-1"),)] == 10
    assert samples["chalkwire_connections", (("node", "node-2"),)] == 20
    assert samples["chalkwire_deliveries_total", (("node", "node-2"),)] == 38_000
    assert samples["chalkwire_disconnects_total", (("code", "3008"), ("node", "node-2"))] == 2
    assert samples["chalkwire_dependency_up", (("dependency", "nats"), ("node", "node-1"))] == 1
    assert samples["chalkwire_dependency_up", (("dependency", "nats"), ("node", "node-2"))] == 0
    text = metrics.render(tmp_path).decode()
    headings = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(headings) == len(set(headings))


def test_every_number_has_an_attribute_and_a_place_on_the_page(tmp_path: Path) -> None:
    numbers = NodeMetrics("node-1")
    Snapshots(numbers, tmp_path).write()
    names = {name for name, _ in page(tmp_path)}
    assert {"chalkwire_connections", "chalkwire_users", "chalkwire_deliveries_total"} <= names
    for number in fields(NodeMetrics):
        if number.metadata:
            assert any(name.startswith(f"chalkwire_{number.name}") for name in names)
    assert {f"chalkwire_publish_seconds_{part}" for part in ("bucket", "sum", "count")} <= names
    assert {"chalkwire_build_info", "chalkwire_loop_lag_seconds", "chalkwire_gc_total"} <= names


def test_a_dead_node_is_not_on_the_page(tmp_path: Path) -> None:
    for name in ("node-1", "node-2"):
        Snapshots(NodeMetrics(name), tmp_path).write()
    metrics.remove_snapshot(tmp_path, "node-1")
    metrics.remove_snapshot(tmp_path, "node-1")  # nothing to remove is fine
    nodes = {dict(labels)["node"] for _, labels in page(tmp_path)}
    assert nodes == {"node-2"}


def test_a_snapshot_that_nobody_removed_goes_out_of_date(tmp_path: Path) -> None:
    Snapshots(NodeMetrics("node-1"), tmp_path).write()
    old = time.time() - metrics.STALE - 1
    os.utime(tmp_path / "metrics" / "node-1.prom", (old, old))
    assert page(tmp_path) == {}


def test_restarts_are_the_supervisors_to_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "supervisor.prom"
    metrics.write_snapshot(path, metrics.restart_families({"node-1": 2, "log-writer": 0}))
    old = time.time() - metrics.STALE - 1
    os.utime(path, (old, old))  # nothing happened for long: it still holds
    assert page(tmp_path)["chalkwire_restarts_total", (("process", "node-1"),)] == 2


def test_no_server_yet_is_an_empty_page(tmp_path: Path) -> None:
    assert metrics.render(tmp_path) == b""


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)
    assert histogram.buckets() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == pytest.approx(7.65)


async def test_snapshots_follow_each_other_quickly_only_while_somebody_asks(tmp_path: Path) -> None:
    numbers = NodeMetrics("node-1")
    snapshots = Snapshots(numbers, tmp_path, period=0.001)
    writer = asyncio.create_task(snapshots.run())
    path = tmp_path / "metrics" / "node-1.prom"
    try:
        while not path.exists():
            await asyncio.sleep(0.001)
        assert not snapshots.due()
        numbers.deliveries = 5
        while page(tmp_path)["chalkwire_deliveries_total", (("node", "node-1"),)] != 5:  # asking makes them due
            await asyncio.sleep(0.001)
        assert snapshots.due()
    finally:
        writer.cancel()


async def test_a_snapshot_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file where the folder should be")
    writer = asyncio.create_task(Snapshots(NodeMetrics("node-1"), tmp_path, period=0.001).run())
    await asyncio.sleep(0.01)
    assert not writer.done()
    writer.cancel()


def test_collections_are_counted_and_timed() -> None:
    collections = Collections()
    collections.watch()
    collections.watch()  # twice counts once
    try:
        gc.collect()
        gc.collect(0)
    finally:
        collections.unwatch()
    assert collections.count[2] == 1
    assert collections.count[0] >= 1
    assert 0 < collections.longest <= collections.seconds
    gc.collect()
    assert collections.count[2] == 1
