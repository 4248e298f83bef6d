"""What people want of a class: each command a type, as it travels and as the log keeps it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Role = Literal["teacher", "assistant", "speaker", "student", "observer", "server"]
Track = Literal["microphone", "camera", "screen"]
Lock = Literal["microphone", "camera", "screen", "chat", "private_chat"]
Phase = Literal["new", "scheduled", "live", "ended", "cancelled"]
Backend = Literal["p2p", "janus"]

EARLY = 15 * 60_000  # ms before its time at which a class may be started
MAX_OPTIONS = 20  # of a poll
MAX_SLOW = 3600  # s
SHOWN = 200  # entries of a collection that a snapshot carries; more are asked for in pages
REMEMBERED = 256  # verdicts, for whoever asks again
LATE = 1000  # refused messages; more than come between two kept states, with which the log forgets what they said
PUBLISHERS: dict[Backend, int] = {"p2p": 6, "janus": 25}  # who may send at once: in a mesh each sends to everybody

User = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(min_length=1, max_length=500)]


class Command(Struct, frozen=True, tag_field="do", forbid_unknown_fields=True):
    """What somebody wants of a class."""


class Schedule(Command, frozen=True, tag="schedule", kw_only=True):
    """Times in Unix milliseconds."""

    opens_at: int
    closes_at: int
    media: Backend = "p2p"


class Start(Command, frozen=True, tag="start"):
    pass


class End(Command, frozen=True, tag="end"):
    pass


class Cancel(Command, frozen=True, tag="cancel"):
    pass


class LockClass(Command, frozen=True, tag="lock"):
    """Nobody new comes in."""

    on: bool = True


class Lobby(Command, frozen=True, tag="lobby"):
    """Whoever comes waits until they are admitted. Without one, all who wait come in."""

    on: bool = True


class Admit(Command, frozen=True, tag="admit"):
    user: User


class AdmitAll(Command, frozen=True, tag="admit_all"):
    """Everybody who waits now."""


class Kick(Command, frozen=True, tag="kick"):
    """They may come again, where nothing else hinders it."""

    user: User


class Ban(Command, frozen=True, tag="ban"):
    user: User


class Unban(Command, frozen=True, tag="unban"):
    user: User


class SetRole(Command, frozen=True, tag="role"):
    user: User
    role: Literal["assistant", "speaker", "student", "observer"]


class RaiseHand(Command, frozen=True, tag="raise_hand"):
    pass


class LowerHand(Command, frozen=True, tag="lower_hand"):
    """One's own; the staff, anybody's."""

    user: User | None = None


class LowerAll(Command, frozen=True, tag="lower_all"):
    pass


class CallNext(Command, frozen=True, tag="call_next"):
    """The hand that has been up longest. `seen`: the offset of what the caller has seen (0: what their node has)."""

    seen: int = 0


class Dismiss(Command, frozen=True, tag="dismiss"):
    """Whoever was called has said what they wanted."""


class Mute(Command, frozen=True, tag="mute"):
    user: User


class Unmute(Command, frozen=True, tag="unmute"):
    user: User


class MuteAll(Command, frozen=True, tag="mute_all"):
    """Who comes later, too; `unmute` makes exceptions."""


class UnmuteAll(Command, frozen=True, tag="unmute_all"):
    pass


class SetLock(Command, frozen=True, tag="set_lock"):
    lock: Lock
    on: bool = True


class ChatRules(Command, frozen=True, tag="chat_rules"):
    """`slow`: seconds between two messages of one student. `private`: students write to the staff alone."""

    slow: Annotated[int, Meta(ge=0, le=MAX_SLOW)] = 0
    private: bool = False


class OpenPoll(Command, frozen=True, tag="open_poll", kw_only=True):
    """`points`: of a quiz; which answer is right is in no log. Made by the server from `class.poll`."""

    poll_id: User
    question: Line
    options: Annotated[tuple[Line, ...], Meta(min_length=2, max_length=MAX_OPTIONS)]
    anonymous: bool = True
    points: float = 0.0


class ClosePoll(Command, frozen=True, tag="close_poll"):
    pass


class Publish(Command, frozen=True, tag="publish"):
    """Send these tracks. `peer` names the page of the sender that does: signals are addressed to it."""

    peer: User
    tracks: Annotated[tuple[Track, ...], Meta(min_length=1, max_length=3)]


class Unpublish(Command, frozen=True, tag="unpublish"):
    """One's own; the staff, anybody's."""

    user: User | None = None


AskedCommand = (
    Start | End | Cancel | LockClass | Lobby | Admit | AdmitAll | Kick | Ban | Unban | SetRole
    | RaiseHand | LowerHand | LowerAll | CallNext | Dismiss | Mute | Unmute | MuteAll | UnmuteAll | SetLock
    | ChatRules | ClosePoll | Publish | Unpublish
)  # fmt: skip
"""Whoever is in a class may send these. The others begin elsewhere: in the course, or with a question."""

AnyCommand = Schedule | OpenPoll | AskedCommand

STUDENTS_MAY = (RaiseHand, LowerHand, Dismiss, Publish, Unpublish)
BEFORE_START = (
    Schedule, Start, Cancel, LockClass, Lobby, SetRole, SetLock, ChatRules, MuteAll, UnmuteAll, Kick, Ban, Unban,
)  # fmt: skip


class Logged(Struct, frozen=True, kw_only=True):
    """A command as the log keeps it. All but `command` was written by the server: who sent it, their role in the
    course, the offset of their seat, the role and the seat of whom it is about (0: they have none), and the connection:
    the one that it came by, or of the server's own the one that is gone."""

    id: str
    type: Literal["command"] = "command"
    by: str
    role: Role
    name: str = ""
    seat: int = 0
    subject_role: Role | None = None
    subject_seat: int = 0
    client: str = ""
    command: AnyCommand
