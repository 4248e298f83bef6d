"""The server under test: where it is, whether it may be loaded, and whether a single client gets in."""

from __future__ import annotations

import ipaddress
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtest.engine import wire
from loadtest.engine.client import LIVE
from loadtest.engine.swarm import Swarm, Target
from loadtest.engine.worker import token_maker
from loadtest.plan import Plan

PATIENCE = 10.0  # s for the first client
SPARE_FILES = 100  # of each process: the loop's, the control socket, Python's own
MOST_FILES = 19_000  # connections of one process where the limit would allow more
TCP_MEMORY = Path("/proc/sys/net/ipv4/tcp_mem")
CROWD = 100_000  # clients: with fewer, the kernel's defaults do
ENDPOINT = "/connection/websocket"


class Unusable(Exception):
    """The run cannot begin; a sentence that says what to do."""


@dataclass(frozen=True)
class Local:
    """What is known of a server on this machine beyond its address.

    `processes` gives process ids by name, and is asked once a second; `nodes` the addresses of single nodes, if they
    have some; `describe` what the report should say of it. `data_dir`: its folder.
    """

    url: str = ""
    tokens: wire.Tokens = field(default_factory=wire.Tokens)
    processes: Callable[[], Mapping[str, int]] = dict
    nodes: Callable[[], Sequence[str]] = tuple
    describe: Callable[[], dict[str, Any]] = dict
    data_dir: Path | None = None
    prepare: Callable[[Plan], None] = lambda plan: None  # make what the plan needs: a class and its people


Find = Callable[[Path | None], Local]  # what is known of the server of a data directory


def nothing_known(data_dir: Path | None) -> Local:
    return Local()


def parse(url: str) -> Target:
    """`http://`, `ws://` or only `host:port`; without a path the protocol's usual one. Raises Unusable."""
    parts = urlsplit(url if "//" in url else f"//{url}", scheme="ws")
    if parts.scheme in ("https", "wss"):
        raise Unusable(f"{url}: TLS is not for this tool; name the address behind the proxy that ends it.")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Unusable(f"{url}: {error}.") from None
    if parts.scheme not in ("http", "ws") or not host:
        raise Unusable(f"{url} is no address; try ws://127.0.0.1:8000{ENDPOINT} or 127.0.0.1:8000.")
    path = parts.path if parts.path.strip("/") else ENDPOINT
    address = resolve(host)
    return Target(address, port or 80, path + (f"?{parts.query}" if parts.query else ""), f"{host}:{port or 80}")


def resolve(host: str) -> str:
    """The first address of a name. Raises Unusable."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise Unusable(f"{host} cannot be resolved: {error}.") from None


def is_loopback(host: str) -> bool:
    """Whether every address of a name is this machine's own loopback."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def require_permission(target: Target, *, own: bool) -> None:
    """Load only what is one's own: a load test of somebody else's server is an attack. Raises Unusable."""
    if not own and not is_loopback(target.host):
        raise Unusable(
            f"{target.host_header or target.host} is not on this machine. If it is yours to load, say so with "
            "--i-own-this-server."
        )


def file_limit() -> int:
    """Raise this process's limit of open files as far as it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def workers_for(clients: int, asked: int, cpus: int) -> int:
    """How many processes it takes. Raises Unusable where the asked number cannot hold the clients."""
    limit = file_limit() - SPARE_FILES
    if limit < 1:
        raise Unusable(f"Only {limit + SPARE_FILES} files may be open here. Raise the limit: ulimit -n 20000.")
    needed = -(-clients // min(limit, MOST_FILES))
    if asked:
        if -(-clients // asked) > limit:
            raise Unusable(
                f"{clients:,} clients in {asked} processes are {-(-clients // asked):,} files each, and a process may "
                f"open {limit + SPARE_FILES:,}. Take --workers {-(-clients // limit)}, or raise the limit (ulimit -n)."
            )
        return asked
    return min(clients, max(cpus, needed))


def kernel_memory(clients: int, path: Path = TCP_MEMORY) -> str:
    """What to set before a message to all clients at once, where they are on this machine; else nothing.

    Unread data takes a socket at least a page, and a receiver's is counted while it waits. Above the third number of
    `tcp_mem` (pages) the kernel cuts connections off, which looks like a fault of the server (measured: at a million).
    """
    try:
        most = int(path.read_text().split()[2])
    except (OSError, ValueError, IndexError):
        return ""
    needed = 2 * clients
    if clients < CROWD or most >= needed:
        return ""
    return (
        f"The kernel gives TCP {most:,} pages; {clients:,} clients may need {needed:,}, and beyond the limit it drops "
        f'connections: sysctl -w net.ipv4.tcp_mem="{needed // 2} {needed * 3 // 4} {needed}".'
    )


def try_one(plan: Plan, target: Target, tokens: wire.Tokens) -> None:
    """Connect and subscribe one client of the plan, and leave. Raises Unusable with the reason it did not get in."""
    swarm = Swarm(
        run="trial",
        first=0,
        count=1,
        target=target,
        channels=lambda client: [(each.name(client), each.recover) for each in plan.channels],
        token=token_maker(tokens, plan),
        enter={each.name(0): each.enter for each in plan.channels if each.enter},
        sources=[],
        base=time.monotonic_ns(),
    )
    client = swarm.clients[0]
    swarm.connect(client)
    while client.phase != LIVE and not swarm.errors and swarm.now < PATIENCE * 1e9:
        swarm.turn()
    live, errors = client.phase == LIVE, list(swarm.errors)
    swarm.close(client)
    if not live:
        raise Unusable(explained(errors[0] if errors else "no answer", target, plan))


def explained(error: str, target: Target, plan: Plan) -> str:
    """Why the first client did not get in, and what would help."""
    where = target.host_header or f"{target.host}:{target.port}"
    channel = plan.channels[0].name(0)
    what, _, detail = error.partition(": ")
    if (what, detail) == ("connect", "ECONNREFUSED"):
        return f"Nothing listens on {where}. Start it (chalkwire serve), or name another --target."
    if what == "no answer":
        return f"{where} does not answer within {PATIENCE:.0f} s."
    if what == "upgrade":
        return f"{where}{target.path} is no WebSocket ({detail!r}). Name its path too: --target ws://{where}/…"
    if (what, detail[:4]) == ("disconnect", "3501"):  # no token at all
        return (
            f"{where} wants a token ({detail}). Give its HMAC secret (--secret), or a token (--token); or, where its "
            "data are on this machine, --data-dir instead of --target."
        )
    if (what, detail[:4]) in {("disconnect", "3500"), ("disconnect", "3507"), ("connect", "101 "), ("connect", "109 ")}:
        return f"{where} does not accept the token ({detail}). Give its HMAC secret (--secret), or a token (--token)."
    if what == "subscribe":
        return (
            f"{where} does not let a client into {channel} ({detail}). Name a channel that clients may subscribe to "
            "and publish in: --channel."
        )
    return f"The first client did not get in at {where}: {error}."
