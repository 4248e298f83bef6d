"""What people say of themselves: what may be in it."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct, UnsetType
from msgspec.structs import replace

from gateway_node.services.text import line, storable
from realtime import codes
from storage.people import ProfileChange

MAX_NAME = 100  # characters
MAX_BIO = 2000  # characters

# RFC 5646, section 2.1, without what nobody uses: a language, and what says more of it.
_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")


class Public(Struct, omit_defaults=True):
    """What everybody with an account may know of somebody. `avatar` is the address of a small picture."""

    id: str
    name: str
    bio: str = ""
    avatar: str = ""


def checked(change: ProfileChange) -> ProfileChange:
    """The same as it is kept. Raises error 107 at the field that cannot be."""
    return replace(
        change,
        name=change.name if isinstance(change.name, UnsetType) else line(change.name, "/name", MAX_NAME, what="a name"),
        bio=change.bio if isinstance(change.bio, UnsetType) else storable(change.bio, "/bio", MAX_BIO),
        locale=change.locale if isinstance(change.locale, UnsetType) else _locale(change.locale),
        time_zone=change.time_zone if isinstance(change.time_zone, UnsetType) else _time_zone(change.time_zone),
    )


def _locale(text: str) -> str:
    if text and (len(text) > 35 or not _LOCALE.fullmatch(text)):
        raise codes.BAD_REQUEST.at("/locale", "a language tag such as de or pt-BR is wanted, or an empty text")
    return text


def _time_zone(text: str) -> str:
    if text and (len(text) > 64 or not _ZONE.fullmatch(text) or not _is_zone(text)):
        raise codes.BAD_REQUEST.at("/time_zone", "a time zone such as Europe/Paris is wanted, or an empty text")
    return text


def _is_zone(name: str) -> bool:
    """Whether there is one of this name; on a machine that knows none, any may be."""
    for known in (name, "Europe/Paris"):
        try:
            ZoneInfo(known)
        except (ZoneInfoNotFoundError, OSError, ValueError):
            continue
        return known == name
    return True
