"""Who may connect, and who may do what in which channel.

The rules are Centrifugo's (https://centrifugal.dev/docs/server/channels), and one more: in `room:`
channels membership decides, and in `user:` channels the user's id, whatever a token says. So a removed member is out
even with a subscription token that is still valid.

When a store that a decision needs does not answer, the decision is a temporary error: never yes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import Protocol

import structlog

from gateway_node.tokens import TokenVerifier
from realtime import codes
from realtime.interfaces import Grant, Identity
from realtime.namespaces import BUILT_IN, ChannelOptions, Namespaces

PRIVATE_PREFIX = "$"
USER_BOUNDARY = "#"
USER_SEPARATOR = ","
STORE_TIMEOUT = 5.0  # seconds for one look-up

_log = structlog.get_logger(__name__)


class Membership(Protocol):
    async def is_member(self, room_id: uuid.UUID, user: str) -> bool: ...


class Standing(Protocol):
    async def may_connect(self, user: str, session: str) -> bool:
        """False for a disabled user and for a session that was revoked or is unknown.

        `session` is empty for tokens that were not made by a login; `user` need not be one of ours.
        """
        ...


class ChannelAuthoriser:
    """`realtime.interfaces.Authoriser` over tokens, channel rules and the stores."""

    def __init__(
        self,
        namespaces: Namespaces,
        tokens: TokenVerifier,
        membership: Membership,
        standing: Standing,
        *,
        allow_anonymous: bool = False,
    ) -> None:
        self._namespaces = namespaces
        self._tokens = tokens
        self._membership = membership
        self._standing = standing
        self._allow_anonymous = allow_anonymous

    async def connect(self, token: str) -> Identity:
        """Raises: `CommandError` 100, 102 or 109; `DisconnectError` 3500, 3501 (no token) or 3507."""
        if not token:
            if not self._allow_anonymous:
                raise codes.DisconnectError(codes.MALFORMED)
            return Identity(user="")
        identity = self._tokens.connection(token)
        if not identity.user and not self._allow_anonymous:
            raise codes.DisconnectError(codes.FORBIDDEN)
        if identity.user and not await _answer(self._standing.may_connect(identity.user, identity.session)):
            raise codes.DisconnectError(codes.FORBIDDEN)
        channels = [channel for channel in identity.channels if await self._may_be_given(identity, channel)]
        return Identity(
            user=identity.user,
            info=identity.info,
            expires_at=identity.expires_at,
            channels=tuple(channels),
            session=identity.session,
            role=identity.role,
        )

    async def subscribe(self, identity: Identity, channel: str, token: str) -> Grant:
        """Raises: `CommandError` 100, 102, 103, 107 or 109; `DisconnectError` 3500."""
        options = self._options(channel)
        grant = self._tokens.subscription(token, identity, channel) if token else None
        if _is_built_in(channel):
            if not await self._belongs(identity, channel):
                raise codes.PERMISSION_DENIED
            return grant or Grant()
        if grant is not None:
            return grant
        if not _may_subscribe(options, identity.user, channel):
            raise codes.PERMISSION_DENIED
        return Grant()

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

    async def _may_be_given(self, identity: Identity, channel: str) -> bool:
        """Whether the server subscribes a connection to a channel that its token lists.

        Raises: `CommandError` 102 or 107 for a channel that cannot be.
        """
        self._options(channel)
        return not _is_built_in(channel) or await self._belongs(identity, channel)

    async def _belongs(self, identity: Identity, channel: str) -> bool:
        prefix, _, rest = channel.partition(":")
        if not identity.user:
            return False
        if prefix == "user":
            return rest == identity.user
        if prefix == "class":
            # A class is no room: a room's members have no rights in it, least of all when they are removed, of which
            # only the room's own log tells.
            return False
        return await _answer(self._membership.is_member(uuid.UUID(rest), identity.user))


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


async def _answer(question: Awaitable[bool]) -> bool:
    """Raises: `CommandError` 100 when the store fails or takes longer than `STORE_TIMEOUT`."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT):
            return await question
    except Exception as error:
        _log.warning("authorisation store did not answer", error=type(error).__name__)
        raise codes.INTERNAL from error
