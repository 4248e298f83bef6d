"""What a node decides by itself."""

from __future__ import annotations

import pytest

from gateway_node.node import drain_steps


@pytest.mark.parametrize(
    ("connections", "window", "steps", "seconds"),
    [(0, 10, 1, 0.0), (1, 10, 1, 0.002), (50, 10, 1, 0.1), (200, 10, 4, 0.4), (19_000, 10, 100, 10), (19_000, 0, 1, 0)],
)
def test_a_drain_is_spread_over_its_window_and_no_longer_than_it_needs(
    connections: int, window: float, steps: int, seconds: float
) -> None:
    made, pause = drain_steps(connections, window)
    assert made == steps
    assert made * pause == pytest.approx(seconds)
