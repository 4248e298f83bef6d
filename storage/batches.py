"""Questions that share a statement: those of one turn of the loop, and those that come while one is on its way.

100,000 clients that come back ask the same few things at once; a statement for each would cost ten times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import asyncpg
import structlog

from storage.database import DatabaseUnavailable, explain

MAX_QUESTIONS = 500  # in a statement
TIMEOUT = 5.0  # s for a statement, with the wait for a connection

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

_log = structlog.get_logger("storage")


class Batches(Generic[Q, A]):
    """Asks with few statements at a time. `answer` gets different questions and returns an answer for each, in order.

    A question is answered by a statement that began after it was asked; equal ones share the answer. `in_flight`:
    statements at a time. `weigh`: what a question may cost; together those of a statement cost `most`, but one is asked
    whatever it costs.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]],
        *,
        in_flight: int = 1,
        weigh: Callable[[Q], int] = lambda question: 0,
        most: int = 0,
    ) -> None:
        self._answer = answer
        self._in_flight = in_flight
        self._weigh = weigh
        self._most = most
        self._waiting: dict[Q, list[asyncio.Future[A]]] = {}  # one each: who gives up takes nothing from the others
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def ask(self, question: Q) -> A:
        """Raises `DatabaseUnavailable`."""
        return await self._enqueue(question)

    async def ask_all(self, questions: Iterable[Q]) -> list[A]:
        """The answers, in order. Raises `DatabaseUnavailable`."""
        answers = [self._enqueue(question) for question in questions]
        return [await answer for answer in answers]

    async def close(self) -> None:
        """Let running statements end."""
        if self._running:
            await asyncio.wait(self._running)

    def _enqueue(self, question: Q) -> asyncio.Future[A]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.setdefault(question, []).append(future)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start)  # those of the same turn come along
        return future

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._running) < self._in_flight:
            task = asyncio.create_task(self._run(self._take()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    def _take(self) -> dict[Q, list[asyncio.Future[A]]]:
        batch: dict[Q, list[asyncio.Future[A]]] = {}
        weight = 0
        for question in list(self._waiting):
            weight += self._weigh(question)
            if batch and (weight > self._most or len(batch) >= MAX_QUESTIONS):
                break
            batch[question] = self._waiting.pop(question)
        return batch

    async def _run(self, batch: dict[Q, list[asyncio.Future[A]]]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                answers = await self._answer(list(batch))
        except (DatabaseUnavailable, TimeoutError, asyncpg.PostgresError) as error:
            _refuse(batch.values(), explain(error))
        except Exception:
            _log.exception("storage.batch_failed")
            _refuse(batch.values(), "internal error")
        except asyncio.CancelledError:
            _refuse(batch.values(), "stopped")
            raise
        else:
            for futures, answer in zip(batch.values(), answers, strict=True):
                for future in futures:
                    if not future.done():
                        future.set_result(answer)


def _refuse(batch: Iterable[list[asyncio.Future[A]]], reason: str) -> None:
    for futures in batch:
        for future in futures:
            if not future.done():
                future.set_exception(DatabaseUnavailable(reason))
                future.exception()  # who asked several hears of the first failure alone
