"""One gateway node: its parts made, wired, started in order and drained in the opposite one."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog
from redis.asyncio import Redis

from gateway_node import garbage, metrics
from gateway_node.authoriser import ChannelAuthoriser
from gateway_node.broker import BrokerMisconfigured, NatsBroker
from gateway_node.chat import make_chat
from gateway_node.classes import make_classes
from gateway_node.context import NodeContext
from gateway_node.http.app import create_app
from gateway_node.http.redirects import Shortcut, redirect_to
from gateway_node.http.services import Services, Shape
from gateway_node.issuers import Issuers
from gateway_node.limits import Buckets, Limits
from gateway_node.links import make_links
from gateway_node.lms import make_lms
from gateway_node.passwords import Passwords
from gateway_node.post import Post
from gateway_node.processes import StartError
from gateway_node.retries import Digests
from gateway_node.server import HTTPServer
from gateway_node.services.accounts import Accounts
from gateway_node.services.keys import Keys
from gateway_node.services.messaging import Messaging, describe
from gateway_node.services.references import RoomReferences
from gateway_node.services.shifts import Shifts
from gateway_node.tokens import TokenVerifier
from presence import Away, Pipe, RedisPresence, Turns
from realtime import codec, codes, membership
from realtime.client import ClientConnection
from realtime.core import ClientLimits, Core
from realtime.endpoint import WebSocketEndpoint
from realtime.hub import Hub
from realtime.interfaces import LogUnavailable, PresenceUnavailable
from realtime.namespaces import ChannelOptions, Namespaces
from realtime.protocol import ClientInfo, StreamPosition
from realtime.publisher import Publisher
from realtime.wheel import TimingWheel, WheelDriver
from storage.blobs import BlobsMisconfigured
from storage.database import Database, DatabaseUnavailable
from storage.deliveries import DeliveryStore
from storage.identities import IdentityStore
from storage.keys import KeyStore
from storage.log import PostgresLog
from storage.messages import MessageStore
from storage.sessions import SessionStore
from storage.standing import StandingStore
from storage.users import UserStore

if TYPE_CHECKING:
    from config.sections import Client as ClientSettings
    from config.sections import Settings

WEBSOCKET_PATH = "/connection/websocket"
SWEEP_PERIOD = 3600.0  # s between two sweeps of old logins, give or take half
SWEEP_KEEP = 86400.0  # s that a login is kept after its end, for whoever looks into what happened
DRAIN_RATE = 500  # connections/s that a draining node sends away at least: about what the others accept at ease

logger = logging.getLogger("chalkwire.node")
_log = structlog.get_logger("node")


async def run_node(context: NodeContext) -> None:
    """Serve until SIGTERM, then drain. One byte on `context.ready_fd` says that the node serves."""
    node = Node(context)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await node.start()
    os.write(context.ready_fd, b"1")
    await stop.wait()
    await node.drain()


def namespaces_of(settings: Settings) -> Namespaces:
    """The configured channel rules in the core's terms."""
    channel = settings.channel
    return Namespaces(
        {name: ChannelOptions(**options.model_dump()) for name, options in channel.namespaces.items()},
        ChannelOptions(**channel.without_namespace.model_dump()),
    )


def limits_of(client: ClientSettings) -> ClientLimits:
    return ClientLimits(
        ping_interval=_ticks(client.ping_interval),
        pong_timeout=_ticks(client.pong_timeout),
        connect_timeout=_ticks(client.connect_timeout),
        expired_grace=_ticks(client.expired_grace),
        outbox=int(client.outbox),
        message=int(client.max_message_size),
        channels=client.channel_limit,
        commands_per_second=client.commands_per_second,
        commands_burst=client.commands_burst,
        publishes_per_second=client.publishes_per_second,
        publishes_burst=client.publishes_burst,
        connections_per_user=client.connections_per_user,
        history=client.history_limit,
        recovery=client.recovery_limit,
    )


def drain_steps(connections: int, window: float) -> tuple[int, float]:
    """In how many steps a draining node sends its connections away, and the seconds after each."""
    seconds = min(window, connections / DRAIN_RATE)
    steps = max(1, math.ceil(seconds * 10))
    return steps, seconds / steps


def _ticks(seconds: float) -> int:
    return max(1, math.ceil(seconds))


class Node:
    """The parts of one node. Everything that has a beginning and an end is started and stopped here."""

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        settings = context.settings
        assert settings.database.url and settings.redis.url and settings.nats.url
        assert settings.token.hmac_secret and settings.api.key
        limits = limits_of(settings.client)
        self._metrics = metrics.NodeMetrics(context.name)
        self._wheel = TimingWheel(limits.ping_interval, limits.pong_timeout)
        self._driver = WheelDriver(self._wheel)
        self._endpoint = WebSocketEndpoint(
            self._wheel,
            paths=(WEBSOCKET_PATH,) if "gateway" in settings.roles else (),
            allowed_origins=settings.client.allowed_origins,
            max_message_size=int(settings.client.max_message_size),
            outbox_limit=limits.outbox,
            compression=settings.client.compression,
        )
        self._database = Database(
            settings.database.url,
            pool_size=settings.database.pool_size,
            statement_cache_size=settings.database.statement_cache_size,
            statement_timeout=settings.database.statement_timeout,
            connect_timeout=settings.database.connect_timeout,
        )
        self._message_log = PostgresLog(self._database, context.log_socket, self._heads)
        self._broker = NatsBroker(
            settings.nats.url,
            on_message=self._from_other_node,
            on_control=self._controlled,
            max_message_size=int(settings.client.max_message_size),
        )
        self._presence = RedisPresence(
            settings.redis.url,
            context.incarnation,
            roster=self,
            on_leave=self._died,
            on_offline=self._went_offline,
        )
        self._pipe = Pipe(settings.redis.url)
        self._turns = Turns(self._pipe)
        self._redis = Redis.from_url(settings.redis.url)
        self._hub = Hub(
            log=self._message_log,
            broker=self._broker,
            presence=self._presence,
            compress=settings.client.compression,
            after_slices=self._endpoint.check_congested,
        )
        messages = MessageStore(self._database)
        references = RoomReferences(messages, settings.files.orphan_ttl)
        self._publisher = Publisher(self._hub, self._message_log, self._broker, references)
        users, sessions = UserStore(self._database), SessionStore(self._database)
        self._sessions = sessions
        namespaces = namespaces_of(settings)
        self._classes = make_classes(
            settings,
            hub=self._hub,
            log=self._message_log,
            publisher=self._publisher,
            database=self._database,
            pipe=self._pipe,
            nodes=self._count_nodes,
        )
        self._tokens = TokenVerifier(
            settings.token.hmac_secret,
            settings.token.public_key or "",
            audience=settings.token.audience or "",
            issuer=settings.token.issuer or "",
            leeway=settings.token.leeway,
        )
        self._issuers = Issuers(
            settings.token.issuers,
            IdentityStore(self._database),
            leeway=settings.token.leeway,
            ended=self._session_ended,
        )
        self._passwords = Passwords()
        accounts = Accounts(users, sessions, self._passwords, settings.token, self._session_ended)
        self.core = Core(
            self._hub,
            self._message_log,
            self._presence,
            self._publisher,
            ChannelAuthoriser(
                namespaces,
                self._tokens,
                StandingStore(self._database),
                self._classes.live,
                issuers=self._issuers,
                allow_anonymous=settings.client.allow_anonymous,
            ),
            namespaces,
            limits,
            node=context.name,
            incarnation=context.incarnation,
            observe_publish=self._metrics.publish_seconds.observe,
        )
        self._messaging = Messaging(self.core, self._broker, lambda: describe(self.core, context.started_at))
        self._messaging.on_disconnected = self._classes.door.disconnected
        self._chat = make_chat(
            settings, database=self._database, messages=messages, pipe=self._pipe, publisher=self._publisher
        )
        nodes = self._messaging.count_nodes
        self._post = Post.of(
            settings,
            outbox=DeliveryStore(self._database),
            users=users,
            sessions=sessions,
            passwords=self._passwords,
            shifts=Shifts(nodes),
            ended=self._session_ended,
        )
        self._lms = make_lms(
            settings,
            database=self._database,
            redis=self._redis,
            pipe=self._pipe,
            turns=self._turns,
            publisher=self._publisher,
            messaging=self._messaging,
            post=self._post,
            door=self._classes.door,
            nodes=nodes,
        )
        limits_of_requests = Limits(Buckets(self._pipe), **settings.limits.model_dump())
        self._links = make_links(
            settings,
            database=self._database,
            pipe=self._pipe,
            passwords=self._passwords,
            limits=limits_of_requests,
            answer=redirect_to(settings.links.redirect_status),
            tell_nodes=self._messaging.links_changed,
            push=self._publisher.push,
            incarnation=context.incarnation,
            nodes=nodes,
        )
        self._messaging.on_links = self._links.redirects.cache.forget_here
        self.core.followed = self._classes.live
        self._publisher.on_message = self._chat.reading.wrote
        self._hub.on_tagged = lambda channel, publication: membership.act_on(
            self._hub, channel, publication, self._classes.live.left_course
        )
        self.core.crowds.take_turns = self._take_turns
        self.core.rpc = {**self._chat.methods(), **self._lms.methods(), **self._classes.methods()}
        self.core.writes = self._chat.writes | self._classes.writes
        self._snapshots = metrics.Snapshots(self._metrics, context.run_dir, collect=self._collect)
        app = create_app(
            Services(
                messaging=self._messaging,
                chat=self._chat,
                lms=self._lms,
                classes=self._classes,
                links=self._links,
                accounts=accounts,
                keys=Keys(KeyStore(self._database)),
                post=self._post,
                authoriser=self.core.authoriser,
                limits=limits_of_requests,
                digests=Digests(self._redis),
                api_key=settings.api.key,
                checks=self._checks(),
                metrics=lambda: metrics.render(context.run_dir),
                draining=lambda: self.core.draining,
                shape=Shape.of(settings),
            )
        )
        self._server = HTTPServer(
            Shortcut(app, self._links) if "api" in settings.roles else app,
            self._endpoint,
            lambda endpoint: ClientConnection(endpoint, self.core),
            trusted_proxies=settings.http.trusted_proxies,
        )
        self._tasks: list[asyncio.Task[None]] = []

    # --- starting and draining ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when the node serves. A store that is away does not hinder it: each heals by itself.

        Raises `StartError` where waiting does not help.
        """
        self._driver.start()
        try:
            await self._message_log.start()
            await self._broker.start()
        except (LogUnavailable, BrokerMisconfigured) as error:
            raise StartError(str(error)) from None
        await self._presence.start()
        await self._issuers.start()
        try:
            await self._chat.start()
            await self._lms.start()
            await self._classes.start()
            await self._post.start()
            await self._links.start()
        except BlobsMisconfigured as error:
            raise StartError(str(error)) from None
        self._metrics.collections.watch()
        self._tasks = [
            asyncio.create_task(each) for each in (self._snapshots.run(), self._announce(), self.core.crowds.run())
        ]
        if "worker" in self._context.settings.roles:
            self._tasks.append(asyncio.create_task(self._sweep_sessions()))
        await self._server.start(self._context.sockets)
        garbage.settle()
        _log.info("node.serving", port=self._context.port)

    async def drain(self) -> None:
        """Send everybody elsewhere, a few at a time, and let go of nothing that was promised."""
        settings = self._context.settings.drain
        loop = asyncio.get_running_loop()
        deadline = loop.time() + settings.cap
        self.core.draining = True
        self._server.stop_accepting()
        for task in self._tasks:  # a successor of the same name writes that snapshot now
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._send_away(settings.window)
        await self._server.drain(max(deadline - loop.time(), 1.0))
        await self._presence.stop()  # who goes with it was last seen now, which the chat writes down
        await self._post.stop()
        await self._issuers.stop()
        await self._links.stop()
        await self._classes.stop()
        await self._lms.stop()
        await self._chat.stop()
        await self._message_log.close()
        await self._hub.close()
        await self._broker.close()
        await self._redis.aclose()
        await self._pipe.close()
        await self._database.close()
        self._passwords.close()
        self._driver.stop()
        _log.info("node.drained")

    async def _send_away(self, window: float) -> None:
        """Disconnect with 3001, spread over at most `window` seconds: all at once would be a storm elsewhere."""
        connections = list(self._endpoint.connections)
        random.shuffle(connections)
        steps, pause = drain_steps(len(connections), window)
        for step in range(steps):
            for connection in connections[step::steps]:
                assert isinstance(connection, ClientConnection)
                connection.end(codes.SHUTDOWN)
            await asyncio.sleep(pause)

    # --- what others tell --------------------------------------------------------------------------------------

    def _from_other_node(self, channel: str, message: bytes) -> None:
        try:
            self._publisher.received(channel, message)
        except (codec.Malformed, codes.CommandError, msgspec.DecodeError) as error:
            logger.warning("another node sent what is no message: %s", error)

    def _heads(self, heads: Mapping[str, StreamPosition]) -> None:
        self._hub.on_heads(heads)

    def _controlled(self, message: bytes) -> None:
        try:
            self._messaging.received(message)
        except msgspec.DecodeError as error:
            logger.warning("another node sent what is no control message: %s", error)

    def _went_offline(self, user: str) -> None:
        self._chat.people.went_offline(user)

    def _died(self, channel: str, info: ClientInfo) -> None:
        """A connection of a dead node is out of a channel: told like any other leave."""
        if channel.startswith("class:"):
            self._classes.live.died(channel, info.user, info.client)
        present = self._hub.channels.get(channel)
        if present is not None and not present.announces:
            self._hub.on_crowd(channel)
        else:
            self._publisher.presence_changed(channel, info, joined=False)

    async def _take_turns(self, names: Sequence[str], seconds: float) -> Sequence[float | None]:
        try:
            return await self._turns.take(names, seconds)
        except Away as away:
            raise PresenceUnavailable(str(away)) from None

    def _count_nodes(self) -> int:
        return self._messaging.count_nodes()

    def _session_ended(self, user: str, session: str) -> None:
        self._messaging.end_session(user, session)

    async def _announce(self) -> None:
        while True:
            self._messaging.announce()
            await asyncio.sleep(self._messaging.announce_period)

    def present(self) -> Iterator[tuple[str, ClientInfo]]:
        """The roster, for a presence store that lost its data."""
        return self._hub.present()

    def online(self) -> Iterator[tuple[str, str]]:
        return self._hub.online()

    async def _sweep_sessions(self) -> None:
        """Background work: forget logins that have been over for a day. Several nodes doing it do no harm."""
        while True:
            await asyncio.sleep(SWEEP_PERIOD * random.uniform(0.5, 1.5))
            try:
                removed = await self._sessions.sweep(keep=SWEEP_KEEP)
            except DatabaseUnavailable:
                continue
            if removed:
                _log.info("sessions.swept", removed=removed)

    # --- health and metrics ------------------------------------------------------------------------------------

    def _checks(self) -> dict[str, Callable[[], Awaitable[None]]]:
        async def postgres() -> None:
            await self._database.fetchval("SELECT 1")

        async def redis() -> None:
            await self._redis.ping()

        async def nats() -> None:
            if not self._broker.connected:
                raise ConnectionError("not connected")

        async def log_writer() -> None:
            if not self._message_log.client.connected:
                raise ConnectionError("not connected")

        return {"postgres": postgres, "redis": redis, "nats": nats, "log_writer": log_writer}

    def _collect(self) -> None:
        """The plain numbers of the hot path into the metrics; with 19,000 connections this takes 3 ms."""
        numbers, hub, endpoint = self._metrics, self._hub, self._endpoint
        numbers.connections = len(endpoint.connections)
        numbers.subscriptions = sum(len(channel.subscribers) for channel in hub.channels.values())
        numbers.channels = len(hub.channels)
        numbers.users = hub.num_users
        numbers.connections_accepted = endpoint.accepted
        numbers.messages_in = endpoint.messages_in
        numbers.bytes_in = endpoint.bytes_in
        numbers.deliveries = hub.fanout.deliveries
        numbers.publishes = self.core.counters.publishes
        numbers.commands = self.core.counters.commands
        numbers.commands_refused = self.core.counters.errors
        numbers.writes = hub.fanout.writes
        numbers.broker_published = self._broker.published
        numbers.broker_received = self._broker.received
        numbers.broker_dropped = self._broker.dropped
        numbers.gaps_repaired = hub.counters.gaps_repaired
        numbers.gaps_lost = hub.counters.insufficient_states
        numbers.disconnects = dict(endpoint.closes)
        numbers.slow_disconnects = endpoint.closes[codes.SLOW.code]
        numbers.redirects = self._links.clicks.noted
        numbers.clicks_dropped = self._links.clicks.dropped
        if (counting := self._links.counting) is not None:
            numbers.clicks_stored = counting.stored
            numbers.clicks_lost = counting.lost
            numbers.clicks_backlog = counting.backlog
            numbers.clicks_backlog_seconds = counting.age
        numbers.dependencies["redis"] = self._presence.available
        numbers.dependencies["nats"] = self._broker.connected
        numbers.dependencies["log_writer"] = self._message_log.client.connected
