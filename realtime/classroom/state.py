"""What a class is at an offset, and who may do what in it then."""

from __future__ import annotations

from msgspec import Struct

from realtime import codes
from realtime.classroom.commands import Backend, Phase, Role, Track


class Poll(Struct, frozen=True, omit_defaults=True):
    id: str
    question: str
    options: tuple[str, ...]
    anonymous: bool
    points: float
    opened: int  # offset
    closed: int = 0


class Hand(Struct, frozen=True):
    name: str
    at: int  # offset


class Called(Struct, frozen=True):
    user: str
    name: str
    at: int


class Sending(Struct, frozen=True):
    """`role` in the course, by which tracks are taken away again; `client`: the connection, with which the place goes
    (empty: with all of the user's)."""

    name: str
    peer: str
    tracks: tuple[Track, ...]
    role: Role
    client: str = ""


class Classroom(Struct, kw_only=True):
    """Everything that a class is at an offset. Collections are by user."""

    offset: int = 0
    phase: Phase = "new"
    opens_at: int = 0
    closes_at: int = 0
    started_at: int = 0
    ended_at: int = 0
    media: Backend = "p2p"
    locked: bool = False
    lobby: int = 0  # the offset since which there is one; 0: none
    roles: dict[str, Role] = {}  # given in the class
    hands: dict[str, Hand] = {}
    called: Called | None = None
    called_at: int = 0
    muted: dict[str, bool] = {}
    all_muted: bool = False
    unmuted: dict[str, bool] = {}  # the exceptions
    locks: dict[str, bool] = {}
    slow: int = 0
    private: bool = False
    poll: Poll | None = None
    sending: dict[str, Sending] = {}
    # What people have no part in seeing:
    locked_at: int = 0  # the offset at which it was locked last: seats beyond it are none while it is
    admitted: dict[str, bool] = {}
    admitted_through: int = 0  # whose seats are up to here have been admitted, all together
    kicked: dict[str, int] = {}
    banned: dict[str, bool] = {}
    spoke: dict[str, int] = {}  # ms, while the chat is slow
    refused: dict[int, bool] = {}  # offsets of the last messages that came too late: a lock stands before them
    verdicts: dict[str, tuple[str, int, str]] = {}  # of the last commands, by id: by whom, code, message

    # --- asking --------------------------------------------------------------------------------------------

    def is_staff(self, user: str, role: Role) -> bool:
        return role in ("teacher", "assistant", "server") or self.roles.get(user) == "assistant"

    def role_of(self, user: str, role: Role) -> Role:
        """`role`: theirs in the course. The course's staff stays what it is."""
        return role if role in ("teacher", "assistant", "server") else self.roles.get(user, role)

    def check_entrance(self, user: str, role: Role, seat: int = 0) -> None:
        """Whether somebody may take a seat, or the one that they have just taken. Raises error 103 or 1003."""
        if user in self.banned:
            raise codes.PERMISSION_DENIED.saying("banned from this class")
        if self.phase in ("new", "cancelled", "ended"):
            raise codes.CONFLICT.saying("the class is over" if self.phase == "ended" else "there is no such class now")
        if self.is_staff(user, role):
            return
        if self.phase != "live":
            raise codes.CONFLICT.saying("the class has not begun")
        if self.locked and not 0 < seat <= self.locked_at:
            raise codes.PERMISSION_DENIED.saying("the class is locked")

    def is_in(self, user: str, role: Role, seat: int) -> bool:
        """Whether a seat is one in the class, and not in the lobby or lost. `seat`: the first offset that its owner
        saw; 0: they have none."""
        if not seat or user in self.banned or seat <= self.kicked.get(user, 0):
            return False
        if self.is_staff(user, role):
            return True
        if self.locked and seat > self.locked_at:  # taken, and about to be given up
            return False
        return not self.lobby or user in self.admitted or seat <= self.lobby or seat <= self.admitted_through

    def may_send(self, user: str, role: Role, track: Track) -> bool:
        present = self.role_of(user, role)
        if self.is_staff(user, role):
            return True
        if present == "observer" or (track == "microphone" and user in self.muted):
            return False
        if present == "speaker":
            return True
        if track == "microphone":
            if self.called is not None and self.called.user == user:
                return True
            if self.all_muted and user not in self.unmuted:
                return False
        return track not in self.locks

    def check_chat(self, user: str, role: Role, seat: int, time: int) -> None:
        """Whether somebody may say something to all. Raises error 103 or 111."""
        if role == "server":
            return
        if self.phase != "live" or not self.is_in(user, role, seat):
            raise codes.PERMISSION_DENIED.saying("not in a class that goes on")
        if self.is_staff(user, role):
            return
        if self.role_of(user, role) == "observer":
            raise codes.PERMISSION_DENIED.saying("observers do not write")
        if "chat" in self.locks:
            raise codes.PERMISSION_DENIED.saying("the chat is locked")
        if self.private:
            raise codes.PERMISSION_DENIED.saying("students write to the teachers alone")
        wait = self.spoke.get(user, 0) + self.slow * 1000 - time
        if self.slow and wait > 0:
            raise codes.TOO_MANY_REQUESTS.saying(f"the chat is slow: {wait // 1000 + 1} s to wait")

    def check_whisper(self, user: str, role: Role, to: str, to_role: Role) -> None:
        """Whether somebody may write to another alone. To the staff, always. Raises error 103."""
        if self.phase != "live":
            raise codes.PERMISSION_DENIED.saying("the class does not go on")
        if self.is_staff(user, role) or self.is_staff(to, to_role):
            return
        if "private_chat" in self.locks or self.private or self.role_of(user, role) == "observer":
            raise codes.PERMISSION_DENIED.saying("private chat is locked")
