"""The learning management system: its services, made once a node, and how somebody stands to a course."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from gateway_node.rights import Standing
from gateway_node.rpc import classes as class_methods
from gateway_node.rpc.lms import progress as progress_methods
from gateway_node.services.classes.classroom import Classrooms
from gateway_node.services.classes.crier import Crier
from gateway_node.services.classes.polls import Polls
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.classes.timetable import Timetable
from gateway_node.services.lms.activity import Activity
from gateway_node.services.lms.assignments import Assignments
from gateway_node.services.lms.courses import Courses
from gateway_node.services.lms.enrolments import Enrolments
from gateway_node.services.lms.forums import Forums
from gateway_node.services.lms.notifications import Notifications
from gateway_node.services.lms.progress import Progress
from gateway_node.services.lms.quizzes import Quizzes
from gateway_node.services.lms.reports import Reports
from gateway_node.services.lms.school import School
from gateway_node.services.stores import asked
from realtime import codes
from realtime.core import RPC
from storage.lms.courses import CourseStore


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
    timetable: Timetable
    live: LiveClasses
    classrooms: Classrooms
    polls: Polls
    crier: Crier

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
        return {
            **progress_methods.methods(self.progress, self.activity, self.standing),
            **class_methods.methods(self.classrooms, self.polls),
        }

    @property
    def writes(self) -> frozenset[str]:
        """Those of the methods that a client may call as often as it may publish."""
        return class_methods.WRITES

    async def start(self) -> None:
        """Begin the background work."""
        for service in (self.courses, self.quizzes, self.progress, self.activity, self.notifications):
            await service.start()
        await self.live.start()
        self.crier.start()
        self.classrooms.start()

    async def stop(self) -> None:
        """Finish what was promised; the stores are still open."""
        await self.classrooms.stop()
        await self.crier.stop()
        await self.live.stop()
        for service in (self.notifications, self.activity, self.progress, self.quizzes, self.courses):
            await service.stop()
