"""Channel rules: what a channel of a given name keeps, shows and allows.

A channel is `prefix:rest`. `room:`, `class:` and `user:` are built in; any other prefix is a namespace of the
configuration; a name without a prefix falls under `without_namespace`. Option names are Centrifugo's
(https://centrifugal.dev/docs/server/channels), so that an application moves over by configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from realtime import codes

MAX_CHANNEL_LENGTH = 255  # bytes, as Centrifugo's default


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What holds for every channel of a namespace. Centrifugo's names and defaults."""

    presence: bool = False
    join_leave: bool = False
    force_push_join_leave: bool = False
    history_size: int = 0  # publications kept; 0: no history
    history_ttl: int = 0  # seconds; 0: for ever
    force_recovery: bool = False
    force_positioning: bool = False
    allow_recovery: bool = True
    allow_positioning: bool = True
    allow_subscribe_for_client: bool = False
    allow_subscribe_for_anonymous: bool = False
    allow_publish_for_client: bool = False
    allow_publish_for_subscriber: bool = False
    allow_publish_for_anonymous: bool = False
    allow_presence_for_client: bool = False
    allow_presence_for_subscriber: bool = False
    allow_presence_for_anonymous: bool = False
    allow_history_for_client: bool = False
    allow_history_for_subscriber: bool = False
    allow_history_for_anonymous: bool = False
    allow_user_limited_channels: bool = False
    followed: bool = False  # what is published is accepted by a fold of the log (built-in channels only)
    messages: bool = False  # data are chat messages, see realtime/messages.py (built-in channels only)
    join_leave_limit: int = 0  # local subscribers above which join and leave are not pushed; 0: no limit

    @property
    def durable(self) -> bool:
        """Whether publications go through the log and carry offsets."""
        return self.history_size > 0


UNLIMITED = 2**31 - 1  # history_size of the built-in channels: the log is their record

_CONVERSATION = ChannelOptions(
    messages=True,
    presence=True,
    join_leave=True,
    join_leave_limit=200,
    history_size=UNLIMITED,
    force_recovery=True,
    force_positioning=True,
    allow_publish_for_subscriber=True,
    allow_presence_for_subscriber=True,
    allow_history_for_subscriber=True,
)

BUILT_IN: Mapping[str, ChannelOptions] = {
    "room": _CONVERSATION,
    "class": replace(_CONVERSATION, followed=True),
    # A forum's, `thread:<course>:<thread>`: who takes part in the course reads it, and writes through the forum.
    "thread": ChannelOptions(
        history_size=UNLIMITED,
        force_recovery=True,
        force_positioning=True,
        allow_history_for_subscriber=True,
    ),
    "user": ChannelOptions(
        history_size=1000,
        history_ttl=30 * 86400,
        force_recovery=True,
        force_positioning=True,
        allow_history_for_subscriber=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The rules of every channel."""

    configured: Mapping[str, ChannelOptions] = field(default_factory=dict)
    without_namespace: ChannelOptions = ChannelOptions()

    def require(self, channel: str) -> ChannelOptions:
        """The rules of a channel that somebody names.

        Raises error 107 for what is no channel name, 102 for one that nothing describes.
        """
        if not channel or len(channel.encode(errors="replace")) > MAX_CHANNEL_LENGTH:
            raise codes.BAD_REQUEST.saying(f"a channel name has 1 to {MAX_CHANNEL_LENGTH} bytes")
        prefix, _, rest = channel.partition(":")
        if not (channel.isascii() or prefix == "user") or not channel.isprintable():
            raise codes.BAD_REQUEST.saying("a channel name is printable ASCII")
        options = self.options(channel)
        if options is None or not _is_well_formed(prefix, rest, options):
            raise codes.UNKNOWN_CHANNEL
        return options

    def options(self, channel: str) -> ChannelOptions | None:
        """The rules of a channel; `None` where there are none."""
        prefix, colon, rest = channel.partition(":")
        if not colon:
            return self.without_namespace
        if not rest:
            return None
        # `$` marks a channel that needs a subscription token; it is no part of the namespace's name.
        return BUILT_IN.get(prefix) or self.configured.get(prefix.removeprefix("$"))


def _is_well_formed(prefix: str, rest: str, options: ChannelOptions) -> bool:
    """Whether a channel can be one of its prefix: those of things that have an id are named by it, in one spelling."""
    if prefix == "thread":
        course, _, thread = rest.partition(":")
        return _is_canonical_uuid(course) and _is_canonical_uuid(thread)
    return not options.messages or _is_canonical_uuid(rest)


def _is_canonical_uuid(text: str) -> bool:
    """So that a room has one channel only."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
