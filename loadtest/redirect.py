"""`chalkwire loadtest redirect`: short links made and followed, beside a bare ASGI route, and every click looked for.

First links are made, one a request. Then, in turns, the bare route and the links take as many requests as they answer;
then the links take 1,000 a second, each at its time. At the end the server must have counted every redirect once.
What is compared is CPU time of the process that answers: on a machine with few cores the client has the others.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import psutil  # type: ignore[import-untyped]
import uvloop

from loadtest.http import Requests, Taken, request
from loadtest.latency import Histogram
from loadtest.report.model import FORMAT, Budget, Fault, Ledger, Moment, Phase, Report
from loadtest.run import Options, serving
from loadtest.sampling import Sampler, machine
from loadtest.target import Find, Local, Unusable, nothing_known, require_permission
from loadtest.target import parse as parse_target

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
TARGET = "https://example.org/lesson?week=1"
FOLLOWED = "followed"  # the tag of those whose clicks are looked for, in one request
COUNTED_WITHIN = 60.0  # s
BUDGETS = [
    Budget("B7", "redirects a second of a core, counted", "least", 10_000, "redirects_per_core_second", "/s"),
    Budget("B7", "over a bare ASGI route", "least", 0.5, "redirect_over_bare_route", "times"),
    Budget("B7", "links made a second", "least", 2_000, "creates_per_second", "/s"),
]


@dataclass(frozen=True)
class Shape:
    """What the run does. Times in seconds."""

    connections: int = 50
    links: int = 100
    seconds: float = 5.0
    turns: int = 3
    rate: float = 1000.0
    paced: float = 10.0


@dataclass
class Found:
    """What was measured. Rates in turns; `spent`: CPU seconds of the nodes."""

    phases: list[Phase] = field(default_factory=list)
    moments: Counter[tuple[int, str]] = field(default_factory=Counter)
    latency: dict[str, Histogram] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    facts: dict[str, float] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load(shape: Shape, options: Options, *, find: Find = nothing_known) -> Report:
    """Run it and return its report; nothing is written. Raises Unusable."""
    unlimited = ("LIMITS__REQUESTS_PER_USER=0", "LIMITS__LINKS_PER_USER=0") if options.serve else ()
    with serving(replace(options, settings=[*unlimited, *options.settings]), find) as (target, local):
        require_permission(target, own=options.own)
        if not local.tokens.secret:
            raise Unusable("Links are made by somebody with an account's token: give --secret, or --serve 1.")
        began = time.time()
        with Sampler(local.processes) as sampler:
            run = _Run(shape, local, sampler)
            uvloop.run(run())
        seconds = time.monotonic() - sampler.started
        found = run.found
        return Report(
            format=FORMAT,
            scenario="redirect",
            started=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            command=options.command,
            options=dict(options.shown),
            target=local.url,
            server=local.describe(),
            machine=machine(),
            partial="",
            phases=found.phases,
            facts={name: round(value, 6) for name, value in found.facts.items()},
            counts=_sums(found.moments),
            errors=dict(found.errors),
            latency={kind: histogram.latency() for kind, histogram in found.latency.items()},
            ledger=Ledger([], found.faults, len(found.faults)),
            budgets=BUDGETS,
            moments=_moments(found.moments, sampler.started, shape.connections, seconds),
            processes=sampler.processes(),
            kernel=sampler.kernel(),
            notes=found.notes,
        )


class _Run:
    def __init__(self, shape: Shape, local: Local, sampler: Sampler) -> None:
        self._shape = shape
        self._local = local
        self._started = sampler.started
        address = urlsplit(local.url)
        assert address.hostname and address.port
        self._host = f"{address.hostname}:{address.port}"
        self._requests = Requests(parse_target(local.url).host, address.port, shape.connections)
        claims = {"sub": str(uuid4()), "iat": int(time.time()), "exp": int(time.time()) + 3600}
        self._token = f"Bearer {jwt.encode(claims, local.tokens.secret, 'HS256')}"
        self.found = Found()

    async def __call__(self) -> None:
        shape, found = self._shape, self.found
        by_wrk, *codes = await self._make()  # wrk does not count what is under way when it stops: that link is its own
        follow = [request("GET", f"/s/{code}", self._host, User_Agent=BROWSER) for code in codes]
        followed: Counter[int] = Counter()
        rates: list[float] = []
        with bare_route() as (pid, port):
            floor = Requests("127.0.0.1", port, shape.connections)
            await floor.closed(follow, 1.0)
            floors = [await self._beside(floor, follow, pid)]
            for turn in range(shape.turns):
                spent = self._spent()
                with self._phase(f"redirect-{turn + 1}"):
                    taken = await self._requests.closed(follow, shape.seconds)
                self._note("redirect", taken, {302})
                followed.update(taken.sent)
                await self._counted(codes, followed)
                rates.append(taken.count / (self._spent() - spent))
                found.facts["redirects_per_second"] = max(found.facts.get("redirects_per_second", 0.0), taken.rate)
                floors.append(await self._beside(floor, follow, pid))
        if any(rates):
            ratios = [rate / ((a + b) / 2) for rate, a, b in zip(rates, floors[:-1], floors[1:], strict=True)]
            found.facts["redirects_per_core_second"] = _median(rates)
            found.facts["bare_route_per_core_second"] = _median(floors)
            found.facts["redirect_over_bare_route"] = _median(ratios)
        if shutil.which("wrk"):
            self._wrk(by_wrk)
        with self._phase("paced"):
            taken = await self._requests.paced(follow, shape.rate, shape.paced)
        self._note("paced", taken, {302})
        followed.update(taken.sent)
        await self._counted(codes, followed, last=True)
        found.facts["redirects"] = sum(followed.values())

    async def _make(self) -> list[str]:
        """Links, one a request, of which the first ones are followed."""
        shape = self._shape
        body = json.dumps({"url": TARGET}).encode()
        make = request("POST", "/v1/links", self._host, body, Authorization=self._token)
        bodies: list[bytes] = []
        body = json.dumps({"url": TARGET, "tags": [FOLLOWED]}).encode()
        these = request("POST", "/v1/links", self._host, body, Authorization=self._token)
        first = await self._requests.once([make, *[these] * shape.links], bodies)
        if first.statuses.keys() != {201}:
            raise Unusable(f"Links cannot be made there: {dict(first.statuses)} {bodies[:1]!r}")
        spent = self._spent()
        with self._phase("create"):
            taken = await self._requests.closed([make], shape.seconds)
        self._note("create", taken, {201})
        self.found.facts["creates_per_second"] = taken.rate
        if (used := self._spent() - spent) > 0:
            self.found.facts["creates_per_core_second"] = taken.count / used
        lines = json.dumps({"links": [{"url": TARGET}] * 500}).encode()
        bulk = request("POST", "/v1/links/bulk", self._host, lines, Authorization=self._token)
        with self._phase("bulk"):
            taken = await Requests(*self._address, 4).closed([bulk], shape.seconds / 2)
        self.found.facts["bulk_creates_per_second"] = taken.rate * 500
        made = sorted((json.loads(each) for each in bodies), key=lambda link: len(link["tags"]))
        return [link["code"] for link in made]  # the first one is without the tag

    @property
    def _address(self) -> tuple[str, int]:
        host, _, port = self._host.rpartition(":")
        return parse_target(self._local.url).host or host, int(port)

    async def _beside(self, floor: Requests, follow: Sequence[bytes], pid: int) -> float:
        """What the bare route answers for a second of its CPU."""
        before = _cpu(pid)
        taken = await floor.closed(follow, self._shape.seconds / 2)
        return taken.count / (_cpu(pid) - before)

    async def _counted(self, codes: Sequence[str], followed: Mapping[int, int], *, last: bool = False) -> None:
        """Return when the server has counted every redirect, or will not any more."""
        wanted = [followed[number] for number in range(len(codes))]
        ask = [request("GET", f"/v1/links?tag={FOLLOWED}&limit=100", self._host, Authorization=self._token)]
        deadline = time.monotonic() + COUNTED_WITHIN
        while True:
            bodies: list[bytes] = []
            await Requests(*self._address, 1).once(ask, bodies)
            found = {link["code"]: link["click_count"] for link in json.loads(bodies[0])["links"]}
            counts = [found[code] for code in codes]
            if counts == wanted or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        if last:
            self.found.facts["clicks_counted"] = sum(counts)
            self.found.faults += faults(codes, wanted, counts)

    def _wrk(self, code: str) -> None:
        """The same by wrk, which is in C: what the server does while a client takes less of the machine."""
        url = f"http://{self._host}/s/{code}"
        spent = self._spent()
        with self._phase("wrk"):
            done = subprocess.run(
                ["wrk", "-t1", f"-c{self._shape.connections}", f"-d{self._shape.seconds:.0f}s", "--latency",
                 "-H", f"User-Agent: {BROWSER}", url],
                capture_output=True, text=True, check=False, timeout=self._shape.seconds + 30,
            )  # fmt: skip
        count = next((int(line.split()[0]) for line in done.stdout.splitlines() if " requests in " in line), 0)
        shown = [line.strip() for line in done.stdout.splitlines() if "%" in line or "Requests/sec" in line]
        self.found.notes.append(f"wrk on one link: {'; '.join(' '.join(line.split()) for line in shown)}")
        if count and (used := self._spent() - spent) > 0:
            self.found.facts["wrk_redirects_per_second"] = count / self._shape.seconds
            self.found.facts["wrk_redirects_per_core_second"] = count / used

    # --- books -------------------------------------------------------------------------------------------------

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.monotonic() - self._started
        yield
        self.found.phases.append(Phase(name, start, time.monotonic() - self._started))

    def _note(self, kind: str, taken: Taken, fine: set[int]) -> None:
        for second, count in taken.by_second.items():
            self.found.moments[second, f"{kind}s" if kind != "paced" else "redirects"] += count
        histogram = self.found.latency.setdefault(kind, Histogram())
        histogram.add_counts(taken.latency)
        values = histogram.percentiles()
        self.found.facts |= {f"{kind}_{name}": getattr(values, name) for name in ("p50_ms", "p99_ms", "max_ms")}
        for status, count in taken.statuses.items():
            if status not in fine:
                self.found.errors[f"{kind}: status {status}"] += count
        if taken.broken:
            self.found.errors[f"{kind}: the connection broke"] += taken.broken

    def _spent(self) -> float:
        """CPU seconds of the nodes."""
        return sum(_cpu(pid) for name, pid in self._local.processes().items() if name.startswith("node"))


def faults(codes: Sequence[str], redirects: Sequence[int], counts: Sequence[int]) -> list[Fault]:
    """Links whose clicks are not their redirects."""
    return [
        Fault("lost" if counted < followed else "doubled", f"/s/{code}", f"{followed} redirects, {counted} counted")
        for code, followed, counted in zip(codes, redirects, counts, strict=True)
        if counted != followed
    ]


@contextmanager
def bare_route() -> Iterator[tuple[int, int]]:
    """Its process id and its port."""
    command = [sys.executable, "-m", "loadtest.bare_redirect"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.terminate()


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _sums(moments: Mapping[tuple[int, str], int]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for (_, name), count in moments.items():
        sums[name] += count
    return dict(sums)


def _moments(moments: Mapping[tuple[int, str], int], started: float, connections: int, seconds: float) -> list[Moment]:
    counts: dict[int, dict[str, int]] = {}
    for (second, name), count in moments.items():
        counts.setdefault(second, {})[name] = count
    return [
        Moment(round(min(max(second + 1 - started, 0.001), seconds), 3), connections, counts[second])
        for second in sorted(counts)
    ]
