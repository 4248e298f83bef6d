"""The timing wheel, tick by tick without time, and its driver on a real loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.wheel import TimingWheel, WheelDriver


class Peer:
    """A connection that answers its pings, or does not."""

    def __init__(self, wheel: TimingWheel, answers: bool = True) -> None:
        self.wheel = wheel
        self.answers = answers
        self.seen = self.slot = self.paused = 0
        self.pings: list[int] = []
        self.declared_silent: list[int] = []
        wheel.add(self)

    def ping_due(self) -> None:
        self.pings.append(self.wheel.tick)
        if self.answers:
            self.seen = self.wheel.tick

    def silent(self) -> None:
        self.declared_silent.append(self.wheel.tick)
        self.wheel.discard(self)


def advance(wheel: TimingWheel, ticks: int, settled: bool = True) -> None:
    for _ in range(ticks):
        wheel.advance(settled)


def test_everyone_is_pinged_once_an_interval() -> None:
    wheel = TimingWheel(ping_interval=5, pong_timeout=2)
    peers = [Peer(wheel) for _ in range(100)]
    advance(wheel, 15)
    for peer in peers:
        first, *_ = peer.pings
        assert 1 <= first <= 5
        assert peer.pings == [first, first + 5, first + 10]
        assert not peer.declared_silent


def test_pings_spread_over_the_interval() -> None:
    wheel = TimingWheel(ping_interval=10, pong_timeout=2)
    peers = [Peer(wheel) for _ in range(1000)]
    advance(wheel, 10)
    first_ticks = [peer.pings[0] for peer in peers]
    assert max(first_ticks.count(tick) for tick in range(1, 11)) < 200  # 100 expected; 200 is ten deviations off


def test_a_peer_that_does_not_answer_is_silent_after_the_timeout() -> None:
    wheel = TimingWheel(ping_interval=10, pong_timeout=3)
    peer = Peer(wheel, answers=False)
    advance(wheel, 20)
    assert peer.declared_silent == [peer.pings[0] + 3]
    assert len(peer.pings) == 1


@pytest.mark.parametrize(("heard_after", "survives"), [(0, True), (2, True), (-1, False)])
def test_any_sign_of_life_since_the_ping_counts(heard_after: int, survives: bool) -> None:
    wheel = TimingWheel(ping_interval=10, pong_timeout=3)
    peer = Peer(wheel, answers=False)
    while not peer.pings:
        advance(wheel, 1)
    peer.seen = peer.pings[0] + heard_after
    advance(wheel, 3)
    assert (not peer.declared_silent) is survives


def test_nobody_is_silent_until_the_loop_has_settled() -> None:
    wheel = TimingWheel(ping_interval=4, pong_timeout=2)
    peer = Peer(wheel, answers=False)
    advance(wheel, 40, settled=False)
    assert len(peer.pings) == 10  # pings go out under load
    assert not peer.declared_silent
    advance(wheel, 1)
    assert peer.declared_silent


def test_an_answer_that_was_read_late_saves_the_peer() -> None:
    wheel = TimingWheel(ping_interval=10, pong_timeout=2)
    peer = Peer(wheel, answers=False)
    while not peer.pings:
        advance(wheel, 1)
    advance(wheel, 5, settled=False)
    peer.seen = wheel.tick  # the pass that drained the sockets
    advance(wheel, 1)
    assert not peer.declared_silent


def test_a_connection_that_does_not_read_proves_nothing() -> None:
    wheel = TimingWheel(ping_interval=4, pong_timeout=2)
    peer = Peer(wheel, answers=False)
    peer.paused = 1
    advance(wheel, 20)
    assert peer.pings
    assert not peer.declared_silent


def test_a_timeout_may_be_longer_than_the_interval() -> None:
    wheel = TimingWheel(ping_interval=2, pong_timeout=7)
    peer = Peer(wheel, answers=False)
    advance(wheel, 20)
    assert peer.declared_silent == [peer.pings[0] + 7]


def test_discarded_peers_are_left_alone() -> None:
    wheel = TimingWheel(ping_interval=3, pong_timeout=1)
    peer = Peer(wheel)
    wheel.discard(peer)
    advance(wheel, 10)
    assert not peer.pings


def test_peers_may_leave_while_they_are_pinged() -> None:
    wheel = TimingWheel(ping_interval=1, pong_timeout=1)

    class Leaver(Peer):
        def ping_due(self) -> None:
            super().ping_due()
            for peer in peers:
                wheel.discard(peer)

    peers = [Leaver(wheel) for _ in range(5)]
    advance(wheel, 3)
    assert all(len(peer.pings) == 1 for peer in peers)


@given(st.lists(st.tuples(st.integers(-2, 30), st.booleans()), max_size=30))
def test_timeouts_come_once_at_their_tick_unless_cancelled(wanted: list[tuple[int, bool]]) -> None:
    wheel = TimingWheel()
    advance(wheel, 3)
    came: list[tuple[int, int]] = []
    for index, (ticks, cancel) in enumerate(wanted):
        timeout = wheel.after(ticks, lambda index=index: came.append((index, wheel.tick)))
        if cancel:
            timeout.cancel()
    advance(wheel, 40)
    assert sorted(came) == [(i, 3 + max(ticks, 1)) for i, (ticks, cancel) in enumerate(wanted) if not cancel]


def test_a_timeout_may_set_the_next() -> None:
    wheel = TimingWheel()
    ticks: list[int] = []

    def again() -> None:
        ticks.append(wheel.tick)
        wheel.after(1, again)

    wheel.after(2, again)
    advance(wheel, 5)
    assert ticks == [2, 3, 4, 5]


def test_a_callback_that_fails_costs_nobody_else_a_turn(caplog: pytest.LogCaptureFixture) -> None:
    wheel = TimingWheel(ping_interval=1, pong_timeout=1)

    class Faulty(Peer):
        def ping_due(self) -> None:
            raise ZeroDivisionError

    peers = [Faulty(wheel), *(Peer(wheel) for _ in range(20)), Faulty(wheel)]
    ticked: list[int] = []
    wheel.after(1, lambda: 1 // 0)
    wheel.after(1, lambda: ticked.append(wheel.tick))
    advance(wheel, 1)
    assert [len(peer.pings) for peer in peers[1:-1]] == [1] * 20
    assert ticked == [1]
    assert len(caplog.records) == 3


def test_each_tick_comes_each_tick() -> None:
    wheel = TimingWheel()
    ticks: list[int] = []
    wheel.each_tick(lambda: ticks.append(wheel.tick))
    advance(wheel, 3)
    assert ticks == [1, 2, 3]


def test_intervals_below_a_tick_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one tick"):
        TimingWheel(ping_interval=0)


class Recorder(TimingWheel):
    """Tells the settled from the unsettled ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[bool] = []
        self.ticked = asyncio.Event()

    def advance(self, settled: bool = True) -> None:
        super().advance(settled)
        self.settled.append(settled)
        self.ticked.set()


@pytest.fixture
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.wheel.TICK", 0.02)


async def ticks(wheel: Recorder, count: int) -> None:
    while len(wheel.settled) < count:
        wheel.ticked.clear()
        await asyncio.wait_for(wheel.ticked.wait(), 10)


async def test_the_driver_ticks_until_stopped(short_ticks: None) -> None:
    wheel = Recorder()
    driver = WheelDriver(wheel)
    driver.start()
    await ticks(wheel, 3)
    driver.stop()
    driver.stop()
    count = len(wheel.settled)
    await asyncio.sleep(0.06)  # three ticks' time: nothing may come
    assert len(wheel.settled) == count
    assert all(wheel.settled)


async def test_a_late_loop_is_not_settled_and_its_ticks_are_not_caught_up(short_ticks: None) -> None:
    wheel = Recorder()
    driver = WheelDriver(wheel)
    driver.start()
    await ticks(wheel, 1)
    time.sleep(1.1)
    held_up = len(wheel.settled)
    await ticks(wheel, held_up + 2)
    driver.stop()
    assert wheel.settled[held_up : held_up + 2] == [False, True]


async def test_sockets_that_are_ready_are_read_before_the_tick(short_ticks: None) -> None:
    import socket

    ours, theirs = socket.socketpair()
    read: list[int] = []
    wheel = Recorder()

    class Reader(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            read.append(wheel.tick)

    transport, _ = await asyncio.get_running_loop().create_connection(Reader, sock=ours)
    driver = WheelDriver(wheel)
    driver.start()
    await ticks(wheel, 1)
    theirs.send(b"x")
    time.sleep(0.1)
    before = wheel.tick
    await ticks(wheel, len(wheel.settled) + 1)
    driver.stop()
    transport.close()
    theirs.close()
    assert read == [before]
