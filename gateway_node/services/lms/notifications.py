"""What people are told of their courses: in the application, live and later.

Events become notifications in the transaction in which they are taken, and each has a key, so nothing is told twice
and nothing is forgotten. A notification is then a publication of its reader's personal channel under its own id: if
this process dies before that is noted, the next one publishes it again, and the log drops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec
import structlog
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.shifts import Shifts
from gateway_node.services.stores import asked
from realtime.namespaces import BUILT_IN
from realtime.publisher import Publisher
from storage.deliveries import DeliveryStore, Way
from storage.lms.events import Consumer, Event, EventStore, count
from storage.lms.notifications import Notification, NotificationStore, Untold, tell, tell_followers, tell_students

if TYPE_CHECKING:
    from storage.database import Connection

Kind = Literal[
    "enrollment.added",
    "assignment.published",
    "assignment.due",
    "submission.graded",
    "quiz.published",
    "quiz.due",
    "quiz.marked",
    "class.soon",
    "post.created",
    "post.mentioned",
    "post.accepted",
]

MAX_PAGE = 100
BATCH = 200  # events, or notifications, in one transaction
PERIOD = 0.5  # s between two looks of all nodes for what happened: one statement that writes nothing
REMINDER_PERIOD = 60.0  # s between two looks for what is due
TRIM_PERIOD = 600.0  # s
MESSAGES_PERIOD = 10.0  # s between two looks for messages in the rooms of courses

_PERSONAL = BUILT_IN["user"]
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)


class NotificationPage(Struct, frozen=True, omit_defaults=True):
    notifications: Sequence[Notification]
    unread: int
    next: str = ""


class Unread(Struct, frozen=True):
    unread: int


class Wishes(Struct, forbid_unknown_fields=True):
    """By kind: what one is not told at all, what also by mail, and what by push. What is left out stays as it is."""

    muted: list[Kind] | UnsetType = UNSET
    mail: list[Kind] | UnsetType = UNSET
    push: list[Kind] | UnsetType = UNSET


class Told(Struct, frozen=True, kw_only=True):
    """A notification in the personal channel."""

    type: str = "event"
    event: str = "notification"
    id: UUID
    kind: str
    course_id: UUID | None
    data: Raw
    created_at: datetime


class Notifications:
    """`ways`: those by which people who are not looking are told. `works`: whether this process makes notifications and
    counts what happens."""

    def __init__(
        self,
        store: NotificationStore,
        outbox: DeliveryStore,
        events: EventStore,
        publisher: Publisher,
        shifts: Shifts,
        *,
        ways: Sequence[Way],
        works: bool,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._ways = ways
        self._events = events
        self._publisher = publisher
        self._works = works
        self._shifts = shifts

    # --- reading -----------------------------------------------------------------------------------------------

    async def list(self, user_id: UUID, *, after: str | None = None, limit: int = MAX_PAGE) -> NotificationPage:
        """Newest first."""
        moment = moment_of(after)
        found, unread = await asked(self._store.list(user_id, after=moment, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = bookmark_at(last.created_at, last.id) if last else ""
        return NotificationPage(found[:limit], unread, following)

    async def read(self, user_id: UUID, id: UUID | None = None) -> Unread:
        """One is read, or all. Once more is fine. The other devices are told."""
        unread = await asked(self._store.read(user_id, id))
        event = {"type": "event", "event": "notifications_read", "id": str(id) if id else None, "unread": unread}
        await self._publisher.publish(f"user:{user_id}", _PERSONAL, _encode(event))
        return Unread(unread)

    async def wishes(self, user_id: UUID) -> Wishes:
        muted = await asked(self._store.mutes(user_id))
        ways = await asked(self._outbox.ways(user_id))
        mail, push = [each.kind for each in ways if each.mail], [each.kind for each in ways if each.push]
        return msgspec.convert({"muted": list(muted), "mail": mail, "push": push}, Wishes)

    async def set_wishes(self, user_id: UUID, wishes: Wishes) -> None:
        if wishes.muted is not UNSET:
            await asked(self._store.set_mutes(user_id, sorted(set(wishes.muted))))
        mail, push = (None if kinds is UNSET else sorted(set(kinds)) for kinds in (wishes.mail, wishes.push))
        if mail is not None or push is not None:
            await asked(self._outbox.set_ways(user_id, mail, push))

    # --- making ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._works:
            self._shifts.every(PERIOD, self.work)
            self._shifts.every(REMINDER_PERIOD, self._store.remind)
            self._shifts.every(TRIM_PERIOD, self._events.trim)
            self._shifts.every(MESSAGES_PERIOD, self._count_messages)

    async def stop(self) -> None:
        await self._shifts.stop()

    async def work(self) -> None:
        """Take what happened, count it, and tell whom it concerns. Raises `DatabaseUnavailable`."""
        if not await self._events.pending():
            return
        await self._read("reports", count)
        await self._read("notifications", _notify_all)
        while await self._tell() == BATCH:
            pass

    async def _read(self, consumer: Consumer, handle: Callable[[Connection, Sequence[Event]], Awaitable[None]]) -> None:
        """All that is new. One that cannot be handled is left out, with a word in the log: others wait behind it."""
        busy = True
        while busy:
            async with self._events.consume(consumer, BATCH) as (connection, events):
                busy = len(events) == BATCH
                if not events or await _handled(connection, events, handle):
                    continue
                for event in events:
                    if not await _handled(connection, [event], handle):
                        _log.error("event.left_out", consumer=consumer, id=event.id, kind=event.kind)

    async def _count_messages(self) -> None:
        while await self._events.count_messages(BATCH) == BATCH:
            pass

    async def _tell(self) -> int:
        async with self._store.untold(BATCH, self._ways) as untold:
            await asyncio.gather(*map(self._publish, untold))
        return len(untold)

    async def _publish(self, untold: Untold) -> None:
        found = untold.notification
        told = Told(
            id=found.id, kind=found.kind, course_id=found.course_id, data=found.data, created_at=found.created_at
        )
        await self._publisher.publish(f"user:{untold.user_id}", _PERSONAL, _encode(told), id=found.id.bytes)


async def _handled(
    connection: Connection,
    events: Sequence[Event],
    handle: Callable[[Connection, Sequence[Event]], Awaitable[None]],
) -> bool:
    """In a transaction of its own within the other: what fails leaves nothing. Should it be the connection that failed,
    the outer one fails as well, and all of it is read again."""
    try:
        async with connection.transaction():
            await handle(connection, events)
    except Exception:
        _log.exception("events.failed", events=len(events), first=events[0].id)
        return False
    return True


async def _notify_all(connection: Connection, events: Sequence[Event]) -> None:
    for event in events:
        await _notify(connection, event)


async def _notify(connection: Connection, event: Event) -> None:
    """Who is told what of an event."""
    match event.kind:
        case "assignment.published":
            data = {"assignment_id": str(event.subject_id), **event.data}
            await tell_students(connection, event, data)
        case "quiz.published":
            await tell_students(connection, event, {"quiz_id": str(event.subject_id), **event.data})
        case "quiz.marked" if event.actor_id is None:  # who hands in has the result before them
            people = [UUID(each) for each in event.data["recipients"]]
            data = {name: value for name, value in event.data.items() if name != "recipients"}
            await tell(connection, people, event, {"quiz_id": str(event.subject_id), **data})
        case "post.created":
            mentioned = [UUID(each) for each in event.data["mentions"] if each != str(event.actor_id)]
            data = {"post_id": str(event.subject_id), **event.data}
            del data["mentions"]
            await tell(connection, mentioned, replace(event, kind="post.mentioned"), data)
            thread = UUID(event.data["thread_id"])
            await tell_followers(connection, thread, event, data, but=[*mentioned, event.actor_id])
        case "post.accepted":
            people = [UUID(each) for each in event.data["recipients"] if each != str(event.actor_id)]
            data = {"post_id": str(event.subject_id), "title": event.data["title"]}
            await tell(connection, people, event, data)
        case "submission.graded":
            people = [UUID(each) for each in event.data["recipients"]]
            data = {name: value for name, value in event.data.items() if name != "recipients"}
            await tell(connection, people, event, {"submission_id": str(event.subject_id), **data})
        case "enrollment.added" if event.subject_id is not None and event.subject_id != event.actor_id:
            await tell(connection, [event.subject_id], event, event.data)
