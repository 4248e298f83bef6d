"""Workers killed, Redis stopped: every click is there once, and links go on leading."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest

from config.embedded import EmbeddedStack
from gateway_node.process_list import read_processes
from loadtest.server import Server
from tests.chat.person import people
from tests.invariants.conftest import poll
from tests.links.conftest import SETTINGS
from tests.links.visitor import BROWSER, TARGET, is_counted, new_link, visitor
from tests.lms.school import ok
from tests.stack import short_folder

pytestmark = pytest.mark.chaos

RATE = 1000  # redirects/s
SECONDS = 6
KILLS = 5


@pytest.fixture(scope="module")
def stack() -> Iterator[EmbeddedStack]:
    """Stores that nobody restarts but the test."""
    with short_folder() as folder:
        stack = EmbeddedStack(folder / "data", max_connections=60)
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


@pytest.fixture(scope="module")
def addresses(stack: EmbeddedStack) -> dict[str, str]:
    urls = stack.urls
    return {"DATABASE__URL": str(urls.database), "REDIS__URL": str(urls.redis), "NATS__URL": str(urls.nats)}


@pytest.fixture(scope="module")
def server(addresses: dict[str, str]) -> Iterator[Server]:
    """Two nodes that serve, and count nothing."""
    settings = SETTINGS | addresses | {"ROLES": "gateway,api"}
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def workers(server: Server, addresses: dict[str, str]) -> Iterator[Server]:
    """Two nodes that count, and serve nothing."""
    settings = SETTINGS | addresses | {"ROLES": "worker"}
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running


async def follow(server: Server, code: str, first: int, number: int, lanes: int) -> None:
    """One connection of `lanes`: each visitor comes from a site of their own, at its time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.node_port_base + first % server.nodes)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for place in range(number):
        head = f"GET /s/{code} HTTP/1.1\r\nHost: x\r\nUser-Agent: {BROWSER}\r\n"
        await asyncio.sleep(max(0.0, began + place * lanes / RATE - loop.time()))
        writer.write(f"{head}Referer: https://v{first + place * lanes}.example/\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 302 "), answer
    writer.close()


@asynccontextmanager
async def rows_of(stack: EmbeddedStack) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(str(stack.urls.database))
    try:
        yield connection
    finally:
        await connection.close()


async def test_every_click_is_there_once_though_workers_are_killed(
    stack: EmbeddedStack, server: Server, workers: Server
) -> None:
    total, lanes = RATE * SECONDS, 10
    async with people(server, "Ann") as (ann,), rows_of(stack) as database:
        link = await new_link(ann)
        killed = 0

        async def kill() -> None:
            """Now this worker, now that one, as soon as it has stored something."""
            nonlocal killed
            seen = 0
            while killed < KILLS:
                more = partial(database.fetchval, "select count(*) > $1 from clicks", seen)
                await poll(more, "more is stored", 30)
                seen = await database.fetchval("select count(*) from clicks")
                found = read_processes(workers.data_dir)
                assert found is not None
                alive = [each["pid"] for each in found["nodes"] if each["pid"]]
                if alive:
                    os.kill(alive[killed % len(alive)], signal.SIGKILL)
                    killed += 1
                await asyncio.sleep(SECONDS / KILLS / 2)

        async with asyncio.TaskGroup() as group:
            group.create_task(kill())
            for lane in range(lanes):
                group.create_task(follow(server, link["code"], lane, total // lanes, lanes))
        assert killed == KILLS
        count = "select count(*) from clicks where short_code = $1"
        await poll(lambda: database.fetchval(f"select ({count}) >= $2", link["code"], total), "all are stored", 60)
        row = await database.fetchrow(
            "select count(*) as clicks, count(distinct referrer) as visitors from clicks where short_code = $1",
            link["code"],
        )
        assert (row["clicks"], row["visitors"]) == (total, total)
        assert ok(await ann.http("GET", f"/v1/links/{link['code']}"))["click_count"] == total
        hours = await database.fetchval(
            "select sum(t.clicks) from link_times t join urls u on u.id = url_id "
            "where short_code = $1 and unit = 'hour'",
            link["code"],
        )
        assert hours == total


async def test_links_lead_on_while_redis_is_away(stack: EmbeddedStack, server: Server, workers: Server) -> None:
    async with (
        people(server, "Ann") as (ann,),
        visitor(server, 0) as one,
        visitor(server, 1) as other,
        rows_of(stack) as database,
    ):
        near, cold, edited = await new_link(ann), await new_link(ann), await new_link(ann)
        limited = await new_link(ann, max_visits=2)
        for someone in (one, other):
            assert (await someone.get(f"/s/{near['code']}")).status_code == 302
            assert (await someone.get(f"/s/{edited['code']}")).headers["location"] == TARGET
        stack.stop_one("valkey")
        try:
            for someone in (one, other, one):
                for link in (near, cold, limited):
                    answer = await someone.get(f"/s/{link['code']}")
                    used_up = link is limited and someone is one and answer.status_code == 410
                    assert used_up or answer.headers["location"] == TARGET
            assert (await other.get(f"/s/{limited['code']}")).status_code == 410
            assert (await one.get("/s/nobodys")).status_code == 404
            made = await new_link(ann)
            assert (await other.get(f"/s/{made['code']}")).status_code == 302
            elsewhere = "https://example.org/elsewhere"
            ok(await ann.http("PATCH", f"/v1/links/{edited['code']}", {"url": elsewhere}))
            for someone in (one, other):
                await poll(lambda who=someone: leads(who, edited["code"], elsewhere), "the change is heard of")
        finally:
            stack.start_one("valkey")
        # Redis, which kept what it knew on disk, has the old target: nobody is led there, now or later.
        for _ in range(20):
            for someone in (one, other):
                assert await leads(someone, edited["code"], elsewhere)
            await asyncio.sleep(0.05)
        # What was clicked while it was away is counted.
        for link, clicks in ((near, 5), (cold, 3), (limited, 2), (made, 1)):
            wanted = "select click_count = $2 from urls where short_code = $1"
            await poll(
                lambda code=link["code"], n=clicks, sql=wanted: database.fetchval(sql, code, n), f"{clicks} clicks", 30
            )


async def test_links_lead_on_while_redis_hangs(stack: EmbeddedStack, server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        links = [await new_link(ann) for _ in range(3)]
        pid = stack.pids["valkey"]
        os.kill(pid, signal.SIGSTOP)
        try:
            for link in links:
                assert await leads(someone, link["code"], TARGET)
        finally:
            os.kill(pid, signal.SIGCONT)


async def leads(someone: httpx.AsyncClient, code: str, target: str) -> bool:
    answer = await someone.get(f"/s/{code}")
    return bool(answer.headers.get("location") == target)


async def test_a_stop_loses_no_click() -> None:
    """What a node has noted and not sent yet goes to Redis, which keeps it on disk; the next life counts it."""
    with short_folder() as folder:
        running = Server(folder / "data", nodes=2, settings=SETTINGS)
        with running:
            async with people(running, "Ann") as (ann,), visitor(running, 0) as one, visitor(running, 1) as other:
                link = await new_link(ann)
                for _ in range(20):
                    for someone in (one, other):
                        assert (await someone.get(f"/s/{link['code']}")).status_code == 302
            running.stop()
            running.start()
            await is_counted(running, link["code"], 40)
