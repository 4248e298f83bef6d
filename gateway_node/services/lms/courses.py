"""Courses, their modules and their lessons: what teachers make and students read.

Who may is decided before (`gateway_node/rights.py`); what is said here is what a course can be. Every method raises
`CommandError`: 1002 for what is not there, 107 with a pointer for a value that cannot be, 1003 where something is in
the way, and 100 while PostgreSQL is away.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

import msgspec
import structlog
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from gateway_node.services import room_events
from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.lms.blocks import MAX_CONTENT, Block, Video, checked, files_in, http_address
from gateway_node.services.lms.course_cache import CourseCache
from gateway_node.services.media_types import is_no_video
from gateway_node.services.shifts import Shifts
from gateway_node.services.stores import asked, database
from gateway_node.services.text import line, printable, storable
from gateway_node.services.times import zoned
from realtime import codes
from realtime.publisher import Publisher
from storage.lms.courses import (
    Admission,
    CodeTaken,
    Completion,
    Course,
    CourseChange,
    CourseStore,
    Difficulty,
    Lesson,
    LessonStatus,
    Metadata,
    Module,
    Place,
)
from storage.lms.enrolments import CourseRoomChange, EnrolmentStore
from storage.room_changes import NoSuchUser

MAX_TITLE = 255  # characters
MAX_DESCRIPTION = 20_000  # characters
MAX_TAGS = 20
MAX_TAG = 50  # characters
MAX_MODULES = 200  # of a course
MAX_LESSONS = 1000  # of a course
MAX_PAGE = 100
MAX_CAPACITY = 1_000_000
CODE_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # nothing that is read as something else
CODE_LENGTH = 8
PUBLISH_PERIOD = 5.0  # s between two looks of all nodes for drafts whose time has come
PUBLISH_BATCH = 20

Capacity = Annotated[int, Meta(ge=1, le=MAX_CAPACITY)]
Seconds = Annotated[int, Meta(ge=0, le=7 * 86400)]
Check = Callable[[int], None]
"""Given the present version; raises to refuse a change of another one."""

_log = structlog.get_logger(__name__)


class MetadataFields(Struct, forbid_unknown_fields=True):
    tags: list[str] = []
    difficulty: Difficulty = ""


class NewCourse(Struct, forbid_unknown_fields=True, kw_only=True):
    """Whoever makes it is its instructor. `admission`: `open` to everybody, by an invitation `code`, or `closed`."""

    title: str
    description: str = ""
    admission: Admission = "code"
    capacity: Capacity | None = None
    metadata: MetadataFields = msgspec.field(default_factory=MetadataFields)


class CourseFields(Struct, forbid_unknown_fields=True, kw_only=True):
    """What shall change. `capacity` null: no limit; `publish_at` null: not by itself; `new_code`: the old one ends."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    admission: Admission | UnsetType = UNSET
    capacity: Capacity | UnsetType | None = UNSET
    metadata: MetadataFields | UnsetType = UNSET
    publish_at: datetime | UnsetType | None = UNSET
    new_code: bool = False


class NewLesson(Struct, forbid_unknown_fields=True, rename={"video_url": "videoUrl"}, kw_only=True):
    title: str
    content: list[Block] = []
    video_url: str | None = None
    duration: Seconds | None = None
    status: LessonStatus = "draft"
    release_at: datetime | None = None
    completion: Completion = "open"


class LessonFields(Struct, forbid_unknown_fields=True, rename={"video_url": "videoUrl"}, kw_only=True):
    title: str | UnsetType = UNSET
    content: list[Block] | UnsetType = UNSET
    video_url: str | UnsetType | None = UNSET
    duration: Seconds | UnsetType | None = UNSET
    status: LessonStatus | UnsetType = UNSET
    release_at: datetime | UnsetType | None = UNSET
    completion: Completion | UnsetType = UNSET


class Order(Struct, forbid_unknown_fields=True):
    """Every module of the course, in order, with its lessons in order; a lesson may change its module."""

    modules: list[ModuleOrder]


class ModuleOrder(Struct, forbid_unknown_fields=True):
    id: UUID
    lessons: list[UUID]


class CourseView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A course as somebody sees it: `code` and drafts are for the staff, `role` is one's own."""

    id: UUID
    title: str
    description: str
    instructor_id: UUID | None
    status: str
    publish_at: datetime | None = None
    admission: str
    code: str | None = None
    capacity: int | None = None
    students: int
    metadata: Metadata
    room_id: UUID | None = None
    role: str | None = None
    version: int
    created_at: datetime
    updated_at: datetime
    modules: tuple[Module, ...] | None = None


class CoursePage(Struct, frozen=True, omit_defaults=True):
    courses: list[CourseView]
    next: str = ""


class Courses:
    """`create` and what changes people or the room goes through the room's log; the rest is rows."""

    def __init__(
        self,
        store: CourseStore,
        enrolments: EnrolmentStore,
        cache: CourseCache,
        publisher: Publisher,
        *,
        shifts: Shifts,
        works: bool,
    ) -> None:
        self._store = store
        self._enrolments = enrolments
        self._cache = cache
        self._publisher = publisher
        self._works = works
        self._shifts = shifts

    # --- reading -----------------------------------------------------------------------------------------------

    async def get(
        self, course_id: UUID, *, teaches: bool, role: str | None, students: int | None = None, version: int = 0
    ) -> CourseView:
        """With the outline of its modules: students see what is released.

        `students`: how many there are now. The cache may be behind: who enrols does not take it from all others.
        `version`: no older one.
        """
        course = await asked(self._cache.get(course_id, version))
        if course is None:
            raise codes.NOT_FOUND.saying("there is no such course")
        if students is not None:
            course = replace(course, students=students)
        return view(course, teaches=teaches, role=role, now=datetime.now(UTC))

    async def catalogue(
        self,
        *,
        words: str | None = None,
        tag: str | None = None,
        difficulty: str | None = None,
        after: str | None = None,
        limit: int = MAX_PAGE,
    ) -> CoursePage:
        """Published courses that anybody may come into, newest first."""
        for text, pointer in ((words, "/query"), (tag, "/tag")):
            printable(text or "", pointer)
        found = await asked(
            self._store.catalogue(
                words=words or None,
                tag=tag or None,
                difficulty=difficulty or None,
                after=moment_of(after),
                limit=limit + 1,
            )
        )
        shown = [view(each, teaches=False, role=None) for each in found[:limit]]
        following = bookmark_at(found[limit - 1].created_at, found[limit - 1].id) if len(found) > limit else ""
        return CoursePage(shown, following)

    async def mine(self, user_id: UUID, *, after: str | None = None, limit: int = MAX_PAGE) -> CoursePage:
        """The courses that somebody is in, latest enrolment first."""
        found = await asked(self._store.mine(user_id, after=moment_of(after), limit=limit + 1))
        shown = [view(course, teaches=role != "student", role=role) for course, role, _ in found[:limit]]
        following = bookmark_at(found[limit - 1][2], found[limit - 1][0].id) if len(found) > limit else ""
        return CoursePage(shown, following)

    async def lesson(self, course_id: UUID, lesson_id: UUID, *, teaches: bool) -> Lesson:
        """A lesson with its content. What is not released is not there, to students."""
        lesson = await asked(self._store.lesson(course_id, lesson_id))
        if lesson is None or not (teaches or is_released(lesson, datetime.now(UTC))):
            raise codes.NOT_FOUND.saying("there is no such lesson")
        return lesson

    # --- the course --------------------------------------------------------------------------------------------

    async def create(self, user_id: UUID, new: NewCourse, key: str = "") -> tuple[CourseView, bool]:
        """A draft, whoever makes it its teacher, and whether it is new: with the `key` of an earlier request it is the
        course of then."""
        id = uuid5(user_id, f"course {key}") if key else uuid4()
        values = (
            line(new.title, "/title", MAX_TITLE),
            storable(new.description, "/description", MAX_DESCRIPTION),
            new.admission,
            _code(),
            new.capacity,
            _metadata(new.metadata),
        )
        try:
            with database():
                async with self._enrolments.opening(id, user_id, *values) as change:
                    if change is not None:
                        await change.enter(user_id, "teacher")
                        await change.room.add([(user_id, "owner", 0)])
                        change.room.tell(room_events.room_added(change.room, user_id))
        except NoSuchUser:
            raise codes.PERMISSION_DENIED.saying("courses are for registered users") from None
        if change is not None:
            forward(self._publisher, change)
        return await self.get(id, teaches=True, role="teacher"), change is not None

    async def update(self, user_id: UUID, course_id: UUID, fields: CourseFields, check: Check) -> None:
        async with self._changing_room(user_id, course_id) as change:
            course = change.course.course
            check(course.version)
            title = course.title if fields.title is UNSET else line(fields.title, "/title", MAX_TITLE)
            publish_at = course.publish_at if fields.publish_at is UNSET else zoned(fields.publish_at, "/publish_at")
            if publish_at is not None and course.status != "draft":
                raise codes.CONFLICT.saying("the course is published already")
            capacity = course.capacity if fields.capacity is UNSET else fields.capacity
            if capacity is not None and capacity < course.students:
                raise codes.BAD_REQUEST.at("/capacity", f"{course.students} students are in the course")
            try:
                await change.course.update(
                    title=title,
                    description=course.description
                    if fields.description is UNSET
                    else storable(fields.description, "/description", MAX_DESCRIPTION),
                    admission=course.admission if fields.admission is UNSET else fields.admission,
                    code=_code() if fields.new_code else course.code,
                    capacity=capacity,
                    metadata=course.metadata if fields.metadata is UNSET else _metadata(fields.metadata),
                    publish_at=publish_at,
                )
            except CodeTaken:
                raise codes.INTERNAL from None  # one in 10^12: try again
            if title != course.title:
                await change.room.update(title, open=False)
                change.room.tell(room_events.room_updated(change.room, title, None))

    async def publish(self, user_id: UUID, course_id: UUID) -> None:
        """Students see it from now on. An archived course is opened again. Once more is fine."""
        async with self._changing_room(user_id, course_id) as change:
            was = change.course.course.status
            if was == "published":
                return
            await change.course.set_status("published")
            await change.course.record("course.published", user_id)
            await change.course.note("course.published", user_id)
            if was == "archived":
                await change.room.archive(archived=False)
                change.room.tell(room_events.room_archived(change.room, archived=False))

    async def archive(self, user_id: UUID, course_id: UUID) -> None:
        """Nobody comes in any more, and its room takes no messages; who is in it reads on. Once more is fine."""
        async with self._changing_room(user_id, course_id) as change:
            if change.course.course.status == "archived":
                return
            await change.course.set_status("archived")
            await change.course.record("course.archived", user_id)
            await change.course.note("course.archived", user_id)
            await change.room.archive(archived=True)
            change.room.tell(room_events.room_archived(change.room, archived=True))

    async def delete(self, user_id: UUID, course_id: UUID) -> None:
        """Only what nobody uses: what has students, lessons, assignments, quizzes, threads or a class that goes on is
        archived."""
        async with self._changing_room(user_id, course_id) as change:
            in_use = [name for name, used in (await change.course.used_by()).items() if used]
            if in_use:
                raise codes.CONFLICT.saying(f"the course has {' and '.join(in_use)}: archive it, or remove them first")
            await change.room.archive(archived=True)
            change.room.tell(room_events.room_archived(change.room, archived=True))
            await change.course.note("course.deleted", user_id)
            await change.course.delete()

    # --- modules and lessons -----------------------------------------------------------------------------------

    async def add_module(self, user_id: UUID, course_id: UUID, title: str, key: str = "") -> tuple[Module, bool]:
        """With the `key` of an earlier request it is the module of then."""
        id = uuid5(user_id, f"module {course_id} {key}") if key else uuid4()
        async with self._changing(course_id) as course:
            if key and (made := await course.module(id)) is not None:
                return made, False
            if await course.count("modules") >= MAX_MODULES:
                raise codes.LIMIT_EXCEEDED.saying(f"a course has at most {MAX_MODULES} modules")
            return await course.add_module(id, line(title, "/title", MAX_TITLE)), True

    async def rename_module(self, course_id: UUID, module_id: UUID, title: str, check: Check) -> None:
        async with self._changing(course_id) as course:
            check(course.course.version)
            if not await course.rename_module(module_id, line(title, "/title", MAX_TITLE)):
                raise codes.NOT_FOUND.saying("there is no such module")

    async def delete_module(self, course_id: UUID, module_id: UUID) -> None:
        async with self._changing(course_id) as course:
            if await course.module(module_id) is None:
                raise codes.NOT_FOUND.saying("there is no such module")
            if not await course.delete_module(module_id):
                raise codes.CONFLICT.saying("the module has lessons: move them or delete them first")

    async def add_lesson(
        self, user_id: UUID, course_id: UUID, module_id: UUID, new: NewLesson, key: str = ""
    ) -> tuple[Lesson, bool]:
        """With the `key` of an earlier request it is the lesson of then."""
        id = uuid5(user_id, f"lesson {module_id} {key}") if key else uuid4()
        async with self._changing(course_id) as course:
            if key and (made := await course.lesson(id)) is not None:
                return made, False
            if await course.module(module_id) is None:
                raise codes.NOT_FOUND.saying("there is no such module")
            if await course.count("lessons") >= MAX_LESSONS:
                raise codes.LIMIT_EXCEEDED.saying(f"a course has at most {MAX_LESSONS} lessons")
            await _attach(course, user_id, new.content)
            lesson = await course.add_lesson(
                id,
                module_id,
                (
                    line(new.title, "/title", MAX_TITLE),
                    _content(new.content),
                    _address(new.video_url),
                    new.duration,
                    new.status,
                    zoned(new.release_at, "/release_at"),
                    new.completion,
                ),
            )
            return lesson, True

    async def update_lesson(
        self, user_id: UUID, course_id: UUID, lesson_id: UUID, fields: LessonFields, check: Check
    ) -> Lesson:
        async with self._changing(course_id) as course:
            lesson = await course.lesson(lesson_id)
            if lesson is None:
                raise codes.NOT_FOUND.saying("there is no such lesson")
            check(lesson.version)
            if fields.content is not UNSET:
                await _attach(course, user_id, fields.content)
            changed = await course.update_lesson(
                lesson_id,
                (
                    lesson.title if fields.title is UNSET else line(fields.title, "/title", MAX_TITLE),
                    bytes(lesson.content).decode() if fields.content is UNSET else _content(fields.content),
                    lesson.video_url if fields.video_url is UNSET else _address(fields.video_url),
                    lesson.duration if fields.duration is UNSET else fields.duration,
                    lesson.status if fields.status is UNSET else fields.status,
                    lesson.release_at if fields.release_at is UNSET else zoned(fields.release_at, "/release_at"),
                    lesson.completion if fields.completion is UNSET else fields.completion,
                ),
            )
            if fields.content is not UNSET:
                await course.detach(files_in(_blocks(lesson.content)))
            return changed

    async def delete_lesson(self, course_id: UUID, lesson_id: UUID) -> None:
        async with self._changing(course_id) as course:
            lesson = await course.lesson(lesson_id)
            if lesson is None:
                raise codes.NOT_FOUND.saying("there is no such lesson")
            await course.delete_lesson(lesson_id)
            await course.detach(files_in(_blocks(lesson.content)))

    async def order(self, course_id: UUID, order: Order, check: Check) -> None:
        """Put modules and lessons in order, all at once: what is left out would be lost, so nothing may be."""
        async with self._changing(course_id) as course:
            check(course.course.version)
            present = await course.outline()
            modules = [each.id for each in order.modules]
            places = [
                Place(lesson, module.id, position)
                for module in order.modules
                for position, lesson in enumerate(module.lessons)
            ]
            if sorted(modules) != sorted(present):
                raise codes.BAD_REQUEST.at("/modules", "every module of the course is wanted once")
            if sorted(each.lesson_id for each in places) != sorted(each for some in present.values() for each in some):
                raise codes.BAD_REQUEST.at("/modules", "every lesson of the course is wanted once")
            await course.order(modules, places)

    # --- life --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._works:
            self._shifts.every(PUBLISH_PERIOD, self.publish_due)

    async def stop(self) -> None:
        await self._shifts.stop()

    async def publish_due(self) -> int:
        """Publish drafts whose time has come; returns how many. Raises `DatabaseUnavailable`."""
        async with self._store.due(PUBLISH_BATCH) as due:
            for course in due:
                await course.set_status("published")
                await course.record("course.published", None)
        for course in due:
            await self._cache.forget(course.course.id)
        return len(due)

    # --- how ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self, course_id: UUID) -> AsyncIterator[CourseChange]:
        with database():
            async with self._store.changing(course_id) as course:
                if course is None:
                    raise codes.NOT_FOUND.saying("there is no such course")
                yield course
                await course.touch()
        await self._cache.forget(course_id)

    @asynccontextmanager
    async def _changing_room(self, user_id: UUID, course_id: UUID) -> AsyncIterator[CourseRoomChange]:
        with database():
            async with self._enrolments.changing(course_id, user_id, user_id) as change:
                if change is None:
                    raise codes.NOT_FOUND.saying("there is no such course")
                yield change
        await self._cache.forget(course_id)
        forward(self._publisher, change)


def view(course: Course, *, teaches: bool, role: str | None, now: datetime | None = None) -> CourseView:
    """`now`: with the modules, as they are then."""
    return CourseView(
        id=course.id,
        title=course.title,
        description=course.description,
        instructor_id=course.instructor_id,
        status=course.status,
        publish_at=course.publish_at if teaches else None,
        admission=course.admission,
        code=course.code if teaches else None,
        capacity=course.capacity,
        students=course.students,
        metadata=course.metadata,
        room_id=course.room_id if role or teaches else None,
        role=role,
        version=course.version,
        created_at=course.created_at,
        updated_at=course.updated_at,
        modules=None
        if now is None
        else course.modules
        if teaches
        else _released(course.modules, now, whole=bool(role)),
    )


def is_released(lesson: Any, now: datetime) -> bool:
    """Whether students see the lesson at that moment."""
    return lesson.status == "published" and (lesson.release_at is None or lesson.release_at <= now)


def _released(modules: Sequence[Module], now: datetime, *, whole: bool) -> tuple[Module, ...]:
    """`whole`: with the videos, for whoever takes part. Visitors see what there is, and not the thing itself."""
    shown: list[Module] = []
    for each in modules:
        lessons = [lesson for lesson in each.lessons if is_released(lesson, now)]
        if not whole:
            lessons = [replace(lesson, video_url=None) for lesson in lessons]
        shown.append(Module(each.id, each.title, tuple(lessons)))
    return tuple(shown)


def forward(publisher: Publisher, change: CourseRoomChange) -> None:
    """What was written to the log is told."""
    for told in change.room.told:
        publisher.forward(told.channel, told.publication, told.epoch)


def _code() -> str:
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))


def _metadata(given: MetadataFields) -> Metadata:
    if len(given.tags) > MAX_TAGS:
        raise codes.BAD_REQUEST.at("/metadata/tags", f"at most {MAX_TAGS} tags are wanted")
    tags = [line(tag, f"/metadata/tags/{i}", MAX_TAG, what="a tag") for i, tag in enumerate(given.tags)]
    return Metadata(tuple(dict.fromkeys(tags)), given.difficulty)


def _content(blocks: list[Block]) -> str:
    text = msgspec.json.encode(checked(blocks)).decode()
    if len(text) > MAX_CONTENT:
        raise codes.BAD_REQUEST.at("/content", f"a lesson has at most {MAX_CONTENT} bytes of content")
    return text


_blocks = msgspec.json.Decoder(list[Block]).decode


async def _attach(course: CourseChange, user_id: UUID, blocks: list[Block]) -> None:
    files = files_in(blocks)
    types = await course.attach(files, user_id, "course")
    if len(types) < len(set(files)):
        raise codes.BAD_REQUEST.at("/content", "a file is not there: upload it to the room of the course first")
    for i, block in enumerate(blocks):
        if isinstance(block, Video) and block.file_id is not None and is_no_video(types[block.file_id]):
            raise codes.BAD_REQUEST.at(
                f"/content/{i}/file_id", f"a video is wanted, and that is {types[block.file_id]}"
            )


def _address(url: str | None) -> str | None:
    return None if url is None else http_address(url, "/videoUrl")
