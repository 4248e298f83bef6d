"""The classes of a course: when they are, who was there.

Every method raises `CommandError`: 1002 for what is not there, 1003 where something is in the way, 107 for a value that
cannot be, 100 while PostgreSQL is away.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from msgspec import UNSET, Struct, UnsetType

from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.lms.courses import MAX_TITLE
from gateway_node.services.stores import asked, database
from gateway_node.services.text import line
from realtime import codes
from realtime.classroom import wire
from realtime.classroom.commands import Backend, Logged, Role, Schedule
from realtime.interfaces import Entry
from realtime.publisher import Publisher
from storage.lms.classes import Attendance, ClassChange, ClassStore, CourseAttendance, LiveClass

MAX_PAGE = 100
LONGEST = timedelta(hours=12)
_LAST = datetime(9999, 1, 1, tzinfo=UTC)
EXPORT_PAGE = 500
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one at the beginning of a cell


class NewClass(Struct, forbid_unknown_fields=True, kw_only=True):
    title: str
    starts_at: datetime
    ends_at: datetime
    media: Backend = "p2p"


class ClassFields(Struct, forbid_unknown_fields=True, kw_only=True):
    title: str | UnsetType = UNSET
    starts_at: datetime | UnsetType = UNSET
    ends_at: datetime | UnsetType = UNSET
    media: Backend | UnsetType = UNSET


class ClassPage(Struct, frozen=True, omit_defaults=True):
    classes: Sequence[LiveClass]
    next: str = ""


class AttendancePage(Struct, frozen=True, omit_defaults=True):
    attendance: Sequence[Attendance]
    next: str = ""


class CourseAttendancePage(Struct, frozen=True, omit_defaults=True):
    attendance: Sequence[CourseAttendance]
    next: str = ""


class Timetable:
    def __init__(self, store: ClassStore, publisher: Publisher, live: LiveClasses, *, has_media_server: bool) -> None:
        self._live = live
        self._has_media_server = has_media_server
        self._store = store
        self._publisher = publisher

    async def schedule(
        self, user_id: UUID, course_id: UUID, new: NewClass, key: str, role: Role
    ) -> tuple[LiveClass, bool]:
        """A class to come, and whether it is new. With the `key` of an earlier request it is the class of then."""
        id = uuid5(user_id, f"class {course_id} {key}") if key else uuid4()
        title = line(new.title, "/title", MAX_TITLE)
        _check(new.starts_at, new.ends_at)
        self._check_media(new.media)
        with database():
            values = (title, new.starts_at, new.ends_at, new.media, user_id)
            async with self._store.opening(course_id, id, *values) as change:
                if change is not None:
                    _tell(change, user_id, role, _planned(new.starts_at, new.ends_at, new.media))
                    data = json.dumps({"title": title, "starts_at": new.starts_at.isoformat()})
                    await change.record("class.scheduled", user_id, data)
        if change is not None:
            self._forward(change)
        return await self.get(course_id, id), change is not None

    async def get(self, course_id: UUID, id: UUID) -> LiveClass:
        found = await asked(self._store.get(course_id, id))
        if found is None:
            raise codes.NOT_FOUND.saying("there is no such class")
        return found

    async def list(self, course_id: UUID, *, after: str | None, limit: int = MAX_PAGE) -> ClassPage:
        """The latest first."""
        moment = moment_of(after)
        found = await asked(self._store.of_course(course_id, after=moment, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = bookmark_at(last.starts_at, last.id) if last else ""
        return ClassPage(found[:limit], following)

    async def update(self, user_id: UUID, course_id: UUID, id: UUID, fields: ClassFields, role: Role) -> LiveClass:
        """Before it has begun."""
        with database():
            async with self._store.changing(course_id, id) as change:
                if change is None:
                    raise codes.NOT_FOUND.saying("there is no such class")
                row = change.row
                if row.started_at or row.cancelled_at:
                    raise codes.CONFLICT.saying("the class has begun, or is cancelled")
                title = row.title if fields.title is UNSET else line(fields.title, "/title", MAX_TITLE)
                starts_at = row.starts_at if fields.starts_at is UNSET else fields.starts_at
                ends_at = row.ends_at if fields.ends_at is UNSET else fields.ends_at
                media = row.media if fields.media is UNSET else fields.media
                if (
                    fields.starts_at is not UNSET or fields.ends_at is not UNSET
                ):  # what was planned long ago has a title still
                    _check(starts_at, ends_at)
                self._check_media(media)
                await change.update(title, starts_at, ends_at, media)
                _tell(change, user_id, role, _planned(starts_at, ends_at, media))
        self._forward(change)
        try:
            await self._live.accepted(id, change.told[0].publication)
        except codes.CONFLICT:  # it was started before that in the log, of which the row did not know
            with database():
                async with self._store.changing(course_id, id) as change:
                    if change is not None:
                        await change.update(row.title, row.starts_at, row.ends_at, row.media)
            raise
        return await self.get(course_id, id)

    # --- attendance ------------------------------------------------------------------------------------------------

    async def attendance(
        self, course_id: UUID, id: UUID, *, after: UUID | None, limit: int = MAX_PAGE
    ) -> AttendancePage:
        """Who was there, by id, and for how long."""
        await self.get(course_id, id)
        found = await asked(self._store.attendance(id, after=after, limit=limit + 1))
        return AttendancePage(found[:limit], str(found[limit - 1].user_id) if len(found) > limit else "")

    async def export(self, id: UUID) -> AsyncIterator[bytes]:
        """The same as CSV."""
        yield _csv_line(["user", "name", "email", "joined", "left", "seconds", "joins"])
        after: UUID | None = None
        while found := await asked(self._store.attendance(id, after=after, limit=EXPORT_PAGE)):
            for each in found:
                person = [str(each.user_id), each.name, each.email]
                times = [each.first_at.isoformat(), each.last_at.isoformat()]
                yield _csv_line([*person, *times, f"{each.seconds:.0f}", str(each.joins)])
            after = found[-1].user_id

    async def of_course(self, course_id: UUID, *, after: UUID | None, limit: int = MAX_PAGE) -> CourseAttendancePage:
        """Of each student: how many of the classes that were held they were in, and for how long."""
        found = await asked(self._store.course_attendance(course_id, after=after, limit=limit + 1))
        return CourseAttendancePage(found[:limit], str(found[limit - 1].user_id) if len(found) > limit else "")

    def _check_media(self, media: Backend) -> None:
        """Raises error 107."""
        if media == "janus" and not self._has_media_server:
            raise codes.BAD_REQUEST.at("/media", "there is no media server here")

    def _forward(self, change: ClassChange) -> None:
        for told in change.told:
            self._publisher.forward(told.channel, told.publication, told.epoch)


def _tell(change: ClassChange, user_id: UUID, role: Role, command: Schedule) -> None:
    id = uuid4()
    logged = Logged(id=str(id), by=str(user_id), role=role, command=command)
    data = wire.encode_logged(logged)
    change.tell(Entry(change.row.channel, id.bytes, str(user_id), data, type="command", counted=False))


def _check(starts_at: datetime, ends_at: datetime) -> None:
    """Raises error 107."""
    for moment, pointer in ((starts_at, "/starts_at"), (ends_at, "/ends_at")):
        if moment.tzinfo is None:
            raise codes.BAD_REQUEST.at(pointer, "a time has a zone: 2027-01-31T12:00:00Z")
    if not timedelta(0) < ends_at - starts_at <= LONGEST:
        raise codes.BAD_REQUEST.at("/ends_at", "a class ends after its beginning, within 12 hours")
    if ends_at <= datetime.now(UTC):  # it may have begun: that is how one is planned for now
        raise codes.BAD_REQUEST.at("/ends_at", "that is past: nobody could start such a class")
    if ends_at > _LAST:  # beyond it, what is computed with the time has no year
        raise codes.BAD_REQUEST.at("/ends_at", "that is too far away")


def _planned(starts_at: datetime, ends_at: datetime, media: Backend) -> Schedule:
    return Schedule(opens_at=_milliseconds(starts_at), closes_at=_milliseconds(ends_at), media=media)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(f"'{each}" if each.startswith(_FORMULA) else each for each in cells)
    return text.getvalue().encode()
