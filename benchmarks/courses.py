"""Reads of a cached course a second: by students over HTTP, each of whom may see it.

Each is a request with an access token: the token is verified, who may is looked up, and the outline is filtered by what
is released. The students and the courses are many, so that nothing is answered from the last answer alone.

The floor is a Litestar route by itself (`bare_route.py`) that answers with as many bytes, which it has, to the same
clients; before and after each measurement, which is compared with these two. What is compared is CPU time of the one
process that answers: on two cores, clients and PostgreSQL would count otherwise.

    python -m benchmarks.courses --clients 50
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.durable import Spent, over
from benchmarks.measure import Spread, beside, cpu_seconds
from config.embedded import read_urls
from loadtest.server import Server

GOAL = 8000  # a second of a core
LIMITS = ("LIMITS__REQUESTS_PER_ADDRESS", "LIMITS__REQUESTS_PER_USER")
COUNTED = "1000000000"  # a minute: requests are counted, and none is too many


class Browser:
    """One connection that asks one thing after another: httpx would take more CPU than the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, course: str, token: str) -> tuple[int, int]:
        """The status, and the bytes of the body."""
        self._writer.write(
            f"GET /v1/courses/{course} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head[9:12]), length


class Bench:
    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self._server = server
        self._options = options
        self.rates: list[float] = []  # a second of the node's CPU
        self.floors: list[float] = []  # a second of the floor's
        self.clock: list[float] = []  # a second
        self.times: list[float] = []  # seconds, of all reads
        self.spent: list[dict[str, float]] = []
        self.size = 0

    async def run(self) -> None:
        work = await self._prepare()
        await self._measure(work)  # plans are made, and the cache is filled
        for each in (self.rates, self.clock, self.times, self.spent):
            each.clear()
        with beside([sys.executable, "-m", "benchmarks.bare_route", str(self.size)]) as (pid, said):
            port = int(said.readline())
            await self._floor(work, port, pid)
            self.floors.clear()
            await self._floor(work, port, pid)
            for _ in range(self._options.repeat):
                await self._measure(work)
                await self._floor(work, port, pid)
            os.kill(pid, signal.SIGTERM)

    async def _prepare(self) -> Sequence[tuple[str, str]]:
        """Courses with their students; who reads which, with which token."""
        urls = read_urls(self._server.data_dir)
        assert urls is not None and urls.database is not None
        database = await asyncpg.connect(urls.database)
        people: list[UUID] = [uuid4() for _ in range(self._options.students + 1)]
        await database.execute(
            "insert into users (id, email, password_hash, name, role) "
            "select id, id || '@example.org', '', 'Student', 'student' from unnest($1::uuid[]) id",
            people,
        )
        teacher, *students = people
        await database.execute("update users set role = 'teacher' where id = $1", teacher)
        courses = [await self._course(self._server.token(str(teacher)), n) for n in range(self._options.courses)]
        seats = [(student, courses[n % len(courses)]) for n, student in enumerate(students)]
        await database.executemany("insert into enrollments (user_id, course_id) values ($1, $2)", seats)
        await database.execute("analyze users, courses, enrollments")
        await database.close()
        return [(course, self._server.token(str(student))) for student, course in seats]

    async def _course(self, token: str, number: int) -> str:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers, base_url=self._server.url("/v1/")) as http:

            async def post(path: str, **body: object) -> str:
                return str((await http.post(path, json=body)).raise_for_status().json()["id"])

            course = await post("courses", title=f"Course {number}", metadata={"tags": ["golang"]})
            for m in range(self._options.modules):
                module = await post(f"courses/{course}/modules", title=f"Module {m}")
                for n in range(self._options.lessons):
                    path = f"courses/{course}/modules/{module}/lessons"
                    await post(path, title=f"Lesson {n}", status="published", duration=300)
            (await http.put(f"courses/{course}/publication")).raise_for_status()
        return course

    async def _measure(self, work: Sequence[tuple[str, str]]) -> None:
        spent, began = Spent(self._server), time.perf_counter()
        self.times += await self._ask(work, self._server.node_port_base)
        self.clock.append(self._options.reads / (time.perf_counter() - began))
        self.spent.append(spent.each(self._options.reads))
        self.rates.append(1e6 / self.spent[-1]["cw-node"])

    async def _floor(self, work: Sequence[tuple[str, str]], port: int, pid: int) -> None:
        before = cpu_seconds(pid)
        await self._ask(work, port)
        self.floors.append(self._options.reads / (cpu_seconds(pid) - before))

    async def _ask(self, work: Sequence[tuple[str, str]], port: int) -> list[float]:
        times: list[float] = []
        turns = iter(range(self._options.reads))

        async def one_after_another(browser: Browser, numbers: Iterator[int]) -> None:
            for number in numbers:
                began = time.perf_counter()
                status, self.size = await browser.get(*work[number % len(work)])
                times.append(time.perf_counter() - began)
                assert status == 200, status

        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.clients):
                browser = Browser(*await asyncio.open_connection("127.0.0.1", port))
                group.create_task(one_after_another(browser, turns))
        return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--courses", type=int, default=20)
    parser.add_argument("--modules", type=int, default=5, help="of a course")
    parser.add_argument("--lessons", type=int, default=6, help="of a module")
    parser.add_argument("--students", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=50, help="connections, each of which waits for its answer")
    parser.add_argument("--reads", type=int, default=10_000)
    parser.add_argument("--limits", action="store_true", help="count requests by address and user, as by default")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    settings = dict.fromkeys(LIMITS, COUNTED if options.limits else "0")
    with (
        tempfile.TemporaryDirectory(prefix="courses-") as folder,
        Server(Path(folder) / "data", nodes=1, settings=settings) as server,
    ):
        bench = Bench(server, options)
        uvloop.run(bench.run())
    show(bench, Console(width=120))


def show(bench: Bench, console: Console) -> None:
    times = sorted(bench.times)
    table = Table("", "for each second of CPU", title=f"Reads of a course, {bench.size:,} bytes")
    table.add_row("a Litestar route by itself", f"{Spread(bench.floors):,.0f}")
    table.add_row("a read", f"{Spread(bench.rates):,.0f}")
    table.add_row("read / route", f"{Spread(over(bench.rates, bench.floors)):.2f}")
    table.add_row("goal", f"{GOAL:,}")
    console.print(table)
    p50, p99 = (times[int(len(times) * part)] * 1e3 for part in (0.5, 0.99))
    console.print(f"{Spread(bench.clock):,.0f} a second; p50 {p50:.1f} ms, p99 {p99:.1f} ms", highlight=False)
    for kind in sorted({kind for each in bench.spent for kind in each}):
        value = statistics.median(each.get(kind, 0.0) for each in bench.spent)
        if value >= 1:
            console.print(f"  {kind}: {value:.0f} us a read", highlight=False)


if __name__ == "__main__":
    main()
