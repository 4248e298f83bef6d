"""Reports: what happened in a course or in the school, from numbers that were added up as it happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from uuid import UUID

from msgspec import Struct

from gateway_node.services.stores import asked
from gateway_node.services.tables import csv_table
from storage.lms.events import SCHOOL, Day, EventStore, LessonNumbers, Spread

MAX_DAYS = 366

Part = Literal["days", "lessons", "grades"]
"""What of a report is wanted as a table."""


class Report(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`totals` by kind since the beginning; `days` from `since` on, without those on which nothing happened.
    `completed`: how many have ever completed the course, or any. `grades`: the whole first, then each item.

    Of a course: `students` now, and how far they have come, lesson by lesson.
    """

    since: date
    students: int | None = None
    completed: int
    totals: dict[str, int]
    days: Sequence[Day]
    lessons: Sequence[LessonNumbers] = ()
    grades: Sequence[Spread]


class Reports:
    """Every method raises `CommandError` 100 while PostgreSQL is away."""

    def __init__(self, events: EventStore) -> None:
        self._events = events

    async def of_course(self, course_id: UUID, days: int) -> Report:
        students = await asked(self._events.students(course_id))
        return await self._report(course_id, days, students, await asked(self._events.lessons(course_id)))

    async def of_school(self, days: int) -> Report:
        return await self._report(SCHOOL, days, None, ())

    async def _report(self, place: UUID, days: int, students: int | None, lessons: Sequence[LessonNumbers]) -> Report:
        since = (datetime.now(UTC) - timedelta(days=days - 1)).date()
        totals = await asked(self._events.totals(place))
        return Report(
            since=since,
            students=students,
            completed=totals.get("course.completed", 0),
            totals=totals,
            days=await asked(self._events.activity(place, since)),
            lessons=lessons,
            grades=await asked(self._events.spreads(place)),
        )


def table(report: Report, part: Part) -> bytes:
    """A part of a report as CSV."""
    match part:
        case "days":
            return _days(report)
        case "lessons":
            rows = [[each.title, each.opened, each.completed] for each in report.lessons]
            return csv_table([["lesson", "opened", "completed"], *rows])
        case "grades":
            header = ["item", "grades", "mean %", *(f"{10 * tenth} %" for tenth in range(11))]
            rows = [
                [each.title, each.grades, "" if each.mean is None else f"{each.mean:.4g}", *each.tenths]
                for each in report.grades
            ]
            return csv_table([header, *rows])


def _days(report: Report) -> bytes:
    """A line a day, a column a kind."""
    kinds = sorted({each.kind for each in report.days})
    by_day: dict[date, dict[str, int]] = {}
    for each in report.days:
        by_day.setdefault(each.day, {})[each.kind] = each.events
    rows = [[day.isoformat(), *(counts.get(kind, 0) for kind in kinds)] for day, counts in by_day.items()]
    return csv_table([["day", *kinds], *rows])
