"""Runs a plan: gives the workers their orders, adds up what they say, and balances the books at the end."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from loadtest import plan as plans
from loadtest.crew import Crew
from loadtest.engine import wire
from loadtest.engine.swarm import Target
from loadtest.latency import Histogram, summary
from loadtest.plan import Plan
from loadtest.report.model import Fault, Moment, Phase

T = TypeVar("T")

TICK = 1.0  # s
OPENERS = 6  # workers that connect at the same time: more would only get in each other's way
SETTLE = 1.0  # s after the last answer, in which late duplicates still show
HALT_PATIENCE = 3.0  # s after a stop in which answers still come
LOOPBACK_SOURCES = 4  # addresses of 127.0.0.0/8 for each worker


# Counts of what makes a reader miss messages that it is not owed.
UNSTEADY = ("cut", "disconnects", "leaves", "unsubscribed")


class RunFailed(Exception):
    """The run cannot go on; a sentence for the user."""


@dataclass
class Tally:
    """What all workers have said so far."""

    connections: list[int]
    counts: list[Mapping[str, int]]
    errors: list[Mapping[str, int]]
    faults: list[int]
    latency: dict[str, Histogram] = field(default_factory=dict)
    second: dict[str, Counter[int]] = field(default_factory=dict)  # us -> times, since the last moment

    @classmethod
    def of(cls, workers: int) -> Tally:
        return cls([0] * workers, [{}] * workers, [{}] * workers, [0] * workers)

    def note(self, number: int, progress: wire.Progress) -> None:
        self.connections[number] = progress.connections
        self.counts[number] = progress.counts
        self.errors[number] = progress.errors
        self.faults[number] = progress.faults
        for kind, times in progress.latency.items():
            self.latency.setdefault(kind, Histogram()).add_counts(times)
            self.second.setdefault(kind, Counter()).update(times)

    @staticmethod
    def total(parts: Sequence[Mapping[str, int]]) -> Counter[str]:
        whole: Counter[str] = Counter()
        for part in parts:
            whole.update(part)
        return whole


@dataclass
class Outcome:
    """Everything that the workers found, for the report."""

    run: str
    seconds: float
    partial: str
    steady: bool  # whoever was a reader was one from before the first message to the end
    phases: list[Phase]
    moments: list[Moment]
    counts: dict[str, int]
    errors: dict[str, int]
    latency: dict[str, Histogram]
    entries: list[list[wire.BookEntry]]  # by worker
    faults: list[Fault]
    fault_count: int
    heads: dict[str, int]
    histories: dict[str, tuple[bytes, bytes]]  # channel -> offsets, message ids
    refused: dict[str, str]  # channel -> why its history could not be read


class Closed(NamedTuple):
    heads: dict[str, int]
    histories: dict[str, tuple[bytes, bytes]]
    refused: dict[str, str]


class Coordinator:
    """One run.

    Args:
        after_phase: awaited with the name of each phase of the plan at its end, while nothing is under way.
        began: zero of the run's clock on the monotonic one; now, when it is not given.
    """

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        targets: Sequence[Target],
        tokens: wire.Tokens,
        *,
        after_phase: Callable[[str], Awaitable[None]] | None = None,
        began: float | None = None,
    ) -> None:
        self.plan = plan
        self.run = secrets.token_hex(4)
        self.phase = ""
        self.phases: list[Phase] = []
        self.moments: list[Moment] = []
        self.tally = Tally.of(crew.size)
        self._crew = crew
        self._targets = targets  # each worker has one of them
        self._tokens = tokens
        self.watch: Callable[[Moment], None] = lambda moment: None  # once a second, for the live view
        self._after_phase = after_phase
        self._counted: Counter[str] = Counter()  # up to the last moment
        self.began = time.monotonic() if began is None else began  # zero of the run's clock
        self._waiting: dict[tuple[int, str], asyncio.Future[wire.Answer]] = {}
        self._books: list[list[wire.Books]] = [[] for _ in range(crew.size)]
        self._failure: asyncio.Future[None] | None = None

    @property
    def elapsed(self) -> float:
        """s of the run's clock."""
        return time.monotonic() - self.began

    # --- speaking with the workers -------------------------------------------------------------------------------

    def _heard(self, number: int, answer: wire.Answer) -> None:
        match answer:
            case wire.Progress():
                self.tally.note(number, answer)
            case wire.Ready():
                self._settle(number, "ready -1 -1", answer)
            case wire.Finished():
                self._settle(number, f"{answer.what} {answer.phase} {answer.activity}", answer)
            case wire.Heads():
                self._settle(number, "heads", answer)
            case wire.Histories():
                self._settle(number, "histories", answer)
            case wire.Books():
                self._books[number].append(answer)
                if not answer.more:
                    self._settle(number, "books", answer)
            case wire.Failed():
                if self._failure is not None and not self._failure.done():
                    self._failure.set_exception(RunFailed(answer.why))

    def _answer_of(self, number: int, what: str) -> asyncio.Future[wire.Answer]:
        future = self._waiting.get((number, what))
        if future is None:
            future = self._waiting[number, what] = asyncio.get_running_loop().create_future()
        return future

    def _settle(self, number: int, what: str, answer: wire.Answer) -> None:
        future = self._answer_of(number, what)
        if not future.done():
            future.set_result(answer)

    async def _ask(self, number: int, order: wire.Order, what: str) -> wire.Answer:
        future = self._answer_of(number, what)
        self._crew.send(number, order)
        return await future

    async def _ask_all(self, order: wire.Order, what: str) -> list[wire.Answer]:
        return await asyncio.gather(*(self._ask(number, order, what) for number in range(self._crew.size)))

    # --- the run -------------------------------------------------------------------------------------------------

    async def __call__(self, stop: asyncio.Event) -> Outcome:
        """Run the plan to its end, or until `stop` is set, and close the books.

        Raises:
            RunFailed: a worker ended.
        """
        self._failure = asyncio.get_running_loop().create_future()
        await self._crew.start(self._heard)
        ticking = asyncio.create_task(self._tick())
        try:
            partial = await self._or_failure(self._do(stop))
            closed = await self._or_failure(self._close())
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            if not self._failure.done():
                self._failure.cancel()
            await self._crew.stop()
        self._note_moment()
        heads, histories, refused = closed
        faults = [fault for books in self._books for book in books for fault in book.faults]
        counts = Tally.total(self.tally.counts)
        return Outcome(
            run=self.run,
            seconds=self.elapsed,
            partial=partial,
            steady=_opens_before_it_publishes(self.plan) and not any(counts[name] for name in UNSTEADY),
            phases=self.phases,
            moments=self.moments,
            counts=dict(+counts),
            errors=dict(Tally.total(self.tally.errors)),
            latency=self.tally.latency,
            entries=[[entry for book in books for entry in book.entries] for books in self._books],
            faults=faults,
            fault_count=sum(book.fault_count for books in self._books for book in books),
            heads=heads,
            histories=histories,
            refused=refused,
        )

    async def _or_failure(self, work: Coroutine[object, object, T]) -> T:
        """The result of some work, or the failure of a worker, whichever comes first."""
        assert self._failure is not None
        task = asyncio.ensure_future(work)
        await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        self._failure.result()
        raise AssertionError("unreachable")

    async def _do(self, stop: asyncio.Event) -> str:
        """The phases. Returns why they ended early; nothing when they did not."""
        await asyncio.gather(*(self._answer_of(number, "ready -1 -1") for number in range(self._crew.size)))
        for number in range(self._crew.size):
            self._crew.send(number, self._setup(number))
        stopping = asyncio.create_task(stop.wait())
        try:
            for index, phase in enumerate(self.plan.phases):
                with self._during(phase.name):
                    work = asyncio.create_task(self._do_phase(index, phase))
                    await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
                    if not work.done():
                        await self._halt(work)
                        return f'stopped in the phase "{phase.name}"'
                    work.result()
                if self._after_phase is not None:
                    await self._after_phase(phase.name)
        finally:
            stopping.cancel()
        return ""

    async def _halt(self, work: asyncio.Task[None]) -> None:
        """Let nothing more begin; what has been sent may still be answered."""
        for number in range(self._crew.size):
            self._crew.send(number, wire.Halt())
        await asyncio.wait((work,), timeout=HALT_PATIENCE)
        work.cancel()

    async def _do_phase(self, index: int, phase: plans.Phase) -> None:
        await asyncio.gather(*(self._do_activity(index, n, each) for n, each in enumerate(phase.activities)))

    async def _do_activity(self, phase: int, number: int, activity: plans.Activities) -> None:
        what = f"activity {phase} {number}"
        window = getattr(activity, "window", 0)
        if isinstance(activity, plans.Open) and not activity.rate:
            # A few workers at a time, each with the window that makes sense; then the next ones.
            turns = asyncio.Semaphore(OPENERS)
            each = -(-window // min(OPENERS, self._crew.size))

            async def open_one(worker: int) -> None:
                async with turns:
                    await self._ask(worker, wire.Begin(phase, number, each), what)

            await asyncio.gather(*map(open_one, range(self._crew.size)))
        else:
            await self._ask_all(wire.Begin(phase, number, -(-window // self._crew.size)), what)

    def _clients_of(self, number: int) -> range:
        """The clients of a worker."""
        clients, size = self.plan.clients, self._crew.size
        return range(clients * number // size, clients * (number + 1) // size)

    def _setup(self, number: int) -> wire.Setup:
        mine = self._clients_of(number)
        target = self._targets[number % len(self._targets)]
        return wire.Setup(
            run=self.run,
            worker=number,
            first=mine.start,
            count=len(mine),
            share=len(mine) / self.plan.clients,
            target=target,
            plan=self.plan,
            tokens=self._tokens,
            sources=sources(target.host, number),
            began=int(self.began * 1e9),
        )

    @contextlib.contextmanager
    def _during(self, name: str) -> Iterator[None]:
        start, self.phase = self.elapsed, name
        try:
            yield
        finally:
            self.phases.append(Phase(name, start, self.elapsed))

    # --- the end -------------------------------------------------------------------------------------------------

    def _keepers(self) -> dict[int, list[str]]:
        """The channels that somebody publishes in, by the worker that asks the server about them."""
        used = {
            activity.channels
            for phase in self.plan.phases
            for activity in phase.activities
            if isinstance(activity, plans.Publish)
        }
        starts = [self._clients_of(number).start for number in range(self._crew.size)]
        keepers: dict[int, list[str]] = {}
        for index in used:
            rule = self.plan.channels[index]
            for client in range(0, self.plan.clients, rule.size or self.plan.clients):
                keepers.setdefault(bisect.bisect_right(starts, client) - 1, []).append(rule.name(client))
        return keepers

    async def _close(self) -> Closed:
        keepers = self._keepers()
        refused: dict[str, str] = {}
        heads: dict[str, int] = {}
        with self._during("drain"):
            await asyncio.sleep(SETTLE)
            for answer in await self._ask_some({n: wire.AskHeads(names) for n, names in keepers.items()}, "heads"):
                assert isinstance(answer, wire.Heads)
                heads |= answer.heads
                refused |= answer.refused
            await self._ask_all(wire.Drain(heads, self.plan.drain), "drain -1 -1")
            await asyncio.sleep(SETTLE)
        with self._during("check"):
            await self._ask_all(wire.CloseBooks(), "books")
            entered: dict[str, int] = {}
            for books in self._books:
                for entry in (entry for each in books for entry in each.entries):
                    if entry.durable and entry.entered >= 0:
                        entered[entry.name] = min(entry.entered, entered.get(entry.name, entry.entered))
            orders = {n: wire.ReadHistory({c: entered[c] for c in names if c in heads and c in entered})
                      for n, names in keepers.items()}  # fmt: skip
            histories: dict[str, tuple[bytes, bytes]] = {}
            for answer in await self._ask_some(orders, "histories"):
                assert isinstance(answer, wire.Histories)
                refused |= answer.refused
                histories |= {c: (answer.offsets[c], answer.messages[c]) for c in answer.offsets}
        return Closed(heads, histories, refused)

    async def _ask_some(self, orders: Mapping[int, wire.Order], what: str) -> list[wire.Answer]:
        return await asyncio.gather(*(self._ask(number, order, what) for number, order in orders.items()))

    # --- every second --------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._note_moment()

    def _note_moment(self) -> None:
        tally = self.tally
        counts = Tally.total(tally.counts)
        second, tally.second = tally.second, {}
        gained = {name: count - self._counted[name] for name, count in counts.items() if count != self._counted[name]}
        latency = {kind: summary(times) for kind, times in second.items()}
        self._counted = counts
        moment = Moment(round(self.elapsed, 3), sum(tally.connections), gained, latency)
        self.moments.append(moment)
        self.watch(moment)


def _opens_before_it_publishes(plan: Plan) -> bool:
    kinds = [[type(each) for each in phase.activities] for phase in plan.phases]
    opens = [n for n, phase in enumerate(kinds) if plans.Open in phase]
    publishes = [n for n, phase in enumerate(kinds) if plans.Publish in phase]
    return not publishes or max(opens, default=-1) < min(publishes)


def sources(host: str, worker: int) -> list[str]:
    """Addresses of this machine to connect from: one has 28,000 ports, and many clients need more."""
    if not host.startswith("127."):
        return []
    first = worker * LOOPBACK_SOURCES
    return [f"127.{1 + n // 60000}.{n // 240 % 250}.{1 + n % 240}" for n in range(first, first + LOOPBACK_SOURCES)]
