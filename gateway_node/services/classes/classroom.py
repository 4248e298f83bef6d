"""What people do in a class. Every method raises `CommandError`: 102 where there is no such class, or none that one may
know of, 103 where one may not, 106 where it is full, 107 for a value that cannot be, 1002 where there is no such person
or poll, 1003 where something is in the way, 100 while the log or PostgreSQL is away.

Commands go through the log, which orders them (`registry.submit`). A seat is a row, written once a person, and then
held against the fold at the offset that the log had: so it and the lock of the class have one order, too.
"""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta, Raw, Struct

from gateway_node.services.bookmarks import bookmark_at, moment_of
from gateway_node.services.classes.crier import Crier
from gateway_node.services.classes.follower import ClassFollower
from gateway_node.services.classes.ice import NO_ICE, Ice, IceServers
from gateway_node.services.classes.insiders import Insiders, reached, role_in_course
from gateway_node.services.classes.media import Description, MediaBackend, NoMediaServer, Page
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.emoji import check_emoji
from gateway_node.services.rooms import user_id_of
from gateway_node.services.stores import asked
from gateway_node.services.text import storable
from realtime import codes
from realtime.classroom import commands, state
from realtime.classroom.commands import Admit, AdmitAll, AskedCommand, Lobby, Role
from realtime.classroom.fold import Verdict
from realtime.interfaces import Identity
from realtime.membership import personal_channel
from realtime.namespaces import BUILT_IN
from realtime.publisher import Publisher
from storage.lms.classes import ClassStore, Inside, Seated

MAX_PAGE = 200  # people in one answer
MAX_SIGNAL = 32_768  # bytes: an offer for a camera, a screen and sound has 10,000
MAX_WHISPER = 4000  # characters
_ALL = 2**63 - 1  # offsets

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
        self._insiders = Insiders(live, store)

    def start(self) -> None:
        self._media.start()

    async def stop(self) -> None:
        await self._media.stop()

    # --- coming ------------------------------------------------------------------------------------------------

    async def join(self, identity: Identity, id: UUID) -> Joined:
        """Take a seat, or say where one's own is. Again is fine, and what a page does after every reconnect."""
        follower = await self._live.get(id)
        standing = await self._live.standing(identity, id)
        user, role = identity.user, role_in_course(standing)
        seat = standing.seat
        lost = follower.state.kicked.get(user, 0)
        if seat is None or seat <= lost or user in follower.state.banned:
            await self._insiders.hold_against(follower, lambda: follower.state.check_entrance(user, role))
            taken = await asked(self._store.take_seat(id, user_id_of(identity), lost=lost))
            await reached(follower.reach(taken.head))
            try:
                follower.state.check_entrance(user, role, taken.offset)  # the same for all tabs that come at once
            except codes.CommandError:
                await asked(self._store.give_up_seat(id, user_id_of(identity), taken.offset))
                raise
            seat = taken.offset
        inside = follower.state.is_in(user, role, seat)
        if not inside:
            # Whoever admits those that wait tells the seats that there are then: this one may have come a moment later.
            await reached(follower.refresh())
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
        follower, standing = await self._insiders.find(identity, id)
        state = follower.state
        if waiting and not state.is_staff(identity.user, role_in_course(standing)):
            raise codes.PERMISSION_DENIED.saying("that is for the teachers of the class")
        moment = moment_of(after)
        page: list[PersonInClass] = []
        last: Seated | None = None
        since = _since(state) if waiting else 0
        if waiting and not state.lobby:
            return PeoplePage([], 0)
        counts = await asked(self._store.count_seats(id, _inside(state)))
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
        return PeoplePage(page, counts.waiting if waiting else counts.inside, following)

    async def banned(self, identity: Identity, id: UUID, *, after: str = "", limit: int = MAX_PAGE) -> PeoplePage:
        """Whom the staff has banned, in the order of their ids."""
        follower, standing = await self._insiders.find(identity, id)
        if not follower.state.is_staff(identity.user, role_in_course(standing)):
            raise codes.PERMISSION_DENIED.saying("that is for the teachers of the class")
        users = sorted(user for user in follower.state.banned if user > after)
        shown = [UUID(user) for user in users[:limit]]
        standings = await asked(self._store.standings([(id, user_id) for user_id in shown]))
        page = [
            PersonInClass(user_id, each.name, each.role, each.seat or 0)
            for user_id, each in zip(shown, standings, strict=True)
            if each is not None and each.role is not None
        ]
        return PeoplePage(page, len(follower.state.banned), users[limit - 1] if len(users) > limit else "")

    async def hands(self, identity: Identity, id: UUID, *, after: int = 0, limit: int = MAX_PAGE) -> HandsPage:
        """The queue of hands from its beginning, or from behind the one that was raised at `after`."""
        follower, _ = await self._insiders.find(identity, id)
        hands = follower.state.hands
        behind = (RaisedHand(user, hand.name, hand.at) for user, hand in hands.items() if hand.at > after)
        found = list(islice(behind, limit + 1))
        following = found[limit - 1].at if len(found) > limit else 0
        offset, mine = follower.state.offset, identity.user in hands
        return HandsPage(offset=offset, hands=found[:limit], count=len(hands), mine=mine, next=following)

    # --- commands ------------------------------------------------------------------------------------------------

    async def do(self, identity: Identity, id: UUID, command: AskedCommand, key: UUID | None = None) -> Verdict:
        if isinstance(command, commands.CallNext) and not command.seen:
            command = commands.CallNext((await self._live.get(id)).state.offset)
        before: state.Classroom | None = None
        if isinstance(command, AdmitAll | Lobby):
            follower = await self._live.get(id)
            await reached(follower.refresh())
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
        await self._insiders.here(identity, id)
        self._crier.react(id, emoji)

    async def whisper(self, identity: Identity, id: UUID, to: str | None, content: str, key: UUID | None) -> None:
        """Say something to one person, or to the staff (`to` None). It is in their personal channels alone."""
        if not storable(content, "/content", MAX_WHISPER).strip():
            raise codes.BAD_REQUEST.at("/content", "there is nothing in it")
        follower, standing = await self._insiders.find(identity, id, live=True)
        role = role_in_course(standing)
        if to is None:
            recipients = await self._teachers(follower)
            to_role: Role = "teacher"
        else:
            other = await self._insiders.other(follower, to)
            recipients, to_role = [to], role_in_course(other)
        await self._insiders.hold_against(
            follower, lambda: follower.state.check_whisper(identity.user, role, to or "", to_role)
        )
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
        follower = await self._insiders.here(identity, id)
        sending = follower.state.sending
        if to not in sending and not follower.has(to):
            await self._insiders.other(follower, to)
        if identity.user not in sending and to not in sending:
            await reached(follower.refresh())
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
        """How browsers find each other, with credentials for whoever is in the class, until it is over."""
        follower, _ = await self._insiders.find(identity, id)
        if follower.state.phase in ("ended", "cancelled"):
            raise codes.CONFLICT.saying("the class is over")
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
        follower, _ = await self._insiders.find(identity, id, live=True)
        if follower.state.media == "p2p":
            raise codes.NOT_AVAILABLE.saying("this class goes from browser to browser")
        if not follower.has(identity.user):
            raise codes.PERMISSION_DENIED.saying("subscribe to the class first")
        return follower


def _inside(present: state.Classroom) -> Inside:
    """Whose seats `Classroom.is_in` takes for one in the class. (Those that come while it is locked are given up.)"""
    assistants = (user for user, role in present.roles.items() if role == "assistant")
    lost = {**present.kicked, **dict.fromkeys(present.banned, _ALL)}
    return Inside(
        max(present.lobby, present.admitted_through) if present.lobby else None,
        frozenset((*present.admitted, *assistants)),
        frozenset(lost.items()),
    )


def _since(present: state.Classroom) -> int:
    """The first seat that may be one in the lobby, where there is one."""
    return max(present.lobby, present.admitted_through) + 1
