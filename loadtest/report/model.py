"""`report.json`: everything that a run measured, in a form from which every verdict can be computed again.

Times are milliseconds where a name ends in `_ms`, else seconds since the start of the run; memory is bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

FORMAT = 1  # of the file; `verify` and `compare` refuse another


class Percentiles(msgspec.Struct, frozen=True):
    """Latency from the *intended* send time, so that a sender that was late hides nothing."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Latency(msgspec.Struct, frozen=True):
    """One kind of waiting. `histogram` is an HdrHistogram of microseconds in its own base64 encoding."""

    percentiles: Percentiles
    histogram: str


class Moment(msgspec.Struct, frozen=True):
    """One second of the run. Counts are of that second; `connections` is how many were up at its end.

    `latency` has, by kind, p50, p99 and the maximum of that second in milliseconds.
    """

    at: float
    connections: int
    counts: dict[str, int]
    latency: dict[str, tuple[float, float, float]] = {}


class ProcessSample(msgspec.Struct, frozen=True, array_like=True):
    """CPU as a share of one core since the sample before, PSS in bytes (0 where it was not read).

    `[at, cpu, pss]` in the file: 64 processes have 38,000 of them, 0.7 MB so and 4 MB with names.
    """

    at: float
    cpu: float
    pss: int


class Process(msgspec.Struct, frozen=True):
    """`side` is "server" or "harness". Many alike (54 nodes) are one row each."""

    name: str
    pid: int
    side: str
    cpu_seconds: float
    samples: list[ProcessSample]


class KernelSample(msgspec.Struct, frozen=True):
    """Of the whole machine: slab, TCP buffer pages, sockets in use."""

    at: float
    slab: int
    tcp_memory: int
    sockets: int
    available: int


class Channel(msgspec.Struct, frozen=True):
    """The books of one channel, in numbers and digests.

    A digest is that of the messages in order of their offset. `head_before` and `head_after` are the channel's
    offsets as the server told them; both are 0 where it keeps no history.
    """

    name: str
    durable: bool
    sent: int
    acknowledged: int
    refused: int  # publishes with an error for an answer
    unanswered: int  # publishes without an answer: they may be stored or not
    head_before: int
    head_after: int
    stored: int  # messages of this run in the history that was read back
    stored_digest: str
    published_digest: str  # of what readers saw, merged over all of them; equal to stored_digest where history is whole
    readers: int
    expected: int  # deliveries: for each reader, what was published while it was there
    delivered: int
    first_offset_stored: int = 1  # the first offset still in history: above head_before + 1 when history was trimmed


class Fault(msgspec.Struct, frozen=True):
    """One promise that was broken: lost, doubled, reordered, invented, gap, undelivered, unrecovered, disagreement,
    malformed (against the protocol)."""

    kind: str
    channel: str
    detail: str


class Ledger(msgspec.Struct, frozen=True):
    channels: list[Channel]
    faults: list[Fault]  # the first thousand
    fault_count: int
    # Channels beyond the first thousand are added up here, so that a report of 100,000 rooms stays readable.
    others: Channel | None = None

    @property
    def clean(self) -> bool:
        return self.fault_count == 0


class Phase(msgspec.Struct, frozen=True):
    """A part of the run with a name: connect, publish, storm, drain."""

    name: str
    start: float
    end: float


class Budget(msgspec.Struct, frozen=True):
    """A limit of the design, what was measured against it, and by which formula (over names of `Report.facts`).

    `kind` is "most" (measured <= limit) or "least" (measured >= limit). `fact` names the measured number in
    `Report.facts`, from which `verify` takes it again.
    """

    name: str
    what: str
    kind: str
    limit: float
    fact: str
    unit: str


class Machine(msgspec.Struct, frozen=True):
    cpus: int
    memory: int
    kernel: str
    python: str
    processor: str
    file_limit: int


class Report(msgspec.Struct, frozen=True):
    format: int
    scenario: str
    started: str  # RFC 3339, UTC
    seconds: float
    command: str
    options: dict[str, Any]
    target: str
    server: dict[str, Any]  # what is known of it: nodes, version, fsync, synchronous_commit …
    machine: Machine
    partial: str  # why the run ended early; empty when it is whole
    phases: list[Phase]
    facts: dict[str, float]  # single numbers by name: connections, connects_per_second, deliveries_per_second …
    counts: dict[str, int]  # of the whole run: connects, published, acknowledged, delivered, errors by kind …
    errors: dict[str, int]  # by text
    latency: dict[str, Latency]  # by kind: connect, publish, delivery, recovery …
    ledger: Ledger
    budgets: list[Budget]
    moments: list[Moment]
    processes: list[Process]
    kernel: list[KernelSample]
    notes: list[str] = []  # sentences for the reader: what was not measured, and why


class UnreadableReport(Exception):
    """Not a report, or one of another version; the message says which."""


def write(report: Report, path: Path) -> None:
    """Write it in one step: a reader sees a whole file. Raises OSError.

    One line for each field, and for each element of the long lists: it can be read, and costs little.
    """
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    lines = (_field(name, value) for name, value in fields.items())
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(b"{\n" + b",\n".join(lines) + b"\n}\n")
    fresh.replace(path)


def _field(name: str, value: object) -> bytes:
    if isinstance(value, list) and value:
        text = b"[\n  " + b",\n  ".join(map(msgspec.json.encode, value)) + b"\n ]"
    else:
        text = msgspec.json.encode(value)
    return b" " + msgspec.json.encode(name) + b": " + text


def read(path: Path) -> Report:
    """Raises UnreadableReport."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise UnreadableReport(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UnreadableReport(f"{path} is not a report of a load test: {error}") from None
    if report.format != FORMAT:
        raise UnreadableReport(f"{path} has format {report.format}; this version reads format {FORMAT}")
    return report
