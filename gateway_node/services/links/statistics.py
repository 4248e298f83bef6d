"""What counters say of a link: how many people, when, from where, with what; and how many bots, why.

Reads the counters alone, so that a link with a hundred million clicks is read like one with ten.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct

from gateway_node.services.links.counting import judge
from gateway_node.services.stores import asked
from storage.links.clicks import ClickStore, Moment, Value
from storage.links.links import Link

Unit = Literal["hour", "day"]
MAX_DAYS = 366
MAX_HOUR_DAYS = 90  # hours are kept that long
MOST = 100  # values of a kind, the most frequent ones

KINDS = ("country", "referrer", "browser", "system", "device", "bot")


class Statistics(Struct, frozen=True, kw_only=True):
    """`series`: hours or days (UTC) in which somebody came, oldest first. The rest is of all time, of people alone but
    for `bots`: why they count as such. An empty value is unknown or none, `*` all those beyond the first 500."""

    code: str
    clicks: int
    bot_clicks: int
    unit: Unit
    since: datetime
    series: Sequence[Moment]
    countries: Sequence[Value]
    referrers: Sequence[Value]
    browsers: Sequence[Value]
    systems: Sequence[Value]
    devices: Sequence[Value]
    bots: Sequence[Value]


class LinkStatistics:
    """Every method raises error 100 while PostgreSQL is away."""

    def __init__(self, store: ClickStore) -> None:
        self._store = store

    async def of(self, link: Link, unit: Unit, days: int) -> Statistics:
        since = _beginning(unit, days)
        series = await asked(self._store.times(link.id, unit, since))
        values = await asked(self._store.values(link.id, MOST))
        countries, referrers, browsers, systems, devices, bots = (values.get(kind, []) for kind in KINDS)
        return Statistics(
            code=link.short_code,
            clicks=link.click_count,
            bot_clicks=link.bot_count,
            unit=unit,
            since=since,
            series=series,
            countries=countries,
            referrers=referrers,
            browsers=browsers,
            systems=systems,
            devices=devices,
            bots=bots,
        )

    async def table(self, link: Link, unit: Unit, days: int) -> bytes:
        """CSV: kind, value, clicks, bots. Moments first, then the values of each kind."""
        found = await self.of(link, unit, days)
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(("kind", "value", "clicks", "bots"))
        writer.writerow(("total", "", found.clicks, found.bot_clicks))
        writer.writerows(
            (unit, each.at.strftime("%Y-%m-%dT%H:%M:%SZ"), each.clicks, each.bots) for each in found.series
        )
        kinds = (found.countries, found.referrers, found.browsers, found.systems, found.devices)
        for kind, values in zip(KINDS, kinds, strict=False):
            writer.writerows((kind, _cell(each.value), each.clicks, "") for each in values)
        writer.writerows(("bot", _cell(each.value), "", each.clicks) for each in found.bots)
        return out.getvalue().encode()

    async def recount(self, link: Link) -> None:
        """Judge all its clicks again, by the rules of now."""
        await asked(self._store.recount(link.short_code, judge))


def _beginning(unit: Unit, days: int) -> datetime:
    """So many days back, today included; hours at most as long as they are kept."""
    if unit == "hour":
        days = min(days, MAX_HOUR_DAYS)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)


def _cell(value: str) -> str:
    """Spreadsheets run what begins like a formula, and referrers are what strangers send."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
