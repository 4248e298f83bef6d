"""Rooms: who is in them, what they may, and that everybody learns of a change.

A change of a room is decided under the lock of its log and told in the log, in one transaction: ordered with the
messages and repaired like them, so that a removal reaches every node even when the broker was away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from uuid import UUID, uuid5

from msgspec import Raw, Struct

from gateway_node.services import room_events
from gateway_node.services.bookmarks import bookmark, bookmark_at, moment_of, place_of
from gateway_node.services.stores import database
from gateway_node.services.text import line, printable
from realtime import codes
from realtime.interfaces import Identity
from realtime.publisher import Publisher
from storage.messages import shown
from storage.room_changes import NewRoom, NoSuchUser, Party, RoomChange, RoomChanges
from storage.rooms import FOR_EVER, Kind, Member, OpenRoom, Role, RoomStore, Summary

MAX_TITLE = 255  # characters
MAX_PAGE = 100  # members or rooms in one answer
MAX_TOGETHER = 100  # members that a new group may begin with
MAX_MUTE = 10 * 366 * 86400  # seconds


_RANK: dict[Role, int] = {"member": 0, "moderator": 1, "owner": 2}

Cursors = Callable[[str], Awaitable[Mapping[str, int]]]
"""How far a user has read, by room, where PostgreSQL may not know it yet."""


async def _none(user: str) -> Mapping[str, int]:
    return {}


class Peer(Struct, frozen=True):
    id: UUID
    name: str


class RoomView(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A room as its members get it; docs/chat.md."""

    id: UUID
    kind: Kind
    title: str
    open: bool
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None = None
    role: Role
    muted_until: datetime | None = None
    members: int
    peer: Peer | None = None
    offset: int
    epoch: str
    cursor: int
    unread: int
    mentions: int
    last: Raw | None = None


class RoomPage(Struct, frozen=True, omit_defaults=True):
    """`users` names the authors of the last messages. `next` is where the following page begins; without one, this was
    the last."""

    rooms: list[RoomView]
    users: dict[UUID, str]
    next: str = ""


class OpenRoomPage(Struct, frozen=True, omit_defaults=True):
    rooms: list[OpenRoom]
    next: str = ""


class MemberPage(Struct, frozen=True, omit_defaults=True):
    members: list[Member]
    next: str = ""


class Rooms:
    """What users do with rooms. Every method raises `CommandError` to refuse: 103 to whoever may not, 102 where
    there is no such room (or none that the user may know of), 1002 where there is no such user or member, 107 for bad
    values, 100 while PostgreSQL is away.

    Making a request again whose outcome is unknown is safe: what is so already is no change.
    """

    def __init__(self, store: RoomStore, changes: RoomChanges, publisher: Publisher, cursors: Cursors = _none) -> None:
        self._store = store
        self._changes = changes
        self._publisher = publisher
        self._cursors = cursors

    # --- asking ------------------------------------------------------------------------------------------------

    async def get(self, identity: Identity, room_id: UUID) -> RoomView:
        user_id = user_id_of(identity)
        with database():
            summary = await self._store.summary(room_id, user_id, await self._ahead(user_id))
        if summary is None:
            raise codes.UNKNOWN_CHANNEL
        return _view(summary)

    async def of_user(
        self, identity: Identity, *, archived: bool = False, after: str | None = None, limit: int = MAX_PAGE
    ) -> RoomPage:
        """The user's rooms, newest talk first."""
        user_id = user_id_of(identity)
        place = moment_of(after)
        with database():
            found = await self._store.summaries(
                user_id,
                await self._ahead(user_id),
                archived=archived,
                after=place,
                limit=limit + 1,
            )
        page = [_view(each) for each in found[:limit]]
        users = dict(each.last.author for each in found[:limit] if each.last and each.last.author)
        if len(found) <= limit:
            return RoomPage(page, users)
        return RoomPage(page, users, bookmark_at(found[limit - 1].talked_at, page[-1].id))

    async def find(
        self, identity: Identity, query: str, *, after: str | None = None, limit: int = MAX_PAGE
    ) -> OpenRoomPage:
        """Open groups by the beginning of their title, in whatever case."""
        user_id_of(identity)
        printable(query, "/query")
        place = place_of(after, tuple[str, UUID], "after")
        if place is not None:
            printable(place[0], "/after")
        with database():
            found = await self._store.find(query, after=place, limit=limit + 1)
        page = [room for _, room in found[:limit]]
        return OpenRoomPage(page, bookmark(found[limit - 1][0], page[-1].id) if len(found) > limit else "")

    async def members(
        self, identity: Identity, room_id: UUID, *, after: UUID | None = None, limit: int = MAX_PAGE
    ) -> MemberPage:
        """Members by id, those that follow `after`."""
        user_id = user_id_of(identity)
        with database():
            if await self._store.role(room_id, user_id) is None:
                raise codes.UNKNOWN_CHANNEL
            found = await self._store.members(room_id, after=after, limit=limit + 1)
        return MemberPage(found[:limit], str(found[limit - 1].user_id) if len(found) > limit else "")

    # --- making ------------------------------------------------------------------------------------------------

    async def create(
        self,
        identity: Identity,
        title: str,
        *,
        open: bool = False,
        members: Sequence[UUID] = (),
        key: str = "",
    ) -> tuple[RoomView, bool]:
        """A new group, its owner the user, and whether it is new: with the `key` of an earlier request, which may have
        succeeded, it is the group of then."""
        user_id = user_id_of(identity)
        title = line(title, "/title", MAX_TITLE)
        others = [each for each in dict.fromkeys(members) if each != user_id]
        if len(others) > MAX_TOGETHER:
            raise codes.LIMIT_EXCEEDED.saying(f"a group begins with at most {MAX_TOGETHER} members")
        id = uuid5(user_id, key) if key else None
        try:
            async with self._making(self._changes.new("group", user_id, others, id=id, title=title, open=open)) as new:
                if (change := new.change) is not None:
                    offsets = [change.tell(room_events.member_added(change, each, new.names[each])) for each in others]
                    for each in (user_id, *others):
                        change.tell(room_events.room_added(change, each))
                    await change.add(
                        [
                            (user_id, "owner", 0),
                            *((each, "member", offset) for each, offset in zip(others, offsets, strict=True)),
                        ]
                    )
        except NoSuchUser as error:
            _require_account(user_id, error)
            place = members.index(error.users[0])
            raise codes.NOT_FOUND.at(f"/members/{place}", "there is no such user") from None
        return await self.get(identity, new.id), new.change is not None

    async def direct(self, identity: Identity, other: UUID) -> tuple[RoomView, bool]:
        """The room of two people, and whether it is new."""
        user_id = user_id_of(identity)
        if other == user_id:
            raise codes.BAD_REQUEST.at("/user_id", "that is oneself")
        try:
            async with self._making(self._changes.new("direct", user_id, [other])) as new:
                if (change := new.change) is not None:
                    await change.add([(user_id, "member", 0), (other, "member", 0)])
                    for each in (user_id, other):
                        change.tell(room_events.room_added(change, each))
        except NoSuchUser as error:
            _require_account(user_id, error)
            raise codes.NOT_FOUND.saying("there is no such user") from None
        return await self.get(identity, new.id), new.change is not None

    # --- changing ----------------------------------------------------------------------------------------------

    async def update(
        self,
        identity: Identity,
        room_id: UUID,
        *,
        title: str | None = None,
        open: bool | None = None,
        check: Callable[[datetime], None] = lambda updated_at: None,
    ) -> RoomView:
        """Rename the group, or open or close it to joiners. `check` is given the time of its last update, and raises to
        refuse."""
        title = None if title is None else line(title, "/title", MAX_TITLE)
        async with self._changing(identity, room_id) as change:
            _require(change, "moderator")
            check(change.room.updated_at)
            title = None if title == change.room.title else title
            open = None if open == change.room.open else open
            if title is not None or open is not None:
                await change.update(
                    change.room.title if title is None else title, open=change.room.open if open is None else open
                )
                change.tell(room_events.room_updated(change, title, open))
        return await self.get(identity, room_id)

    async def archive(self, identity: Identity, room_id: UUID, *, archived: bool = True) -> None:
        """Close the room to messages, or open it again."""
        async with self._changing(identity, room_id) as change:
            _require(change, "owner")
            if (change.room.archived_at is not None) != archived:
                await change.archive(archived=archived)
                change.tell(room_events.room_archived(change, archived=archived))

    async def join(self, identity: Identity, room_id: UUID) -> RoomView:
        """Come into an open group."""
        user_id = user_id_of(identity)
        async with self._changing(identity, room_id, tell=[user_id]) as change:
            if change.actor.role is None:
                if not change.room.open or change.room.archived_at is not None:
                    raise codes.UNKNOWN_CHANNEL
                await self._add(change, user_id, change.actor.name)
        return await self.get(identity, room_id)

    async def leave(self, identity: Identity, room_id: UUID) -> None:
        """Go. The last owner hands the group over; the last member leaves it archived."""
        user_id = user_id_of(identity)
        async with self._changing(identity, room_id, tell=[user_id]) as change:
            _require(change, "member")
            if change.actor.role == "owner" and not await change.has_other_owner(user_id):
                if (heir := await change.heir(user_id)) is not None:
                    await change.set_role(heir.id, "owner")
                    change.tell(room_events.member_role(change, heir.id, heir.name, "owner"))
                elif change.room.archived_at is None:
                    await change.archive(archived=True)
                    change.tell(room_events.room_archived(change, archived=True))
            await self._remove(change, user_id, change.actor.name)

    async def invite(self, identity: Identity, room_id: UUID, user_id: UUID) -> None:
        """Make somebody a member."""
        async with self._changing(identity, room_id, user_id, tell=[user_id]) as change:
            _require(change, "moderator")
            if change.subject is None:
                raise codes.NOT_FOUND.saying("there is no such user")
            if change.subject.role is None:
                if change.room.archived_at is not None:
                    raise codes.PERMISSION_DENIED.saying("the room is archived")
                await self._add(change, user_id, change.subject.name)

    async def remove(self, identity: Identity, room_id: UUID, user_id: UUID) -> None:
        """End the membership of somebody of lower rank. One's own ends by `leave`."""
        async with self._changing(identity, room_id, user_id, tell=[user_id]) as change:
            _require(change, "moderator")
            if change.subject is not None and change.subject.role is not None:
                _require_lower(change, change.subject)
                await self._remove(change, user_id, change.subject.name)

    async def set_role(self, identity: Identity, room_id: UUID, user_id: UUID, role: Role) -> None:
        """Whoever becomes an owner is not muted any more. The last owner stays one."""
        async with self._changing(identity, room_id, user_id) as change:
            _require(change, "owner")
            member = _member(change)
            if member.role == role:
                return
            if member.role == "owner" and not await change.has_other_owner(user_id):
                raise codes.BAD_REQUEST.at("/role", "a group has an owner: make somebody else one first")
            await change.set_role(user_id, role)
            change.tell(room_events.member_role(change, user_id, member.name, role))

    async def mute(self, identity: Identity, room_id: UUID, user_id: UUID, seconds: int | None = None) -> None:
        """Let somebody of lower rank read only, for some seconds or until they are unmuted. It outlasts their leaving
        and coming back."""
        async with self._changing(identity, room_id, user_id) as change:
            _require(change, "moderator", of_courses=True)
            member = _member(change)
            _require_lower(change, member)
            if seconds is not None or change.muted_until != FOR_EVER:
                until = await change.mute(user_id, seconds)
                change.tell(room_events.member_muted(change, user_id, member.name, until))

    async def unmute(self, identity: Identity, room_id: UUID, user_id: UUID) -> None:
        async with self._changing(identity, room_id, user_id) as change:
            _require(change, "moderator", of_courses=True)
            member = _member(change)
            _require_lower(change, member)
            if change.muted_until is not None:
                await change.unmute(user_id)
                change.tell(room_events.member_unmuted(change, user_id, member.name))

    # --- how ---------------------------------------------------------------------------------------------------

    async def _add(self, change: RoomChange, user_id: UUID, name: str) -> None:
        offset = change.tell(room_events.member_added(change, user_id, name))
        change.tell(room_events.room_added(change, user_id))
        await change.add([(user_id, "member", offset)])

    async def _remove(self, change: RoomChange, user_id: UUID, name: str) -> None:
        change.tell(room_events.member_removed(change, user_id, name))
        change.tell(room_events.room_removed(change, user_id))
        await change.remove(user_id)

    @asynccontextmanager
    async def _changing(
        self, identity: Identity, room_id: UUID, subject: UUID | None = None, *, tell: Sequence[UUID] = ()
    ) -> AsyncIterator[RoomChange]:
        """A change of a room; it takes effect, and everybody is told, at the end of the block. `tell`: whose personal
        channels are told."""
        with database():
            async with self._changes.of(room_id, user_id_of(identity), subject, personal=tell) as change:
                if change is None:
                    raise codes.UNKNOWN_CHANNEL
                yield change
        self._forward(change)

    @asynccontextmanager
    async def _making(self, making: AbstractAsyncContextManager[NewRoom]) -> AsyncIterator[NewRoom]:
        with database():
            async with making as new:
                yield new
        if new.change is not None:
            self._forward(new.change)

    def _forward(self, change: RoomChange) -> None:
        for told in change.told:
            self._publisher.forward(told.channel, told.publication, told.epoch)

    async def _ahead(self, user_id: UUID) -> dict[UUID, int]:
        return {UUID(room): offset for room, offset in (await self._cursors(str(user_id))).items()}


def user_id_of(identity: Identity) -> UUID:
    """The id of a registered user. Raises error 103 for everybody else: rooms are for people with an account."""
    try:
        user_id = UUID(identity.user)
    except ValueError:
        raise _not_registered() from None
    if str(user_id) != identity.user:  # the log knows people by their ids as text
        raise _not_registered()
    return user_id


def _not_registered() -> codes.CommandError:
    return codes.PERMISSION_DENIED.saying("rooms are for registered users")


def _require_account(user_id: UUID, error: NoSuchUser) -> None:
    if user_id in error.users:
        raise _not_registered()


def _require(change: RoomChange, least: Role, *, of_courses: bool = False) -> None:
    """Raises 102 to strangers, 103 in a direct room, to members who may not, and in the room of a course unless it is
    done in such rooms (`of_courses`): who is in them, and what they are called, the course says."""
    role = change.actor.role
    if role is None:
        raise codes.UNKNOWN_CHANNEL
    if change.room.kind == "direct":
        raise codes.PERMISSION_DENIED.saying("a direct room stays as it is")
    if change.room.kind == "course" and not of_courses:
        raise codes.PERMISSION_DENIED.saying("this room belongs to a course: change the course, and who is in it")
    if _RANK[role] < _RANK[least]:
        raise codes.PERMISSION_DENIED.saying(
            f"that is for an {least}" if least == "owner" else f"that is for a {least}"
        )


def _require_lower(change: RoomChange, member: Party) -> None:
    assert change.actor.role is not None and member.role is not None
    if _RANK[change.actor.role] <= _RANK[member.role]:
        raise codes.PERMISSION_DENIED.saying("they are of no lower rank")


def _member(change: RoomChange) -> Party:
    """Whom the change is about. Raises 1002 when they are not in the room."""
    if change.subject is None or change.subject.role is None:
        raise codes.NOT_FOUND.saying("there is no such member")
    return change.subject


def _view(summary: Summary) -> RoomView:
    return RoomView(
        id=summary.id,
        kind=summary.kind,
        title=summary.title,
        open=summary.open,
        created_by=summary.created_by,
        created_at=summary.created_at,
        updated_at=summary.updated_at,
        archived_at=summary.archived_at,
        role=summary.role,
        muted_until=summary.muted_until,
        members=summary.members,
        peer=Peer(*summary.peer) if summary.peer else None,
        offset=summary.offset,
        epoch=summary.epoch,
        cursor=summary.cursor,
        unread=summary.unread,
        mentions=summary.mentions,
        last=shown(last.data, last.offset, last.time) if (last := summary.last) else None,
    )
