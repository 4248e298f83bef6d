"""The classes that a node follows, and how their commands get into the log and are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import structlog

from gateway_node.services.classes.follower import TOO_LATE, ClassFollower, sender_tags
from gateway_node.services.rooms import user_id_of
from gateway_node.services.shifts import Shifts
from gateway_node.services.stores import asked, database
from realtime import codec, codes, messages
from realtime.classroom import fold, wire
from realtime.classroom.commands import AnyCommand, Cancel, End, Logged, Publish, Start, Unpublish
from realtime.classroom.fold import Verdict
from realtime.hub import Hub
from realtime.interfaces import Entry, Grant, Identity, LogUnavailable, MessageLog, PresenceUnavailable
from realtime.protocol import ClientInfo, Publication
from realtime.publisher import Publisher
from storage.database import DatabaseUnavailable
from storage.lms.classes import ClassStanding, ClassStore, class_channel

IDLE = 60.0  # s after which a class that nobody is in or asks about is followed no more
LATE = 4 * 3600.0  # s after its time at which a class that nobody ended is ended
OVERDUE = 60.0  # s between two looks for them
GRACE = 15.0  # s in which a page that was cut off may be back before what it sends is ended
PULSE = 15.0  # s between two notes of who is present
SLICE = 100  # people noted in one statement

_log = structlog.get_logger(__name__)

Listener = Callable[[ClassFollower, Verdict], None]


class LiveClasses:
    """`realtime.interfaces.Followed`. Every method raises `CommandError`: 102 where there is no such class, or none
    that one may know of; 100 while the log or PostgreSQL is away."""

    def __init__(
        self, hub: Hub, log: MessageLog, publisher: Publisher, store: ClassStore, shifts: Shifts | None = None
    ) -> None:
        """`shifts`: where this node does background work."""
        self._shifts = shifts
        self._hub = hub
        self._log = log
        self._publisher = publisher
        self._store = store
        self._followers: dict[UUID, ClassFollower] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._came: set[tuple[UUID, str]] = set()
        self._wake = asyncio.Event()
        self.listeners: list[Listener] = [self._note]
        self.leavers: list[Callable[[ClassFollower, str], None]] = []

    # --- following ---------------------------------------------------------------------------------------------

    async def get(self, id: UUID) -> ClassFollower:
        """The class, as far as this node has been told."""
        follower = self._followers.get(id)
        if follower is None:
            standing = await asked(self._store.standing(id, UUID(int=0)))
            if standing is None:
                raise codes.UNKNOWN_CHANNEL
            follower = self._followers.get(id)
            if follower is None:
                follower = ClassFollower(id, standing.course_id, self._hub, self._log, self._store)
                follower.on_gone = self._gone
                follower.on_verdict = self._heard
                self._followers[id] = follower
        try:
            with database():
                await follower.ready()
        except LogUnavailable:
            raise codes.INTERNAL.saying("the message log is not available") from None
        return follower

    async def prepare(self, channel: str) -> None:
        await self.get(id_of(channel))

    async def enter(self, user: str, ids: list[UUID]) -> list[Grant | codes.CommandError]:
        """Whether somebody may be subscribed to these classes: who has a seat in them, beyond the lobby."""
        try:
            user_id = UUID(user)
        except ValueError:
            return [codes.PERMISSION_DENIED() for _ in ids]
        if str(user_id) != user:  # another spelling is another user, whom no removal would find
            return [codes.PERMISSION_DENIED() for _ in ids]
        standings = await self._store.standings([(id, user_id) for id in ids])
        answers: list[Grant | codes.CommandError] = []
        for id, standing in zip(ids, standings, strict=True):
            follower = self._followers.get(id)
            if (
                follower is None
                or standing is None
                or standing.role is None
                or standing.seat is None
                or not follower.state.is_in(user, standing.role, standing.seat)
            ):
                answers.append(codes.PERMISSION_DENIED())
            else:
                self._came.add((id, user))
                self._wake.set()
                role = follower.state.role_of(user, standing.role)
                answers.append(Grant(codec.encode_info({"role": role, "name": standing.name})))
        return answers

    def left_course(self, user: str, course_id: str) -> None:
        """Somebody takes part in a course no more: their subscriptions to its classes end."""
        for follower in self._followers.values():
            if str(follower.course_id) == course_id:
                self._hub.unsubscribe_user(user, follower.name, "", codes.UNSUBSCRIBED_BY_SERVER)

    def followed(self) -> list[ClassFollower]:
        return list(self._followers.values())

    # --- commands ----------------------------------------------------------------------------------------------

    async def standing(self, identity: Identity, id: UUID) -> ClassStanding:
        """Raises error 102 to whoever takes no part in the course."""
        found = await asked(self._store.standing(id, user_id_of(identity)))
        if found is None or found.role is None:
            raise codes.UNKNOWN_CHANNEL
        return found

    async def submit(self, identity: Identity, id: UUID, command: AnyCommand, key: UUID | None = None) -> Verdict:
        """Log a command, and say what the fold makes of it at its offset. Raises what refuses it.

        What would be refused as things are is refused here, and not logged: only races are decided by the log.
        """
        standing = await self.standing(identity, id)
        if isinstance(command, Start) and standing.archived:
            raise codes.CONFLICT.saying("the course is archived")
        about: ClassStanding | None = None
        if (user := getattr(command, "user", None)) is not None:
            about = await asked(self._store.standing(id, _uuid(user)))
        assert standing.role is not None
        logged = Logged(
            id=str(key or uuid4()),
            by=identity.user,
            role=standing.role,
            name=standing.name,
            seat=standing.seat or 0,
            subject_role=about.role if about is not None else None,
            subject_seat=(about.seat or 0) if about is not None else 0,
            client=identity.client,
            command=command,
        )
        verdict = await self.log_command(id, logged)
        if isinstance(command, Publish) and not (await self.get(id)).has(identity.user, identity.client):
            self._hub.spawn(self._end_sending(id, identity.user, identity.client))  # it is gone, or has not come yet
        return verdict

    async def log_command(self, id: UUID, logged: Logged) -> Verdict:
        """What the fold makes of a command. One of no effect is accepted, at no offset: nobody is told of it."""
        follower = await self.get(id)
        try:
            known = follower.state.verdicts.get(logged.id)
            if known is not None and known[0] != logged.by:
                raise codes.BAD_REQUEST.at("/id", "it is that of another sender's command")
            if known is None:
                if not await self._has_effect(follower, logged):
                    return Verdict()
                entry = Entry(
                    follower.name,
                    UUID(logged.id).bytes,
                    logged.by,
                    wire.encode_logged(logged),
                    type="command",
                    counted=False,
                )
                sent = await self._publisher.append(entry)
                verdict = await follower.outcome(sent.publication.offset, logged.id)
            else:
                verdict = follower.remembered(logged.id) or Verdict(*known[1:])
        except LogUnavailable:
            raise codes.INTERNAL.saying("the message log is not available") from None
        verdict.check()
        return verdict

    async def accepted(self, id: UUID, publication: Publication) -> None:
        """Return when the fold has accepted a command that is in the log. Raises what refused it."""
        follower = await self.get(id)
        logged = wire.decode_logged(bytes(publication.data))
        assert logged is not None, "it was logged by this server"
        try:
            verdict = await follower.outcome(publication.offset, logged.id)
        except LogUnavailable:
            raise codes.INTERNAL.saying("the message log is not available") from None
        verdict.check()

    async def _has_effect(self, follower: ClassFollower, logged: Logged) -> bool:
        """Whether a command changes something, or has. Raises what refuses it."""
        now = round(time.time() * 1000)
        with suppress(codes.CommandError):
            if fold.check(follower.state, logged, now):
                return True
        await follower.refresh()  # another node may know better
        return logged.id in follower.state.verdicts or fold.check(follower.state, logged, now)

    async def say(self, identity: Identity, channel: str, data: bytes, info: ClientInfo) -> None:
        """A message to the class; it is accepted when the fold says so at its offset."""
        id = id_of(channel)
        message = messages.decode(data)
        follower = await self.get(id)
        standing = await self.standing(identity, id)
        role, seat = standing.role, standing.seat or 0
        assert role is not None
        slow = follower.state.slow > 0 and not follower.state.is_staff(identity.user, role)
        if slow:
            # Those that are on their way together would all be logged, and all but one refused before everybody's eyes.
            if identity.user in follower.speaking:
                raise codes.TOO_MANY_REQUESTS.saying("the chat is slow: one message after the other")
            follower.speaking.add(identity.user)
        try:
            now = round(time.time() * 1000)
            try:
                follower.state.check_chat(identity.user, role, seat, now)
            except codes.CommandError:
                await follower.refresh()
                try:
                    follower.state.check_chat(identity.user, role, seat, now)
                except codes.CommandError:
                    if not await asked(self._store.has_said(channel, message.id, identity.user)):
                        raise  # else the log has it, and its answer was lost
            sent = await self._publisher.send(channel, message, identity.user, info=info, tags=sender_tags(role, seat))
            if wire.is_withheld(bytes(sent.publication.data)):
                verdict = TOO_LATE  # once more, and long ago
            else:
                verdict = await follower.outcome(sent.publication.offset)
        except LogUnavailable:
            raise codes.INTERNAL.saying("the message log is not available") from None
        finally:
            if slow:
                follower.speaking.discard(identity.user)
        verdict.check()

    # --- what every node does ------------------------------------------------------------------------------------

    def _heard(self, follower: ClassFollower, verdict: Verdict) -> None:
        for listener in self.listeners:
            listener(follower, verdict)

    def _note(self, follower: ClassFollower, verdict: Verdict) -> None:
        """The life of the class, for those who list classes."""
        assert verdict.command is not None
        if isinstance(verdict.command.command, Start | End | Cancel):
            self._hub.spawn(self._note_life(follower))
            if not isinstance(verdict.command.command, Cancel):  # who is there when it begins or ends was there then
                self._hub.spawn(self._attend_all(follower.id, follower.users()))

    async def _note_life(self, follower: ClassFollower) -> None:
        state = follower.state
        cancelled = datetime.now(UTC) if state.phase == "cancelled" else None
        with suppress(DatabaseUnavailable):
            await self._store.note(follower.id, _moment(state.started_at), _moment(state.ended_at), cancelled)
            follower.keep()  # now, and not before: a node that takes over looks at no more than what follows

    def _gone(self, follower: ClassFollower, user: str, client: str) -> None:
        if follower.state.phase == "live":
            if user in follower.state.sending:
                self._hub.spawn(self._end_sending(follower.id, user, client))
            for leaver in self.leavers:
                leaver(follower, user)
            self._came.add((follower.id, user))
            self._wake.set()

    def died(self, channel: str, user: str, client: str) -> None:
        """A connection of a dead node is out of a class."""
        self._hub.spawn(self._end_sending(id_of(channel), user, client))

    async def _end_sending(self, id: UUID, user: str, client: str) -> None:
        """End what goes by a connection that is gone: nobody else would, and others wait for the place. A page that is
        back says `publish` again, by which the place is its new connection's."""
        with suppress(codes.CommandError, LogUnavailable):
            follower = await self.get(id)
            sending = follower.state.sending.get(user)
            if sending is None or sending.client not in ("", client):
                return
            at = sending.client
            while True:
                await asyncio.sleep(GRACE)
                with suppress(PresenceUnavailable):
                    present = await self._hub.presence.members(follower.name)
                    break
            sending = follower.state.sending.get(user)
            if sending is None or sending.client != at:
                return
            if any(each.user == user and at in ("", each.client) for each in present):
                return
            key = uuid5(id, f"gone {user} {sending.peer} {follower.state.offset}")
            command = Unpublish(user)
            await self.log_command(id, Logged(id=str(key), by="", role="server", client=at, command=command))

    # --- background ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(each) for each in (self._attend(), self._pulse())]
        if self._shifts is not None:
            self._shifts.every(OVERDUE, self.end_overdue)

    async def stop(self) -> None:
        if self._shifts is not None:
            await self._shifts.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for follower in self.followed():
            follower.keep()
            with suppress(DatabaseUnavailable, LogUnavailable):
                await self._mark({(follower.id, user) for user in follower.users()})
            follower.close()

    async def _attend(self) -> None:
        """Who came or went, a moment later: a class begins for thousands at once."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            came, self._came = self._came, set()
            await self._try_to_mark(came)
            await asyncio.sleep(0.5)

    async def _pulse(self) -> None:
        while True:
            present = [(each, user) for each in self.followed() for user in each.users()]
            slices = [present[begin : begin + SLICE] for begin in range(0, len(present), SLICE)] or [[]]
            for part in slices:  # 10,000 at once would hold up everybody for a tenth of a second
                await asyncio.sleep(PULSE / len(slices))
                await self._try_to_mark({(follower.id, user) for follower, user in part if follower.has(user)})
            now = asyncio.get_running_loop().time()
            for follower in self.followed():
                if follower.idle and now - follower.touched > IDLE:
                    follower.keep()
                    del self._followers[follower.id]
                    follower.close()

    async def _attend_all(self, id: UUID, users: set[str]) -> None:
        present = [(id, UUID(user)) for user in users]
        with suppress(DatabaseUnavailable):
            for begin in range(0, len(present), SLICE):
                await self._store.attend(present[begin : begin + SLICE])

    async def _try_to_mark(self, present: set[tuple[UUID, str]]) -> None:
        """What fails is noted the next time: whatever it is, this goes on."""
        try:
            await self._mark(present)
        except DatabaseUnavailable:
            pass
        except Exception:
            _log.exception("attendance.failed")

    async def _mark(self, present: set[tuple[UUID, str]]) -> None:
        """Note that people are in classes that go on."""
        live = [
            (id, UUID(user))
            for id, user in present
            if (follower := self._followers.get(id)) is not None and follower.state.phase == "live"
        ]
        for begin in range(0, len(live), SLICE):
            await self._store.attend(live[begin : begin + SLICE])

    async def end_overdue(self) -> None:
        """End the classes that nobody ended."""
        before = datetime.fromtimestamp(time.time() - LATE, UTC)
        for id in await self._store.overdue(before, 100):
            logged = Logged(id=str(uuid4()), by="", role="server", command=End())
            with suppress(codes.CommandError):
                await self.log_command(id, logged)


def id_of(channel: str) -> UUID:
    """The class of a channel. Raises error 102."""
    try:
        id = UUID(channel.partition(":")[2])
    except ValueError:
        raise codes.UNKNOWN_CHANNEL from None
    if class_channel(id) != channel:
        raise codes.UNKNOWN_CHANNEL
    return id


def _uuid(text: str) -> UUID:
    """Of what is no UUID as the server writes it, one that nobody has: the fold takes another spelling for another
    user."""
    try:
        id = UUID(text)
    except ValueError:
        return UUID(int=0)
    return id if str(id) == text else UUID(int=0)


def _moment(milliseconds: int) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
