"""Polls and quick quizzes of a class. Every method raises `CommandError` as those of `classroom` do.

A vote is a row, written once a person, and then held against the fold at the offset that the log had: so it and the end
of its poll have one order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated
from uuid import UUID, uuid4

from msgspec import Meta, Struct

from gateway_node.services.classes.crier import Crier
from gateway_node.services.classes.follower import ClassFollower
from gateway_node.services.classes.insiders import Insiders, reached, role_in_course
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from gateway_node.services.text import line
from realtime import codes
from realtime.classroom import state
from realtime.classroom.commands import MAX_OPTIONS, ClosePoll, End, OpenPoll
from realtime.classroom.fold import Verdict
from realtime.interfaces import Identity
from storage.lms.classes import ClassStore

MAX_VOTES = 200  # in one answer
MAX_QUESTION = 500  # characters


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


class Polls:
    def __init__(self, live: LiveClasses, store: ClassStore, crier: Crier) -> None:
        self._live = live
        self._store = store
        self._crier = crier
        self._insiders = Insiders(live, store)
        self._tasks: set[asyncio.Task[None]] = set()
        live.listeners.append(self._heard)

    async def stop(self) -> None:
        """Write the grades that are under way; the database is still open."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ask(self, identity: Identity, id: UUID, new: NewPoll, key: UUID | None) -> UUID:
        """Ask everybody something; the poll's id."""
        question = line(new.question, "/question", MAX_QUESTION, what="a question")
        if not 2 <= len(new.options) <= MAX_OPTIONS:
            raise codes.BAD_REQUEST.at("/options", f"a poll has 2 to {MAX_OPTIONS} options")
        options = [line(each, f"/options/{i}", 200, what="an option") for i, each in enumerate(new.options)]
        if new.correct is not None and not 0 <= new.correct < len(options):
            raise codes.BAD_REQUEST.at("/correct", "there is no such option")
        if new.points and (new.correct is None or new.anonymous):
            raise codes.BAD_REQUEST.at("/points", "a quiz has a right answer, and is not anonymous")
        follower, standing = await self._insiders.find(identity, id, live=True)
        if not follower.state.is_staff(identity.user, role_in_course(standing)):
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
        follower, _ = await self._insiders.find(identity, id, live=True)
        user_id = user_id_of(identity)
        poll = self._open_poll(follower, poll_id)
        if poll is None:
            await reached(follower.refresh())
            poll = self._open_poll(follower, poll_id)
        if poll is None:
            last = follower.state.poll
            closed = last.closed if last is not None and last.id == str(poll_id) else 0
            if 0 <= option < MAX_OPTIONS and await asked(self._store.counts(id, poll_id, user_id, option, closed)):
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
        await reached(follower.reach(vote.head))
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
        follower, standing = await self._insiders.find(identity, id)
        poll = await asked(self._store.poll(id, poll_id))
        if poll is None:
            raise codes.NOT_FOUND.saying("there is no such poll")
        staff = follower.state.is_staff(identity.user, role_in_course(standing))
        counts = await asked(self._store.tally(poll_id, len(poll.options)))
        votes: list[tuple[UUID, str, int]] = []
        if staff and not poll.anonymous:
            votes = list(await asked(self._store.votes(poll_id, after=after, limit=MAX_VOTES + 1)))
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
            votes=votes[:MAX_VOTES],
            next=str(votes[MAX_VOTES - 1][0]) if len(votes) > MAX_VOTES else "",
        )

    def _open_poll(self, follower: ClassFollower, poll_id: UUID) -> state.Poll | None:
        poll = follower.state.poll
        return poll if poll is not None and poll.id == str(poll_id) and not poll.closed else None

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
