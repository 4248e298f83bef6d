"""Messages of rooms and classes: what a client may send, and the one form in which the server keeps it.

A client sends `{"id": "<uuid>", "type": "text", "content": "hi"}`; docs/chat.md has the other fields. The server writes
the message once; values that a client claims for the fields that the server fills in are ignored. `timestamp` is the
commit time, known only after the log has stored the rest, so it is added on the way out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta, Raw, Struct

from realtime import codes
from realtime.interfaces import Entry
from realtime.namespaces import ChannelOptions
from realtime.pointers import refusal
from realtime.protocol import Publication

MAX_CONTENT = 16_384  # characters
MAX_MENTIONS = 50

Content = Annotated[str, Meta(max_length=MAX_CONTENT, description=f"At most {MAX_CONTENT} characters.")]
Mentions = Annotated[list[UUID], Meta(max_length=MAX_MENTIONS, description="Members of the room.")]
Kind = Literal["text", "image", "file"]


class SentMessage(Struct):
    """What a client sends. `id` is the idempotency key for as long as the room's history lasts."""

    id: UUID
    content: Content = ""
    type: Kind = "text"
    reply_to: UUID | None = None
    mentions: Mentions = []
    file_id: UUID | None = None

    @property
    def refers(self) -> bool:
        """Whether it names something that has to be looked up."""
        return self.file_id is not None or self.reply_to is not None or bool(self.mentions)


class AttachedFile(Struct, omit_defaults=True):
    """A file as the message that carries it shows it. `size` in bytes, `width` and `height` in pixels."""

    id: UUID
    name: str
    size: int
    content_type: str
    width: int | None = None
    height: int | None = None
    thumbnail: bool = False


class Reaction(Struct):
    """How often an emoji was given, and by whom first."""

    count: int
    users: list[str]


class StoredMessage(Struct, omit_defaults=True, kw_only=True):
    """What the log keeps; `offset` and `timestamp` are added when it is read.

    Of a deleted message there are neither content, mentions, file nor reactions left.
    """

    id: UUID
    from_user_id: str
    to_user_id: str = ""  # the other one of a direct room
    room_id: str
    content: str
    type: str
    reply_to: UUID | None = None
    mentions: list[UUID] = []
    file: AttachedFile | None = None
    edited_at: str = ""  # RFC 3339
    deleted_at: str = ""
    reactions: dict[str, Reaction] = {}  # the last member: PostgreSQL replaces it there (change_reaction)

    @property
    def words(self) -> str:
        """The text by which it is found."""
        return f"{self.content}\n{self.file.name}" if self.file else self.content


class MessageEvent(Struct, omit_defaults=True, kw_only=True):
    """A change of a message, as the log keeps it: whoever comes back learns of it there."""

    id: UUID
    from_user_id: str
    to_user_id: str = ""
    room_id: str
    content: str
    type: str
    event: str
    message_id: UUID
    edited_at: str = ""
    emoji: str = ""
    count: int | None = None  # the last member: PostgreSQL adds it (change_reaction)


def event_about(message: StoredMessage, actor: str, event: str, *, content: str = "") -> MessageEvent:
    """An event that says what `actor` did to a message. The caller fills in the other fields."""
    other = message.from_user_id if message.from_user_id != actor else message.to_user_id
    return MessageEvent(
        id=uuid4(),
        from_user_id=actor,
        to_user_id=other if message.to_user_id else "",
        room_id=message.room_id,
        content=content,
        type="event",
        event=event,
        message_id=message.id,
    )


class References(Protocol):
    """Looks up what a message names. Plain messages name nothing and cost no look-up."""

    async def of(self, channel: str, sender: str, sent: SentMessage) -> AttachedFile | None:
        """The file that the message carries, which is its own from now on; trying again is safe.

        Raises `CommandError`: 107 with a pointer when it names a file, a message or a user that does not do.
        """
        ...


class NoReferences:
    """For servers without rooms: nothing can be named."""

    async def of(self, channel: str, sender: str, sent: SentMessage) -> AttachedFile | None:
        raise codes.NOT_AVAILABLE.saying("messages name nothing here")


_decode = msgspec.json.Decoder(SentMessage).decode
_encode = msgspec.json.Encoder().encode


def decode(data: bytes) -> SentMessage:
    """Raises error 107, with the pointer of the field at fault, when `data` is no message."""
    try:
        sent = _decode(data)
    except msgspec.DecodeError as error:
        raise refusal(error) from None
    check(sent)
    return sent


def check(sent: SentMessage) -> None:
    """What the types do not say. Raises error 107 with the pointer of the field at fault."""
    if sent.type == "text" and sent.file_id is not None:
        raise codes.BAD_REQUEST.at("/file_id", "a message of type `text` carries no file")
    if sent.type != "text" and sent.file_id is None:
        raise codes.BAD_REQUEST.at("/file_id", f"a message of type `{sent.type}` carries a file")
    check_content(sent.content, carries_file=sent.file_id is not None)


def check_content(content: str, *, carries_file: bool = False) -> None:
    """A file needs no words, anything else does. Raises error 107."""
    if not content.strip() and not carries_file:
        raise codes.BAD_REQUEST.at("/content", "`content` is empty")
    if len(content) > MAX_CONTENT:
        raise codes.BAD_REQUEST.at("/content", f"`content` is longer than {MAX_CONTENT} characters")


def room_of(channel: str) -> str:
    """The id of the room or class."""
    return channel.partition(":")[2]


def compose(channel: str, sender: str, sent: SentMessage, *, to: str = "", file: AttachedFile | None = None) -> Entry:
    """The message that `sender` says in a room or class, as it goes into the log."""
    mentions = list(dict.fromkeys(sent.mentions))
    message = StoredMessage(
        id=sent.id,
        from_user_id=sender,
        to_user_id=to,
        room_id=room_of(channel),
        content=sent.content,
        type=sent.type,
        reply_to=sent.reply_to,
        mentions=mentions,
        file=file,
    )
    return Entry(
        channel,
        sent.id.bytes,
        sender,
        _encode(message),
        sent.type,
        mentions=tuple(map(str, mentions)),
        search=message.words,
    )


def names_something(data: bytes) -> bool:
    """Whether a message may refer to something, without decoding it: what waits for it costs no more than time."""
    return b'"file_id"' in data or b'"mentions"' in data or b'"reply_to"' in data


def rfc3339(milliseconds: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamped(options: ChannelOptions, publication: Publication) -> Publication:
    """The publication as clients see it: in rooms and classes, with the commit time as `timestamp`."""
    data = bytes(publication.data)
    if not options.messages or not publication.time or not data.endswith(b"}"):
        return publication
    separator = b"" if data == b"{}" else b","
    stamp = b'%s"timestamp":"%s"}' % (separator, rfc3339(publication.time).encode())
    return Publication(Raw(data[:-1] + stamp), publication.info, publication.offset, publication.tags, publication.time)
