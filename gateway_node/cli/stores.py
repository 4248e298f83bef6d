"""The stores for a command: the running server's, or the embedded ones for as long as the command takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gateway_node.cli.trouble import Trouble

if TYPE_CHECKING:
    from config.sections import Settings


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of PostgreSQL. Raises `Trouble`."""
    from config.embedded import EmbeddedStack, StackError, read_urls

    if settings.database.url is not None:
        yield settings.database.url
        return
    if (running := read_urls(settings.data_dir)) is not None and running.database is not None:
        yield running.database
        return
    stack = EmbeddedStack(settings.data_dir, valkey=False, nats=False)
    try:
        url = stack.start().database
    except StackError as error:
        raise Trouble(str(error)) from None
    try:
        assert url is not None
        yield url
    finally:
        stack.stop()
