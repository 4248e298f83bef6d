"""A server whose nodes and log writer are stand-ins, for tests of the supervisor: `python -m tests.gateway_node.standin
FOLDER CONFIG`.

FOLDER takes what the processes tell (`events`) and holds what they should do: a file `refuse` keeps nodes from
starting, `deaf` makes them ignore SIGTERM, `together` makes them end only when all were told to, `unmigratable` fails
the migration.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from config.sections import Settings
from config.settings import load_settings
from gateway_node.context import NodeContext
from gateway_node.processes import StartError
from gateway_node.programs import Programs
from gateway_node.supervisor import Supervisor

FOLDER = Path(sys.argv[1])
CONFIG = Path(sys.argv[2])


def tell(event: str) -> None:
    with (FOLDER / "events").open("a") as events:
        events.write(event + "\n")


def events() -> str:
    return (FOLDER / "events").read_text()


class Terminated(Exception):
    pass


def await_sigterm(name: str) -> None:
    def raise_terminated(*_: object) -> None:
        raise Terminated

    if name != "log-writer" and (FOLDER / "deaf").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, raise_terminated)
    tell(f"{name} ready")


def node(context: NodeContext) -> None:
    """Answers each connection with what it is, and ends on SIGTERM."""
    if (FOLDER / "refuse").exists() or context.settings.client.channel_limit == 13:
        raise StartError("the stand-in was told to refuse.")
    await_sigterm(context.name)
    answer = f"{context.name} {os.getpid()} {context.incarnation} {context.settings.client.channel_limit}"
    os.write(context.ready_fd, b"1")
    os.close(context.ready_fd)
    (context.run_dir / "metrics").mkdir(exist_ok=True)
    (context.run_dir / "metrics" / f"{context.name}.prom").write_text("# HELP a A.\n# TYPE a gauge\na 1\n")
    try:
        serve(context.sockets, answer.encode())
    except Terminated:
        tell(f"{context.name} draining")
        for listening in context.sockets:
            listening.close()
        while (FOLDER / "together").exists() and events().count(" draining") < context.settings.nodes:
            time.sleep(0.01)
        tell(f"{context.name} ended")


def serve(sockets: tuple[socket.socket, ...], answer: bytes) -> None:
    import select

    while True:
        for listening in select.select(sockets, [], [])[0]:
            with suppress(BlockingIOError, ConnectionError):
                connection, _ = listening.accept()
                connection.sendall(answer)
                connection.close()


def log_writer(_settings: Settings, log_socket: Path, ready_fd: int) -> None:
    await_sigterm("log-writer")
    log_socket.touch()
    os.write(ready_fd, b"\x01")
    try:
        while True:
            signal.pause()
    except Terminated:
        tell("log-writer ended")


def migrate(_settings: Settings) -> None:
    if (FOLDER / "unmigratable").exists():
        raise StartError("the database is of a later version.")
    tell("migrated")


def settings() -> Settings:
    return load_settings(CONFIG)


if __name__ == "__main__":
    programs = Programs(preload=lambda settings: tell("preloaded"), migrate=migrate, log_writer=log_writer, node=node)
    sys.exit(Supervisor(settings(), reload=settings, programs=programs).run())
