"""The state and the commands of a class as bytes: in the log, kept, and as people see them."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw, Struct

from realtime.classroom.commands import SHOWN, AskedCommand, Logged
from realtime.classroom.fold import SHOWN_FIELDS, Op, Verdict
from realtime.classroom.state import Classroom
from realtime.pointers import refusal

_logged = msgspec.json.Decoder(Logged)
_state = msgspec.json.Decoder(Classroom)
_encode = msgspec.json.Encoder().encode


def decode_logged(data: bytes) -> Logged | None:
    """`None`: it is no command."""
    if b'"type":"command"' not in data:
        return None
    try:
        return _logged.decode(data)
    except msgspec.DecodeError:
        return None


def command_of(fields: object) -> AskedCommand:
    """A command from decoded JSON. Raises error 107 with the pointer of the field at fault."""
    try:
        command: AskedCommand = msgspec.convert(fields, AskedCommand)
    except msgspec.ValidationError as error:
        raise refusal(error, AskedCommand) from None
    return command


def encode_logged(logged: Logged) -> bytes:
    return _encode(logged)


def encode_state(state: Classroom) -> bytes:
    """All of it, for a node that takes over."""
    return _encode(state)


def decode_state(data: bytes) -> Classroom:
    """Raises `msgspec.DecodeError`: another version wrote it."""
    return _state.decode(data)


class Snapshot:
    """What people see of it, the collections cut to `SHOWN`; `counts` has how many there are. It is encoded once, for
    all; who is cut away themselves has their own entries added: whether they are muted they have to know."""

    def __init__(self, state: Classroom) -> None:
        """It is as long as the state is at its offset."""
        self._cut: list[tuple[int, dict[str, Any], dict[str, Any]]] = []  # where more goes, of what, and what is shown
        counts: dict[str, int] = {}
        encoded = bytearray(b"{")
        for name in SHOWN_FIELDS:
            value = getattr(state, name)
            shown = value
            if isinstance(value, dict) and len(value) > SHOWN:
                counts[name] = len(value)
                shown = dict(islice(value.items(), SHOWN))
            encoded += b"%b:%b" % (_encode(name), _encode(shown))
            if shown is not value:
                self._cut.append((len(encoded) - 1, value, shown))
            encoded += b","
        self._encoded = bytes(encoded) + b'"counts":%b}' % _encode(counts)

    def for_reader(self, user: str) -> bytes:
        own = [(at, value[user]) for at, value, shown in self._cut if user in value and user not in shown]
        encoded = self._encoded
        for at, entry in reversed(own):
            encoded = b"%b,%b:%b%b" % (encoded[:at], _encode(user), _encode(entry), encoded[at:])
        return encoded


class _Told(Struct, omit_defaults=True):
    id: str
    type: str
    by: str
    do: str
    changes: tuple[Op, ...] = ()
    refused: int = 0
    out: str = ""  # who is in the class no more: pages that send to them hang up


def told(logged: Logged, verdict: Verdict | None) -> Raw:
    """A command as people see it: what it changed, or that it was refused; `None`: what it changed is known no more."""
    do = str(type(logged.command).__struct_config__.tag)
    if verdict is None:
        return Raw(_encode(_Told(logged.id, "command", logged.by, do)))
    return Raw(_encode(_Told(logged.id, "command", logged.by, do, verdict.changes, verdict.code, verdict.out)))


class _Withheld(Struct, tag_field="type", tag="refused"):
    """As `keep` writes it (storage/sql/lms_classes.sql)."""

    id: str


_withheld = msgspec.json.Decoder(_Withheld)


def withheld(id: str) -> Raw:
    """What stands in the place of a message that was refused at its offset."""
    return Raw(_encode(_Withheld(id)))


def is_withheld(data: bytes) -> bool:
    """Whether the log has forgotten what the message said."""
    if b'"type":"refused"' not in data:
        return False
    try:
        _withheld.decode(data)
    except msgspec.DecodeError:
        return False
    return True
