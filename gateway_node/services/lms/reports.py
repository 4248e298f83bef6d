"""Reports: what happened in a course or in the school, from numbers that were added up as it happened."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from msgspec import Struct

from gateway_node.services.stores import asked
from storage.lms.events import SCHOOL, Day, EventStore

MAX_DAYS = 366


class Report(Struct, frozen=True):
    """`totals` by kind since the beginning; `days` from `since` on, without those on which nothing happened."""

    since: date
    totals: dict[str, int]
    days: Sequence[Day]


class Reports:
    """Every method raises `CommandError` 100 while PostgreSQL is away."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    async def of_course(self, course_id: UUID, days: int) -> Report:
        return await self._report(course_id, days)

    async def of_school(self, days: int) -> Report:
        return await self._report(SCHOOL, days)

    async def _report(self, place: UUID, days: int) -> Report:
        since = (datetime.now(UTC) - timedelta(days=days - 1)).date()
        totals = await asked(self._events.totals(place))
        return Report(since, totals, await asked(self._events.activity(place, since)))


def table(report: Report) -> bytes:
    """The days as CSV: a line a day, a column a kind."""
    kinds = sorted({each.kind for each in report.days})
    by_day: dict[date, dict[str, int]] = {}
    for each in report.days:
        by_day.setdefault(each.day, {})[each.kind] = each.events
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["day", *kinds])
    writer.writerows([day.isoformat(), *(counts.get(kind, 0) for kind in kinds)] for day, counts in by_day.items())
    return text.getvalue().encode()
