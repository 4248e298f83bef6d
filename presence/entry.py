"""The value of one connection in a channel's hash: `[user, since, conn_info, chan_info]` as JSON, `null` for none."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from realtime.protocol import NO_DATA, ClientInfo

_NULL = Raw(b"null")


class _Entry(Struct, array_like=True):
    user: str
    since: int  # Unix seconds
    conn_info: Raw = _NULL
    chan_info: Raw = _NULL


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Entry)


def encode(info: ClientInfo, since: int) -> bytes:
    if not info.conn_info and not info.chan_info:
        return _encoder.encode((info.user, since))
    return _encoder.encode((info.user, since, info.conn_info or None, info.chan_info or None))


def decode(client: bytes, value: bytes) -> ClientInfo | None:
    """`None` for what is not ours: whoever shares the Redis must not break the list."""
    try:
        entry = _decoder.decode(value)
        return ClientInfo(entry.user, client.decode(), _info(entry.conn_info), _info(entry.chan_info))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _info(raw: Raw) -> Raw:
    return NO_DATA if raw == _NULL else raw
