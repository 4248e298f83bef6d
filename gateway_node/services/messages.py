"""Messages of rooms: sending, reading on, editing, deleting.

Who may write is decided by the log itself (storage/migrations/0008). What a change starts from is compared when it is
stored, so two who change one message at once both succeed, one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from gateway_node.services.rooms import Rooms, user_id_of
from gateway_node.services.stores import asked
from realtime import codes
from realtime.interfaces import Identity, Refused
from realtime.messages import SentMessage, StoredMessage, check, check_content, event_about, rfc3339
from realtime.protocol import ClientInfo, raw
from realtime.publisher import Publisher
from storage.log.publication import milliseconds
from storage.messages import ChangedMeanwhile, Done, MessageStore, NoMember, NoSuchMessage, Row, Standing, shown

MAX_PAGE = 100  # messages
PAGE_BYTES = 512 * 1024  # half an outbox, as for history; a page has one message at least
MAX_OFFSET = 2**63 - 1
ATTEMPTS = 8  # at a change that others are faster with

_encode = msgspec.json.Encoder().encode

T = TypeVar("T")


class Said(NamedTuple):
    """A message in the log; `new` unless an earlier request had brought it there."""

    room_id: UUID
    id: UUID
    message: Raw
    new: bool


class Talk(Struct):
    """A part of a room's talk, oldest first. `users` names the authors and whom system lines speak of."""

    messages: list[Raw]
    users: dict[str, str]
    offset: int
    epoch: str


class TalkPage(NamedTuple):
    """`first` and `last` are the offsets in it, `more` says whether it goes on in the direction of the question."""

    talk: Talk
    first: int
    last: int
    more: bool


class _Subject(Struct):
    """Whom a system line speaks of."""

    user_id: str = ""


_subject = msgspec.json.Decoder(_Subject).decode


class Messages:
    """What users do with messages. Every method raises `CommandError` to refuse: 102 where there is no such room of the
    user's, 1002 where it has no such message, 103 to whoever may not (muted, archived, not theirs), 107 for bad values,
    1003 when others change the message all the time, 100 while PostgreSQL is away. Trying again is safe."""

    def __init__(self, store: MessageStore, rooms: Rooms, publisher: Publisher) -> None:
        self._store = store
        self._rooms = rooms
        self._publisher = publisher

    async def start(self) -> None:
        """Begin the background work: there is none."""

    async def stop(self) -> None:
        """Finish what was promised: it is done when it is answered."""

    # --- sending -----------------------------------------------------------------------------------------------

    async def send(self, identity: Identity, room_id: UUID, sent: SentMessage) -> Said:
        """Say something in a room. With the id of an earlier message of one's own it is that one, said once."""
        standing = await asked(self._store.standing(room_id, user_id_of(identity)))
        if standing is None:
            raise codes.UNKNOWN_CHANNEL
        return await self._send(identity, room_id, standing.peer, sent)

    async def send_to(self, identity: Identity, to_user_id: UUID, sent: SentMessage) -> Said:
        """Say something to somebody, in the room of the two: it is opened where there is none."""
        user_id = user_id_of(identity)
        if to_user_id == user_id:
            raise codes.BAD_REQUEST.at("/to_user_id", "that is oneself")
        check(sent)  # before a room is made for it
        room_id = await asked(self._store.room_of_two(user_id, to_user_id))
        if room_id is None:
            room, _ = await self._rooms.direct(identity, to_user_id)
            room_id = room.id
        return await self._send(identity, room_id, to_user_id, sent)

    async def _send(self, identity: Identity, room_id: UUID, to: UUID | None, sent: SentMessage) -> Said:
        check(sent)
        info = ClientInfo(identity.user, "", raw(identity.info))
        done = await self._publisher.send(_channel(room_id), sent, identity.user, to=str(to) if to else "", info=info)
        stored = done.publication
        data = bytes(stored.data)
        if done.again and not _is_same(sent, msgspec.json.decode(data, type=StoredMessage)):
            raise codes.BAD_REQUEST.at("/id", "the id, or the Idempotency-Key, is that of another message of yours")
        return Said(room_id, sent.id, shown(data, stored.offset, stored.time), not done.again)

    # --- reading -----------------------------------------------------------------------------------------------

    async def page(
        self,
        identity: Identity,
        room_id: UUID,
        *,
        before: int | None = None,
        after: int | None = None,
        around: int | None = None,
        limit: int = MAX_PAGE,
    ) -> TalkPage:
        """Messages and system lines below an offset, beyond one, or on both sides of one; without any, the newest.

        It stops early where it would become longer than `PAGE_BYTES`.
        """
        _check_window(before, after, around, limit)
        user_id = user_id_of(identity)
        if after is not None:
            question = self._store.page(room_id, user_id, start=after + 1, oldest=limit)
        elif around is not None:
            question = self._store.page(
                room_id, user_id, below=around, newest=limit // 2, start=around, oldest=limit - limit // 2
            )
        else:
            question = self._store.page(room_id, user_id, below=MAX_OFFSET if before is None else before, newest=limit)
        page = await asked(question)
        if page is None:
            raise codes.UNKNOWN_CHANNEL
        anchor = around if around is not None else (0 if after is not None else MAX_OFFSET)
        rows = _bounded(page.rows, anchor)
        names = await self.names(people_in(rows))
        talk = Talk([row.shown() for row in rows], names, page.offset, page.epoch)
        more = len(page.rows) == limit or len(rows) < len(page.rows)
        return TalkPage(talk, rows[0].offset if rows else 0, rows[-1].offset if rows else 0, more)

    async def names(self, user_ids: Iterable[UUID]) -> dict[str, str]:
        """The names of users, by id."""
        return await asked(self._store.names(user_ids))

    async def get(self, identity: Identity, room_id: UUID, message_id: UUID) -> Row:
        """A message or system line."""
        _, row = await self._find(identity, room_id, message_id)
        return row

    async def _find(self, identity: Identity, room_id: UUID, message_id: UUID) -> tuple[Standing, Row]:
        found = await asked(self._store.get(room_id, user_id_of(identity), message_id))
        if found is None:
            raise codes.UNKNOWN_CHANNEL
        standing, row = found
        if row is None:
            raise codes.NOT_FOUND.saying("the room has no such message")
        return standing, row

    # --- changing ----------------------------------------------------------------------------------------------

    async def edit(
        self,
        identity: Identity,
        room_id: UUID,
        message_id: UUID,
        content: str,
        check: Callable[[datetime], None] = lambda changed_at: None,
    ) -> Row:
        """Say it differently: its author may. `check` is given the time of its last change, and raises to refuse."""

        async def change(standing: Standing, row: Row) -> Row:
            if row.sender != identity.user or row.type == "system":
                raise codes.PERMISSION_DENIED.saying("it is not your message")
            if row.deleted_at is not None:
                raise codes.CONFLICT.saying("the message is deleted")
            message = row.message
            check_content(content, carries_file=message.file is not None)
            check(row.changed_at)
            if message.content == content:
                return row
            now = _now()
            event = event_about(message, identity.user, "message_edited", content=content)
            message.content = content
            message.edited_at = event.edited_at = rfc3339(milliseconds(now))
            self._tell(room_id, await self._store.change(row, message, event, edited_at=now))
            return msgspec.structs.replace(row, data=_encode(message), edited_at=now)

        return await self.changing(identity, room_id, message_id, change)

    async def delete(self, identity: Identity, room_id: UUID, message_id: UUID) -> None:
        """Unsay it: its author may, and in groups owners and moderators. Deleting twice is fine."""

        async def change(standing: Standing, row: Row) -> None:
            moderates = standing.kind != "direct" and standing.role != "member"
            if row.type == "system" or not (row.sender == identity.user or moderates):
                raise codes.PERMISSION_DENIED.saying("it is not your message")
            if row.deleted_at is not None:
                return
            message, now = row.message, _now()
            left = StoredMessage(
                id=message.id,
                from_user_id=message.from_user_id,
                to_user_id=message.to_user_id,
                room_id=message.room_id,
                content="",
                type=message.type,
                reply_to=message.reply_to,
                edited_at=message.edited_at,
                deleted_at=rfc3339(milliseconds(now)),
            )
            event = event_about(message, identity.user, "message_deleted")
            self._tell(room_id, await self._store.delete(row, left, event, now))

        await self.changing(identity, room_id, message_id, change)

    async def changing(
        self, identity: Identity, room_id: UUID, message_id: UUID, change: Callable[[Standing, Row], Awaitable[T]]
    ) -> T:
        """Read a message and change it; read again as long as somebody else was faster."""
        for _ in range(ATTEMPTS):
            standing, row = await self._find(identity, room_id, message_id)
            try:
                return await asked(change(standing, row))
            except ChangedMeanwhile:
                continue
            except NoSuchMessage:
                raise codes.NOT_FOUND.saying("the room has no such message") from None
            except NoMember:  # the removal was faster
                raise codes.UNKNOWN_CHANNEL from None
            except Refused as error:
                raise codes.PERMISSION_DENIED.saying(str(error)) from None
        raise codes.CONFLICT

    def _tell(self, room_id: UUID, done: Done) -> None:
        self._publisher.forward(_channel(room_id), done.event, done.appended.epoch)


def _channel(room_id: UUID) -> str:
    return f"room:{room_id}"


def _now() -> datetime:
    """To the millisecond, as clients are told it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _is_same(sent: SentMessage, stored: StoredMessage) -> bool:
    """Whether a message of one's own is the one that is there, as far as that can be said of one that was changed."""
    if stored.edited_at or stored.deleted_at:
        return True
    return (sent.content, sent.type, sent.reply_to, list(dict.fromkeys(sent.mentions)), sent.file_id) == (
        stored.content,
        stored.type,
        stored.reply_to,
        stored.mentions,
        stored.file.id if stored.file else None,
    )


def _check_window(before: int | None, after: int | None, around: int | None, limit: int) -> None:
    given = {"before": before, "after": after, "around": around}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise codes.BAD_REQUEST.at(f"/{named[1]}", f"`{named[0]}` says already which part is wanted")
    for name, value in given.items():
        if value is not None and not 0 <= value <= MAX_OFFSET - 1:
            raise codes.BAD_REQUEST.at(f"/{name}", f"an offset is from 0 to {MAX_OFFSET - 1}")
    if not 1 <= limit <= MAX_PAGE:
        raise codes.BAD_REQUEST.at("/limit", f"`limit` is from 1 to {MAX_PAGE}")


def _bounded(rows: list[Row], anchor: int) -> list[Row]:
    """Those nearest to an offset that fit into a page, one at least. The page's ends say where to read on."""
    taken: set[int] = set()
    room = PAGE_BYTES
    for row in sorted(rows, key=lambda row: abs(row.offset - anchor)):
        room -= len(row.data) + 64  # what is added to it
        if room < 0 and taken:
            break
        taken.add(row.offset)
    return [row for row in rows if row.offset in taken]


def people_in(rows: list[Row]) -> set[UUID]:
    """Their authors, and whom system lines speak of."""
    found = set()
    for row in rows:
        for user in (row.sender, _subject(row.data).user_id if row.type == "system" else ""):
            try:
                found.add(UUID(user))
            except ValueError:
                continue  # the server API speaks for nobody
    return found
