"""Who may do what: one table of every operation over HTTP and every RPC.

`docs/rights.md` is printed from it, a test walks it, and an operation that has no row fails that test. Rows of the
school and of courses are enforced by one guard, `gateway_node/http/rights.py`, before a body is read; those of rooms
and of channels by the log and by membership (`gateway_node/authoriser.py`, `gateway_node/services/rooms.py`), because
there a right can end between two messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

SchoolRole = Literal["student", "teacher", "assistant", "admin"]
CourseRole = Literal["student", "assistant", "teacher"]

SCHOOL_ROLES: tuple[SchoolRole, ...] = ("student", "teacher", "assistant", "admin")
COURSE_ROLES: tuple[CourseRole, ...] = ("student", "assistant", "teacher")

Scope = Literal["read", "write", "links"]
"""What an API key may: `read` what is asked with GET, `write` all else, and `links` the short links alone."""

Place = Literal["public", "key", "account", "room", "class", "school", "course"]
"""Where a right comes from. `public`: nobody is asked; `key`: the server's API key; `account`: any access token, for
one's own things; `room`: a token, and the rules of the room; `class`: a token, and the rules of the class; `school`:
the role in the school; `course`: the role in the course that the path names."""


class Right(Struct, frozen=True):
    """`roles` may; in a course an admin of the school may everything, and `visitor` is whoever may see the course."""

    place: Place
    roles: frozenset[str] = frozenset()
    while_open: bool = False  # not in an archived course
    scope: Scope | None = None  # of an API key; None: by the method
    by_login: bool = False  # by no API key, whatever its scopes


PUBLIC = Right("public")
KEY = Right("key")
ACCOUNT = Right("account")
ROOM = Right("room")
LINKS = Right("account", scope="links")
CLASS = Right("class")

TEACHERS = Right("school", frozenset({"teacher", "admin"}))
ADMINS = Right("school", frozenset({"admin"}))

VISITORS = Right("course", frozenset({"visitor", *COURSE_ROLES}))
MEMBERS = Right("course", frozenset(COURSE_ROLES))
STUDENTS = Right("course", frozenset({"student"}))
STAFF = Right("course", frozenset({"assistant", "teacher"}))
TEACHER = Right("course", frozenset({"teacher"}))


def _open(right: Right) -> Right:
    return replace(right, while_open=True)


def _by_login(right: Right) -> Right:
    return replace(right, by_login=True)


def _all(right: Right, *operations: str) -> dict[str, Right]:
    return dict.fromkeys(operations, right)


OPERATIONS: Mapping[str, Right] = {
    **_all(PUBLIC, "page", "pageFile", "live", "ready", "metrics"),
    **_all(PUBLIC, "register", "login", "refreshLogin", "logout"),
    **_all(PUBLIC, "forgotPassword", "resetPassword", "verifyEmail"),
    **_all(ACCOUNT, "me", "updateMe", "findUsers", "userStatus", "getUser", "getAvatar", "countUnread"),
    **_all(ACCOUNT, "createRoom", "openDirectRoom", "listRooms", "findOpenRooms", "sendDirectMessage"),
    **_all(ROOM, "getRoom", "updateRoom", "archiveRoom", "restoreRoom", "joinRoom", "leaveRoom", "listMembers"),
    **_all(ROOM, "inviteMember", "removeMember", "setRole", "muteMember", "unmuteMember"),
    **_all(ROOM, "sendMessage", "listMessages", "getMessage", "editMessage", "deleteMessage", "searchMessages"),
    **_all(ROOM, "pinMessage", "unpinMessage", "listPins", "addReaction", "removeReaction", "listReactions"),
    **_all(ROOM, "readRoom", "getReceipts", "typing", "uploadFile", "linkFile"),
    # Without a token too, by the signed link that `linkFile` gives.
    **_all(ROOM, "downloadFile", "fileThumbnail"),
    **_all(KEY, "publish", "broadcast", "subscribe", "unsubscribe", "disconnect", "refresh", "presence"),
    **_all(KEY, "presence_stats", "history", "history_remove", "info", "channels", "batch"),
    # Short links: each is whose it is; an admin's are all.
    **_all(PUBLIC, "followLink", "openLink"),
    **_all(LINKS, "createLink", "createLinks", "listLinks", "getLink", "updateLink", "deleteLink"),
    **_all(LINKS, "getLinkQrSvg", "getLinkQrPng", "getLinkStats", "exportLinkStats", "recountLink"),
    # One's own
    **_all(_by_login(ACCOUNT), "listSessions", "endSession", "changePassword", "askVerification"),
    **_all(_by_login(ACCOUNT), "createKey", "listKeys", "revokeKey"),
    **_all(ACCOUNT, "getPushKey", "listPush", "unsubscribePush"),
    **_all(_by_login(ACCOUNT), "subscribePush"),  # a browser goes with its login; with a key it would outlive the key
    **_all(ACCOUNT, "listNotifications", "readNotifications", "readNotification"),
    **_all(ACCOUNT, "getNotificationSettings", "setNotificationSettings"),
    # The school
    **_all(
        ADMINS,
        "listPeople",
        "setSchoolRole",
        "setAccess",
        "listAudit",
        "getSchoolReport",
        "exportSchoolReport",
        "getOutbox",
    ),
    **_all(_by_login(ADMINS), "listKeysOf", "revokeKeyOf"),
    # Courses
    **_all(TEACHERS, "createCourse"),
    **_all(ACCOUNT, "listCourses", "listMyCourses", "enrolByCode"),
    **_all(VISITORS, "getCourse", "enrol"),
    **_all(MEMBERS, "getLesson", "leaveCourse", "listParticipants"),
    **_all(TEACHER, "publishCourse", "archiveCourse", "deleteCourse"),
    **_all(_open(TEACHER), "updateCourse"),
    **_all(_open(STAFF), "createModule", "updateModule", "deleteModule", "orderCourse"),
    **_all(_open(STAFF), "createLesson", "updateLesson", "deleteLesson"),
    **_all(_open(STAFF), "enrolParticipant", "enrolFromTable", "enrolFromFile"),
    **_all(STAFF, "removeParticipant", "getCourseReport", "exportCourseReport"),
    **_all(STUDENTS, "getMyProgress"),
    **_all(MEMBERS, "beActive"),
    **_all(_open(STUDENTS), "stepInLesson"),
    **_all(STAFF, "listProgress", "getProgress", "getActiveUsers"),
    # Assignments: what was handed in is graded after the end, too.
    **_all(MEMBERS, "listAssignments", "getAssignment", "listMySubmissions", "getSubmission", "getMyGrades"),
    **_all(_open(STUDENTS), "submitAssignment"),
    **_all(_open(STAFF), "createAssignment", "updateAssignment", "deleteAssignment", "extendAssignment"),
    **_all(STAFF, "listSubmissions", "gradeSubmission", "returnSubmission", "getGradebook", "exportGradebook"),
    # Quizzes
    **_all(MEMBERS, "listQuizzes", "getQuiz", "listMyAttempts", "getAttempt"),
    **_all(_open(STUDENTS), "beginQuiz", "saveAnswers", "handInAttempt"),
    **_all(_open(STAFF), "createQuiz", "updateQuiz", "deleteQuiz"),
    **_all(STAFF, "listAttempts"),
    # Forums
    **_all(MEMBERS, "listThreads", "getThread", "listPosts", "deletePost", "followThread", "unfollowThread"),
    **_all(_open(MEMBERS), "createThread", "updateThread", "createPost", "editPost", "acceptAnswer"),
    **_all(_open(STAFF), "pinThread", "unpinThread", "lockThread", "unlockThread"),
    # Live classes: what is done in one is decided by its fold, realtime/classroom.py.
    **_all(MEMBERS, "listClasses", "getClass"),
    **_all(_open(MEMBERS), "commandClass"),
    **_all(_open(TEACHER), "scheduleClass", "updateClass"),
    **_all(STAFF, "getAttendance", "exportAttendance", "getCourseAttendance"),
}
"""Every operation over HTTP, by its `operation_id`."""

METHODS: Mapping[str, Right] = {
    **_all(ACCOUNT, "room.create", "room.direct", "room.list", "room.find", "room.unread"),
    **_all(ACCOUNT, "user.status", "user.find", "user.update"),
    **_all(ROOM, "room.get", "room.update", "room.archive", "room.restore", "room.join", "room.leave", "room.invite"),
    **_all(ROOM, "room.remove", "room.members", "room.role", "room.mute", "room.unmute"),
    **_all(ROOM, "room.read", "room.typing", "room.receipts", "file.link"),
    **_all(ROOM, "message.send", "message.list", "message.get", "message.edit", "message.delete", "message.search"),
    **_all(_open(STUDENTS), "lesson.step"),
    **_all(MEMBERS, "course.here"),
    **_all(STAFF, "course.active"),
    **_all(
        CLASS, "class.join", "class.do", "class.people", "class.hands", "class.banned", "class.react", "class.whisper"
    ),
    **_all(CLASS, "class.poll", "class.vote", "class.results", "class.ice", "class.signal"),
    **_all(CLASS, "class.offer", "class.watch", "class.answer"),
    **_all(ROOM, "message.react", "message.reactions", "message.pin", "message.unpin", "message.pins"),
}
"""Every RPC, by its name."""


class Archived(Exception):
    """They might, if the course were not archived."""


class Refused(Exception):
    """`known`: the person may know that the thing is there."""

    def __init__(self, reason: str, *, known: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.known = known


class Standing(Struct, frozen=True):
    """How somebody stands to the school and, where a course is named, to the course. `None`: not in it."""

    school_role: str
    course_role: CourseRole | None = None
    course_status: str | None = None  # None: no such course
    admission: str = "closed"
    students: int = 0
    version: int = 0  # of the course

    @property
    def is_admin(self) -> bool:
        return self.school_role == "admin"

    @property
    def teaches(self) -> bool:
        """Sees drafts, grades, and what the staff sees."""
        return self.is_admin or self.course_role in ("teacher", "assistant")

    @property
    def sees_course(self) -> bool:
        """The staff always; who is in it once it is published; others while they may come in."""
        if self.course_status is None:
            return False
        if self.teaches:
            return True
        if self.course_role is not None:
            return self.course_status != "draft"
        return self.course_status == "published" and self.admission != "closed"


def scope_of(operation: str, method: str) -> Scope | None:
    """What an API key needs for an operation over HTTP; `None`: no key may."""
    right = OPERATIONS.get(operation, PUBLIC)  # HEAD, which has no row, is as GET
    if right.by_login:
        return None
    return right.scope or ("read" if method in ("GET", "HEAD") else "write")


def require(right: Right, standing: Standing) -> None:
    """Raises `Refused`, `Archived`."""
    if right.place == "school":
        if standing.school_role not in right.roles:
            raise Refused(f"that is for {_names(right.roles)}", known=True)
    elif right.place == "course":
        if not standing.sees_course:
            raise Refused("there is no such course", known=False)
        role = standing.course_role or "visitor"
        if not standing.is_admin and role not in right.roles:
            raise Refused(f"that is for {_names(right.roles)} of the course", known=True)
        if right.while_open and standing.course_status == "archived":
            raise Archived("the course is archived")


def _names(roles: frozenset[str]) -> str:
    plural = {"admin": "admins", "teacher": "teachers", "assistant": "assistants", "student": "students"}
    return " and ".join(plural[role] for role in plural if role in roles)
