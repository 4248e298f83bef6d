"""What the machine must offer: arithmetic shared by the start and by `chalkwire doctor`."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from gateway_node.processes import StartError

if TYPE_CHECKING:
    from config.sections import Settings

FEWEST_FILES = 256  # below it, a node could not even open its stores and take a few dozen connections
FILES_OF_A_NODE = 100  # beside its connections: stores, listening sockets, files being sent
OTHER_CONNECTIONS = 30  # to PostgreSQL beside the nodes' pools: log writer, command line, backups, its own reserve
NATS_ENVELOPE = 64 * 1024  # bytes that a message grows by on its way between nodes, at most
FEWEST_OTHER_CONNECTIONS = 8  # what of these the server itself needs


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it. Raises `StartError` when that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):  # macOS says "unlimited" and means 10,240
            pass
    limit = 2**31 if soft == resource.RLIM_INFINITY else soft
    if limit < FEWEST_FILES:
        raise StartError(
            f"A process may open {limit} files here and a node needs {FEWEST_FILES}, one a connection on top: "
            "raise the limit (ulimit -n, or LimitNOFILE= of the systemd unit)."
        )
    return limit


def pooled_connections(settings: Settings) -> int:
    """How many connections to PostgreSQL the nodes may hold together."""
    return settings.nodes * settings.database.pool_size


def embedded_max_connections(settings: Settings) -> int:
    """`max_connections` for the embedded PostgreSQL."""
    return pooled_connections(settings) + OTHER_CONNECTIONS


def check_pools(settings: Settings, max_connections: int) -> None:
    """Raises `StartError` when the pools could together ask for more than PostgreSQL gives."""
    needed = pooled_connections(settings) + FEWEST_OTHER_CONNECTIONS
    if needed > max_connections:
        raise StartError(
            f"{settings.nodes} nodes with a pool of {settings.database.pool_size} and the log writer may need {needed} "
            f"connections, and PostgreSQL gives {max_connections}: lower database.pool_size or nodes, or raise its "
            "max_connections (with PgBouncer in between, its limits count)."
        )
