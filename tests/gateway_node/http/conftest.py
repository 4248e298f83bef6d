"""The HTTP application on a real socket, over services whose behaviour a test chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gateway_node.authoriser import ChannelAuthoriser
from gateway_node.http.app import create_app
from gateway_node.http.services import Services
from gateway_node.limits import Buckets, Limits
from gateway_node.retries import Digests
from gateway_node.server import HTTPServer, listening_socket
from gateway_node.tokens import TokenVerifier
from realtime import codes
from realtime.endpoint import WebSocketEndpoint
from realtime.interfaces import PresenceStats
from realtime.namespaces import Namespaces
from realtime.protocol import ClientInfo, HistoryResult, Publication, StreamPosition
from realtime.websocket import WebSocketConnection
from realtime.wheel import TimingWheel
from storage.standing import Entrance

API_KEY = "the key of the server API"
SECRET = "a secret of more than thirty-two bytes"


@dataclass
class RecordingMessaging:
    """The service behind the server API, reduced to what its callers can see: calls in, results out."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failure: Exception | None = None
    past: list[Publication] = field(default_factory=list)
    present: dict[str, ClientInfo] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    on_publish: Callable[[str], Any] | None = None

    def _record(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure

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
    ) -> StreamPosition:
        if channel.startswith("unknown:"):
            raise codes.UNKNOWN_CHANNEL()
        if channel.startswith("broken:"):
            raise RuntimeError("a fault")
        self._record("publish", channel, data, id, tags, skip_history)
        if self.on_publish is not None:
            await self.on_publish(channel)
        return StreamPosition(len(self.calls), "epoch")

    async def presence(self, channel: str) -> dict[str, ClientInfo]:
        self._record("presence", channel)
        return self.present

    async def presence_stats(self, channel: str) -> PresenceStats:
        self._record("presence_stats", channel)
        return PresenceStats(3, 2)

    async def history(self, channel: str, limit: int, since: StreamPosition | None, reverse: bool) -> HistoryResult:
        self._record("history", channel, limit, since, reverse)
        return HistoryResult(self.past or None, "epoch", 7)

    async def history_remove(self, channel: str) -> None:
        self._record("history_remove", channel)

    async def subscribe(self, user: str, channel: str, client: str = "") -> None:
        self._record("subscribe", user, channel, client)

    async def unsubscribe(self, user: str, channel: str, client: str = "") -> None:
        self._record("unsubscribe", user, channel, client)

    async def disconnect(self, user: str, client: str = "", code: int = 3503, reason: str = "force disconnect") -> None:
        self._record("disconnect", user, client, code, reason)

    async def info(self) -> list[dict[str, Any]]:
        self._record("info")
        return self.nodes

    async def channels(self, pattern: str = "") -> dict[str, int]:
        self._record("channels", pattern)
        return {"chat:x": 4}


class NoStores:
    async def entrance(self, user: str, session: str, rooms: int = 0) -> Entrance:
        return Entrance(user != "disabled")

    async def memberships(self, user: str, room_ids: Sequence[object]) -> list[None]:
        return [None] * len(room_ids)


def make_services(**changes: Any) -> Services:
    async def healthy() -> None:
        return None

    given: dict[str, Any] = {
        "messaging": RecordingMessaging(),
        "chat": None,
        "lms": None,
        "classes": None,
        "links": None,
        "accounts": None,
        "keys": None,
        "post": None,
        "authoriser": ChannelAuthoriser(Namespaces(), TokenVerifier(SECRET), NoStores()),
        "limits": Limits(Buckets(None)),
        "digests": Digests(None),
        "api_key": API_KEY,
        "checks": dict.fromkeys(("postgres", "redis", "nats", "log_writer"), healthy),
        "metrics": lambda: b"chalkwire_up 1\n",
        "draining": lambda: False,
    }
    return Services(**(given | changes))


@asynccontextmanager
async def serving(services: Services, trusted_proxies: Sequence[str] = ()) -> AsyncIterator[str]:
    """The address of the application, on a socket of this machine."""
    server = HTTPServer(
        create_app(services), WebSocketEndpoint(TimingWheel()), WebSocketConnection, trusted_proxies=trusted_proxies
    )
    listener = listening_socket("127.0.0.1", 0)
    await server.start([listener])
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await server.drain(5)


@asynccontextmanager
async def client_of(services: Services, trusted_proxies: Sequence[str] = ()) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(services, trusted_proxies) as address,
        httpx.AsyncClient(base_url=address, timeout=10) as client,
    ):
        yield client


@pytest.fixture
def messaging() -> RecordingMessaging:
    return RecordingMessaging()


@pytest.fixture
async def address(messaging: RecordingMessaging) -> AsyncIterator[str]:
    async with serving(make_services(messaging=messaging)) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=10) as client:
        yield client
