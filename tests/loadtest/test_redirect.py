"""`chalkwire loadtest redirect`: its clients, its books, and a run against a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from loadtest.http import Requests, request
from loadtest.redirect import faults
from loadtest.report import model
from loadtest.report.verify import verify

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
FOUND = b"HTTP/1.1 302 Found\r\nLocation: https://example.org/\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.append(task)
        with suppress(asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.gather(*serving)


async def test_each_request_is_sent_in_turn_and_its_answer_counted() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
            writer.write(FOUND[:20])
            await writer.drain()
            writer.write(FOUND[20:])

    async with server(answer) as port:
        taken = await Requests("127.0.0.1", port, 1).once([request("GET", f"/{n}", "x") for n in range(3)])
        assert asked == [b"/0", b"/1", b"/2"]
        assert (taken.statuses, taken.count, taken.broken) == ({302: 3}, 3, 0)
        assert sum(taken.latency.values()) == sum(taken.by_second.values()) == 3
        many = await Requests("127.0.0.1", port, 4).paced([request("GET", "/", "x")], 1000, 0.05)
        assert many.count == many.sent[0] == 50


async def test_a_connection_that_breaks_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with server(answer) as port:
        taken = await Requests("127.0.0.1", port, 3).closed([request("GET", "/", "x")], 60)
        assert (taken.count, taken.broken) == (0, 3)


async def test_a_late_answer_counts_from_when_it_was_due() -> None:
    """One connection, whose first answer comes long after all ten requests were due."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.3)  # the last one was due 0.09 s after this one
        writer.write(FOUND)
        for _ in range(9):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(FOUND)

    async with server(answer) as port:
        taken = await Requests("127.0.0.1", port, 1).paced([request("GET", "/", "x")], 100, 0.1)
    assert taken.count == 10
    assert max(taken.latency) >= 300_000
    assert min(taken.latency) >= 210_000


def test_clicks_that_are_not_redirects_are_faults() -> None:
    found = faults(["a", "b", "c"], [5, 5, 5], [5, 4, 6])
    assert [(fault.kind, fault.channel) for fault in found] == [("lost", "/s/b"), ("doubled", "/s/c")]


@pytest.mark.integration
def test_a_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gateway_node", "loadtest", "redirect", "--serve", "1", "--out", str(tmp_path)),
            *("--connections", "4", "--links", "3", "--seconds", "0.5", "--turns", "1", "--rate", "100"),
            *("--paced", "0.5"),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = model.read(tmp_path / "report.json")
    assert [problem for problem in verify(report) if not problem.startswith("budget:")] == []
    assert report.facts["clicks_counted"] == report.facts["redirects"] > 50
    assert report.errors == {}
    assert {"create", "bulk", "redirect-1", "paced"} <= {phase.name for phase in report.phases}
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
