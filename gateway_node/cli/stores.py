"""The stores for a command: the given ones, the running server's, or embedded ones for as long as the command takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_node.cli.trouble import Trouble

if TYPE_CHECKING:
    from config.embedded import StackUrls
    from config.sections import Settings


@contextmanager
def stores(settings: Settings, data_dir: Path) -> Iterator[StackUrls]:
    """Where all of them are. Raises `Trouble` when an embedded one does not start."""
    from config.embedded import StackUrls

    database, redis, nats = settings.database.url, settings.redis.url, settings.nats.url
    with _embedded(data_dir, postgres=not database, valkey=not redis, nats=not nats) as embedded:
        yield StackUrls(database or embedded.database, redis or embedded.redis, nats or embedded.nats)


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Where PostgreSQL is. Raises `Trouble` when the embedded one does not start."""
    with _embedded(settings.data_dir, postgres=not settings.database.url, valkey=False, nats=False) as embedded:
        url = settings.database.url or embedded.database
        assert url is not None
        yield url


@contextmanager
def _embedded(data_dir: Path, *, postgres: bool, valkey: bool, nats: bool) -> Iterator[StackUrls]:
    from config.embedded import EmbeddedStack, StackError, StackUrls, read_urls

    if not (postgres or valkey or nats):
        yield StackUrls()
        return
    if (running := read_urls(data_dir)) is not None:
        yield running
        return
    stack = EmbeddedStack(data_dir, postgres=postgres, valkey=valkey, nats=nats)
    try:
        urls = stack.start()
    except StackError as error:
        raise Trouble(str(error)) from None
    try:
        yield urls
    finally:
        stack.stop()
