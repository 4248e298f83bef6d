"""A stored message as the core's `Publication`."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Raw

from realtime.protocol import ClientInfo, Publication

_info = msgspec.json.Decoder(ClientInfo)
_tags = msgspec.json.Decoder(dict[str, str])


def publication(data: bytes, info: bytes | None, tags: bytes | None, offset: int, time: int) -> Publication:
    """`time` is the commit time in Unix milliseconds; `info` and `tags` are JSON, as the `Entry` brought them."""
    return Publication(
        data=Raw(data),
        info=_info.decode(info) if info else None,
        offset=offset,
        tags=_tags.decode(tags) if tags else None,
        time=time,
    )


def milliseconds(moment: datetime) -> int:
    """Unix time, as the wire has it."""
    return round(moment.timestamp() * 1000)
