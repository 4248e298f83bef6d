"""Messages of rooms and classes: what a client may send, and the one form in which the server keeps it.

A client sends `{"id": "<uuid>", "type": "text", "content": "hi"}`. The server writes the message once, with the
fields `id, from_user_id, room_id, content, type`; values that a client claims for the others are ignored.
`timestamp` is the commit time, known only after the log has stored the rest, so it is added on the way out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from realtime import codes
from realtime.namespaces import ChannelOptions
from realtime.protocol import Publication

MAX_CONTENT = 16_384  # characters


class SentMessage(Struct):
    """What a client sends. `id` is the idempotency key for as long as the room's history lasts."""

    id: UUID
    content: str
    type: Literal["text", "image", "file"] = "text"


class StoredMessage(Struct, omit_defaults=True):
    """What the log keeps; `timestamp` is added when it is read."""

    id: UUID
    from_user_id: str
    room_id: str
    content: str
    type: str


_decode = msgspec.json.Decoder(SentMessage).decode
_encode = msgspec.json.Encoder().encode


def compose(channel: str, sender: str, data: bytes) -> tuple[UUID, str, bytes]:
    """The id, type and stored form of a message that `sender` publishes into a room or class.

    Raises:
        CommandError: 107 with the place of the error, when `data` is no message.
    """
    try:
        sent = _decode(data)
    except msgspec.DecodeError as error:
        raise codes.BAD_REQUEST.saying(f"not a message: {error}") from None
    if not sent.content.strip():
        raise codes.BAD_REQUEST.saying("not a message: `content` is empty")
    if len(sent.content) > MAX_CONTENT:
        raise codes.BAD_REQUEST.saying(f"not a message: `content` is longer than {MAX_CONTENT} characters")
    room = channel.partition(":")[2]
    return sent.id, sent.type, _encode(StoredMessage(sent.id, sender, room, sent.content, sent.type))


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
