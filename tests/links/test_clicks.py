"""Clicks, counted: who came, when, from where, with what, and who was no person."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime

import pytest

from loadtest.server import Server
from tests.chat.person import people
from tests.links.visitor import BROWSER, CRAWLER, PHONE, counted, is_counted, new_link, visitor
from tests.lms.school import execute, ok

pytestmark = pytest.mark.integration


async def test_who_came(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann)
        path = f"/s/{link['code']}"
        for headers in (
            {"Referer": "https://www.school.example/page?secret=1"},
            {"Referer": "https://school.example/", "User-Agent": PHONE},
            {"Referer": "javascript:alert(1)", "User-Agent": PHONE},
            {"Referer": "=cmd|' /C calc'!A0"},
            {"User-Agent": CRAWLER, "Referer": "https://google.example"},
            {"User-Agent": "facebookexternalhit/1.1"},
            {"User-Agent": "curl/8.5.0"},
            {"User-Agent": ""},
            {"Sec-Purpose": "prefetch;prerender"},
        ):
            assert (await someone.get(path, headers=headers)).status_code == 302
        await is_counted(server, link["code"], 4, 5)
        stats = ok(await ann.http("GET", f"/v1/links/{link['code']}/stats"))
        assert (stats["clicks"], stats["bot_clicks"]) == (4, 5)

        def values(kind: str) -> dict[str, int]:
            return {each["value"]: each["clicks"] for each in stats[kind]}

        assert values("referrers") == {"school.example": 2, "": 2}
        assert values("browsers") == {"Firefox": 2, "Mobile Safari": 2}
        assert values("systems") == {"Linux": 2, "iOS": 2}
        assert values("devices") == {"desktop": 2, "mobile": 2}
        assert values("countries") == {"": 4}  # this machine is nowhere
        assert values("bots") == {"crawler": 1, "preview": 1, "tool": 1, "no user agent": 1, "prefetch": 1}
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        assert sum(day["clicks"] for day in stats["series"]) == 4
        assert datetime.fromisoformat(stats["series"][-1]["at"]) <= today
        hours = ok(await ann.http("GET", f"/v1/links/{link['code']}/stats?unit=hour&days=1"))["series"]
        assert sum(hour["bots"] for hour in hours) == 5

        table = await ann.http("GET", f"/v1/links/{link['code']}/stats.csv")
        assert table.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.reader(io.StringIO(table.content.decode())))
        assert rows[:2] == [["kind", "value", "clicks", "bots"], ["total", "", "4", "5"]]
        assert ["referrer", "school.example", "2", ""] in rows
        assert ["bot", "crawler", "", "1"] in rows

        stored = await execute(server, "select * from clicks where short_code = $1 order by id", link["code"])
        assert len(stored) == 9
        assert {str(row["ip_address"]) for row in stored} == {"127.0.0.0"}  # truncated
        assert stored[0]["user_agent"] == BROWSER
        for wrong in ("days=0", "days=999", "unit=week"):
            assert (await ann.http("GET", f"/v1/links/{link['code']}/stats?{wrong}")).status == 400


async def test_bots_are_judged_again(server: Server) -> None:
    """By a rule that did not exist when they came: here the old one took a phone for a bot, and a crawler for none."""
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann)
        for agent in (BROWSER, PHONE, CRAWLER):
            await someone.get(f"/s/{link['code']}", headers={"User-Agent": agent})
        await someone.get(f"/s/{link['code']}", headers={"Purpose": "prefetch"})
        await is_counted(server, link["code"], 2, 2)
        before = ok(await ann.http("GET", f"/v1/links/{link['code']}/stats?unit=hour"))
        await execute(
            server,
            "update clicks set bot = case when user_agent like '%iPhone%' then 'old rule' end, browser = 'old' "
            "where short_code = $1 and bot is distinct from 'prefetch'",
            link["code"],
        )
        await execute(server, "update urls set click_count = 7, bot_count = 7 where short_code = $1", link["code"])
        ok(await ann.http("POST", f"/v1/links/{link['code']}/recount"), 204)
        await is_counted(server, link["code"], 2, 2)
        assert ok(await ann.http("GET", f"/v1/links/{link['code']}/stats?unit=hour")) == before


async def test_the_owner_is_told_live(server: Server) -> None:
    async with people(server, "Ann", "Ben") as (ann, ben), visitor(server, 1) as someone:
        link = await new_link(ann)
        seen = 0

        def arrived() -> int:
            heard = [each for each in ann.device.heard(ann.channel) if each.get("event") == "links_clicked"]
            return sum(one["new_clicks"] for each in heard for one in each["links"] if one["code"] == link["code"])

        for total in (1, 2):
            await someone.get(f"/s/{link['code']}")
            told = await ann.hears(
                ann.channel,
                lambda data, total=total: any(one["clicks"] == total for one in data["links"]),
                event="links_clicked",
            )
            (one,) = (each for each in told["links"] if each["code"] == link["code"])
            assert (one["clicks"], one["bots"], one["new_clicks"]) == (total, 0, 1)
            seen += 1
        assert arrived() == seen
        assert not [each for each in ben.device.heard(ben.channel) if each.get("event") == "links_clicked"]


async def test_many_different_referrers(server: Server) -> None:
    """Whoever makes them up does not fill the database: the first five hundred, and the rest together."""
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann)
        await asyncio.gather(
            *(someone.get(f"/s/{link['code']}", headers={"Referer": f"https://host{n}.example/"}) for n in range(300))
        )
        await is_counted(server, link["code"], 300)
        await execute(
            server,
            "insert into link_values (url_id, kind, value, clicks) select id, 'referrer', 'x' || n, 1 "
            "from urls, generate_series(1, 300) n where short_code = $1",
            link["code"],
        )
        for n in range(5):
            await someone.get(f"/s/{link['code']}", headers={"Referer": f"https://late{n}.example/"})
        await someone.get(f"/s/{link['code']}", headers={"Referer": "https://host7.example/"})
        await is_counted(server, link["code"], 306)
        rows = await execute(
            server,
            "select value, v.clicks from link_values v join urls u on u.id = url_id "
            "where short_code = $1 and kind = 'referrer' and value in ('*', 'host7.example', 'late0.example')",
            link["code"],
        )
        assert {row["value"]: row["clicks"] for row in rows} == {"*": 5, "host7.example": 2}


async def test_a_deleted_link_forgets_who_came(server: Server) -> None:
    from config.embedded import read_urls
    from storage.database import Database
    from storage.links.clicks import ClickStore

    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link, other = await new_link(ann), await new_link(ann)
        for each in (link, other):
            await someone.get(f"/s/{each['code']}")
            await is_counted(server, each["code"], 1)
        ok(await ann.http("DELETE", f"/v1/links/{link['code']}"), 204)
        database = Database(str(read_urls(server.data_dir).database))
        await ClickStore(database).clear_deleted()
        await database.close()
        for code, number in ((link["code"], 0), (other["code"], 1)):
            assert len(await execute(server, "select from clicks where short_code = $1", code)) == number
            rows = await execute(
                server, "select from link_times t join urls u on u.id = t.url_id where short_code = $1", code
            )
            assert bool(rows) == bool(number)


async def test_old_clicks_are_removed_and_what_was_counted_stays(server: Server) -> None:
    from config.embedded import read_urls
    from storage.database import Database
    from storage.links.clicks import ClickStore

    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann)
        await someone.get(f"/s/{link['code']}")
        await someone.get(f"/s/{link['code']}")
        await is_counted(server, link["code"], 2)
        await execute(
            server,
            "update clicks set clicked_at = now() - interval '11 days' "
            "where id = (select min(id) from clicks where short_code = $1)",
            link["code"],
        )
        database = Database(str(read_urls(server.data_dir).database))
        await ClickStore(database).trim(10)
        await database.close()
        assert len(await execute(server, "select from clicks where short_code = $1", link["code"])) == 1
        await counted(server, link["code"], lambda row: row["click_count"] == 2)


async def test_what_the_metrics_say(server: Server) -> None:
    async with people(server, "Ann") as (ann,), visitor(server, 0) as someone:
        link = await new_link(ann)
        await someone.get(f"/s/{link['code']}")
        await is_counted(server, link["code"], 1)

        async def numbers(name: str) -> list[float]:
            page = (await someone.get("/metrics")).text
            return [float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name}{{")]

        async with asyncio.timeout(30):  # nodes write their numbers once a second, while somebody asks
            while not (
                sum(await numbers("chalkwire_redirects_total")) and sum(await numbers("chalkwire_clicks_stored_total"))
            ):
                await asyncio.sleep(0.1)
        for name in ("chalkwire_clicks_dropped_total", "chalkwire_clicks_lost_total"):
            assert await numbers(name) == [0, 0]
        for name in ("chalkwire_clicks_backlog", "chalkwire_clicks_backlog_seconds"):
            assert len(await numbers(name)) == 2
