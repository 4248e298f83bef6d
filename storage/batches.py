"""Questions that share a statement: those of one turn of the loop, and those that come while one is on its way.

100,000 clients that come back ask the same few things at once; a statement for each would cost ten times as much.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from itertools import islice
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
    """Asks with one statement at a time. `answer` gets different questions and returns an answer for each, in order.

    A question is answered by a statement that began after it was asked; equal ones share the answer.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]]) -> None:
        self._answer = answer
        self._waiting: dict[Q, list[asyncio.Future[A]]] = {}  # one each: who gives up takes nothing from the others
        self._running: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Raises `DatabaseUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.setdefault(question, []).append(future)
        if self._running is None:
            self._running = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # those of the same turn come along
            while self._waiting:
                await self._run_one()
        finally:
            self._running = None

    async def _run_one(self) -> None:
        batch = {each: self._waiting.pop(each) for each in list(islice(self._waiting, MAX_QUESTIONS))}
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
