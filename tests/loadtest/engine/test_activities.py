"""What activities do on a swarm whose connections stand at once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from loadtest.engine.activities import Opening
from loadtest.engine.client import GIVEN_UP, LIVE, Client
from loadtest.engine.swarm import Swarm, Target


class Instant(Swarm):
    def connect(self, client: Client, intended: int | None = None) -> None:
        client.began = self.now if intended is None else intended
        self.after(0, lambda: self._stand(client))

    def _stand(self, client: Client) -> None:
        client.phase = GIVEN_UP if client.number % 10 == 9 else LIVE
        for call in tuple(self.on_live if client.phase == LIVE else self.on_gone):
            call(client)


@pytest.fixture
def swarm() -> Iterator[Instant]:
    made = Instant(
        run="r", first=0, count=100, target=Target("127.0.0.1", 1), channels=lambda client: [],
        token=lambda client: "", sources=[], base=time.monotonic_ns(),
    )  # fmt: skip
    yield made
    made._poll.close()


def perform(swarm: Swarm, opening: Opening) -> int:
    """Run to the end; the most timers that there ever were."""
    ended: list[bool] = []
    opening.start(lambda: ended.append(True))
    most = 0
    while not ended:
        most = max(most, len(swarm._timers))
        swarm.turn()
    assert ended == [True]
    assert (swarm.on_live, swarm.on_gone) == ([], [])
    return most


def test_a_rate_has_one_timer_however_many_have_come(swarm: Instant) -> None:
    began = time.monotonic()
    most = perform(swarm, Opening(swarm, swarm.clients, 1000, 256))
    assert time.monotonic() - began >= 0.099
    assert swarm.counts["connects"] == 90
    assert most < 50  # those that come at that moment, and one


def test_who_is_there_is_not_waited_for(swarm: Instant) -> None:
    perform(swarm, Opening(swarm, swarm.clients, 0, 8))
    perform(swarm, Opening(swarm, swarm.clients, 0, 8))
    assert swarm.counts["connects"] == 90


def test_of_a_stopped_one_nobody_comes_any_more(swarm: Instant) -> None:
    ended: list[bool] = []
    opening = Opening(swarm, swarm.clients, 1, 8)
    opening.start(lambda: ended.append(True))
    swarm.turn()
    opening.stop()
    assert ended == [True]
    opening.stop()
    assert ended == [True]
