"""Whoever follows links: requests without an account, with the browser of a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from loadtest.server import Server
from tests.chat.person import Person
from tests.invariants.rawclient import PATIENCE
from tests.lms.school import execute, ok

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
TARGET = "https://example.org/lesson?week=1"


@asynccontextmanager
async def visitor(server: Server, node: int | None = None, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """`headers` with `_` for `-`."""
    sent = {"User-Agent": BROWSER, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with httpx.AsyncClient(
        base_url=server.url("", node), headers=sent, trust_env=False, timeout=PATIENCE
    ) as client:
        yield client


async def new_link(person: Person, url: str = TARGET, *, node: int | None = None, **fields: Any) -> dict[str, Any]:
    return ok(await person.http("POST", "/v1/links", {"url": url, **fields}, node=node), 201)


async def counted(server: Server, code: str, holds: Callable[[Any], bool], seconds: float = PATIENCE) -> dict[str, Any]:
    """The row of a link when it is as wanted: clicks come later than redirects. Raises AssertionError."""
    async with asyncio.timeout(seconds):
        while True:
            (row,) = await execute(server, "select * from urls where short_code = $1", code)
            if holds(row):
                return dict(row)
            await asyncio.sleep(0.05)


async def is_counted(server: Server, code: str, clicks: int, bots: int = 0) -> None:
    await counted(server, code, lambda row: (row["click_count"], row["bot_count"]) == (clicks, bots))
