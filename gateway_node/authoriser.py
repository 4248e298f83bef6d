"""Who may connect, and who may do what in which channel.

The rules are Centrifugo's (https://centrifugal.dev/docs/server/channels), and one more: in `room:`
channels membership decides, and in `user:` channels the user's id, whatever a token says. So a removed member is out
even with a subscription token that is still valid.

When a store that a decision needs does not answer, the decision is a temporary error: never yes.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeVar

import structlog
from msgspec.structs import replace

from gateway_node.issuers import Issuers
from gateway_node.tokens import TokenVerifier
from realtime import codes
from realtime.interfaces import Admission, Grant, Identity
from realtime.namespaces import BUILT_IN, ChannelOptions, Namespaces
from storage.standing import Entrance, Membership

PRIVATE_PREFIX = "$"
USER_BOUNDARY = "#"
USER_SEPARATOR = ","

A = TypeVar("A")

_log = structlog.get_logger(__name__)


class Standing(Protocol):
    """`storage.standing.StandingStore`."""

    async def entrance(self, user: str, session: str, rooms: int = 0) -> Entrance: ...

    async def memberships(self, user: str, room_ids: Sequence[uuid.UUID]) -> Sequence[Membership | None]: ...

    async def may_read_threads(self, user: str, threads: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> Sequence[bool]: ...


class Classes(Protocol):
    """`gateway_node.services.classes.registry.LiveClasses`."""

    async def enter(self, user: str, ids: list[uuid.UUID]) -> list[Grant | codes.CommandError]: ...


class NoClasses:
    """For servers without classes."""

    async def enter(self, user: str, ids: list[uuid.UUID]) -> list[Grant | codes.CommandError]:
        return [codes.PERMISSION_DENIED() for _ in ids]


class ChannelAuthoriser:
    """`realtime.interfaces.Authoriser` over tokens, channel rules and the stores."""

    def __init__(
        self,
        namespaces: Namespaces,
        tokens: TokenVerifier,
        standing: Standing,
        classes: Classes | None = None,
        *,
        issuers: Issuers | None = None,
        allow_anonymous: bool = False,
    ) -> None:
        self._namespaces = namespaces
        self._tokens = tokens
        self._standing = standing
        self._issuers = issuers
        self._classes = classes or NoClasses()
        self._allow_anonymous = allow_anonymous

    async def connect(self, token: str) -> Identity:
        """Raises: `CommandError` 100, 102 or 109; `DisconnectError` 3500, 3501 (no token) or 3507."""
        return (await self.admit(token, 0)).identity

    async def admit(self, token: str, most_rooms: int) -> Admission:
        """Raises as `connect`."""
        if not token:
            if not self._allow_anonymous:
                raise codes.DisconnectError(codes.MALFORMED)
            return Admission(Identity(user=""))
        issuer = self._issuers.of(token) if self._issuers is not None else None
        identity = await issuer.identity(token) if issuer is not None else self._tokens.connection(token)
        if not identity.user and not self._allow_anonymous:
            raise codes.DisconnectError(codes.FORBIDDEN)
        channels = tuple(channel for channel in identity.channels if self._may_be_given(identity, channel))
        if channels != identity.channels:
            identity = replace(identity, channels=channels)
        if not identity.user:
            return Admission(identity)
        entrance = await _answer(self._standing.entrance(identity.user, identity.session, most_rooms))
        if not entrance.allowed:
            raise codes.DisconnectError(codes.FORBIDDEN)
        return Admission(identity, [f"room:{room_id}" for room_id in entrance.rooms], entrance.heard)

    async def subscribe(self, identity: Identity, channel: str, token: str) -> Grant:
        """Raises: `CommandError` 100, 102, 103, 107 or 109; `DisconnectError` 3500."""
        answer = (await self.subscribe_all(identity, [(channel, token)]))[0]
        if isinstance(answer, codes.CommandError):
            raise answer
        return answer

    async def subscribe_all(
        self, identity: Identity, asked: Sequence[tuple[str, str]]
    ) -> Sequence[Grant | codes.CommandError]:
        """Raises: `CommandError` 100 when the store fails; `DisconnectError` 3500."""
        answers: list[Grant | codes.CommandError] = []
        rooms: dict[int, uuid.UUID] = {}
        threads: dict[int, tuple[uuid.UUID, uuid.UUID]] = {}
        classes: dict[int, uuid.UUID] = {}
        for i, (channel, token) in enumerate(asked):
            try:
                answers.append(self._grant(identity, channel, token))
            except codes.CommandError as error:
                answers.append(error)
            else:
                prefix, _, rest = channel.partition(":")
                if prefix == "room":
                    rooms[i] = uuid.UUID(rest)
                elif prefix == "thread":
                    course, _, thread = rest.partition(":")
                    threads[i] = uuid.UUID(course), uuid.UUID(thread)
                elif prefix == "class":
                    classes[i] = uuid.UUID(rest)
        if classes:
            found = await _answer(self._classes.enter(identity.user, list(classes.values())))
            for i, answer in zip(classes, found, strict=True):
                answers[i] = answer
        if threads:
            may = await _answer(self._standing.may_read_threads(identity.user, list(threads.values())))
            for i, allowed in zip(threads, may, strict=True):
                if not allowed:
                    answers[i] = codes.PERMISSION_DENIED()
        if not rooms:
            return answers
        memberships = await _answer(self._standing.memberships(identity.user, list(rooms.values())))
        for i, membership in zip(rooms, memberships, strict=True):
            grant = answers[i]
            assert isinstance(grant, Grant)
            if membership is None:
                answers[i] = codes.PERMISSION_DENIED()
            else:
                answers[i] = Grant(grant.info, grant.expires_at, membership.pair, membership.since)
        return answers

    def _grant(self, identity: Identity, channel: str, token: str) -> Grant:
        """All that can be said without the store; of rooms, whether the user may be asked about.

        Raises: `CommandError` 102, 103, 107 or 109; `DisconnectError` 3500.
        """
        options = self._options(channel)
        grant = self._tokens.subscription(token, identity, channel) if token else None
        prefix, _, rest = channel.partition(":")
        if not _is_built_in(channel):
            allowed = grant is not None or _may_subscribe(options, identity.user, channel)
        elif prefix in {"room", "thread", "class"}:
            allowed = bool(identity.user)
        else:
            allowed = prefix == "user" and rest == identity.user != ""
        if not allowed:
            raise codes.PERMISSION_DENIED
        return grant or Grant()

    async def may_publish(self, identity: Identity, channel: str, subscribed: bool) -> bool:
        options = self._options(channel)
        if not identity.user and not options.allow_publish_for_anonymous:
            return False
        return options.allow_publish_for_client or (subscribed and options.allow_publish_for_subscriber)

    async def may_see_presence(self, identity: Identity, channel: str, subscribed: bool) -> bool:
        options = self._options(channel)
        if not identity.user and not options.allow_presence_for_anonymous:
            return False
        return options.allow_presence_for_client or (subscribed and options.allow_presence_for_subscriber)

    async def may_read_history(self, identity: Identity, channel: str, subscribed: bool) -> bool:
        options = self._options(channel)
        if not identity.user and not options.allow_history_for_anonymous:
            return False
        return options.allow_history_for_client or (subscribed and options.allow_history_for_subscriber)

    def _options(self, channel: str) -> ChannelOptions:
        """Raises: `CommandError` 102 or 107."""
        return self._namespaces.require(channel)

    def _may_be_given(self, identity: Identity, channel: str) -> bool:
        """Whether the server may subscribe a connection to a channel that its token lists. Of rooms, membership decides
        when it does.

        Raises: `CommandError` 102 or 107 for a channel that cannot be.
        """
        self._options(channel)
        prefix, _, rest = channel.partition(":")
        return not _is_built_in(channel) or prefix == "room" or (prefix == "user" and rest == identity.user != "")


def _is_built_in(channel: str) -> bool:
    prefix, colon, _ = channel.partition(":")
    return bool(colon) and prefix in BUILT_IN


def _may_subscribe(options: ChannelOptions, user: str, channel: str) -> bool:
    """Without a token. A user-limited channel is for the listed users alone, whatever else is allowed."""
    if channel.startswith(PRIVATE_PREFIX):
        return False
    if options.allow_user_limited_channels and USER_BOUNDARY in channel:
        return bool(user) and user in channel.rpartition(USER_BOUNDARY)[2].split(USER_SEPARATOR)
    return options.allow_subscribe_for_client and (bool(user) or options.allow_subscribe_for_anonymous)


async def _answer(question: Awaitable[A]) -> A:
    """Raises: `CommandError` 100 when the store fails. It answers within a time of its own."""
    try:
        return await question
    except Exception as error:
        _log.warning("authorisation store did not answer", error=type(error).__name__)
        raise codes.INTERNAL from error
