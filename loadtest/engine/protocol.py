"""The Centrifuge client protocol, version 2, in JSON: what a load client sends and understands of it.

Source: `definitions/client.proto` of centrifugal/protocol. Unknown fields are ignored, so that other servers may say
more than ours does.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from msgspec import Meta

# One message is a number: the sender's in the upper half, its count in the lower.
SEQUENCE_BITS = 32
Half = Annotated[int, Meta(ge=-1, lt=1 << 31)]  # of a message's number, or -1: not one of ours
Offset = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Time = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # ns


def message_id(sender: int, sequence: int) -> int:
    return sender << SEQUENCE_BITS | sequence


def name_of(message: int) -> str:
    return f"{message >> SEQUENCE_BITS}#{message & (1 << SEQUENCE_BITS) - 1}"


class Mark(msgspec.Struct, frozen=True):
    """The data of a message of ours: run, sender, sequence, and the intended send time in ns of the run's clock."""

    run: str = ""
    s: Half = -1
    n: Half = -1
    t: Time = 0
    content: str = ""  # of a room's or class's message: the mark itself, as JSON


class Publication(msgspec.Struct, frozen=True):
    data: msgspec.Raw = msgspec.Raw(b"{}")
    offset: Offset = 0


class Unsubscribe(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""


class Disconnect(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""


class Push(msgspec.Struct, frozen=True):
    channel: str = ""
    pub: Publication | None = None
    unsubscribe: Unsubscribe | None = None
    disconnect: Disconnect | None = None


class ProtocolError(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""
    temporary: bool = False


class Subscription(msgspec.Struct, frozen=True):
    recoverable: bool = False
    epoch: str = ""
    offset: Offset = 0
    publications: list[Publication] = []
    recovered: bool = False
    was_recovering: bool = False


class Connected(msgspec.Struct, frozen=True):
    client: str = ""
    version: str = ""
    ping: int = 0
    pong: bool = False
    node: str = ""
    subs: dict[str, Subscription] = {}


class History(msgspec.Struct, frozen=True):
    publications: list[Publication] = []
    epoch: str = ""
    offset: Offset = 0


class Reply(msgspec.Struct, frozen=True):
    id: int = 0
    error: ProtocolError | None = None
    push: Push | None = None
    connect: Connected | None = None
    subscribe: Subscription | None = None
    history: History | None = None


decode_reply = msgspec.json.Decoder(Reply).decode
decode_mark = msgspec.json.Decoder(Mark).decode


def mark_of(publication: Publication) -> Mark:
    """Of somebody else's message, and of one that was altered beyond what a sender of ours writes: no sender."""
    try:
        mark = decode_mark(publication.data)
        return decode_mark(mark.content) if mark.content.startswith("{") else mark
    except msgspec.DecodeError:
        return Mark()


def command(id: int, **request: Any) -> bytes:
    return json.dumps({"id": id, **request}, separators=(",", ":")).encode()
