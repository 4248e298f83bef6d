"""One command at work on the state of a class: the rules."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from realtime import codes
from realtime.classroom.commands import (
    BEFORE_START,
    EARLY,
    LATE,
    PUBLISHERS,
    REMEMBERED,
    STUDENTS_MAY,
    Admit,
    AdmitAll,
    Ban,
    CallNext,
    Cancel,
    ChatRules,
    ClosePoll,
    Dismiss,
    End,
    Kick,
    Lobby,
    LockClass,
    Logged,
    LowerAll,
    LowerHand,
    Mute,
    MuteAll,
    OpenPoll,
    Publish,
    RaiseHand,
    Role,
    Schedule,
    SetLock,
    SetRole,
    Start,
    Track,
    Unban,
    Unmute,
    UnmuteAll,
    Unpublish,
)
from realtime.classroom.state import Called, Classroom, Hand, Poll, Sending

Op = tuple[Any, ...]
"""A change as clients apply it: `set field value`, `add field key value`, `remove field key`."""

SHOWN_FIELDS = tuple(
    name for name in Classroom.__struct_fields__
    if name not in ("locked_at", "admitted", "admitted_through", "kicked", "banned", "spoke", "refused", "verdicts")
)  # fmt: skip
_SHOWN = frozenset(SHOWN_FIELDS)


class Verdict(NamedTuple):
    """What became of a command. `code` 0: accepted; `out`: who is not in the class any more."""

    code: int = 0
    message: str = ""
    changes: tuple[Op, ...] = ()
    command: Logged | None = None
    offset: int = 0
    out: str = ""

    def check(self) -> None:
        """Raises the error that refused it."""
        if self.code:
            raise _ERRORS[self.code].saying(self.message)


_ERRORS = {
    each.code: each
    for each in (
        codes.PERMISSION_DENIED, codes.LIMIT_EXCEEDED, codes.BAD_REQUEST, codes.TOO_MANY_REQUESTS, codes.NOT_FOUND,
        codes.CONFLICT,
    )
}  # fmt: skip


class _Passes(Exception):
    """A dry run has come to where something would change."""


class _Change:
    """One command at work on a state. It looks first and changes then: whoever only asks is stopped in between."""

    def __init__(self, state: Classroom, logged: Logged, offset: int, time: int, *, dry: bool) -> None:
        self.state = state
        self.logged = logged
        self.offset = offset
        self.time = time
        self.ops: list[Op] = []
        self.out = ""
        self._dry = dry

    @property
    def by_staff(self) -> bool:
        return self.state.is_staff(self.logged.by, self.logged.role)

    def set(self, field: str, value: Any) -> None:
        if getattr(self.state, field) != value:
            self._stop_if_dry()
            setattr(self.state, field, value)
            self._note(field, ("set", field, value.copy() if isinstance(value, dict) else value))

    def add(self, field: str, key: str, value: Any = True) -> None:
        held = getattr(self.state, field)
        if held.get(key) != value:
            self._stop_if_dry()
            held[key] = value
            self._note(field, ("add", field, key, value))

    def remove(self, field: str, key: str) -> None:
        held = getattr(self.state, field)
        if key in held:
            self._stop_if_dry()
            del held[key]
            self._note(field, ("remove", field, key))

    def _stop_if_dry(self) -> None:
        if self._dry:
            raise _Passes

    def _note(self, field: str, op: Op) -> None:
        if field in _SHOWN:
            self.ops.append(op)

    def subject(self, user: str) -> None:
        """Whom a command is about takes part in the course, and is none of the staff. Raises error 1002 or 103."""
        if self.logged.subject_role is None:
            raise codes.NOT_FOUND.saying("there is no such person in the course")
        if self.logged.subject_role in ("teacher", "assistant"):
            raise codes.PERMISSION_DENIED.saying("that cannot be done to the staff of the course")

    def take_out(self, user: str) -> None:
        """Their right goes with their seat: an assistant of the class would unban themselves, or come by a locked door.
        An observer stays one, or a kick would be a way to the chat."""
        self.add("kicked", user, self.offset)
        if self.state.roles.get(user) != "observer":
            self.remove("roles", user)
        self.remove("admitted", user)
        self._leave(user)

    def _leave(self, user: str) -> None:
        self._stop_if_dry()
        self.out = user
        self.remove("hands", user)
        self.remove("sending", user)
        if self.state.called is not None and self.state.called.user == user:
            self.set("called", None)

    def _set_role(self, command: SetRole) -> None:
        """Whom nothing but their role had let by the lobby is in it again."""
        state, user, role = self.state, command.user, command.role
        subject_role, seat = self.logged.subject_role, self.logged.subject_seat
        if role == "assistant" and self.logged.role not in ("teacher", "server"):
            raise codes.PERMISSION_DENIED.saying("teachers appoint assistants")
        assert subject_role is not None
        if role == "student":
            self.remove("roles", user)
        else:
            self.add("roles", user, role)
        if role == "observer":
            self.remove("hands", user)
        sending = state.sending.get(user)
        if sending is not None and sending.role != subject_role:  # of the course's staff they were until now
            self.add("sending", user, msgspec.structs.replace(sending, role=subject_role))
        if seat and not state.is_in(user, subject_role, seat):
            self._leave(user)
        self.enforce()

    def enforce(self) -> None:
        """Take away the tracks that may not be sent any more."""
        for user, sending in list(self.state.sending.items()):
            left = tuple(each for each in sending.tracks if self.state.may_send(user, sending.role, each))
            if not left:
                self.remove("sending", user)
            elif left != sending.tracks:
                self.add("sending", user, msgspec.structs.replace(sending, tracks=left))

    # --- the commands, in the order of their types -----------------------------------------------------------

    def run(self) -> None:
        """Raises `CommandError` to refuse, before anything is changed."""
        state, command, logged = self.state, self.logged.command, self.logged
        if not self.by_staff and not isinstance(command, STUDENTS_MAY):
            raise codes.PERMISSION_DENIED.saying("that is for the teachers of the class")
        if state.phase in ("ended", "cancelled"):
            raise codes.CONFLICT.saying("the class is over")
        if state.phase != "live" and not isinstance(command, BEFORE_START):
            raise codes.CONFLICT.saying("the class has not begun")
        # The course's staff needs no seat to lead a class, as where it is done over HTTP.
        leads = logged.role in ("teacher", "assistant") and not isinstance(command, STUDENTS_MAY)
        elsewhere = leads or logged.role == "server" or isinstance(command, BEFORE_START)
        if not elsewhere and not state.is_in(logged.by, logged.role, logged.seat):
            raise codes.PERMISSION_DENIED.saying("not in the class")
        match command:
            case Schedule():
                self._schedule(command)
            case Start():
                self._start()
            case End():
                self._end()
            case Cancel():
                if state.phase == "live":
                    raise codes.CONFLICT.saying("the class goes on")
                self.set("phase", "cancelled")
            case LockClass(on):
                since = self.offset if on and not state.locked else state.locked_at
                self.set("locked", on)
                self.set("locked_at", since)
            case Lobby(on):
                if on != bool(state.lobby):
                    self.set("lobby", self.offset if on else 0)
            case Admit(user):
                self.subject(user)
                self.add("admitted", user)
            case AdmitAll():
                self.set("admitted_through", self.offset)
            case Kick(user):
                self.subject(user)
                self.take_out(user)
            case Ban(user):
                self.subject(user)
                self.take_out(user)
                self.add("banned", user)
            case Unban(user):
                self.remove("banned", user)
            case SetRole(user):
                self.subject(user)
                self._set_role(command)
            case RaiseHand():
                if state.role_of(logged.by, logged.role) == "observer":
                    raise codes.PERMISSION_DENIED.saying("observers raise no hand")
                if logged.by not in state.hands:
                    self.add("hands", logged.by, Hand(logged.name, self.offset))
            case LowerHand(user):
                self._own(user, "staff lower the hands of others")
                self.remove("hands", user or logged.by)
            case LowerAll():
                self.set("hands", {})
            case CallNext(seen):
                self._call_next(seen)
            case Dismiss():
                if state.called is not None:
                    self._own(state.called.user, "staff dismiss others")
                    self.set("called", None)
                    self.enforce()
            case Mute(user):
                self.subject(user)
                self.add("muted", user)
                self.remove("unmuted", user)
                self.enforce()
            case Unmute(user):
                self.subject(user)
                self.remove("muted", user)
                if state.all_muted:
                    self.add("unmuted", user)
            case MuteAll():
                self.set("all_muted", True)
                self.set("unmuted", {})
                self.enforce()
            case UnmuteAll():
                self.set("all_muted", False)
                self.set("unmuted", {})
                self.set("muted", {})
            case SetLock(lock, on):
                self.add("locks", lock) if on else self.remove("locks", lock)
                self.enforce()
            case ChatRules(slow, private):
                self.set("slow", slow)
                self.set("private", private)
                self.set("spoke", {})
            case OpenPoll():
                if state.poll is not None and not state.poll.closed:
                    raise codes.CONFLICT.saying("a poll is open")
                poll = Poll(
                    command.poll_id, command.question, command.options, command.anonymous, command.points, self.offset
                )
                self.set("poll", poll)
            case ClosePoll():
                if state.poll is None or state.poll.closed:
                    raise codes.CONFLICT.saying("no poll is open")
                self.set("poll", msgspec.structs.replace(state.poll, closed=self.offset))
            case Publish(peer, tracks):
                self._publish(peer, tracks)
            case Unpublish(user):
                self._own(user, "staff end what others send")
                self._unpublish(user or logged.by)

    def _own(self, user: str | None, what: str) -> None:
        if user not in (None, self.logged.by) and not self.by_staff:
            raise codes.PERMISSION_DENIED.saying(what)

    def _schedule(self, command: Schedule) -> None:
        if self.state.phase == "live":
            raise codes.CONFLICT.saying("the class goes on")
        self.set("phase", "scheduled")
        self.set("opens_at", command.opens_at)
        self.set("closes_at", command.closes_at)
        self.set("media", command.media)

    def _start(self) -> None:
        state = self.state
        if state.phase == "live":
            raise codes.CONFLICT.saying("the class goes on already")
        if state.phase != "scheduled" or not state.opens_at - EARLY <= self.time <= state.closes_at:
            raise codes.CONFLICT.saying("a class is started within its time, or a quarter of an hour before")
        self.set("phase", "live")
        self.set("started_at", self.time)

    def _end(self) -> None:
        state = self.state
        if state.phase != "live":
            raise codes.CONFLICT.saying("the class has not begun")
        self.set("phase", "ended")
        self.set("ended_at", self.time)
        for field in ("hands", "sending"):
            self.set(field, {})
        self.set("called", None)
        if state.poll is not None and not state.poll.closed:
            self.set("poll", msgspec.structs.replace(state.poll, closed=self.offset))

    def _call_next(self, seen: int) -> None:
        state = self.state
        if seen < state.called_at:
            raise codes.CONFLICT.saying("somebody was called meanwhile")
        user = next(iter(state.hands), None)
        if user is None:
            raise codes.CONFLICT.saying("no hand is up")
        called = Called(user, state.hands[user].name, self.offset)
        self.set("called", called)
        self.set("called_at", self.offset)
        self.remove("hands", user)
        self.enforce()

    def _publish(self, peer: str, tracks: tuple[Track, ...]) -> None:
        state, user = self.state, self.logged.by
        tracks = tuple(dict.fromkeys(tracks))
        for track in tracks:
            if not state.may_send(user, self.logged.role, track):
                raise codes.PERMISSION_DENIED.saying(f"the {track} is not yours to send now")
        most = PUBLISHERS[state.media]
        if user not in state.sending and len(state.sending) >= most:
            students = (each for each, sending in state.sending.items() if not state.is_staff(each, sending.role))
            *_, last = (None, *students)
            if last is None or not self.by_staff:
                raise codes.LIMIT_EXCEEDED.saying(f"at most {most} send at once in a class over {state.media}")
            self.remove("sending", last)
        self.add("sending", user, Sending(self.logged.name, peer, tracks, self.logged.role, self.logged.client))

    def _unpublish(self, user: str) -> None:
        """The server ends what went by one connection: they may send by another one meanwhile."""
        sending, logged = self.state.sending.get(user), self.logged
        if logged.role == "server" and sending is not None and sending.client != logged.client:
            raise codes.CONFLICT.saying("they send by another connection")
        self.remove("sending", user)


def check(state: Classroom, logged: Logged, time: int) -> bool:
    """Whether a command would be of any effect now. Raises the `CommandError` that would refuse it; changes nothing."""
    try:
        _Change(state, logged, state.offset + 1, time, dry=True).run()
    except _Passes:
        return True
    return False


def fold(state: Classroom, logged: Logged, offset: int, time: int) -> Verdict:
    """Take the command at an offset into the state."""
    change = _Change(state, logged, offset, time, dry=False)
    try:
        change.run()
        verdict = Verdict(0, "", tuple(change.ops), logged, offset, change.out)
    except codes.CommandError as error:
        assert not change.ops, "what is refused has changed nothing"
        verdict = Verdict(error.code, error.message, (), logged, offset)
    state.offset = offset
    verdicts = state.verdicts
    verdicts[logged.id] = logged.by, verdict.code, verdict.message
    if len(verdicts) > REMEMBERED:
        del verdicts[next(iter(verdicts))]
    return verdict


class Sender(NamedTuple):
    """Who says something: their role in the course, and their seat."""

    user: str
    role: Role
    seat: int


def hear(state: Classroom, sender: Sender, offset: int, time: int) -> Verdict:
    """Take a message at an offset into the state: it is refused where a lock stands before it."""
    state.offset = offset
    try:
        state.check_chat(*sender, time)
    except codes.CommandError as error:
        state.refused[offset] = True
        if len(state.refused) > LATE:
            del state.refused[next(iter(state.refused))]
        return Verdict(error.code, error.message)
    if state.slow and sender.user:
        state.spoke[sender.user] = time
    return Verdict()
