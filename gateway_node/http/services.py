"""What the HTTP application is given: the services that its handlers call, and the settings that concern it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from litestar import Request

from gateway_node.chat import Chat
from gateway_node.classes import Classes
from gateway_node.limits import Limits
from gateway_node.links import ShortLinks
from gateway_node.lms import LMS
from gateway_node.post import Post
from gateway_node.retries import Digests
from gateway_node.services.accounts import Accounts
from gateway_node.services.keys import Keys
from realtime.interfaces import Authoriser, PresenceStats
from realtime.protocol import ClientInfo, HistoryResult, StreamPosition

if TYPE_CHECKING:
    from config.sections import Settings

ANSWER_TTL = 0.5  # s

Check = Callable[[], Awaitable[None]]
"""Asks a dependency for a sign of life; raises when there is none."""


class Messaging(Protocol):
    """The service behind the server API. Every method raises `realtime.codes.CommandError` to refuse."""

    async def publish(
        self,
        channel: str,
        data: bytes,
        *,
        id: bytes | None = None,
        sender: str = "",
        info: ClientInfo | None = None,
        tags: dict[str, str] | None = None,
        skip_history: bool = False,
    ) -> StreamPosition: ...

    async def presence(self, channel: str) -> dict[str, ClientInfo]: ...

    async def presence_stats(self, channel: str) -> PresenceStats: ...

    async def history(self, channel: str, limit: int, since: StreamPosition | None, reverse: bool) -> HistoryResult: ...

    async def history_remove(self, channel: str) -> None: ...

    async def subscribe(self, user: str, channel: str, client: str = "") -> None: ...

    async def unsubscribe(self, user: str, channel: str, client: str = "") -> None: ...

    async def disconnect(
        self, user: str, client: str = "", code: int = 3503, reason: str = "force disconnect"
    ) -> None: ...

    async def info(self) -> list[dict[str, Any]]: ...

    async def channels(self, pattern: str = "") -> dict[str, int]: ...


class Answers:
    """What the dependencies said last: anybody may ask for readiness, and asking must not become a load of its own."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[dict[str, str]] | None = None

    async def ask(self, ask: Callable[[], Coroutine[Any, Any, dict[str, str]]]) -> dict[str, str]:
        """The trouble of each dependency (empty: none); asked once for everybody who asks within `ANSWER_TTL`."""
        now = time.monotonic()
        if self._asking is None or (self._asking.done() and now - self._asked_at > ANSWER_TTL):
            self._asked_at = now
            self._asking = asyncio.create_task(ask())
        return await asyncio.shield(self._asking)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the routes are made of. All else is asked of the services, request by request."""

    api: bool = True  # whether this process has that role; health and metrics are everywhere
    max_body: int = 1024 * 1024  # bytes
    allowed_origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Shape:
        return cls("api" in settings.roles, int(settings.http.max_body), tuple(settings.client.allowed_origins))


@dataclass(frozen=True, slots=True)
class Services:
    """Made by the node, once.

    `checks` are asked by `/health/ready`; of those in `needed` one that fails makes the node not ready, of the others
    degraded. `metrics` renders what Prometheus reads; it may block and is called in a thread.
    """

    messaging: Messaging
    chat: Chat
    lms: LMS
    classes: Classes
    links: ShortLinks
    accounts: Accounts
    keys: Keys
    post: Post
    authoriser: Authoriser
    limits: Limits
    digests: Digests
    api_key: str
    checks: Mapping[str, Check]
    metrics: Callable[[], bytes]
    draining: Callable[[], bool]
    needed: frozenset[str] = frozenset({"postgres", "log_writer"})
    shape: Shape = Shape()
    answers: Answers = field(default_factory=Answers)


def services_of(request: Request[Any, Any, Any]) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services
