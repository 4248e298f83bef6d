"""The fold of a class: the same log gives the same class, whoever folds it, and each rule holds at its offset."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime import codes
from realtime.classroom import commands, wire
from realtime.classroom.commands import EARLY, LATE, PUBLISHERS, AnyCommand, Logged, Role
from realtime.classroom.fold import Sender, Verdict, check, fold, hear
from realtime.classroom.state import Classroom, Sending

OPENS, CLOSES = 1_000_000_000, 1_003_600_000
DENIED, LIMITED, TOO_MANY, NOT_FOUND, CONFLICT = 103, 106, 111, 1002, 1003
ROLES: dict[str, Role] = {"tea": "teacher", "ass": "assistant", "ann": "student", "ben": "student"}


class Log:
    """A class, and what was logged in it."""

    def __init__(self) -> None:
        self.state = Classroom()
        self.lines: list[tuple[Logged | Sender, int, int]] = []
        self.time = OPENS
        self.did("tea", commands.Schedule(opens_at=OPENS, closes_at=CLOSES))

    def logged(self, by: str, command: AnyCommand, seat: int = 1, *, about_seat: int = 0) -> Logged:
        about = getattr(command, "user", None)
        return Logged(
            id=str(UUID(int=len(self.lines))),
            by=by,
            role=ROLES.get(by, "student"),
            name=by.title(),
            seat=seat,
            subject_role=ROLES.get(about or ""),
            subject_seat=about_seat,
            command=command,
        )

    def do(self, by: str, command: AnyCommand, seat: int = 1, *, about_seat: int = 0) -> Verdict:
        logged = self.logged(by, command, seat, about_seat=about_seat)
        offset = self.state.offset + 1
        self.lines.append((logged, offset, self.time))
        return fold(self.state, logged, offset, self.time)

    def did(self, by: str, command: AnyCommand, seat: int = 1, *, about_seat: int = 0) -> Verdict:
        verdict = self.do(by, command, seat, about_seat=about_seat)
        assert not verdict.code, verdict.message
        return verdict

    def refusal(self, by: str, command: AnyCommand, seat: int = 1) -> int:
        """The code; what is refused changes nothing but the offset and the verdicts."""
        before = shown(self.state)
        code = self.do(by, command, seat).code
        assert before | {"offset": 0} == shown(self.state) | {"offset": 0}
        return code

    def say(self, by: str, seat: int = 1) -> int:
        sender = Sender(by, ROLES.get(by, "student"), seat)
        offset = self.state.offset + 1
        self.lines.append((sender, offset, self.time))
        return hear(self.state, sender, offset, self.time).code

    def folded_again(self, kept_at: int = 0) -> Classroom:
        """The class as another node folds it, which took over a state that was kept at a line."""
        state = Classroom()
        for i, (line, offset, time) in enumerate(self.lines):
            if i == kept_at:
                state = wire.decode_state(wire.encode_state(state))
            if isinstance(line, Logged):
                line = msgspec.json.decode(wire.encode_logged(line), type=Logged)
                fold(state, line, offset, time)
            else:
                hear(state, line, offset, time)
        return state


@pytest.fixture
def log() -> Log:
    log = Log()
    log.did("tea", commands.Start())
    return log


def test_a_class_is_started_within_its_time_by_its_staff() -> None:
    for time, accepted in ((OPENS - EARLY - 1, False), (OPENS - EARLY, True), (CLOSES, True), (CLOSES + 1, False)):
        log = Log()
        assert log.refusal("ann", commands.Start()) == DENIED
        log.time = time
        assert (log.do("ass", commands.Start()).code == 0) == accepted
    assert log.refusal("tea", commands.RaiseHand()) == CONFLICT  # before it has begun


def test_hands_are_called_in_the_order_in_which_they_came_up(log: Log) -> None:
    log.did("ben", commands.RaiseHand())
    log.did("ann", commands.RaiseHand())
    log.did("ben", commands.RaiseHand())  # again: its place stays
    assert list(log.state.hands) == ["ben", "ann"]
    seen = log.state.offset
    verdict = log.did("tea", commands.CallNext(seen))
    assert [op[:2] for op in verdict.changes] == [("set", "called"), ("set", "called_at"), ("remove", "hands")]
    assert log.refusal("ass", commands.CallNext(seen)) == CONFLICT  # at once, on another node
    log.did("ass", commands.CallNext(log.state.offset))
    assert log.state.called is not None and log.state.called.user == "ann"
    assert log.refusal("tea", commands.CallNext(log.state.offset)) == CONFLICT  # no hand is up
    assert log.refusal("ben", commands.Dismiss()) == DENIED
    log.did("ann", commands.Dismiss())


def test_whoever_is_muted_sends_no_sound_whatever_they_try(log: Log) -> None:
    log.did("ann", commands.Publish("page", ("microphone", "camera")))
    log.did("tea", commands.Mute("ann"))
    assert log.state.sending["ann"].tracks == ("camera",)
    assert log.refusal("ann", commands.Publish("page", ("microphone",))) == DENIED
    log.did("ann", commands.RaiseHand())
    log.did("tea", commands.CallNext())
    assert log.refusal("ann", commands.Publish("page", ("microphone",))) == DENIED  # a call undoes no mute
    log.did("tea", commands.Unmute("ann"))
    log.did("ann", commands.Publish("page", ("microphone",)))
    log.did("tea", commands.Dismiss())
    log.did("tea", commands.MuteAll())
    assert "ann" not in log.state.sending
    assert log.refusal("ben", commands.Publish("page", ("microphone",))) == DENIED
    log.did("ben", commands.RaiseHand())
    log.did("tea", commands.CallNext(log.state.offset))
    log.did("ben", commands.Publish("page", ("microphone",)))  # whoever is called may speak
    log.did("tea", commands.Dismiss())
    assert "ben" not in log.state.sending
    log.did("tea", commands.Publish("page", ("microphone",)))  # the staff is not muted with all


@pytest.mark.parametrize("track", ["microphone", "camera", "screen"])
def test_a_lock_takes_tracks_away_and_lets_none_come(log: Log, track: commands.Track) -> None:
    log.did("ann", commands.Publish("page", ("microphone", "camera", "screen")))
    log.did("tea", commands.SetLock(track))
    assert track not in log.state.sending["ann"].tracks
    assert log.refusal("ann", commands.Publish("page", (track,))) == DENIED
    log.did("tea", commands.SetRole("ann", "speaker"))
    log.did("ann", commands.Publish("page", (track,)))
    log.did("tea", commands.SetRole("ann", "observer"))
    assert "ann" not in log.state.sending
    assert log.refusal("ann", commands.RaiseHand()) == DENIED


def test_one_more_publisher_than_a_mesh_takes_is_refused(log: Log) -> None:
    for i in range(PUBLISHERS["p2p"]):
        log.did(f"s{i}", commands.Publish("page", ("camera",)))
    assert log.refusal("ann", commands.Publish("page", ("camera",))) == LIMITED
    log.did("s0", commands.Publish("other page", ("screen",)))  # one of them again
    log.did("tea", commands.Unpublish("s1"))
    log.did("ann", commands.Publish("page", ("camera",)))


def test_the_last_student_who_came_gives_way_to_the_staff(log: Log) -> None:
    most = PUBLISHERS["p2p"]
    for i in range(most):
        log.did(f"s{i}", commands.Publish("page", ("camera",)))
    log.did("s2", commands.Publish("page", ("camera", "screen")))  # by which they come no later
    verdict = log.did("tea", commands.Publish("page", ("camera",)))
    assert [op[:3] for op in verdict.changes] == [("remove", "sending", f"s{most - 1}"), ("add", "sending", "tea")]
    log.did("tea", commands.SetRole("ann", "assistant"))
    log.did("ann", commands.Publish("page", ("camera",)))
    assert list(log.state.sending) == ["s0", "s1", "s2", "s3", "tea", "ann"]
    assert log.refusal("s4", commands.Publish("page", ("camera",))) == LIMITED
    log.did("tea", commands.Unpublish("tea"))
    log.did("s4", commands.Publish("page", ("camera",)))
    for staff in ("tea", "ass"):
        log.did(staff, commands.Publish("page", ("camera",)))
    assert list(log.state.sending) == ["s0", "s1", "s2", "ann", "tea", "ass"]


def test_staff_gives_way_to_nobody(log: Log) -> None:
    staff = [f"staff{i}" for i in range(PUBLISHERS["p2p"])]
    for each in staff:
        log.state.roles[each] = "assistant"
        log.did(each, commands.Publish("page", ("camera",)))
    assert log.refusal("tea", commands.Publish("page", ("camera",))) == LIMITED
    assert list(log.state.sending) == staff


def test_the_server_ends_what_went_by_one_connection_and_not_by_the_next(log: Log) -> None:
    for client in ("first", "second"):
        command = commands.Publish("page", ("camera",))
        logged = msgspec.structs.replace(log.logged("ann", command), id=client, client=client)
        assert fold(log.state, logged, log.state.offset + 1, log.time).code == 0
    for client, code in (("first", CONFLICT), ("", CONFLICT), ("second", 0)):
        logged = Logged(id=f"end {client}", by="", role="server", client=client, command=commands.Unpublish("ann"))
        assert fold(log.state, logged, log.state.offset + 1, log.time).code == code
    assert not log.state.sending


def test_a_chat_is_locked_slow_or_private_for_students(log: Log) -> None:
    assert log.say("ann") == 0
    log.did("tea", commands.SetLock("chat"))
    assert (log.say("ann"), log.say("tea")) == (DENIED, 0)
    assert list(log.state.refused) == [log.state.offset - 1]
    log.did("tea", commands.SetLock("chat", False))
    log.did("tea", commands.ChatRules(slow=5))
    assert (log.say("ann"), log.say("ann"), log.say("ben")) == (0, TOO_MANY, 0)
    log.time += 5000
    assert log.say("ann") == 0
    log.did("tea", commands.ChatRules(private=True))
    assert log.say("ann") == DENIED
    log.state.check_whisper("ann", "student", "tea", "teacher")
    with pytest.raises(Exception, match="locked"):
        log.state.check_whisper("ann", "student", "ben", "student")


def test_of_refused_messages_the_last_are_remembered(log: Log) -> None:
    log.did("tea", commands.SetLock("chat"))
    first = log.state.offset + 1
    for _ in range(LATE + 5):
        assert log.say("ann") == DENIED
    assert list(log.state.refused) == list(range(first + 5, first + LATE + 5))
    assert wire.encode_state(log.folded_again(LATE)) == wire.encode_state(log.state)


def test_what_the_log_has_forgotten_is_told_from_what_somebody_says() -> None:
    assert wire.is_withheld(bytes(wire.withheld("x")))
    for data in (b'{"id":"x","type":"text","content":"\\"type\\":\\"refused\\""}', b'{"type":"refused"}', b"{}"):
        assert not wire.is_withheld(data)


def test_a_lobby_holds_who_came_after_it_began(log: Log) -> None:
    early = log.state.offset + 1
    log.did("tea", commands.Lobby())
    late = log.state.offset + 1
    state = log.state
    assert state.is_in("ann", "student", early) and not state.is_in("ann", "student", late)
    assert state.is_in("ass", "assistant", late)
    assert log.refusal("ann", commands.RaiseHand(), seat=late) == DENIED
    log.did("tea", commands.Admit("ann"))
    assert state.is_in("ann", "student", late) and not state.is_in("ben", "student", late)
    log.did("tea", commands.AdmitAll())
    assert state.is_in("ben", "student", late) and not state.is_in("ben", "student", state.offset + 1)
    log.did("tea", commands.Lobby(False))
    assert state.is_in("ben", "student", state.offset + 1)


def test_a_lock_keeps_out_the_seats_that_were_taken_after_it(log: Log) -> None:
    """However late a node looks: two tabs that come at once have one seat, and one answer."""
    early = log.state.offset + 1
    log.did("tea", commands.LockClass())
    late = log.state.offset + 1
    log.did("tea", commands.LockClass())  # once more: nobody comes in by that
    log.state.check_entrance("ann", "student", early)
    assert log.state.is_in("ann", "student", early) and not log.state.is_in("ann", "student", late)
    for seat in (0, late, log.state.offset + 1):
        with pytest.raises(codes.CommandError, match="locked"):
            log.state.check_entrance("ann", "student", seat)
    log.state.check_entrance("ass", "assistant")
    log.did("tea", commands.LockClass(False))
    log.state.check_entrance("ann", "student", late)


def test_a_kick_ends_a_seat_and_a_ban_every_seat(log: Log) -> None:
    log.did("ann", commands.RaiseHand())
    log.did("ann", commands.Publish("page", ("camera",)))
    assert log.did("tea", commands.Kick("ann")).out == "ann"
    assert (log.state.hands, log.state.sending) == ({}, {})
    assert log.refusal("ann", commands.RaiseHand()) == DENIED
    again = log.state.offset + 1
    log.did("ann", commands.RaiseHand(), seat=again)
    log.did("tea", commands.Ban("ann"))
    assert log.refusal("ann", commands.RaiseHand(), seat=log.state.offset + 1) == DENIED
    for command in (
        commands.Kick("ass"),
        commands.Ban("ass"),
        commands.Mute("tea"),
        commands.SetRole("ass", "student"),
    ):
        assert log.refusal("tea", command) == DENIED  # the course decides on its staff
    assert log.refusal("tea", commands.Kick("nobody")) == NOT_FOUND


def test_the_courses_staff_leads_from_outside_and_takes_part_from_inside(log: Log) -> None:
    log.did("ann", commands.RaiseHand())
    log.did("tea", commands.CallNext(log.state.offset), 0)
    assert log.refusal("tea", commands.RaiseHand(), 0) == DENIED
    assert log.refusal("tea", commands.Publish("page", ("camera",)), 0) == DENIED
    log.did("tea", commands.End(), 0)


def test_teachers_appoint_assistants_and_assistants_do_not(log: Log) -> None:
    assert log.refusal("ass", commands.SetRole("ann", "assistant")) == DENIED
    log.did("tea", commands.SetRole("ann", "assistant"))
    log.did("ann", commands.MuteAll())
    log.did("tea", commands.SetRole("ann", "student"))
    assert log.refusal("ann", commands.UnmuteAll()) == DENIED


@pytest.mark.parametrize("out", [commands.Kick, commands.Ban])
def test_an_assistant_of_the_class_who_is_thrown_out_is_none_any_more(log: Log, out: type[commands.Command]) -> None:
    log.did("tea", commands.SetRole("ann", "assistant"))
    log.did("tea", out("ann"))  # type: ignore[call-arg,arg-type]
    for command in (commands.Unban("ann"), commands.LockClass(False), commands.SetLock("chat"), commands.Start()):
        assert log.refusal("ann", command) == DENIED
    log.did("tea", commands.SetRole("ben", "observer"))
    log.did("tea", out("ben"))  # type: ignore[call-arg,arg-type]
    assert log.state.roles == {"ben": "observer"}  # a kick is no way to the chat


def test_whom_only_their_role_let_by_the_lobby_is_out_when_it_is_taken(log: Log) -> None:
    early = log.state.offset
    log.did("tea", commands.Lobby())
    late = log.state.offset + 1
    for seat, out in ((early, ""), (late, "ann"), (0, "")):
        log.did("tea", commands.SetRole("ann", "assistant"), about_seat=seat)
        log.did("ann", commands.Publish("page", ("camera",)), seat=seat or early)
        verdict = log.did("tea", commands.SetRole("ann", "student"), about_seat=seat)
        assert (verdict.out, "ann" in log.state.sending) == (out, not out)
    log.did("tea", commands.Admit("ann"))
    log.did("tea", commands.SetRole("ann", "assistant"), about_seat=late)
    assert log.did("tea", commands.SetRole("ann", "student"), about_seat=late).out == ""


def test_whoever_is_of_the_courses_staff_no_more_sends_what_students_may(log: Log) -> None:
    log.did("tea", commands.SetLock("camera"))
    log.did("ass", commands.Publish("page", ("camera", "microphone")))
    logged = Logged(id="x", by="", role="server", subject_role="student", command=commands.SetRole("ass", "student"))
    fold(log.state, logged, log.state.offset + 1, log.time)
    assert log.state.sending["ass"] == Sending("Ass", "page", ("microphone",), "student")


def test_one_poll_at_a_time(log: Log) -> None:
    poll = commands.OpenPoll(poll_id="p", question="?", options=("a", "b"))
    log.did("tea", poll)
    assert log.refusal("tea", commands.OpenPoll(poll_id="q", question="?", options=("a", "b"))) == CONFLICT
    log.did("tea", commands.ClosePoll())
    assert log.refusal("tea", commands.ClosePoll()) == CONFLICT
    log.did("tea", commands.OpenPoll(poll_id="q", question="?", options=("a", "b")))
    log.did("tea", commands.End())
    assert log.state.poll is not None and log.state.poll.closed == log.state.offset
    assert log.refusal("tea", commands.Start()) == CONFLICT


USERS = st.sampled_from(list(ROLES))
COMMANDS = st.one_of(
    *(st.builds(each) for each in (commands.Start, commands.RaiseHand, commands.LowerAll, commands.Dismiss)),
    *(st.builds(each) for each in (commands.MuteAll, commands.UnmuteAll, commands.AdmitAll, commands.ClosePoll)),
    *(st.builds(each, on=st.booleans()) for each in (commands.LockClass, commands.Lobby)),
    *(
        st.builds(each, user=USERS)
        for each in (commands.Admit, commands.Kick, commands.Ban, commands.Unban, commands.Mute, commands.Unmute)
    ),
    st.builds(commands.LowerHand, user=st.none() | USERS),
    st.builds(commands.CallNext, seen=st.integers(0, 30)),
    st.builds(commands.SetRole, user=USERS, role=st.sampled_from(["assistant", "speaker", "student", "observer"])),
    st.builds(
        commands.SetLock,
        lock=st.sampled_from(["microphone", "camera", "screen", "chat", "private_chat"]),
        on=st.booleans(),
    ),
    st.builds(commands.ChatRules, slow=st.integers(0, 3), private=st.booleans()),
    st.builds(commands.OpenPoll, poll_id=st.sampled_from("pq"), question=st.just("?"), options=st.just(("a", "b"))),
    st.builds(
        commands.Publish,
        peer=st.just("page"),
        tracks=st.lists(st.sampled_from(["microphone", "camera", "screen"]), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(commands.Unpublish, user=st.none() | USERS),
)


@given(
    st.lists(st.tuples(USERS, COMMANDS | st.none(), st.integers(0, 1500), st.integers(1, 20)), max_size=40), st.data()
)
def test_every_node_folds_the_same_class_whenever_it_takes_over(lines: list[Any], data: st.DataObject) -> None:
    """Beside it: nobody sends what they may not, what a client makes of the changes is the state, and a dry run says
    what the fold will say, and whether it is of any effect, and changes nothing."""
    log = Log()
    log.did("tea", commands.Start())
    page = shown(log.state)
    for by, command, passed, seat in lines:
        log.time += passed
        if command is None:
            log.say(by, seat)
            continue
        before = wire.encode_state(log.state)
        logged = log.logged(by, command, seat, about_seat=seat)
        try:
            effect = check(log.state, logged, log.time)
            foretold = 0
        except Exception as error:
            foretold = error.code  # type: ignore[attr-defined]
        assert wire.encode_state(log.state) == before
        verdict = log.do(by, command, seat, about_seat=seat)
        assert verdict.code == foretold
        if not foretold:
            assert effect == (bool(verdict.out) or essence(before) != essence(wire.encode_state(log.state)))
        for op in msgspec.json.decode(msgspec.json.encode(verdict.changes)):
            apply(page, op)
        for user, sending in log.state.sending.items():
            assert all(log.state.may_send(user, sending.role, track) for track in sending.tracks)
    assert page | {"offset": 0} == shown(log.state) | {"offset": 0}
    assert list(page["hands"]) == list(shown(log.state)["hands"])
    kept_at = data.draw(st.integers(0, len(log.lines)))
    assert wire.encode_state(log.folded_again(kept_at)) == wire.encode_state(log.state)


def essence(encoded: bytes) -> dict[str, Any]:
    """A state without what every line changes."""
    return dict(msgspec.json.decode(encoded)) | {"offset": 0, "verdicts": {}}


def shown(state: Classroom) -> dict[str, Any]:
    return dict(msgspec.json.decode(wire.Snapshot(state).for_reader("")))


def apply(page: dict[str, Any], op: list[Any]) -> None:
    """As the class page does."""
    match op:
        case ["set", field, value]:
            page[field] = value
        case ["add", field, key, value]:
            page[field][key] = value
        case ["remove", field, key]:
            page[field].pop(key, None)


def test_a_snapshot_is_cut_and_says_how_much_there_is(log: Log) -> None:
    for i in range(300):
        log.did(f"s{i}", commands.RaiseHand())
    page = shown(log.state)
    assert (len(page["hands"]), page["counts"]) == (200, {"hands": 300})
    assert next(iter(page["hands"])) == "s0"
    hidden = {"admitted", "kicked", "banned", "spoke", "refused", "verdicts"}
    assert not hidden & set(page)
