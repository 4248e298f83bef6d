"""Clicks on short links: rows, counters, and which batches of them are stored.

Counters are what analytics read. They are added to in the transaction that stores the clicks, so they say what the rows
say, until old rows are trimmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from msgspec import Struct

from storage.database import Database
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("clicks")
_COLUMNS = (
    *("short_code", "clicked_at", "ip_address", "user_agent", "country", "referrer", "browser", "system", "device"),
    "bot",
)
_HOUR = timedelta(hours=1)
TRIM = 5000  # rows that one statement removes


class Visit(NamedTuple):
    """A click as it is stored, in the order of the columns."""

    code: str
    at: datetime
    address: IPv4Address | IPv6Address | None
    agent: str
    country: str | None
    referrer: str
    browser: str
    system: str
    device: str
    bot: str | None


class VisitBatch(NamedTuple):
    id: UUID
    streamed_at: datetime
    visits: Sequence[Visit]


class Counted(NamedTuple):
    """A link after a batch, and what the batch brought."""

    code: str
    user_id: UUID | None
    clicks: int  # in all
    bots: int  # in all
    new_clicks: int
    new_bots: int

    def after(self, earlier: Counted) -> Counted:
        """What both batches brought."""
        return self._replace(new_clicks=self.new_clicks + earlier.new_clicks, new_bots=self.new_bots + earlier.new_bots)


class Moment(Struct, frozen=True):
    at: datetime
    clicks: int
    bots: int


class Value(Struct, frozen=True):
    value: str
    clicks: int


Judge = Callable[[str, bool], tuple[str, str, str, str | None]]
"""Browser, system, device and bot of a user agent; whether it was a prefetch."""


class Tally:
    """What visits add to the counters."""

    def __init__(self, links: dict[str, int]) -> None:
        self._links = links
        self._alike: Counter[tuple[Any, ...]] = Counter()  # by all that counts
        self._hour = datetime.fromtimestamp(0, UTC)
        self.times: Counter[tuple[int, str, datetime, bool]] = Counter()
        self.values: Counter[tuple[int, str, str]] = Counter()
        self.totals: Counter[tuple[str, bool]] = Counter()

    def add(self, visits: Iterable[Visit]) -> None:
        """Of a link with a thousand clicks most are alike: 1 us each, and not four."""
        alike, hour = self._alike, self._hour
        for code, at, _, _, *rest in visits:
            if not hour <= at < hour + _HOUR:
                hour = at.replace(minute=0, second=0, microsecond=0)
            alike[code, hour, *rest] += 1
        self._hour = hour

    def _sum(self) -> None:
        values = self.values
        for (code, hour, country, *described, bot), number in self._alike.items():
            link, is_bot = self._links[code], bot is not None
            self.times[link, "hour", hour, is_bot] += number
            self.times[link, "day", hour.replace(hour=0), is_bot] += number
            self.totals[code, is_bot] += number
            if is_bot:
                values[link, "bot", bot] += number
                continue
            values[link, "country", country or ""] += number
            for kind, value in zip(("referrer", "browser", "system", "device"), described, strict=True):
                values[link, kind, value] += number

    async def write(self, connection: Connection) -> list[Counted]:
        self._sum()
        moments = sorted({(link, unit, at) for link, unit, at, _ in self.times})
        people = [self.times[(*moment, False)] for moment in moments]
        machines = [self.times[(*moment, True)] for moment in moments]
        values = sorted(self.values)
        rows = await connection.fetch(
            _SQL["count"],
            *([each[part] for each in moments] for part in range(3)),
            *(people, machines),
            *([each[part] for each in values] for part in range(3)),
            [self.values[value] for value in values],
        )
        return [
            Counted(
                *(row["short_code"], row["user_id"], row["click_count"], row["bot_count"]),
                *(self.totals[row["short_code"], bot] for bot in (False, True)),
            )
            for row in rows
        ]


class ClickStore:
    """Every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def store(self, batches: Sequence[VisitBatch]) -> list[Counted]:
        """Store those that are not stored yet, and count them, in one transaction."""
        async with self._database.transaction() as connection:
            ids = [batch.id for batch in batches]
            fresh = {row["id"] for row in await connection.fetch(_SQL["new_batches"], ids, [b[1] for b in batches])}
            visits: list[Visit] = []
            for batch in batches:
                if batch.id in fresh:
                    fresh.discard(batch.id)  # the same twice in one go
                    visits += batch.visits
            links = {
                row["short_code"]: row["id"]
                for row in await connection.fetch(_SQL["links"], sorted({visit.code for visit in visits}))
            }
            visits = [visit for visit in visits if visit.code in links]
            if not visits:
                return []
            await connection.copy_records_to_table("clicks", records=visits, columns=_COLUMNS)
            tally = Tally(links)
            tally.add(visits)
            return await tally.write(connection)

    async def forget_batches(self, oldest: datetime) -> None:
        """Those that were in the stream before its present oldest entry will not come again."""
        await self._database.execute(_SQL["forget_batches"], oldest)

    # --- analytics ---------------------------------------------------------------------------------------------

    async def times(self, link_id: int, unit: str, since: datetime) -> list[Moment]:
        return [Moment(*row) for row in await self._database.fetch(_SQL["times"], link_id, unit, since)]

    async def values(self, link_id: int, most: int) -> dict[str, list[Value]]:
        """The most frequent values of each kind, most frequent first."""
        found: dict[str, list[Value]] = {}
        for kind, value, clicks in await self._database.fetch(_SQL["values"], link_id, most):
            found.setdefault(kind, []).append(Value(value, clicks))
        return found

    async def recount(self, code: str, judge: Judge) -> list[Counted]:
        """Judge each click of a link again, and make its counters anew, in one transaction. Counts of trimmed clicks
        are lost."""
        async with self._database.transaction() as connection:
            link_id = await connection.fetchval(_SQL["lock"], code)
            if link_id is None:
                return []
            for statement in ("clear_times", "clear_values", "reset"):
                await connection.execute(_SQL[statement], link_id)
            tally, last = Tally({code: link_id}), 0
            while rows := await connection.fetch(_SQL["of_link"], code, last, TRIM):
                last = rows[-1]["id"]
                judged = [judge(row["user_agent"] or "", row["bot"] == "prefetch") for row in rows]
                tally.add(
                    Visit(code, row["clicked_at"], None, "", row["country"], row["referrer"] or "", *found)
                    for row, found in zip(rows, judged, strict=True)
                )
                await connection.execute(
                    _SQL["judge"], [row["id"] for row in rows], *(list(part) for part in zip(*judged, strict=True))
                )
            return await tally.write(connection)

    # --- upkeep ------------------------------------------------------------------------------------------------

    async def trim(self, days: int) -> None:
        """Remove clicks older than so many days, and hours older than 90; days and totals stay."""
        while days and await self._database.execute(_SQL["trim"], days) == f"DELETE {TRIM}":
            pass
        await self._database.execute(_SQL["trim_hours"])

    async def clear_deleted(self) -> None:
        """Remove what was known of the visitors of deleted links."""
        while True:
            async with self._database.transaction() as connection:
                row = await connection.fetchrow(_SQL["to_clear"])
                if row is None:
                    return
                if await connection.fetchval(_SQL["clear"], row["short_code"]) == TRIM:
                    continue
                for statement in ("clear_times", "clear_values", "cleared"):
                    await connection.execute(_SQL[statement], row["id"])
