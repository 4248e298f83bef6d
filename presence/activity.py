"""Who is active in a course and in which of its lessons, over all nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from presence import keys
from presence.link import Command
from presence.pipe import Pipe

TTL_SECONDS = 300  # after which somebody of whom nothing more is heard is not active any more
WATCH_SECONDS = 60  # that somebody is told of after they asked


class RedisActivity:
    """Sorted sets: the score of a user is when they were heard of last, in Unix milliseconds by the nodes' clocks.

    One a course, `active_users:course_<id>`, one a lesson, and a key a user that says which lesson they are in, so that
    nobody is in two. Courses, lessons and users are given by their ids as text. Every method raises `Away`.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def beat(self, course: str, lesson: str, user: str) -> None:
        """The user is active in the course, in a lesson or (empty) in none."""
        now, where = _now(), keys.active_where(course, user)
        old = now - TTL_SECONDS * 1000
        commands: list[Command] = [
            ("GETSET", where, lesson),
            ("EXPIRE", where, TTL_SECONDS),
        ]
        for key in [keys.active_users(course)] + [keys.active_in_lesson(course, lesson)] * bool(lesson):
            commands += [
                ("ZADD", key, now, user),
                ("ZREMRANGEBYSCORE", key, "-inf", f"({old}"),
                ("EXPIRE", key, TTL_SECONDS),
            ]
        before = (await self._pipe.run(commands))[0]
        if before and before.decode() != lesson:
            await self._pipe.run([("ZREM", keys.active_in_lesson(course, before.decode()), user)])

    async def gone(self, course: str, user: str) -> None:
        """The user is in the course no more."""
        (lesson, *_) = await self._pipe.run(
            [
                ("GETDEL", keys.active_where(course, user)),
                ("ZREM", keys.active_users(course), user),
                ("ZREM", keys.watchers(course), user),
            ]
        )
        if lesson:
            await self._pipe.run([("ZREM", keys.active_in_lesson(course, lesson.decode()), user)])

    async def numbers(self, course: str, lessons: Sequence[str]) -> tuple[int, dict[str, int]]:
        """How many are active in the course, and in those of the lessons where somebody is."""
        old = f"({_now() - TTL_SECONDS * 1000}"
        wanted = [keys.active_users(course), *(keys.active_in_lesson(course, lesson) for lesson in lessons)]
        total, *counts = await self._pipe.run([("ZCOUNT", key, old, "+inf") for key in wanted])
        return int(total), {lesson: int(count) for lesson, count in zip(lessons, counts, strict=True) if count}

    async def watch(self, course: str, user: str) -> None:
        """Somebody wants to be told of the course's numbers for a minute."""
        key = keys.watchers(course)
        until = _now() + WATCH_SECONDS * 1000
        await self._pipe.run([("ZADD", key, until, user), ("EXPIRE", key, WATCH_SECONDS)])

    async def watchers(self, course: str) -> list[str]:
        key, now = keys.watchers(course), _now()
        _, users = await self._pipe.run(
            [("ZREMRANGEBYSCORE", key, "-inf", now), ("ZRANGE", key, f"({now}", "+inf", "BYSCORE")]
        )
        return [user.decode() for user in users]


def _now() -> int:
    return int(time.time() * 1000)
