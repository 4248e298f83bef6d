"""Changes of rooms: one transaction each, in which the room's log and the personal channels are told.

A change locks the channels that it writes to before it looks, so that what it decides by holds until its end, and
appends the events last, in one call. So every change has its place among the messages and is repaired like them.

The verbs of a change say nothing twice: making a member of a member is no change. So a request whose outcome is
unknown can be made again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from realtime.interfaces import Entry
from realtime.protocol import Publication
from storage.database import Database
from storage.log.append import append_batch, result_of
from storage.log.publication import publication
from storage.queries import load
from storage.rooms import Kind, Role, moment

if TYPE_CHECKING:
    from storage.database import Connection

_SQL = load("rooms")


class NoSuchUser(Exception):
    """There are no users of these ids who may come in."""

    def __init__(self, users: Sequence[UUID]) -> None:
        super().__init__(f"no users {', '.join(map(str, users))}")
        self.users = users


class Room(Struct, frozen=True):
    """A row of `rooms`. What is said in it is in the channel `room:<id>`."""

    id: UUID
    kind: Kind
    title: str
    open: bool
    archived_at: datetime | None
    updated_at: datetime
    members: int

    @property
    def channel(self) -> str:
        return room_channel(self.id)


class Party(Struct, frozen=True):
    """Somebody and how they stand in a room; `role` `None`: not in it."""

    id: UUID
    name: str
    role: Role | None


class Told(NamedTuple):
    """An event that is in the log, to be forwarded."""

    channel: str
    publication: Publication
    epoch: str


class RoomChange:
    """A locked room. `actor` makes the change; `subject` is whom it is about (`None`: no such user).

    What is done takes effect with the commit, when `told` has the events.
    """

    def __init__(
        self,
        connection: Connection,
        room: Room,
        actor: Party,
        subject: Party | None = None,
        muted_until: datetime | None = None,
        *,
        channel_id: int,
        last_offset: int,
    ) -> None:
        self.room = room
        self.actor = actor
        self.subject = subject
        self.muted_until = muted_until  # of the subject
        self.told: list[Told] = []
        self._connection = connection
        self._channel_id = channel_id
        self._offset = last_offset
        self._entries: list[Entry] = []

    def tell(self, entry: Entry) -> int:
        """An event for the room's log or for the personal channel of somebody who was named to the lock; returns the
        offset that it will have, where it is the room's."""
        self._entries.append(entry)
        self._offset += entry.channel == self.room.channel
        return self._offset

    async def add(self, members: Iterable[tuple[UUID, Role, int]]) -> None:
        """New members: user, role, and the offset of the event that says so."""
        users, roles, offsets = (list(column) for column in zip(*members, strict=True))
        await self._connection.execute(_SQL["add_members"], self.room.id, users, roles, offsets)

    async def remove(self, user_id: UUID) -> None:
        await self._connection.execute(_SQL["remove_member"], self.room.id, user_id)

    async def set_role(self, user_id: UUID, role: Role) -> None:
        """An owner is never muted: nobody could undo it."""
        await self._connection.execute(_SQL["set_role"], self.room.id, user_id, role)
        if role == "owner":
            await self.unmute(user_id)

    async def has_other_owner(self, user_id: UUID) -> bool:
        found: bool = await self._connection.fetchval(_SQL["other_owner"], self.room.id, user_id)
        return found

    async def heir(self, user_id: UUID) -> Party | None:
        """The moderator, else the member, who has been in the room longest; not `user_id`."""
        row = await self._connection.fetchrow(_SQL["heir"], self.room.id, user_id)
        return Party(row["user_id"], row["name"], row["role"]) if row else None

    async def update(self, title: str, *, open: bool) -> None:
        await self._connection.execute(_SQL["update"], self.room.id, title, open)

    async def archive(self, *, archived: bool) -> None:
        """Close the log to messages, or open it again: what was begun before comes before the event, or is refused."""
        await self._connection.execute(_SQL["archive"], self.room.id, self._channel_id, archived)

    async def mute(self, user_id: UUID, seconds: int | None) -> datetime:
        """Returns until when; `None` seconds: for ever."""
        until = moment(await self._connection.fetchval(_SQL["mute"], self._channel_id, str(user_id), seconds))
        assert until is not None, "the row has it"
        return until

    async def unmute(self, user_id: UUID) -> None:
        await self._connection.execute(_SQL["unmute"], self._channel_id, str(user_id))

    async def commit(self) -> None:
        """Append what was told. The transaction's last statement."""
        await commit(self._connection, [self])

    @property
    def entries(self) -> Sequence[Entry]:
        """What is told at the commit."""
        return self._entries


async def commit(connection: Connection, changes: Sequence[RoomChange]) -> None:
    """Append what some changes of one transaction tell, in their order: its last statement."""
    entries = [(change, entry) for change in changes for entry in change.entries]
    if not entries:
        return
    outcomes = await append_batch(connection, [entry for _, entry in entries])
    for (change, entry), outcome in zip(entries, outcomes, strict=True):
        result = result_of(outcome)
        if isinstance(result, Exception):
            raise result
        told = publication(entry.data, entry.info, entry.tags, result.offset, result.time)
        change.told.append(Told(entry.channel, told, result.epoch))


class RoomChanges:
    """Every method raises `DatabaseUnavailable`; whether the change took place is unknown then."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def of(
        self, room_id: UUID, actor: UUID, subject: UUID | None = None, *, personal: Sequence[UUID] = ()
    ) -> AsyncIterator[RoomChange | None]:
        """A change of a room that the actor is in or may join; `None` is given where there is none.

        `personal`: whose personal channels it writes to.
        """
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_SQL["lock"], room_id, actor, subject, personal)
            if row is None:
                yield None
                return
            about = None
            if subject is not None and row["subject_name"] is not None:
                about = Party(subject, row["subject_name"], row["subject_role"])
            change = RoomChange(
                connection,
                _room(row),
                Party(actor, row["actor_name"], row["actor_role"]),
                about,
                moment(row["muted_until"]),
                channel_id=row["channel_id"],
                last_offset=row["last_offset"],
            )
            yield change
            await change.commit()

    @asynccontextmanager
    async def new(
        self,
        kind: Kind,
        actor: UUID,
        others: Sequence[UUID],
        *,
        id: UUID | None = None,
        title: str = "",
        open: bool = False,
    ) -> AsyncIterator[NewRoom]:
        """A room to be made, without members yet. Of a direct room there is one a pair; `id` makes trying again safe.

        Raises `NoSuchUser`.
        """
        key = "{}:{}".format(*sorted((actor, others[0]))) if kind == "direct" else None
        async with self._database.transaction() as connection:
            # The row comes first: who loses the race for it waits here, with nothing locked, and then sees it.
            try:
                row = await connection.fetchrow(_SQL["add"], id, kind, title, open, key, actor)
            except asyncpg.ForeignKeyViolationError:
                raise NoSuchUser([actor]) from None
            if row is None:
                found = id if key is None else await connection.fetchval(_SQL["by_direct_key"], key)
                assert found is not None, "a row is in the way"
                yield NewRoom(found, None, {})
                return
            room = _room(row)
            everybody = [actor, *others]
            names = {each["id"]: each["name"] for each in await connection.fetch(_SQL["names"], everybody)}
            if missing := [each for each in everybody if each not in names]:
                raise NoSuchUser(missing)
            await connection.execute(_SQL["lock_channels"], [room.channel, *map(personal_channel, everybody)])
            head = await connection.fetchrow(_SQL["head"], room.channel)
            assert head is not None, "it is locked"
            change = RoomChange(
                connection,
                room,
                Party(actor, names[actor], None),
                channel_id=head["id"],
                last_offset=head["last_offset"],
            )
            yield NewRoom(room.id, change, names)
            await change.commit()


class NewRoom(NamedTuple):
    """`change` is `None` where the room was there; `names` are those of its first members."""

    id: UUID
    change: RoomChange | None
    names: Mapping[UUID, str]


def room_channel(room_id: UUID) -> str:
    return f"room:{room_id}"


def personal_channel(user_id: UUID) -> str:
    return f"user:{user_id}"


def _room(row: asyncpg.Record) -> Room:
    return Room(
        row["id"], row["kind"], row["title"], row["open"], row["archived_at"], row["updated_at"], row["members"]
    )
