"""One load test from its options to its files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest import target as targets
from loadtest.coordinator import Coordinator, Outcome
from loadtest.crew import Crew, ForkedCrew
from loadtest.engine import wire
from loadtest.engine.swarm import Target
from loadtest.plan import Hold, Open, Plan
from loadtest.report import model
from loadtest.results import Measured, Memory, report
from loadtest.sampling import Sampler, machine
from loadtest.scenarios import Budgets, Prepare
from loadtest.server import Server, ServerFailed
from loadtest.target import Find, Local, Unusable, nothing_known

MEMORY_FROM = 1000  # clients: with fewer, memory is noise
SETTLE = 5.0  # s until presence is written and garbage collected, before memory is read
# What a server of one's own is told for a load test: no limits on a client that is a machine, and a history that keeps
# every message of the run, so that all of them can be held against what readers saw.
OWN_SETTINGS = {
    "CHANNEL__NAMESPACES": json.dumps(
        {
            "chat": {
                "presence": True,
                "history_size": 10_000_000,
                "history_ttl": 86400,
                "force_recovery": True,
                "allow_subscribe_for_client": True,
                "allow_publish_for_subscriber": True,
                "allow_presence_for_subscriber": True,
                "allow_history_for_subscriber": True,
            }
        }
    ),
    "CLIENT__PUBLISHES_PER_SECOND": "0",
    "CLIENT__COMMANDS_PER_SECOND": "0",
    # All requests come from one address; those of each user stay limited, as in a school.
    "LIMITS__REQUESTS_PER_ADDRESS": "0",
    "LIMITS__REGISTRATIONS_PER_ADDRESS": "0",
}


@dataclass
class Options:
    """What every scenario can be told; the command line documents each."""

    target: str = ""
    secret: str = ""
    token: str = ""
    serve: int = 0
    settings: Sequence[str] = ()
    data_dir: Path | None = None
    workers: int = 0
    out: Path = Path("loadtest-report")
    own: bool = False
    quiet: bool = False
    nats: str = ""
    by_node: bool = False
    agents: int = 1
    pool: str = "default"
    shown: Mapping[str, Any] = field(default_factory=dict)  # as given, for the report
    command: str = ""


Hire = Callable[[], Awaitable[Crew]]
View = Callable[[Coordinator, Sampler], contextlib.AbstractContextManager[Callable[[model.Moment], None]]]


def no_view(coordinator: Coordinator, sampler: Sampler) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext(lambda moment: None)


def load(
    plan: Plan,
    options: Options,
    budgets: Budgets,
    *,
    find: Find = nothing_known,
    view: View = no_view,
    prepare: Prepare | None = None,
) -> model.Report:
    """Run a plan and return its report; nothing is written.

    Raises:
        Unusable: it could not begin.
        RunFailed: it could not go on.
    """
    workers = 0
    if not options.nats:
        workers = targets.workers_for(plan.clients, options.workers, len(os.sched_getaffinity(0)))
    with serving(options, find) as (target, local):
        targets.require_permission(target, own=options.own)
        local.prepare(plan)
        targets.try_one(plan, target, local.tokens)
        prepared = prepare(plan, local) if prepare is not None else None
        addresses = [target]
        if options.by_node:
            addresses = [targets.parse(url) for url in local.nodes()]
            if not addresses:
                raise Unusable("--by-node is for a server of this folder whose nodes have ports: --node-port-base.")
            workers = -(-workers // len(addresses)) * len(addresses)  # as many for each node
        measurement = Measurement(prepared.plan if prepared else plan, addresses, local, hiring(options, workers))
        if warning := targets.is_loopback(target.host) and targets.kernel_memory(plan.clients):
            print(f"chalkwire loadtest: {warning}", file=sys.stderr)
            measurement.notes.append(warning)
        outcome = measurement(view)
        measured = Measured(
            plan=plan,
            command=options.command,
            options=options.shown,
            target=local.url,
            server=local.describe(),
            machine=machine(),
            started=measurement.began,
            processes=measurement.sampler.processes(),
            kernel=measurement.sampler.kernel(),
            memory=measurement.memory,
            notes=measurement.notes,
        )
        more = prepared.facts(outcome.counts) if prepared is not None and not outcome.partial else {}
        return report(outcome, measured, budgets, more)


def hiring(options: Options, workers: int) -> Hire:
    """Workers of this machine, forked now, before the event loop runs; or those of agents, when it does."""
    if not options.nats:
        forked = ForkedCrew(workers)

        async def here() -> Crew:
            return forked

        return here

    async def elsewhere() -> Crew:
        from loadtest.remote.crew import NotGathered, RemoteCrew

        say = functools.partial(print, file=sys.stderr, flush=True)
        try:
            return await RemoteCrew.gather(options.nats, agents=options.agents, pool=options.pool, say=say)
        except NotGathered as error:
            raise Unusable(str(error)) from None

    return elsewhere


@contextlib.contextmanager
def serving(options: Options, find: Find) -> Iterator[tuple[Target, Local]]:
    """The server to load: one of our own for this run, the named one, or the one of this folder."""
    if options.serve and (options.target or options.data_dir):
        raise Unusable("--serve starts a server of its own: leave out --target and --data-dir.")
    if options.serve:
        settings = dict(OWN_SETTINGS)
        for setting in options.settings:
            name, equals, value = setting.partition("=")
            if not equals:
                raise Unusable(f"--setting {setting}: write NAME=VALUE, for example CLIENT__PING_INTERVAL=120.")
            settings[name.removeprefix("CHALKWIRE_")] = value
        with tempfile.TemporaryDirectory(prefix="chalkwire-load-") as folder:
            try:
                with Server(Path(folder) / "data", nodes=options.serve, settings=settings) as server:
                    found = find(server.data_dir)
                    tokens = wire.Tokens(secret=server.secret)
                    pids = {name: process.pid for name, process in server.processes().items()}
                    nodes = [server.url("", node) for node in range(options.serve)]
                    known = Local(
                        server.url(""),
                        tokens,
                        lambda: pids,
                        lambda: nodes,
                        found.describe,
                        server.data_dir,
                        found.prepare,
                    )
                    yield targets.parse(known.url), known
            except ServerFailed as error:
                raise Unusable(str(error)) from None
        return
    if options.settings:
        raise Unusable("--setting is for a server of the run's own: --serve 2.")
    found = Local() if options.target else find(options.data_dir)
    if not options.target and not found.url:
        raise Unusable("Name the server: --target ws://127.0.0.1:8000, or let the run start one: --serve 2.")
    tokens = found.tokens
    if options.secret or options.token:
        tokens = wire.Tokens(secret=options.secret, token=options.token)
    local = Local(
        options.target or found.url,
        tokens,
        found.processes,
        found.nodes,
        found.describe,
        found.data_dir,
        found.prepare,
    )
    yield targets.parse(local.url), local


class Measurement:
    """A run with everything that is measured beside it."""

    def __init__(self, plan: Plan, addresses: Sequence[Target], local: Local, hire: Hire) -> None:
        self.memory = Memory()
        self.notes: list[str] = []
        self.began = time.time()
        self._plan = plan
        self._addresses = addresses
        self._local = local
        self._hire = hire
        self._pids = {"coordinator": os.getpid()}
        self.sampler = Sampler(local.processes, lambda: self._pids)
        self._is_weighed = plan.clients >= MEMORY_FROM and bool(local.processes())
        # At the end of the last phase before messages flow, memory is what the connections cost.
        self._quiet = plan.phases[0].name
        for phase in plan.phases:
            if not all(isinstance(each, Open | Hold) for each in phase.activities):
                break
            self._quiet = phase.name

    def __call__(self, view: View) -> Outcome:
        """Raises RunFailed, and what `hire` raises."""
        return asyncio.run(self._run(view))

    async def _run(self, view: View) -> Outcome:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if self._is_weighed:
            self.memory.server_before = await self._server_memory()
            self.memory.kernel_before = slab()
        crew = await self._hire()
        self._pids |= {f"worker-{number + 1}": pid for number, pid in enumerate(crew.pids)}
        coordinator = Coordinator(
            self._plan,
            crew,
            self._addresses,
            self._local.tokens,
            after_phase=self._after_phase,
            began=self.sampler.started,
        )
        with view(coordinator, self.sampler) as watch, self.sampler:
            coordinator.watch = watch
            outcome = await coordinator(stop)
        if crew.note:
            self.notes.append(crew.note)
        return outcome

    async def _after_phase(self, name: str) -> None:
        if self._is_weighed and name == self._quiet:
            await asyncio.sleep(SETTLE)
            self.memory.server_after = await self._server_memory()
            self.memory.kernel_after = slab()

    async def _server_memory(self) -> int:
        return sum((await asyncio.to_thread(self.sampler.memory)).values())


def slab() -> int:
    """The kernel's own memory for sockets and much else, in bytes; 0 where it does not tell."""
    with contextlib.suppress(OSError):
        found = re.search(r"^Slab:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return 0
