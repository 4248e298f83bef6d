"""People who use the Python SDK: a client each, and what it was told, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from centrifuge import (
    Client,
    ClientEventHandler,
    ConnectedContext,
    ConnectingContext,
    DisconnectedContext,
    JoinContext,
    LeaveContext,
    Publication,
    PublicationContext,
    ServerPublicationContext,
    ServerSubscribedContext,
    SubscribedContext,
    Subscription,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

PATIENCE = 15.0  # seconds until a test gives up waiting for something that must come


class Told(asyncio.Queue[Any]):
    """What a handler was told, in order."""

    async def next(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self.get()

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]


class ConnectionEvents(ClientEventHandler):
    def __init__(self) -> None:
        self.connecting = Told()
        self.connected = Told()
        self.disconnected = Told()
        self.server_subscribed = Told()
        self.server_publications = Told()

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        self.connecting.put_nowait(ctx)

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self.connected.put_nowait(ctx)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self.disconnected.put_nowait(ctx)

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        self.server_subscribed.put_nowait(ctx)

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        self.server_publications.put_nowait(ctx)


class ChannelEvents(SubscriptionEventHandler):
    def __init__(self) -> None:
        self.subscribed = Told()
        self.unsubscribed = Told()
        self.publications = Told()
        self.joins = Told()
        self.leaves = Told()

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self.subscribed.put_nowait(ctx)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self.unsubscribed.put_nowait(ctx)

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.publications.put_nowait(ctx.pub)

    async def on_join(self, ctx: JoinContext) -> None:
        self.joins.put_nowait(ctx.info)

    async def on_leave(self, ctx: LeaveContext) -> None:
        self.leaves.put_nowait(ctx.info)

    async def next_publication(self) -> Publication:
        publication = await self.publications.next()
        assert isinstance(publication, Publication)
        return publication


class Person:
    """A client of the Python SDK, and its events."""

    def __init__(self, address: str, token: str = "", get_token: Callable[[], Awaitable[str]] | None = None) -> None:
        self.events = ConnectionEvents()
        self.client = Client(
            address, events=self.events, token=token, get_token=get_token, proxy=None, max_reconnect_delay=0.5
        )

    async def subscribe(self, channel: str, **options: Any) -> tuple[Subscription, ChannelEvents]:
        events = ChannelEvents()
        subscription = self.client.new_subscription(channel, events=events, **options)
        await subscription.subscribe()
        await subscription.ready(PATIENCE)
        return subscription, events


@asynccontextmanager
async def stranger(
    address: str, token: str = "", get_token: Callable[[], Awaitable[str]] | None = None
) -> AsyncIterator[Person]:
    """Somebody who tries to connect, and may be refused."""
    someone = Person(address, token, get_token)
    try:
        await someone.client.connect()
        yield someone
    finally:
        await someone.client.disconnect()


@asynccontextmanager
async def person(
    address: str, token: str = "", get_token: Callable[[], Awaitable[str]] | None = None
) -> AsyncIterator[Person]:
    """Somebody who is connected."""
    async with stranger(address, token, get_token) as someone:
        await someone.client.ready(PATIENCE)
        yield someone
