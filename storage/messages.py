"""Messages of rooms, as lists show them, and their changes. They are rows of the room's log (storage/log).

Every read asks in the same statement whether the user is a member. A change is a compare-and-swap: read the message,
make the new data, and `change` stores it if nobody was faster, with an event in the room's log, in one statement.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from realtime.interfaces import Appended, IdTaken
from realtime.messages import AttachedFile, MessageEvent, SentMessage, StoredMessage, rfc3339
from realtime.protocol import Publication
from storage.database import Database, DatabaseUnavailable
from storage.log.append import result_of
from storage.log.publication import milliseconds, publication
from storage.log.wire import CLOSED, DUPLICATE, ID_TAKEN, SILENCED, Outcome, Stored
from storage.queries import load

if TYPE_CHECKING:
    import asyncpg

# What `change_message` and the functions around it answer beyond `append_messages`.
MISSING, CHANGED, UNCHANGED, FULL, OUTSIDE = range(5, 10)

_SQL = load("messages")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredMessage).decode


class NoSuchMessage(Exception):
    """The room has no message of this id."""


class ChangedMeanwhile(Exception):
    """The message is not any more what the change was made from: read it again."""


class Unchanged(Exception):
    """It is so already."""


class Full(Exception):
    """There are as many of them as there may be."""


class NoMember(Exception):
    """Whoever makes the change is not in the room, or not any more."""


class Standing(Struct, frozen=True):
    """What a room is to one of its members. `peer`: the other one of a direct room."""

    role: str
    kind: Literal["direct", "group", "course"]
    peer: UUID | None = None


class Row(Struct, frozen=True):
    """A message or system line as the log keeps it. `data` is JSON."""

    offset: int
    id: UUID
    sender: str
    type: str
    data: bytes
    created_at: datetime
    edited_at: datetime | None
    deleted_at: datetime | None

    @property
    def changed_at(self) -> datetime:
        """When it was last said differently; the base of its `ETag`."""
        return self.deleted_at or self.edited_at or self.created_at

    @property
    def message(self) -> StoredMessage:
        return _decode(self.data)

    def shown(self) -> Raw:
        """As it is read: the data is not parsed for it."""
        return shown(self.data, self.offset, milliseconds(self.created_at))


class Page(Struct, frozen=True):
    """A part of a room's talk, oldest first, and the log's head."""

    rows: list[Row]
    offset: int
    epoch: str


class Done(Struct, frozen=True):
    """A change that is stored, and its event, which is to be forwarded to the other nodes."""

    appended: Appended
    event: Publication


class Named(Struct, frozen=True):
    """What became of what a message names. `strangers`: the mentioned who are no members."""

    stored: bool
    replies: bool
    strangers: list[UUID]
    file: AttachedFile | None


class MessageStore:
    """Every method raises `DatabaseUnavailable`. `None` where the user is no member or there is no such room."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, room_id: UUID, user_id: UUID) -> Standing | None:
        row = await self._database.fetchrow(_SQL["standing"], room_id, user_id)
        return Standing(row["role"], row["kind"], row["peer"]) if row else None

    async def room_of_two(self, one: UUID, other: UUID) -> UUID | None:
        """Their direct room, when there is one."""
        first, second = sorted((one, other))
        room_id: UUID | None = await self._database.fetchval(_SQL["room_of_two"], f"{first}:{second}")
        return room_id

    async def page(
        self, room_id: UUID, user_id: UUID, *, below: int = 0, newest: int = 0, start: int = 0, oldest: int = 0
    ) -> Page | None:
        """At most `newest` messages and system lines below offset `below`, and `oldest` from offset `start` on."""
        rows = await self._database.fetch(_SQL["page"], room_id, user_id, newest, below, oldest, start)
        if not rows:
            return None
        head = rows[0]
        return Page(
            [row_of(row) for row in rows if row["id"] is not None],
            head["last_offset"],
            f"{head['generation']}.{head['epoch']}",
        )

    async def get(self, room_id: UUID, user_id: UUID, message_id: UUID) -> tuple[Standing, Row | None] | None:
        """One's standing in the room, and the message or system line."""
        row = await self._database.fetchrow(_SQL["get"], room_id, user_id, message_id)
        if row is None:
            return None
        return Standing(row["role"], row["kind"]), row_of(row) if row["id"] is not None else None

    async def names(self, user_ids: Iterable[UUID]) -> dict[str, str]:
        """The names of users, by id."""
        wanted = list(user_ids)
        rows = await self._database.fetch(_SQL["names"], wanted) if wanted else []
        return {str(row["id"]): row["name"] for row in rows}

    async def refer(self, room_id: UUID, sender: UUID, sent: SentMessage, orphan_ttl: float) -> Named:
        """Look up what a message names; its file is attached to it, and kept for `orphan_ttl` seconds without it."""
        row = await self._database.fetchrow(
            _SQL["refer"],
            room_id,
            sender,
            sent.id,
            sent.reply_to,
            sent.mentions,
            sent.file_id,
            sent.type == "image",
            orphan_ttl,
        )
        assert row is not None, "it asks about a message, found or not"
        fields = AttachedFile.__struct_fields__
        file = AttachedFile(**{name: row[name] for name in fields}) if row["id"] is not None else None
        return Named(row["stored"], row["replies"], row["strangers"], file)

    async def change(
        self,
        row: Row,
        changed: StoredMessage,
        event: MessageEvent,
        *,
        edited_at: datetime | None = None,
        spoken: bool = True,
    ) -> Done:
        """Make of a message as it was read in `row` what is in `changed`, and tell of it by `event`.

        `edited_at` says that its words are others now. `spoken`: it is something said, which archived rooms and muted
        people do not get to do. Raises `NoSuchMessage`, `NoMember`, `ChangedMeanwhile`, `Refused`.
        """
        words = changed.words.replace("\0", " ") if edited_at else None
        return await self.settle(
            _SQL["change"],
            event,
            room_channel(event),
            row.id,
            row.data,
            _encode(changed),
            event.id,
            event.from_user_id,
            _encode(event),
            spoken,
            words,
            edited_at,
        )

    async def delete(self, row: Row, changed: StoredMessage, event: MessageEvent, deleted_at: datetime) -> Done:
        """As `change`, and nothing of what it said stays anywhere in the log."""
        edit = replace(event, from_user_id=changed.from_user_id, to_user_id=changed.to_user_id, event="message_edited")
        blank = _encode(edit).removeprefix(b'{"id":"%s",' % str(edit.id).encode())
        return await self.settle(
            _SQL["delete"],
            event,
            room_channel(event),
            row.id,
            row.data,
            _encode(changed),
            event.id,
            event.from_user_id,
            _encode(event),
            deleted_at,
            blank,
        )

    async def settle(self, statement: str, event: MessageEvent, *args: Any) -> Done:
        """Run a statement that answers as `change_message` does, once more where its outcome is unknown: with the same
        event it is safe. Raises `NoSuchMessage`, `NoMember`, `ChangedMeanwhile`, `Unchanged`, `Full`, `Refused`."""
        try:
            row = await self._database.fetchrow(statement, *args)
        except DatabaseUnavailable:
            row = await self._database.fetchrow(statement, *args)
        assert row is not None, "change_message answers"
        status = row["status"]
        if status == MISSING:
            raise NoSuchMessage
        if status == CHANGED:
            raise ChangedMeanwhile
        if status == UNCHANGED:
            raise Unchanged
        if status == FULL:
            raise Full
        if status == OUTSIDE:
            raise NoMember
        time = milliseconds(row["created_at"]) if row["created_at"] else 0
        if status in (ID_TAKEN, CLOSED, SILENCED):
            outcome = Outcome(status, time=time)
        else:
            stored = Stored(row["data"], row["info"], row["tags"]) if status == DUPLICATE else None
            outcome = Outcome(status, 0, row["offset"], f"{row['generation']}.{row['epoch']}", time, stored)
        result = result_of(outcome)
        if isinstance(result, Exception):
            assert not isinstance(result, IdTaken), "ids of events are made here"
            raise result
        told = result.duplicate or publication(row["data"] or _encode(event), None, None, result.offset, result.time)
        return Done(result, told)


def room_channel(event: MessageEvent) -> str:
    return f"room:{event.room_id}"


def shown(data: bytes, offset: int, time: int) -> Raw:
    """A message as it is read. `time`: of its commit, in Unix milliseconds."""
    return Raw(b'{"offset":%d,%s,"timestamp":"%s"}' % (offset, data[1:-1], rfc3339(time).encode()))


def row_of(row: asyncpg.Record) -> Row:
    """Of a statement that selects these columns of `messages`."""
    return Row(
        row["offset"],
        row["id"],
        row["sender_id"],
        row["type"],
        row["data"],
        row["created_at"],
        row["edited_at"],
        row["deleted_at"],
    )
