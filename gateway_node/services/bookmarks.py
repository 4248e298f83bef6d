"""Where the next page of a list begins, as text that clients hand back as it is."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from realtime import codes

K = TypeVar("K")
Microseconds = Annotated[int, Meta(ge=0, le=1 << 53)]

_EPOCH = datetime.fromtimestamp(0, UTC)


def bookmark(*place: object) -> str:
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(text: str | None, kind: type[K], parameter: str) -> K | None:
    """The place of a bookmark that `parameter` brought. Raises error 107 for what is none of `kind`."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
    except (ValueError, msgspec.DecodeError):
        raise codes.BAD_REQUEST.at(f"/{parameter}", "that is no `next` of this list") from None


def bookmark_at(moment: datetime, id: UUID) -> str:
    """Of a list in the order of time."""
    return bookmark((moment - _EPOCH) // timedelta(microseconds=1), id)


def moment_of(after: str | None) -> tuple[datetime, UUID] | None:
    """What `bookmark_at` was given. Raises error 107."""
    place = place_of(after, tuple[Microseconds, UUID], "after")
    return (_EPOCH + timedelta(microseconds=place[0]), place[1]) if place else None
