"""What people do in a class. Every method raises `CommandError`: 102 where there is no such class, or none that one may
know of, 103 where one may not, 106 where it is full, 107 for a value that cannot be, 1002 where there is no such person
or poll, 1003 where something is in the way, 100 while the log or PostgreSQL is away.

Commands go through the log, which orders them (`registry.submit`). What is one row a person is written, and then held
against the fold at the offset that the log had: so a vote and the end of its poll have one order, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta, Raw, Struct

from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.classes.crier import Crier
from gateway_node.services.classes.follower import ClassFollower
from gateway_node.services.classes.ice import NO_ICE, Ice, IceServers
from gateway_node.services.classes.media import Description, MediaBackend, NoMediaServer, Page
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.emoji import check_emoji
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from gateway_node.services.text import line, storable
from realtime import codes
from realtime.classroom import commands, state
from realtime.classroom.commands import MAX_OPTIONS, Admit, AdmitAll, AnyCommand, ClosePoll, End, Lobby, OpenPoll, Role
from realtime.classroom.fold import Verdict
from realtime.interfaces import Identity, LogUnavailable
from realtime.membership import personal_channel
from realtime.namespaces import BUILT_IN
from realtime.publisher import Publisher
from storage.lms.classes import ClassStanding, ClassStore, Seated

MAX_PAGE = 200  # people in one answer
MAX_SIGNAL = 32_768  # bytes: an offer for a camera, a screen and sound has 10,000
MAX_WHISPER = 4000  # characters
MAX_QUESTION = 500

Peer = Annotated[str, Meta(min_length=1, max_length=64)]
_encode = msgspec.json.Encoder().encode


class Joined(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`status`: `in`, then subscribe to `channel`; `waiting`, until the personal channel says `class_admitted`."""

    status: str
    channel: str
    role: Role
    name: str
    course_id: UUID
    media: str


class PersonInClass(Struct, frozen=True):
    user: UUID
    name: str
    role: str
    seat: int


class PeoplePage(Struct, frozen=True, omit_defaults=True):
    people: list[PersonInClass]
    count: int
    next: str = ""


class RaisedHand(Struct, frozen=True):
    user: str
    name: str
    at: int


class HandsPage(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The queue at `offset`: what follows it in the class's channel is to be applied to it. `count`: of all hands;
    `mine`: whether one's own is among them; `next`: where the following page begins."""

    offset: int
    hands: list[RaisedHand]
    count: int
    mine: bool = False
    next: int = 0


class NewPoll(Struct, forbid_unknown_fields=True, kw_only=True):
    """`correct`, from 0, and `points` make it a quiz, which goes into the gradebook and is never anonymous."""

    question: str
    options: list[str]
    correct: int | None = None
    anonymous: bool = True
    points: Annotated[float, Meta(ge=0, le=1000)] = 0


class PollResults(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`mine`: one's own answer; `correct` once the poll is closed, or for the staff of the course; `votes`, by name,
    for the staff, of one that is not anonymous."""

    poll_id: UUID
    question: str
    options: Sequence[str]
    counts: list[int]
    total: int
    mine: int | None = None
    correct: int | None = None
    votes: list[tuple[UUID, str, int]] = []
    next: str = ""


class Classrooms:
    def __init__(
        self,
        live: LiveClasses,
        store: ClassStore,
        publisher: Publisher,
        crier: Crier,
        *,
        ice: Ice = NO_ICE,
        media: MediaBackend | None = None,
    ) -> None:
        self._media = media or NoMediaServer()
        live.listeners.append(self._media.obey)
        live.leavers.append(self._media.gone)
        self._ice = ice
        self._live = live
        self._store = store
        self._publisher = publisher
        self._crier = crier
        self._tasks: set[asyncio.Task[None]] = set()
        live.listeners.append(self._heard)

    def start(self) -> None:
        self._media.start()

    async def stop(self) -> None:
        await self._media.stop()

    # --- coming ------------------------------------------------------------------------------------------------

    async def join(self, identity: Identity, id: UUID) -> Joined:
        """Take a seat, or say where one's own is. Again is fine, and what a page does after every reconnect."""
        follower = await self._live.get(id)
        standing = await self._live.standing(identity, id)
        user, role = identity.user, _role(standing)
        seat = standing.seat
        lost = follower.state.kicked.get(user, 0)
        if seat is None or seat <= lost or user in follower.state.banned:
            await self._fresh(follower, lambda: follower.state.check_entrance(user, role))
            taken = await asked(self._store.take_seat(id, user_id_of(identity), lost=lost))
            await _reached(follower.reach(taken.head))
            try:
                follower.state.check_entrance(user, role, taken.offset)  # the same for all tabs that come at once
            except codes.CommandError:
                await asked(self._store.give_up_seat(id, user_id_of(identity), taken.offset))
                raise
            seat = taken.offset
        inside = follower.state.is_in(user, role, seat)
        if not inside:
            # Whoever admits those that wait tells the seats that there are then: this one may have come a moment later.
            await _reached(follower.refresh())
            inside = follower.state.is_in(user, role, seat)
        if not inside:
            follower.state.check_entrance(user, role, seat)
            self._crier.waits(id)
        return Joined(
            status="in" if inside else "waiting",
            channel=follower.name,
            role=follower.state.role_of(user, role),
            name=standing.name,
            course_id=standing.course_id,
            media=follower.state.media,
        )

    async def people(
        self, identity: Identity, id: UUID, *, waiting: bool = False, after: str | None = None, limit: int = MAX_PAGE
    ) -> PeoplePage:
        """Who has come, in that order; or, for the staff, who waits."""
        follower, standing = await self._inside(identity, id)
        state = follower.state
        if waiting and not state.is_staff(identity.user, _role(standing)):
            raise codes.PERMISSION_DENIED.saying("that is for the teachers of the class")
        moment = moment_of(after)
        page: list[PersonInClass] = []
        last: Seated | None = None
        since = _since(state) if waiting else 0
        if waiting and not state.lobby:
            return PeoplePage([], 0)
        found = await asked(self._store.seats(id, since=since, after=moment, limit=limit + 1))
        for each in found[:limit]:
            last = each
            user, role = str(each.user_id), each.role
            if role is None:
                continue
            lost = each.seat <= state.kicked.get(user, 0) or user in state.banned
            if not lost and state.is_in(user, role, each.seat) != waiting:
                page.append(PersonInClass(each.user_id, each.name, state.role_of(user, role), each.seat))
        following = ""
        if last is not None and len(found) > limit:
            following = bookmark_at(last.taken_at, last.user_id)
        count = len(page) if waiting else await asked(self._store.count_seats(id))
        return PeoplePage(page, count, following)

    async def hands(self, identity: Identity, id: UUID, *, after: int = 0, limit: int = MAX_PAGE) -> HandsPage:
        """The queue of hands from its beginning, or from behind the one that was raised at `after`."""
        follower, _ = await self._inside(identity, id)
        hands = follower.state.hands
        behind = (RaisedHand(user, hand.name, hand.at) for user, hand in hands.items() if hand.at > after)
        found = list(islice(behind, limit + 1))
        following = found[limit - 1].at if len(found) > limit else 0
        offset, mine = follower.state.offset, identity.user in hands
        return HandsPage(offset=offset, hands=found[:limit], count=len(hands), mine=mine, next=following)

    # --- commands ------------------------------------------------------------------------------------------------

    async def do(self, identity: Identity, id: UUID, command: AnyCommand, key: UUID | None = None) -> Verdict:
        """Any command but those that begin elsewhere: a class is scheduled in its course, a poll has an answer."""
        if isinstance(command, commands.Schedule | OpenPoll):
            raise codes.BAD_REQUEST.at("/command/do", "that is done in another way")
        if isinstance(command, commands.CallNext) and not command.seen:
            command = commands.CallNext((await self._live.get(id)).state.offset)
        before: state.Classroom | None = None
        if isinstance(command, AdmitAll | Lobby):
            follower = await self._live.get(id)
            await _reached(follower.refresh())
            before = msgspec.structs.replace(follower.state)
        verdict = await self._live.submit(identity, id, command, key)
        if isinstance(command, Admit):
            self._admitted(id, command.user)
        if before is not None and before.lobby:
            await self._tell_admitted(follower, before)
        return verdict

    async def _tell_admitted(self, follower: ClassFollower, before: state.Classroom) -> None:
        """Tell everybody who waited `before` and is in now. Who takes a seat later finds the door open."""
        moment: tuple[datetime, UUID] | None = None
        while True:
            found = await asked(self._store.seats(follower.id, since=_since(before), after=moment, limit=MAX_PAGE))
            for each in found:
                who = str(each.user_id), each.role or "student", each.seat
                if each.role and not before.is_in(*who) and follower.state.is_in(*who):
                    self._admitted(follower.id, who[0])
            if len(found) < MAX_PAGE:
                return
            moment = found[-1].taken_at, found[-1].user_id

    def _admitted(self, id: UUID, user: str) -> None:
        told = {"type": "class_admitted", "class_id": str(id)}
        self._publisher.push(personal_channel(user), _encode(told))

    # --- what is passing -----------------------------------------------------------------------------------------

    async def react(self, identity: Identity, id: UUID, emoji: str) -> None:
        check_emoji(emoji)
        await self._inside(identity, id, live=True)
        self._crier.react(id, emoji)

    async def whisper(self, identity: Identity, id: UUID, to: str | None, content: str, key: UUID | None) -> None:
        """Say something to one person, or to the staff (`to` None). It is in their personal channels alone."""
        if not storable(content, "/content", MAX_WHISPER).strip():
            raise codes.BAD_REQUEST.at("/content", "there is nothing in it")
        follower, standing = await self._inside(identity, id, live=True)
        role = _role(standing)
        if to is None:
            recipients = await self._teachers(follower)
            to_role: Role = "teacher"
        else:
            other = await self._somebody(follower, to)
            recipients, to_role = [to], _role(other)
        await self._fresh(follower, lambda: follower.state.check_whisper(identity.user, role, to or "", to_role))
        message = {
            "type": "class_whisper",
            "id": str(key or uuid4()),
            "class_id": str(id),
            "from": identity.user,
            "name": standing.name,
            "to": to,
            "content": content,
        }
        for user in dict.fromkeys((*recipients, identity.user)):
            await self._publisher.publish(
                personal_channel(user), BUILT_IN["user"], _encode(message), id=(key or uuid4()).bytes
            )

    async def _teachers(self, follower: ClassFollower) -> list[str]:
        """Whoever is of the staff: also by a role that they were given in the class, while they are in it."""
        made = [user for user, role in follower.state.roles.items() if role == "assistant"]
        standings = await asked(self._store.standings([(follower.id, UUID(user)) for user in made]))
        present = [
            user
            for user, standing in zip(made, standings, strict=True)
            if standing and standing.role and follower.state.is_in(user, standing.role, standing.seat or 0)
        ]
        return [str(each) for each in await asked(self._store.staff(follower.id, follower.course_id))] + present

    async def signal(self, identity: Identity, id: UUID, to: str, data: Raw, *, peer: str, to_peer: str) -> None:
        """Hand an offer, an answer or a candidate to somebody in the class: to them alone, and in no history. One of
        the two has been allowed to send."""
        if len(bytes(data)) > MAX_SIGNAL:
            raise codes.LIMIT_EXCEEDED.saying(f"a signal has at most {MAX_SIGNAL} bytes")
        follower, _ = await self._inside(identity, id, live=True)
        await self._somebody(follower, to)
        sending = follower.state.sending
        if identity.user not in sending and to not in sending:
            await _reached(follower.refresh())
            if identity.user not in follower.state.sending and to not in follower.state.sending:
                raise codes.PERMISSION_DENIED.saying("neither of you sends anything")
        signal = {
            "type": "class_signal",
            "class_id": str(id),
            "from": identity.user,
            "peer": peer,
            "to_peer": to_peer,
            "data": data,
        }
        self._publisher.push(personal_channel(to), _encode(signal))

    async def ice(self, identity: Identity, id: UUID) -> IceServers:
        """How browsers find each other, with credentials for whoever is in the class."""
        await self._inside(identity, id)
        return self._ice.for_user(identity.user)

    # --- media -----------------------------------------------------------------------------------------------------

    async def publish(self, identity: Identity, id: UUID, peer: str, offer: Description) -> Description:
        """Send to the media server what the class lets this page send."""
        follower = await self._over_a_server(identity, id)
        return await self._media.publish(follower, Page(id, identity.user, peer), offer)

    async def watch(self, identity: Identity, id: UUID, peer: str, user: str) -> Description:
        follower = await self._over_a_server(identity, id)
        return await self._media.watch(follower, Page(id, identity.user, peer), user)

    async def answer(self, identity: Identity, id: UUID, peer: str, user: str, answer: Description) -> None:
        await self._over_a_server(identity, id)
        await self._media.answer(Page(id, identity.user, peer), user, answer)

    async def _over_a_server(self, identity: Identity, id: UUID) -> ClassFollower:
        """Raises error 108 where pages send to each other, 103 to whoever is not subscribed here: their leaving is what
        ends their media."""
        follower, _ = await self._inside(identity, id, live=True)
        if follower.state.media == "p2p":
            raise codes.NOT_AVAILABLE.saying("this class goes from browser to browser")
        if not follower.has(identity.user):
            raise codes.PERMISSION_DENIED.saying("subscribe to the class first")
        return follower

    # --- polls -----------------------------------------------------------------------------------------------------

    async def poll(self, identity: Identity, id: UUID, new: NewPoll, key: UUID | None) -> UUID:
        """Ask everybody something; the poll's id."""
        question = line(new.question, "/question", MAX_QUESTION, what="a question")
        if not 2 <= len(new.options) <= MAX_OPTIONS:
            raise codes.BAD_REQUEST.at("/options", f"a poll has 2 to {MAX_OPTIONS} options")
        options = [line(each, f"/options/{i}", 200, what="an option") for i, each in enumerate(new.options)]
        if new.correct is not None and not 0 <= new.correct < len(options):
            raise codes.BAD_REQUEST.at("/correct", "there is no such option")
        if new.points and (new.correct is None or new.anonymous):
            raise codes.BAD_REQUEST.at("/points", "a quiz has a right answer, and is not anonymous")
        follower, standing = await self._inside(identity, id, live=True)
        if not follower.state.is_staff(identity.user, _role(standing)):
            raise codes.PERMISSION_DENIED.saying("that is for the teachers of the class")
        if new.points and standing.role not in ("teacher", "assistant"):
            raise codes.PERMISSION_DENIED.saying("grades are given by the staff of the course")
        poll_id = key or uuid4()
        values = (id, question, options, new.correct, new.anonymous, new.points, user_id_of(identity))
        if not await asked(self._store.add_poll(poll_id, *values)):
            raise codes.BAD_REQUEST.at("/id", "it is that of another poll")
        command = OpenPoll(
            poll_id=str(poll_id),
            question=question,
            options=tuple(options),
            anonymous=new.anonymous,
            points=new.points,
        )
        await self._live.submit(identity, id, command, poll_id)
        return poll_id

    async def vote(self, identity: Identity, id: UUID, poll_id: UUID, option: int) -> None:
        """One's first answer counts. The same one again is fine."""
        follower, _ = await self._inside(identity, id, live=True)
        user_id = user_id_of(identity)
        poll = self._open_poll(follower, poll_id)
        if poll is None:
            await _reached(follower.refresh())
            poll = self._open_poll(follower, poll_id)
        if poll is None:
            if 0 <= option < MAX_OPTIONS and await asked(self._store.counts(id, poll_id, user_id, option)):
                return
            raise codes.CONFLICT.saying("no such poll is open")
        if not 0 <= option < len(poll.options):
            raise codes.BAD_REQUEST.at("/option", "there is no such option")
        vote = await asked(self._store.vote(poll_id, user_id, option))
        if vote is None:
            raise codes.NOT_FOUND.saying("there is no such poll")
        if not vote.fresh:
            if vote.counts != option:
                raise codes.CONFLICT.saying("your answer has been counted")
            return
        await _reached(follower.reach(vote.head))
        present = follower.state.poll
        if present is None or present.id != str(poll_id) or 0 < present.closed <= vote.head:
            await asked(self._store.take_back(poll_id, user_id))
            raise codes.CONFLICT.saying("the poll is closed")
        self._crier.voted(id, poll_id, len(poll.options))
        if present.closed:
            # It was closed while this one was written, which counts.
            await asked(self._store.close_poll(poll_id, present.closed))
            await asked(self._store.grade(poll_id))

    async def results(self, identity: Identity, id: UUID, poll_id: UUID, after: UUID | None) -> PollResults:
        follower, standing = await self._inside(identity, id)
        poll = await asked(self._store.poll(id, poll_id))
        if poll is None:
            raise codes.NOT_FOUND.saying("there is no such poll")
        staff = follower.state.is_staff(identity.user, _role(standing))
        counts = await asked(self._store.tally(poll_id, len(poll.options)))
        votes: list[tuple[UUID, str, int]] = []
        if staff and not poll.anonymous:
            votes = list(await asked(self._store.votes(poll_id, after=after, limit=MAX_PAGE + 1)))
        present = follower.state.poll
        closed = poll.closed is not None or (present is not None and present.id == str(poll_id) and present.closed > 0)
        return PollResults(
            poll_id=poll_id,
            question=poll.question,
            options=poll.options,
            counts=counts,
            total=sum(counts),
            mine=await asked(self._store.own_vote(poll_id, user_id_of(identity))),
            correct=poll.correct if closed or standing.role in ("teacher", "assistant") else None,
            votes=votes[:MAX_PAGE],
            next=str(votes[MAX_PAGE - 1][0]) if len(votes) > MAX_PAGE else "",
        )

    def _open_poll(self, follower: ClassFollower, poll_id: UUID) -> state.Poll | None:
        poll = follower.state.poll
        return poll if poll is not None and poll.id == str(poll_id) and not poll.closed else None

    # --- how ---------------------------------------------------------------------------------------------------------

    async def _inside(self, identity: Identity, id: UUID, *, live: bool = False) -> tuple[ClassFollower, ClassStanding]:
        """Whoever is in the class. Raises error 102 or 103 to others, 1003 where it does not go on (`live`)."""
        follower = await self._live.get(id)
        standing = await self._live.standing(identity, id)
        if standing.seat is None:
            raise codes.PERMISSION_DENIED.saying("not in the class")
        seat, role = standing.seat, _role(standing)
        if not follower.state.is_in(identity.user, role, seat):
            await _reached(follower.refresh())
            if not follower.state.is_in(identity.user, role, seat):
                raise codes.PERMISSION_DENIED.saying("not in the class")
        if live:
            await self._fresh(follower, follower.check_live)
        return follower, standing

    async def _somebody(self, follower: ClassFollower, user: str) -> ClassStanding:
        """Somebody else in the class. Raises error 1002."""
        try:
            standing = await asked(self._store.standing(follower.id, UUID(user)))
        except ValueError:
            standing = None
        if standing is None or standing.role is None or standing.seat is None:
            raise codes.NOT_FOUND.saying("there is no such person in the class")
        role, seat = standing.role, standing.seat

        def check() -> None:
            if not follower.state.is_in(user, role, seat):
                raise codes.NOT_FOUND.saying("there is no such person in the class")

        await self._fresh(follower, check)
        return standing

    async def _fresh(self, follower: ClassFollower, check: Any) -> None:
        """Look again where the log is now before somebody is refused: another node may have heard what this has not."""
        try:
            check()
        except codes.CommandError:
            await _reached(follower.refresh())
            check()

    def _heard(self, follower: ClassFollower, verdict: Verdict) -> None:
        """On every node: what a quiz earned is written once, however often it is said."""
        assert verdict.command is not None
        poll: state.Poll | None = next((op[2] for op in verdict.changes if op[:2] == ("set", "poll")), None)
        if isinstance(verdict.command.command, ClosePoll | End) and poll is not None:
            self._spawn(self._close(follower.id, poll))
        if isinstance(verdict.command.command, End):
            self._spawn(self._store.grade_all(follower.id))  # a node may have died between a vote and its grade

    async def _close(self, id: UUID, poll: state.Poll) -> None:
        poll_id = UUID(poll.id)
        await self._store.close_poll(poll_id, poll.closed)
        if poll.points:
            await self._store.grade(poll_id)
        self._crier.voted(id, poll_id, len(poll.options))

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await asked(work)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # PostgreSQL is away; another node says it, too


def _since(present: state.Classroom) -> int:
    """The first seat that may be one in the lobby, where there is one."""
    return max(present.lobby, present.admitted_through) + 1


def _role(standing: ClassStanding) -> Role:
    assert standing.role is not None, "whoever has none was refused"
    return standing.role


async def _reached(wait: Awaitable[None]) -> None:
    try:
        await asked(wait)
    except LogUnavailable:
        raise codes.INTERNAL.saying("the message log is not available") from None
