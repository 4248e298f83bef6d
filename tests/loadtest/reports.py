"""Reports that add up, made from a few numbers: a run of one publisher's channel for each `channels`."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec

from loadtest.latency import Histogram, summary
from loadtest.report.model import (
    FORMAT,
    Budget,
    Channel,
    KernelSample,
    Ledger,
    Machine,
    Moment,
    Phase,
    Process,
    ProcessSample,
    Report,
)

GIB = 1 << 30
MIB = 1 << 20
PLAN = {
    "name": "rooms",
    "phases": [
        {"name": "connect", "activities": [{"do": "open", "window": 256}]},
        {"name": "talk", "activities": [{"do": "publish", "rate": 100}]},
    ],
}


def made(*, seconds: int = 60, readers: int = 50, channels: int = 3, nodes: int = 2, seed: int = 1) -> Report:
    """Clients connect in the first third, then every channel gets ten messages a second; the last second is silent."""
    chance = random.Random(seed)
    opening = max(1, seconds // 3)
    clients = readers * channels
    histograms = {kind: Histogram() for kind in ("connect", "publish", "delivery")}
    moments = []
    published = connected = 0
    for second in range(1, seconds + 1):
        counts: dict[str, int] = {}
        latency = {}

        def note(kind: str, middle: float, times: int, latency: Any = latency) -> None:
            waits: dict[int, int] = {}
            for _ in range(min(times, 60)):
                wait = int(middle * 1000 * math.exp(chance.gauss(0, 0.5)) * (8 if chance.random() < 0.01 else 1)) + 1
                waits[wait] = waits.get(wait, 0) + max(1, times // 60)
            left = times - sum(waits.values())
            if left:
                waits[max(waits)] += left
            histograms[kind].add_counts(waits)
            latency[kind] = summary(waits)

        if second <= opening:
            counts["connects"] = clients * second // opening - connected
            connected += counts["connects"]
            note("connect", 12 + second / opening * 5, counts["connects"])
        elif second < seconds:
            counts |= {"published": 10 * channels, "acknowledged": 10 * channels}
            counts["delivered"] = 10 * channels * readers
            published += 10 * channels
            note("publish", 1.8, counts["acknowledged"])
            note("delivery", 4.0 + 2 * math.sin(second / 9), counts["delivered"])
        moments.append(Moment(float(second), connected, counts, latency))
    each = published // channels
    books = [
        Channel(
            name=f"chat:room-{n}",
            durable=True,
            sent=each,
            acknowledged=each,
            refused=0,
            unanswered=0,
            head_before=7,
            head_after=7 + each,
            stored=each,
            stored_digest=f"{n:016x}",
            published_digest=f"{n:016x}",
            readers=readers,
            expected=each * readers,
            delivered=each * readers,
            first_offset_stored=1,
        )
        for n in range(channels)
    ]
    phases = [
        Phase("connect", 0.0, float(opening)),
        Phase("talk", float(opening), seconds - 1.0),
        Phase("drain", seconds - 1.0, float(seconds)),
    ]
    deliveries = published * readers
    processes = [
        *(_process(f"node-{n}", "server", seconds, opening, 0.9 / nodes, 40, 76, chance) for n in range(1, nodes + 1)),
        _process("supervisor", "server", seconds, opening, 0.01, 35, 36, chance),
        _process("log-writer", "server", seconds, opening, 0.12, 38, 44, chance),
        _process("postgres", "server", seconds, opening, 0.25, 90, 260, chance),
        _process("valkey", "server", seconds, opening, 0.04, 12, 60, chance),
        _process("nats", "server", seconds, opening, 0.09, 22, 48, chance),
        *(_process(f"worker-{n}", "harness", seconds, opening, 0.2, 50, 300, chance) for n in range(2)),
        _process("coordinator", "harness", seconds, opening, 0.03, 60, 70, chance),
    ]
    facts = {
        "clients": clients,
        "connections": clients,
        "published": published,
        "acknowledged": published,
        "deliveries": deliveries,
        "connect_seconds": float(opening),
        "connects_per_second": clients / opening,
        "acknowledged_per_second": published / (seconds - 1 - opening),
        "deliveries_per_second": deliveries / (seconds - 1 - opening),
        "server_bytes_before": 400 * MIB,
        "server_bytes_after": 400 * MIB + 3100 * clients,
        "server_bytes_per_connection": 3100.0,
    }
    for kind, histogram in histograms.items():
        found = histogram.percentiles()
        facts |= {f"{kind}_{name}": getattr(found, name) for name in ("p50_ms", "p99_ms", "max_ms")}
    return Report(
        format=FORMAT,
        scenario="rooms",
        started="2026-11-27T10:15:00+00:00",
        seconds=float(seconds),
        command=f"chalkwire loadtest rooms --rooms {channels} --members {readers} --rate {10 * channels}",
        options={"rooms": channels, "members": readers, "presence": True, "plan": PLAN},
        target="ws://127.0.0.1:8000/connection/websocket",
        server={"version": "0.1.0", "nodes": nodes, "fsync": "on", "synchronous_commit": "on", "presence": True},
        machine=Machine(2, 24 * GIB, "Linux 6.18.44", "CPython 3.11.7", "AMD EPYC", 20000),
        partial="",
        phases=phases,
        facts=facts,
        counts={"connects": clients, "published": published, "acknowledged": published, "delivered": deliveries},
        errors={},
        latency={kind: histogram.latency() for kind, histogram in histograms.items()},
        ledger=Ledger(books, [], 0),
        budgets=[
            Budget("B1", "server memory a connection", "most", 4096, "server_bytes_per_connection", "bytes"),
            Budget("B4", "publishes, 99 % of them", "most", 250, "publish_p99_ms", "ms"),
        ],
        moments=moments,
        processes=processes,
        kernel=[
            KernelSample(float(n), 200 * MIB + min(n, opening) * 8 * MIB, 3 * MIB + n * 40_000,
                         2 * clients * min(n, opening) // opening, 20 * GIB - min(n, opening) * 50 * MIB)
            for n in range(seconds + 1)
        ],
        notes=["Server and harness share this machine."],
    )  # fmt: skip


def _process(
    name: str, side: str, seconds: int, opening: int, cpu: float, low: int, high: int, chance: random.Random
) -> Process:
    samples = [ProcessSample(0.0, 0.0, low * MIB)]
    offset = chance.randrange(5)
    step = max(1, seconds // 600)
    for at in range(step, seconds + 1, step):
        used = round(min(1.0, max(0.0, cpu * chance.uniform(0.7, 1.3))), 3)
        pss = int((low + (high - low) * min(1.0, at / opening) * chance.uniform(0.97, 1.0)) * MIB)
        samples.append(ProcessSample(float(at), used, pss if (at + offset) % (5 * step) == 0 else 0))
    spent = sum(sample.cpu for sample in samples) * step
    return Process(name, 1000 + offset, side, round(spent, 2), samples)


def but(report: Report, **changes: Any) -> Report:
    """The same with other fields."""
    return msgspec.structs.replace(report, **changes)


def but_channel(report: Report, **changes: Any) -> Report:
    """The same with other numbers in its first channel."""
    first, *rest = report.ledger.channels
    ledger = msgspec.structs.replace(report.ledger, channels=[msgspec.structs.replace(first, **changes), *rest])
    return but(report, ledger=ledger)
