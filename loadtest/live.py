"""What a run looks like while it runs.

In a terminal: the phase with its progress, connections, rates, the latency of the last second, faults, and what the
server costs, drawn four times a second. Elsewhere (a file, a pipe, CI): one plain line every few seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.plan import Open, Phase, Plan, Publish
from loadtest.report.model import Moment
from loadtest.report.words import milliseconds, plural, seconds, short, size
from loadtest.sampling import Now, Sampler

if TYPE_CHECKING:
    from loadtest.coordinator import Coordinator

REFRESH = 4  # times a second
LINE_EVERY = 5.0  # s of the run between two plain lines
# Counts that are shown as rates, in this order, when there are any.
RATES = ("connects", "recoveries", "published", "acknowledged", "delivered", "refused")


@dataclass
class State:
    """What the run tells the view. Whoever runs it sets these fields, at any time.

    `total` makes the phase complete: of connections, of the count named `unit`, or of seconds. 0 where nobody knows.
    """

    scenario: str
    target: str = ""
    clients: int = 0
    phase: str = "starting"
    phase_began: float = field(default_factory=time.monotonic)
    total: float = 0.0
    unit: str = ""
    counted_before: int = 0  # of `unit`, when the phase began
    moment: Moment = field(default_factory=lambda: Moment(0.0, 0, {}))
    span: float = 1.0  # s that `moment` covers
    sums: dict[str, int] = field(default_factory=dict)
    faults: int = 0
    errors: int = 0
    system: Now | None = None  # None where the server runs elsewhere

    def enter(self, phase: str, total: float = 0.0, unit: str = "") -> None:
        """Another phase begins."""
        self.phase, self.total, self.unit = phase, total, unit
        self.phase_began = time.monotonic()
        self.counted_before = self.sums.get(unit, 0)

    def take(self, moment: Moment) -> None:
        self.span = max(1e-3, moment.at - self.moment.at)
        self.moment = moment
        for name, count in moment.counts.items():
            self.sums[name] = self.sums.get(name, 0) + count

    @property
    def share(self) -> float | None:
        """Of the phase, from 0 to 1."""
        if self.total <= 0:
            return None
        if self.unit == "seconds":
            done = time.monotonic() - self.phase_began
        else:
            done = self.moment.connections if not self.unit else self.sums.get(self.unit, 0) - self.counted_before
        return min(1.0, done / self.total)

    def eta(self) -> float | None:
        """Seconds until the phase is complete, if it goes on as it did."""
        share = self.share
        if not share:
            return None
        return (time.monotonic() - self.phase_began) * (1 - share) / share


Watch = Callable[[Moment], None]
Shown = Callable[["Coordinator", Sampler], contextlib.AbstractContextManager[Watch]]


class Live:
    """Shows a `State`; use as a context manager, and call `update` with each moment."""

    def __init__(self, state: State, console: Console | None = None) -> None:
        self.state = state
        self._console = console or Console(stderr=True)
        self._printed_at = -LINE_EVERY
        self._printed_phase = ""
        self._screen: Screen | None = None
        if self._console.is_terminal:
            self._screen = Screen(
                console=self._console, get_renderable=self._drawn, refresh_per_second=REFRESH, transient=True
            )

    def __enter__(self) -> Self:
        if self._screen is not None:
            self._screen.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen is not None:
            self._screen.stop()

    def update(self, moment: Moment) -> None:
        state = self.state
        state.take(moment)
        if self._screen is None and (moment.at - self._printed_at >= LINE_EVERY or self._printed_phase != state.phase):
            self._printed_at, self._printed_phase = moment.at, state.phase
            self._console.print(Text(line(state)), soft_wrap=True, highlight=False)

    @classmethod
    def of(cls, plan: Plan, *, quiet: bool = False) -> Shown:
        """The view of a plan, once its coordinator and sampler are there. It gives what takes the moments."""

        @contextlib.contextmanager
        def shown(coordinator: Coordinator, sampler: Sampler) -> Iterator[Watch]:
            state = State(plan.name, clients=plan.clients)
            phases = {phase.name: phase for phase in plan.phases}

            def watch(moment: Moment) -> None:
                if coordinator.phase != state.phase:
                    state.enter(coordinator.phase, *work_of(phases.get(coordinator.phase), plan.clients))
                state.faults = sum(coordinator.tally.faults)
                state.errors = sum(sum(errors.values()) for errors in coordinator.tally.errors)
                state.system = sampler.now
                live.update(moment)

            with cls(state) as live:
                yield watch

        return (lambda coordinator, sampler: contextlib.nullcontext(lambda moment: None)) if quiet else shown

    def _drawn(self) -> RenderableType:
        return drawing(self.state)


def work_of(phase: Phase | None, clients: int) -> tuple[float, str]:
    """What completes a phase: how much, and of what (see `State`). The longest of its activities decides."""
    if phase is None:
        return 0.0, ""
    if any(isinstance(activity, Open) for activity in phase.activities):
        return float(clients), ""
    counted = [each.count for each in phase.activities if isinstance(each, Publish) and each.count]
    if counted:
        return float(sum(counted)), "published"
    lengths = [getattr(activity, "seconds", 0.0) for activity in phase.activities]
    return max(lengths), "seconds"


def rates(state: State) -> dict[str, float]:
    """Counts a second of what has happened at all, so that a line does not come and go."""
    return {name: state.moment.counts.get(name, 0) / state.span for name in RATES if state.sums.get(name)}


def line(state: State) -> str:
    """The state in one line."""
    moment = state.moment
    share = "" if state.share is None else f" {state.share:.0%}"
    parts = [f"{moment.at:6.1f} s  {state.phase}{share}", f"{moment.connections:,} connections"]
    parts += [f"{short(rate)}/s {name}" for name, rate in rates(state).items() if rate]
    parts += [
        f"{kind} p50 {milliseconds(p50)} p99 {milliseconds(p99)}" for kind, (p50, p99, _) in moment.latency.items()
    ]
    if state.system is not None:
        parts.append(f"server {state.system.server_cpu:.2f} cores {size(state.system.server_pss)}")
    if state.errors:
        parts.append(plural(state.errors, "error"))
    if state.faults:
        parts.append(plural(state.faults, "FAULT", "FAULTS"))
    return " | ".join(parts)


def drawing(state: State) -> RenderableType:
    """The state as a small screen."""
    moment = state.moment
    head = Text.assemble((state.scenario, "bold"), (f"  {state.target}", "dim"))
    phase = Table.grid(padding=(0, 2))
    eta = state.eta()
    phase.add_row(
        Text(state.phase, "cyan"),
        ProgressBar(total=1.0, completed=state.share, width=40, pulse=False) if state.share is not None else "",
        "" if state.share is None else f"{state.share:.0%}",
        seconds(time.monotonic() - state.phase_began),
        f"{seconds(max(1, round(eta)))} to go" if eta else "",
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right", min_width=10)
    table.add_column()
    of_all = f"of {state.clients:,}" if state.clients else ""
    table.add_row("connections", f"[bold]{moment.connections:,}[/]", of_all)
    for name, rate in rates(state).items():
        table.add_row(escape(name), f"{short(rate)}/s", f"{state.sums[name]:,} in all")
    for kind, (p50, p99, top) in moment.latency.items():
        waits = f"p99 {milliseconds(p99)}   max {milliseconds(top)}"
        table.add_row(f"{escape(kind)} latency", f"p50 {milliseconds(p50)}", waits)
    if state.system is not None:
        now = state.system
        table.add_row("server", f"{now.server_cpu:.2f} cores", size(now.server_pss))
        table.add_row("harness", f"{now.harness_cpu:.2f} cores", size(now.harness_pss))
        table.add_row("kernel", size(now.kernel), f"{size(now.available)} available")
    table.add_row("errors", f"{state.errors:,}", style="yellow" if state.errors else "")
    table.add_row("faults", f"{state.faults:,}", style="bold red" if state.faults else "green")
    return Group(head, phase, table)
