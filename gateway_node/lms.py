"""The learning management system: its services, made once a node, and how somebody stands to a course."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from redis.asyncio import Redis

from gateway_node.post import Post
from gateway_node.rights import Standing
from gateway_node.rpc.lms import progress as progress_methods
from gateway_node.services.classes.door import ClassDoor
from gateway_node.services.lms.activity import Activity
from gateway_node.services.lms.assignments import Assignments
from gateway_node.services.lms.course_cache import CourseCache
from gateway_node.services.lms.courses import Courses
from gateway_node.services.lms.enrolments import Enrolments
from gateway_node.services.lms.forums import Forums
from gateway_node.services.lms.notifications import Notifications
from gateway_node.services.lms.places import Places
from gateway_node.services.lms.progress import Progress
from gateway_node.services.lms.quizzes import Quizzes
from gateway_node.services.lms.reports import Reports
from gateway_node.services.lms.school import School
from gateway_node.services.messaging import Messaging
from gateway_node.services.shifts import Shifts
from gateway_node.services.stores import asked
from presence import Pipe, RedisActivity, RedisPlaces, Turns
from realtime import codes
from realtime.core import RPC
from realtime.publisher import Publisher
from storage.database import Database
from storage.lms.assignments import AssignmentStore
from storage.lms.courses import CourseStore
from storage.lms.enrolments import EnrolmentStore
from storage.lms.events import EventStore
from storage.lms.forums import ForumStore
from storage.lms.notifications import NotificationStore
from storage.lms.progress import ProgressStore
from storage.lms.quizzes import QuizStore
from storage.lms.school import SchoolStore

if TYPE_CHECKING:
    from config.sections import Settings


@dataclass(frozen=True, slots=True)
class LMS:
    """Every service of the LMS, by the noun that it is about."""

    store: CourseStore
    courses: Courses
    enrolments: Enrolments
    assignments: Assignments
    quizzes: Quizzes
    progress: Progress
    activity: Activity
    forums: Forums
    notifications: Notifications
    reports: Reports
    school: School

    async def standing(self, user_id: UUID, course_id: UUID | None) -> Standing:
        """Raises error 103 to whoever has no account here, 100 while PostgreSQL is away."""
        found = await asked(self.store.standing(user_id, course_id))
        if found is None:
            raise codes.PERMISSION_DENIED.saying("that is for registered users")
        return Standing(
            found.school_role,
            found.course_role,
            found.course_status,
            found.admission or "closed",
            found.students or 0,
            found.version or 0,
        )

    def methods(self) -> Mapping[str, RPC]:
        """The RPC methods, by name."""
        return progress_methods.methods(self.progress, self.activity, self.standing)

    async def start(self) -> None:
        """Begin the background work."""
        for service in (self.courses, self.quizzes, self.progress, self.activity, self.notifications):
            await service.start()

    async def stop(self) -> None:
        """Finish what was promised; the stores are still open."""
        for service in (self.notifications, self.activity, self.progress, self.quizzes, self.courses):
            await service.stop()


def make_lms(
    settings: Settings,
    *,
    database: Database,
    redis: Redis,
    pipe: Pipe,
    turns: Turns,
    publisher: Publisher,
    messaging: Messaging,
    post: Post,
    door: ClassDoor,
    nodes: Callable[[], int],
) -> LMS:
    """`nodes`: how many there are."""
    works = "worker" in settings.roles
    courses, enrolments, progress = CourseStore(database), EnrolmentStore(database), ProgressStore(database)
    events, cache = EventStore(database), CourseCache(redis, courses)
    activity = Activity(RedisActivity(pipe), turns, progress, cache, publisher.push)
    return LMS(
        courses,
        Courses(courses, enrolments, cache, publisher, shifts=Shifts(nodes), works=works),
        Enrolments(enrolments, publisher, activity, door),
        Assignments(AssignmentStore(database)),
        Quizzes(QuizStore(database), Shifts(nodes), works=works),
        Progress(progress, cache, Places(progress, RedisPlaces(pipe))),
        activity,
        Forums(ForumStore(database), publisher),
        Notifications(
            NotificationStore(database),
            post.outbox,
            events,
            publisher,
            Shifts(nodes),
            ways=post.deliveries.ways,
            works=works,
        ),
        Reports(events),
        School(SchoolStore(database), messaging.disconnect),
    )
