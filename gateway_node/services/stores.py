"""The stores as services see them: PostgreSQL away is error 100."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from realtime import codes
from storage.database import DatabaseUnavailable

T = TypeVar("T")


async def asked(question: Awaitable[T]) -> T:
    """What a store answers. Raises error 100 while PostgreSQL is away."""
    with database():
        return await question


@contextmanager
def database() -> Iterator[None]:
    """Raises error 100 while PostgreSQL is away; whether what was done in the block took place is unknown then."""
    try:
        yield
    except DatabaseUnavailable:
        raise codes.INTERNAL from None
