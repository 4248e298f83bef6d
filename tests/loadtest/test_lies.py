"""Whole runs, with two forked workers, against a server that is not ours: honest, it balances; each lie is named."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from loadtest import coordinator as coordinators
from loadtest.balance import balance
from loadtest.coordinator import Coordinator, Outcome, RunFailed
from loadtest.crew import ForkedCrew
from loadtest.engine import activities, swarm, worker
from loadtest.engine.swarm import Target
from loadtest.engine.wire import Tokens
from loadtest.plan import Channels, Churn, Cut, Open, Phase, Plan, Publish, Stall, check
from loadtest.report.model import Channel, Ledger, Machine
from loadtest.report.verify import consistent
from loadtest.results import Measured, report
from tests.loadtest.lying_server import Lies, LyingServer

ROOM = "chat:room"
MACHINE = Machine(2, 1 << 34, "", "", "", 20_000)
MESSAGES = 32
TALK = Publish(in_flight=4, count=MESSAGES, seconds=0)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked: they inherit it."""
    monkeypatch.setattr(coordinators, "SETTLE", 0.02)
    monkeypatch.setattr(worker, "DRAIN_LOOK", 0.01)
    monkeypatch.setattr(swarm, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(swarm, "ATTEMPTS", 5)
    monkeypatch.setattr(activities, "ANSWERS_PATIENCE", 0.2)
    monkeypatch.setattr(activities.Churning, "AWAY_FOR", 0.02)


def plan(*talk: Publish | Cut | Churn | Stall, recover: bool = True, clients: int = 6) -> Plan:
    return check(
        Plan(
            name="lies",
            clients=clients,
            channels=[Channels(prefix=ROOM, recover=recover)],
            phases=[Phase(name="open", activities=[Open()]), Phase(name="talk", activities=[*(talk or [TALK])])],
            drain=0.5,
        )
    )


class Run:
    """One run; `on_publish` is called with the run and the count of each publication that the server gets."""

    def __init__(
        self, lies: Lies, what: Plan | None = None, on_publish: Callable[[Run, int], None] = lambda run, n: None
    ) -> None:
        self.crew = ForkedCrew(2)
        self.server = LyingServer(lies)
        self.stop = asyncio.Event()
        self._plan = what or plan()
        self.server.on_publish = lambda published: on_publish(self, published)

    async def __call__(self) -> tuple[Outcome, Ledger]:
        async with self.server.running():
            target = Target("127.0.0.1", self.server.port)
            outcome = await Coordinator(self._plan, self.crew, [target], Tokens(token="anybody"))(self.stop)
        return outcome, balance(outcome)


async def run(lies: Lies, what: Plan | None = None) -> tuple[Outcome, Channel, set[str]]:
    outcome, ledger = await Run(lies, what)()
    (channel,) = ledger.channels
    assert ledger.clean == (not ledger.faults)
    if ledger.clean:
        measured = Measured(what or plan(), "loadtest", {}, "ws://127.0.0.1", {}, MACHINE, started=0)
        assert consistent(report(outcome, measured, lambda plan, facts: [])) == []
    return outcome, channel, {fault.kind for fault in ledger.faults}


async def test_an_honest_server_has_clean_books() -> None:
    whole = Run(Lies())
    outcome, ledger = await whole()
    assert ledger.faults == []
    (channel,) = ledger.channels
    assert (channel.sent, channel.acknowledged, channel.stored, channel.head_after) == (MESSAGES,) * 4
    assert channel.delivered == channel.expected == MESSAGES * 6
    assert channel.stored_digest == channel.published_digest
    assert (outcome.partial, outcome.errors, outcome.refused) == ("", {}, {})
    assert outcome.counts["delivered"] == channel.delivered
    assert outcome.latency["delivery"].count == channel.delivered
    assert outcome.latency["publish"].count == MESSAGES
    assert outcome.latency["connect"].count == 6
    assert whole.server.pongs == 6
    assert all([await ping > 0 for ping in whole.server.pings])


@pytest.mark.parametrize(
    ("lies", "named"),
    [
        (Lies(lose=5), {"lost"}),
        (Lies(forget=5), {"lost", "gap"}),
        (Lies(forget=1), {"lost"}),
        (Lies(keep=5), {"gap"}),
        (Lies(keep=MESSAGES), {"undelivered"}),
        (Lies(double=5), {"doubled"}),
        (Lies(repeat=5), {"doubled"}),
        (Lies(swap=5), {"gap", "reordered"}),
        (Lies(overtake=5), {"reordered"}),
        (Lies(alter=5), {"lost", "invented"}),
        (Lies(differ=5), {"disagreement"}),
        (Lies(bare=5), {"gap"}),
        (Lies(invent=True), {"invented"}),
        (Lies(garbage="text"), {"malformed", "gap"}),
        (Lies(garbage="binary"), {"malformed"}),
        (Lies(garbage="frame"), {"malformed"}),
        (Lies(drop=16, new_epoch=True), {"unrecovered", "disagreement", "lost"}),
        (Lies(drop=16, half_recovery=True), {"gap"}),
        (Lies(drop=16, no_return=True), {"undelivered"}),
        (Lies(lose=5, refuse_history=True), {"lost"}),
        (Lies(lose=5, ephemeral=True), {"gap", "lost", "undelivered"}),
        (Lies(lose=MESSAGES, ephemeral=True), {"lost", "undelivered"}),
        (Lies(repeat=5, ephemeral=True), {"doubled"}),
        (Lies(swap=5, ephemeral=True), {"gap", "reordered"}),
        (Lies(alter=5, ephemeral=True), {"gap", "lost", "invented", "doubled", "undelivered"}),
    ],
    ids=lambda value: str(value) if isinstance(value, Lies) else "named",  # sets have no order
)
async def test_each_lie_is_named(lies: Lies, named: set[str]) -> None:
    _, _, kinds = await run(lies)
    assert kinds == named


@pytest.mark.parametrize(
    ("lies", "counted"),  # at least
    [
        (Lies(ephemeral=True), {}),
        (Lies(ephemeral=True, drop=16), {"disconnects": 5}),
        (Lies(drop=16), {"disconnects": 5, "recovered": 5}),
        (Lies(drop=16, no_recovery=True), {"unrecovered": 5, "recovered": 5}),
        (Lies(refuse_publish=4), {"refused": 8, "acknowledged": 24}),
        (Lies(silent_publish=8), {"unanswered": 4, "acknowledged": 28}),
        (Lies(kept=10), {}),
        (Lies(refuse_history=True), {}),
    ],
    ids=str,
)
async def test_a_server_that_does_less_is_not_blamed(lies: Lies, counted: dict[str, int]) -> None:
    outcome, channel, kinds = await run(lies)
    assert kinds == set()
    assert channel.delivered == channel.expected
    assert all(outcome.counts[name] >= least for name, least in counted.items())
    assert channel.sent == channel.acknowledged + channel.refused + channel.unanswered
    assert channel.first_offset_stored == (23 if lies.kept else 0 if lies.ephemeral or lies.refuse_history else 1)
    assert bool(outcome.refused) == (lies.refuse_history or lies.ephemeral)


async def test_all_members_publish_at_their_times() -> None:
    outcome, channel, kinds = await run(Lies(), plan(Publish(publishers=0, rate=400, count=50, burst=4, seconds=0)))
    assert kinds == set()
    assert channel.sent == 50
    assert outcome.steady


async def test_those_who_are_cut_off_recover_what_they_missed() -> None:
    talk = Publish(rate=200, count=40, seconds=0)
    outcome, channel, kinds = await run(Lies(), plan(talk, Cut(after=0.05, back_within=0.05)))
    assert kinds == set()
    assert outcome.counts["cut"] == outcome.counts["recoveries"] == 5
    assert channel.delivered == channel.expected == 40 * 6
    assert not outcome.steady


async def test_publishers_that_are_cut_off_send_late_what_they_owe() -> None:
    talk = Publish(publishers=0, rate=200, count=40, seconds=0)
    outcome, channel, kinds = await run(Lies(), plan(talk, Cut(after=0.05, back_within=0.05, publishers=True)))
    assert kinds == set()
    assert channel.sent == 40
    assert channel.acknowledged + channel.unanswered == 40
    assert outcome.counts["cut"] == 6


@pytest.mark.parametrize("ephemeral", [False, True])
@pytest.mark.parametrize("recover", [False, True])
async def test_who_comes_and_goes_is_owed_what_was_said_while_he_was_there(ephemeral: bool, recover: bool) -> None:
    what = plan(Publish(rate=200, count=60, seconds=0), Churn(rate=60, seconds=0.3), recover=recover)
    outcome, channel, kinds = await run(Lies(ephemeral=ephemeral), what)
    assert kinds == set()
    assert outcome.counts["leaves"] == outcome.counts["joins"] > 0
    assert channel.delivered == channel.expected


async def test_without_recovery_nobody_is_owed_what_was_said_while_he_was_away() -> None:
    talk = Publish(rate=200, count=40, seconds=0)
    what = plan(talk, Cut(after=0.05, back_within=0.05), recover=False)
    _, channel, kinds = await run(Lies(), what)
    assert kinds == set()
    assert channel.delivered == channel.expected < 40 * 6


async def test_those_who_do_not_read_get_it_later() -> None:
    outcome, channel, kinds = await run(Lies(), plan(TALK, Stall(share=1.0, seconds=0.2)))
    assert kinds == set()
    assert outcome.counts["stalled"] == 5
    assert channel.delivered == MESSAGES * 6


async def test_a_second_phase_of_each_kind_counts_for_itself() -> None:
    again = Plan(
        name="twice",
        clients=4,
        channels=[Channels(prefix=ROOM)],
        phases=[Phase(name=f"{n}", activities=[Open()]) for n in range(2)]
        + [Phase(name=f"talk {n}", activities=[TALK]) for n in range(2)],
        drain=0.5,
    )
    outcome, channel, kinds = await run(Lies(), again)
    assert kinds == set()
    assert (outcome.counts["connects"], channel.sent) == (4, 2 * MESSAGES)


async def test_a_run_that_is_stopped_has_books_that_balance() -> None:
    def stop(this: Run, published: int) -> None:
        if published == 10:
            this.stop.set()

    outcome, ledger = await Run(Lies(), plan(Publish(rate=200, seconds=60)), stop)()
    assert outcome.partial == 'stopped in the phase "talk"'
    assert ledger.faults == []
    (channel,) = ledger.channels
    assert 10 <= channel.sent < 200
    assert channel.acknowledged == channel.stored == channel.head_after


async def test_a_run_that_is_stopped_still_says_what_was_lost_and_owes_nobody_the_rest() -> None:
    def stop(this: Run, published: int) -> None:
        if published == 10:
            this.stop.set()

    _, ledger = await Run(Lies(lose=2), plan(Publish(rate=200, seconds=60)), stop)()
    assert {fault.kind for fault in ledger.faults} == {"lost"}
    assert ledger.fault_count == len(ledger.faults)


async def test_a_worker_that_dies_ends_the_run_and_is_named() -> None:
    def kill(this: Run, published: int) -> None:
        if published == 3:
            os.kill(this.crew.pids[1], signal.SIGKILL)

    this = Run(Lies(), plan(Publish(rate=100, seconds=60)), kill)
    with pytest.raises(RunFailed, match=f"worker 1 .pid {this.crew.pids[1]}. ended"):
        await this()


async def test_a_server_that_is_not_there_is_an_error_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm, "ATTEMPTS", 1)
    this = Run(Lies())
    async with this.server.running():
        pass  # its port is free again
    outcome = await Coordinator(plan(), this.crew, [Target("127.0.0.1", this.server.port)], Tokens())(this.stop)
    assert outcome.counts["given_up"] == 6
    assert outcome.errors == {"connect: ECONNREFUSED": 12}
    assert Counter(outcome.counts)["published"] == 0
