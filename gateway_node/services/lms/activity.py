"""How many people are active in a course now, and in which of its lessons.

Clients say every minute where their user is; who has said nothing for five minutes is not active. The staff of a course
asks, and is told of changes for a minute after that, at most every two seconds: an event in their personal channel,
which one node of all sends. Nothing here is kept, and without Redis nobody is counted.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec
import structlog
from msgspec import Struct

from gateway_node.services.lms.course_cache import CourseCache
from gateway_node.services.lms.progress import no_lesson, visible_lesson
from gateway_node.services.pulse import Push
from gateway_node.services.stores import asked
from presence import Away, RedisActivity, Turns
from realtime import codes
from storage.database import DatabaseUnavailable
from storage.lms.progress import ProgressStore

PERIOD = 2.0  # s between two tellings of a course
MAX_PENDING = 100_000  # courses that wait to be told of

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Active(Struct, frozen=True):
    """People in the last five minutes; lessons in which nobody was are left out."""

    users: int
    lessons: dict[str, int]


class Activity:
    """Every method raises `CommandError`: 1002 for a lesson that the user does not see, 100 while a store is away."""

    def __init__(
        self, redis: RedisActivity, turns: Turns, store: ProgressStore, cache: CourseCache, push: Push
    ) -> None:
        self._redis = redis
        self._turns = turns
        self._store = store
        self._cache = cache
        self._push = push
        self._changed: dict[str, float] = {}  # courses, since when
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def here(self, user_id: UUID, course_id: UUID, lesson_id: UUID | None, *, teaches: bool) -> None:
        """Somebody is in the course, and in a lesson of it."""
        if lesson_id is not None:
            course = await asked(self._cache.get(course_id))
            if visible_lesson(course, lesson_id, teaches=teaches) is None:
                raise no_lesson()
        await self.mark(user_id, course_id, lesson_id)

    async def mark(self, user_id: UUID, course_id: UUID, lesson_id: UUID | None) -> None:
        """Of a lesson that they see."""
        try:
            await self._redis.beat(str(course_id), str(lesson_id or ""), str(user_id))
        except Away:
            return
        self._note(str(course_id))

    async def ended(self, user_id: UUID, course_id: UUID) -> None:
        """Somebody takes part in the course no more."""
        try:
            await self._redis.gone(str(course_id), str(user_id))
        except Away:
            return
        self._note(str(course_id))

    async def active(self, course_id: UUID, *, watcher: UUID | None = None) -> Active:
        """How many are there; the `watcher` is told of changes for a minute."""
        try:
            if watcher is not None:
                await self._redis.watch(str(course_id), str(watcher))
            return await self._count(course_id)
        except Away:
            raise codes.INTERNAL from None

    async def _count(self, course_id: UUID) -> Active:
        course = await asked(self._cache.get(course_id))
        lessons = [str(each.id) for module in course.modules for each in module.lessons] if course else []
        return Active(*await self._redis.numbers(str(course_id), lessons))

    # --- telling -----------------------------------------------------------------------------------------------

    def _note(self, course: str) -> None:
        if len(self._changed) < MAX_PENDING:
            self._changed[course] = asyncio.get_running_loop().time()
            self._wake.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="active users")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._tell()
            except (Away, DatabaseUnavailable, codes.CommandError):
                pass  # whoever watches asks again within a minute
            except Exception:
                _log.exception("activity.tell_failed")
            await asyncio.sleep(PERIOD)

    async def _tell(self) -> None:
        """Of courses whose turn is another node's, which took it before our news, later."""
        changed, self._changed = self._changed, {}
        courses = list(changed)
        # Before the question: a turn shall rather seem too old than to have come after news that it knew nothing of.
        now = asyncio.get_running_loop().time()
        ages = await self._turns.take([f"active:{course}" for course in courses], PERIOD)
        for course, age in zip(courses, ages, strict=True):
            if age is None:
                await self._tell_of(course)
            elif now - age <= changed[course]:
                self._changed.setdefault(course, changed[course])
                self._wake.set()

    async def _tell_of(self, course: str) -> None:
        watchers = await self._redis.watchers(course)
        if not watchers:
            return
        course_id = UUID(course)
        # Who watched a minute ago may be of the staff no more.
        staff = await self._store.staff(course_id, [UUID(each) for each in watchers])
        numbers = await self._count(course_id)
        told = {"type": "event", "event": "course_active", "course_id": course, **msgspec.structs.asdict(numbers)}
        data = _encode(told)
        for each in staff:
            self._push(f"user:{each}", data)
