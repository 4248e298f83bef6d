"""What `chalkwire doctor` looks at. Each finding says what was found and, unless it is well, what to do."""

from __future__ import annotations

import asyncio
import ctypes
import platform
import resource
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gateway_node import metrics
from gateway_node.checks import FEWEST_FILES, FILES_OF_A_NODE, NATS_ENVELOPE, check_pools
from gateway_node.ports import BACKLOG, ReservedPort
from gateway_node.processes import StartError

if TYPE_CHECKING:
    from config.embedded import StackUrls
    from config.sections import Settings

GIB = 1 << 30
LITTLE_DISK = 2 * GIB
TOO_LITTLE_DISK = GIB // 8  # 128 MB: PostgreSQL needs some for its write-ahead log alone
FEW_FILES = 10_000
CLOCK_TOLERANCE = 1.0  # seconds between this machine and the database's
TIMEOUT = 5.0  # seconds for a store's answer
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
OLDEST_POSTGRESQL = 15

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    status: Status
    text: str


def versions() -> Finding:
    parts = [f"{name} {version(name)}" for name in ("uvloop", "websockets", "asyncpg", "redis", "nats-py")]
    return Finding(
        "versions", "ok", f"Chalkwire {metrics.version()}, Python {platform.python_version()}, {', '.join(parts)}"
    )


def open_files() -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return Finding("files", "ok", "no limit of open files")
    room = f"a process may open {hard} files, so a node holds about {max(hard - FILES_OF_A_NODE, 0)} connections"
    if hard >= FEW_FILES:
        return Finding("files", "ok", room)
    status: Status = "fail" if hard < FEWEST_FILES else "warn"
    return Finding("files", status, f"{room}: raise it (ulimit -n, LimitNOFILE= of the systemd unit)")


def backlog() -> Finding:
    try:
        most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        return Finding("backlog", "ok", "not known on this system")
    if most >= BACKLOG:
        return Finding("backlog", "ok", f"{BACKLOG} connections may wait to be accepted by a node")
    return Finding(
        "backlog",
        "warn",
        f"{most} connections may wait to be accepted by a node, fewer than a reconnect storm brings: "
        f"sysctl -w net.core.somaxconn={BACKLOG}",
    )


def port(settings: Settings, *, runs: bool) -> Finding:
    where = f"port {settings.http.port} on {settings.http.host}"
    if runs:
        return Finding("port", "ok", "this server is running")
    try:
        ReservedPort(settings.http.host, settings.http.port).close()
    except StartError as error:
        return Finding("port", "fail", str(error))
    return Finding("port", "ok", f"{where} is free")


def disk(data_dir: Path) -> Finding:
    there = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / GIB:.1f} GiB are free for {data_dir}"
    if free >= LITTLE_DISK:
        return Finding("disk", "ok", text)
    return Finding("disk", "fail" if free < TOO_LITTLE_DISK else "warn", f"{text}: make room, or move data_dir")


def clock() -> Finding:
    """Tokens expire by this clock. Whether it is set by the network is the kernel's to say."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if sys.platform != "linux":
        return Finding("clock", "ok", now)
    buffer = ctypes.create_string_buffer(512)  # a zeroed struct timex, which asks and sets nothing
    if ctypes.CDLL(None).adjtimex(buffer) == TIME_ERROR:
        return Finding("clock", "warn", f"{now}, and nothing keeps it right: run chrony or systemd-timesyncd")
    return Finding("clock", "ok", f"{now}, synchronised")


async def stores(settings: Settings, urls: StackUrls, *, fresh: bool) -> list[Finding]:
    """Each store, asked. `fresh`: an empty trial, whose schema says nothing."""
    return [
        await _ask("postgresql", "database.url", lambda: _postgresql(settings, urls.database or "", fresh)),
        await _ask("redis", "redis.url", lambda: _redis(urls.redis or "")),
        await _ask("nats", "nats.url", lambda: _nats(settings, urls.nats or "")),
    ]


async def _ask(name: str, setting: str, question: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await asyncio.wait_for(question(), TIMEOUT)
    except Exception as error:  # each client library has its own kinds of trouble
        reason = str(error).partition("\n")[0] or type(error).__name__
        return Finding(name, "fail", f"cannot be used: {reason}; see {setting}")


async def _postgresql(settings: Settings, url: str, fresh: bool) -> Finding:
    import asyncpg

    from storage.migrate import SchemaTooOld, check

    connection = await asyncpg.connect(url, timeout=TIMEOUT, statement_cache_size=0)
    try:
        major = connection.get_server_version().major
        release = str(await connection.fetchval("SHOW server_version")).split()[0]
        limit = int(await connection.fetchval("SHOW max_connections"))
        durable = await connection.fetchval("SHOW fsync"), await connection.fetchval("SHOW synchronous_commit")
        ahead = (await connection.fetchval("SELECT clock_timestamp()")).timestamp() - time.time()
    finally:
        await connection.close()
    what = f"{release}, max_connections {limit}"
    if major < OLDEST_POSTGRESQL:
        return Finding("postgresql", "fail", f"{what}: version {OLDEST_POSTGRESQL} or later is needed")
    if "off" in durable:
        return Finding("postgresql", "fail", f"{what}: fsync or synchronous_commit is off; turn both on")
    if settings.database.url is not None:
        check_pools(settings, limit)
    if abs(ahead) > CLOCK_TOLERANCE:
        return Finding("postgresql", "warn", f"{what}: its clock is {ahead:+.1f} s off this machine's")
    if fresh:
        return Finding("postgresql", "ok", f"{what}; embedded, made at the first start")
    try:
        await check(url)
    except SchemaTooOld as error:
        return Finding("postgresql", "warn", f"{what}; {error} (the start does it too)")
    return Finding("postgresql", "ok", what)


async def _redis(url: str) -> Finding:
    from redis.asyncio import Redis

    async with Redis.from_url(url, socket_timeout=TIMEOUT, decode_responses=True) as client:
        server = await client.info("server")
        policy = (await client.info("memory")).get("maxmemory_policy", "noeviction")
    what = f"{server.get('server_name', 'redis')} {server.get('valkey_version') or server['redis_version']}"
    if policy != "noeviction":
        return Finding("redis", "warn", f"{what}: maxmemory-policy {policy} may evict presence; set noeviction")
    return Finding("redis", "ok", what)


async def _nats(settings: Settings, url: str) -> Finding:
    import nats

    troubles: list[Exception] = []

    async def remember(error: Exception) -> None:
        troubles.append(error)

    try:
        client = await nats.connect(url, max_reconnect_attempts=1, reconnect_time_wait=0, error_cb=remember)
    except nats.errors.NoServersError:
        raise troubles[-1] if troubles else ConnectionError("no server answers") from None
    version, largest = client.connected_server_version, client.max_payload
    await client.close()
    what = f"{version.major}.{version.minor}.{version.patch}"
    needed = int(settings.client.max_message_size) + NATS_ENVELOPE
    if settings.nats.url is not None and largest < needed:
        return Finding("nats", "fail", f"{what}: max_payload is {largest} bytes and {needed} are needed: raise it")
    return Finding("nats", "ok", what)
