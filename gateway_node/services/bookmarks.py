"""Where the next page of a list begins, as text that clients hand back as it is."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TypeVar

import msgspec

from realtime import codes

K = TypeVar("K")


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
