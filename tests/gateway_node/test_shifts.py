"""Background work of many nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import patch

import pytest

from gateway_node.services.shifts import SHARED_BY, Shifts
from storage.database import DatabaseUnavailable


async def test_work_that_fails_is_tried_again() -> None:
    outcomes: Iterator[Exception | None] = iter([DatabaseUnavailable("away"), ValueError("a fault"), None])
    done = asyncio.Event()

    async def work() -> None:
        if (error := next(outcomes)) is not None:
            raise error
        done.set()
        await asyncio.Event().wait()

    shifts = Shifts()
    shifts.every(0.001, work)
    async with asyncio.timeout(5):
        await done.wait()
    await shifts.stop()  # also while it works


async def test_work_that_loses_its_cancellation_is_the_last() -> None:
    """As wait_for of Python 3.11 does when the answer comes in the same turn."""
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    shifts = Shifts()
    shifts.every(0.001, work)
    async with asyncio.timeout(5):
        await began.wait()
        await shifts.stop()


@pytest.mark.parametrize(("nodes", "longest"), [(1, 1.5), (4, 6.0), (1000, 1.5 * SHARED_BY)])
async def test_the_more_nodes_the_less_often_each_looks(nodes: int, longest: float) -> None:
    waits: list[float] = []
    enough = asyncio.Event()
    yield_once = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 200:
            enough.set()
        await yield_once(0)

    async def work() -> None:
        return None

    with patch("gateway_node.services.shifts.asyncio.sleep", sleep):
        shifts = Shifts(lambda: nodes)
        shifts.every(1.0, work)
        await enough.wait()
        await shifts.stop()
    assert longest / 3 <= min(waits) < max(waits) <= longest
