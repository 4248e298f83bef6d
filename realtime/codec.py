"""JSON in and out: frames to commands, replies and pushes to bytes, and the envelopes that nodes exchange.

Raw JSON is made safe where it enters (a WebSocket frame, the server API, REST, another node), because it is handed
on unparsed: one bad byte inside `data` would close every browser of a room with 1007, and recovery would replay it.
msgspec checks the grammar of a `Raw` but neither its UTF-8 nor its depth (both measured, version 0.22).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Raw, Struct

from realtime import codes
from realtime.protocol import ClientInfo, Command, JoinLeave, Publication, Push, PushReply, Reply

MAX_DEPTH = 64  # nesting of objects and arrays in one command; SDK envelopes take two
MAX_COMMANDS = 1000  # lines of one frame, empty ones too; a 64 KiB frame could hold 21,000 pongs

_decode_command = msgspec.json.Decoder(Command).decode
_encode = msgspec.json.Encoder().encode
_decode_raw = msgspec.json.Decoder(Raw).decode
MAX_DIGITS = 4300  # what Python's parser takes of an integer; of more, its SDK leaves for good (bad protocol)
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * (MAX_DIGITS + 1)
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_NEWLINES = bytes.maketrans(b"\r\n", b"  ")


class Malformed(Exception):
    """A frame that is not what the protocol allows. Its sender is disconnected with 3501."""


def _outside_strings(data: bytes) -> bytes:
    return b"".join(data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])


def _number_too_long(data: bytes) -> bool:
    """Whether JSON has a number that some readers' parsers refuse, and with it everything else in the frame."""
    if len(data) <= MAX_DIGITS or _TOO_MANY_DIGITS not in data.translate(_DIGITS_ALIKE):
        return False  # the usual case
    return _TOO_MANY_DIGITS in _outside_strings(data).translate(_DIGITS_ALIKE)


def _too_deep(data: bytes) -> bool:
    """Whether JSON is nested deeper than `MAX_DEPTH`. Of what is no JSON it may say either.

    Linear, and a matter of a few passes in C: this runs before anything else has looked at the bytes. (A regular
    expression took 18 s for 64 KiB of escaped quotes in a string without an end.)
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False  # the usual case
    brackets = _outside_strings(data).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")  # one level, wherever it is innermost
    return bool(brackets)


def _valid_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_frame(payload: bytes) -> Iterator[Command]:
    """The commands of one text frame, in order.

    The connection has checked that the payload is UTF-8. Commands are separated by newlines; a single command that
    is printed over several lines is taken too.

    Raises:
        Malformed: on anything that is no sequence of commands, while iterating.
    """
    if b"\n" not in payload and b"\r" not in payload:
        yield _decode_one(payload)
        return
    if payload.count(b"\n") > MAX_COMMANDS:
        raise Malformed(f"more than {MAX_COMMANDS} commands in a frame")
    lines = [line.translate(_NEWLINES) for line in payload.split(b"\n") if line.strip()]
    try:
        commands = [_decode_one(line) for line in lines]
    except Malformed:
        commands = [_decode_one(payload.translate(_NEWLINES))]
    yield from commands


def _decode_one(data: bytes) -> Command:
    if _too_deep(data):
        raise Malformed(f"nested deeper than {MAX_DEPTH}")
    if _number_too_long(data):
        raise Malformed(f"a number of more than {MAX_DIGITS} digits")
    try:
        return _decode_command(data)
    except (msgspec.DecodeError, RecursionError, OverflowError) as error:
        raise Malformed(str(error)) from None


def safe_json(data: bytes) -> bytes:
    """One JSON value that can be embedded in a reply.

    Raises:
        CommandError: 107 when it is not UTF-8, not JSON, nested deeper than 64, or has a number of 4,301 digits.
    """
    if not _valid_utf8(data):
        raise codes.BAD_REQUEST.saying("data is not UTF-8")
    if _too_deep(data):
        raise codes.BAD_REQUEST.saying(f"data is nested deeper than {MAX_DEPTH}")
    if _number_too_long(data):
        raise codes.BAD_REQUEST.saying(f"data has a number of more than {MAX_DIGITS} digits")
    try:
        checked = bytes(_decode_raw(data))
    except (msgspec.DecodeError, RecursionError):
        raise codes.BAD_REQUEST.saying("data is not JSON") from None
    return checked.translate(_NEWLINES)


def encode_reply(reply: Reply) -> bytes:
    return _encode(reply)


def encode_acknowledgement(command_id: int) -> bytes:
    """The reply to a publish that succeeded. Written out: it is the most frequent one, and always the same."""
    return b'{"id":%d,"publish":{}}' % command_id


def encode_push(push: Push) -> bytes:
    return _encode(PushReply(push))


def encode_publication(channel: str, publication: Publication) -> bytes:
    """The push of a publication, encoded once for all its readers."""
    return _encode(PushReply(Push(channel, pub=publication)))


def encode_join(channel: str, info: ClientInfo) -> bytes:
    return _encode(PushReply(Push(channel, join=JoinLeave(info))))


def encode_leave(channel: str, info: ClientInfo) -> bytes:
    return _encode(PushReply(Push(channel, leave=JoinLeave(info))))


encode_info = msgspec.json.Encoder().encode
decode_info = msgspec.json.Decoder(ClientInfo).decode


# --- between nodes ---------------------------------------------------------------------------------------------


class Published(Struct, tag="p", array_like=True):
    """A publication on its way to the other nodes. `epoch` is empty outside the log."""

    data: bytes
    info: bytes
    offset: int
    time: int
    epoch: str
    tags: dict[str, str] | None = None


class Joined(Struct, tag="j", array_like=True):
    info: bytes


class Left(Struct, tag="l", array_like=True):
    info: bytes


Envelope = Published | Joined | Left

_encode_envelope = msgspec.msgpack.Encoder().encode
_decode_envelope: Callable[[bytes], Envelope] = msgspec.msgpack.Decoder(Envelope).decode


def pack(envelope: Envelope) -> bytes:
    return _encode_envelope(envelope)


def pack_publication(publication: Publication, epoch: str, info: bytes = b"") -> bytes:
    """`info` is the publication's, where the caller has it encoded already."""
    if not info and publication.info is not None:
        info = _encode(publication.info)
    return _encode_envelope(
        Published(bytes(publication.data), info, publication.offset, publication.time, epoch, publication.tags)
    )


def unpack(message: bytes) -> Envelope:
    """What another node sent. Raises `Malformed`: a broker may be shared, so its bytes are checked like a client's."""
    try:
        return _decode_envelope(message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None


def unpack_publication(published: Published) -> Publication:
    try:
        data = safe_json(published.data)
        info = decode_info(safe_json(published.info)) if published.info else None
    except (codes.CommandError, msgspec.DecodeError) as error:
        raise Malformed(str(error)) from None
    return Publication(Raw(data), info, published.offset, published.tags, published.time)
