"""What the supervisor's children run. Tests of the supervisor give it others."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_node import garbage, logs
from gateway_node.checks import check_pools
from gateway_node.processes import StartError

if TYPE_CHECKING:
    from config.sections import Settings
    from gateway_node.context import NodeContext


def preload(settings: Settings) -> None:
    """Import what the children need, and build what does not depend on the child, once: its memory is then shared."""
    for name in ("uvloop", "storage.log.writer", "gateway_node.node"):
        importlib.import_module(name)

    from gateway_node.http.app import build_ahead
    from gateway_node.http.services import Shape

    build_ahead(Shape.of(settings))


def migrate(settings: Settings) -> None:
    """Bring the schema up to date and see that the connections suffice. Raises `StartError`."""
    import asyncpg

    from storage.migrate import MigrationError
    from storage.migrate import migrate as apply

    async def run(url: str) -> None:
        await apply(url)
        connection = await asyncpg.connect(url, timeout=settings.database.connect_timeout, statement_cache_size=0)
        try:
            limit = int(await connection.fetchval("SHOW max_connections"))
        finally:
            await connection.close()
        check_pools(settings, limit)

    assert settings.database.url is not None
    try:
        asyncio.run(run(settings.database.url))
    except MigrationError as error:
        raise StartError(str(error)) from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise StartError(f"PostgreSQL cannot be used: {error or type(error).__name__}. See database.url.") from None


def log_writer(settings: Settings, log_socket: Path, ready_fd: int) -> None:
    """Run the log writer until SIGTERM."""
    from storage.log.writer import run_log_writer

    logs.configure(settings.log.level, node="log-writer")
    garbage.settle()
    assert settings.database.url is not None
    run_log_writer(
        settings.database.url,
        log_socket,
        statement_cache_size=settings.database.statement_cache_size,
        ready_fd=ready_fd,
    )


def node(context: NodeContext) -> None:
    """Run a node until SIGTERM and its drain."""
    import uvloop

    from gateway_node.node import run_node

    logs.configure(context.settings.log.level, node=context.name)
    garbage.settle()
    uvloop.run(run_node(context))


def demo(settings: Settings, url: str) -> None:
    """Fill the server at `url` with people, rooms and a course to look at, and tell their logins on stdout."""
    from gateway_node.demo import seed

    assert settings.token.hmac_secret is not None
    assert settings.database.url is not None
    print(seed(url, settings.token.hmac_secret, settings.database.url), flush=True)


@dataclass(frozen=True, slots=True)
class Programs:
    """Each runs in a child of its own, but for `preload`. A `StartError` ends the child with its sentence."""

    preload: Callable[[Settings], None] = preload
    migrate: Callable[[Settings], None] = migrate
    log_writer: Callable[[Settings, Path, int], None] = log_writer
    node: Callable[[NodeContext], None] = node
    demo: Callable[[Settings, str], None] = demo
