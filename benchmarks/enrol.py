"""Enrolments a second: by the people themselves over HTTP, into open courses.

Each is a request with an access token: who may is looked up, the seat is taken under the lock of the course, the
student becomes a member of its room, and the room's log and their personal channel are told, in one transaction. At the
end seats, enrolments and members must add up.

The floor is a row of `enrollments` by itself, a transaction each, over as many connections as the nodes have to
PostgreSQL; before and after each measurement, which is compared with these two.

    python -m benchmarks.enrol --courses 1 100
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
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
from benchmarks.measure import Spread
from config.embedded import read_urls
from loadtest.server import Server

CONNECTIONS = 20  # of the floor
SETTINGS = {
    "LIMITS__REGISTRATIONS_PER_ADDRESS": "0",
    "LIMITS__REQUESTS_PER_ADDRESS": "0",
    "LIMITS__REQUESTS_PER_USER": "0",
}


class Browser:
    """One connection that asks one thing after another: httpx would take more CPU than the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def enrol(self, course: str, token: str) -> int:
        """The status."""
        self._writer.write(
            f"POST /v1/courses/{course}/enrollments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        await self._reader.readexactly(length)
        return int(head[9:12])


class Bench:
    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self._server = server
        self._options = options
        self.rates: list[float] = []
        self.floors: list[float] = []
        self.times: list[float] = []  # seconds, of all enrolments
        self.spent: list[dict[str, float]] = []

    async def run(self, courses: int) -> None:
        urls = read_urls(self._server.data_dir)
        assert urls is not None and urls.database is not None
        self._pool = await asyncpg.create_pool(urls.database, min_size=CONNECTIONS, max_size=CONNECTIONS)
        made = await self._courses(courses)
        await self._measure(made, self._options.enrolments // 10)  # plans are made
        for each in (self.rates, self.times, self.spent):
            each.clear()
        await self._floor()
        for _ in range(self._options.repeat):
            await self._measure(made, self._options.enrolments)
            await self._floor()
        await self._check(made)
        await self._pool.close()

    async def _users(self, count: int) -> list[UUID]:
        ids = [uuid4() for _ in range(count)]
        await self._pool.execute(
            "insert into users (id, email, password_hash, name, role) "
            "select id, id || '@example.org', '', 'Student', 'student' from unnest($1::uuid[]) id",
            ids,
        )
        return ids

    async def _courses(self, count: int) -> list[str]:
        (teacher,) = await self._users(1)
        await self._pool.execute("update users set role = 'teacher' where id = $1", teacher)
        headers = {"Authorization": f"Bearer {self._server.token(str(teacher))}"}
        made = []
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            for number in range(count):
                body = {"title": f"Course {number}", "admission": "open"}
                answer = (await http.post(self._server.url("/v1/courses"), json=body)).raise_for_status()
                made.append(answer.json()["id"])
                (await http.put(self._server.url(f"/v1/courses/{made[-1]}/publication"))).raise_for_status()
        return made

    async def _measure(self, courses: Sequence[str], count: int) -> None:
        users = await self._users(count)
        work = iter([(courses[n % len(courses)], self._server.token(str(user))) for n, user in enumerate(users)])
        browsers = [
            Browser(*await asyncio.open_connection("127.0.0.1", self._server.node_port_base + n % self._options.nodes))
            for n in range(self._options.clients)
        ]

        async def one_after_another(browser: Browser, some: Iterator[tuple[str, str]]) -> None:
            for course, token in some:
                began = time.perf_counter()
                status = await browser.enrol(course, token)
                self.times.append(time.perf_counter() - began)
                assert status == 201, status

        spent, began = Spent(self._server), time.perf_counter()
        await asyncio.gather(*(one_after_another(each, work) for each in browsers))
        self.rates.append(count / (time.perf_counter() - began))
        self.spent.append(spent.each(count))

    async def _floor(self) -> None:
        """Into a course that has no room, so that nothing else counts them."""
        course = await self._pool.fetchval("insert into courses (title) values ('Floor') returning id")
        users = iter(await self._users(self._options.enrolments))

        async def one_after_another() -> None:
            async with self._pool.acquire() as connection:
                insert = await connection.prepare("insert into enrollments (user_id, course_id) values ($1, $2)")
                for user in users:
                    await insert.fetch(user, course)

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(CONNECTIONS)))
        self.floors.append(self._options.enrolments / (time.perf_counter() - began))

    async def _check(self, courses: Sequence[str]) -> None:
        rows = await self._pool.fetch(
            "select c.students, r.members, (select count(*) from enrollments e where e.course_id = c.id) as enrolled "
            "from courses c join rooms r on r.id = c.room_id where c.id = any ($1::uuid[])",
            courses,
        )
        enrolled = sum(row["students"] for row in rows)
        assert enrolled == self._options.enrolments // 10 + self._options.enrolments * self._options.repeat, enrolled
        assert all(row["students"] + 1 == row["members"] == row["enrolled"] for row in rows), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--courses", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--clients", type=int, default=50, help="connections, each of which waits for its answer")
    parser.add_argument("--enrolments", type=int, default=3000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    console = Console(width=120)
    for courses in options.courses:
        with (
            tempfile.TemporaryDirectory(prefix="enrol-") as folder,
            Server(Path(folder) / "data", nodes=options.nodes, settings=SETTINGS) as server,
        ):
            bench = Bench(server, options)
            uvloop.run(bench.run(courses))
        times = sorted(bench.times)
        table = Table("", "a second", title=f"Enrolments into {courses} courses, {options.nodes} nodes")
        table.add_row("a row by itself", f"{Spread(bench.floors):,.0f}")
        table.add_row("an enrolment", f"{Spread(bench.rates):,.0f}")
        table.add_row("enrolment / row", f"{Spread(over(bench.rates, bench.floors)):.2f}")
        console.print(table)
        p50, p99 = (times[int(len(times) * part)] * 1e3 for part in (0.5, 0.99))
        console.print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", highlight=False)
        for kind in sorted({kind for each in bench.spent for kind in each}):
            value = statistics.median(each.get(kind, 0.0) for each in bench.spent)
            if value >= 1:
                console.print(f"  {kind}: {value:.0f} us an enrolment", highlight=False)


if __name__ == "__main__":
    main()
