"""A client's session on its connection: commands in, replies and pushes out.

Commands are processed in the order in which they came. Publishes are pipelined (started in order, answered as they
commit); everything else waits for what came before it, and so does a message that names a file or another message.
While a command waits, the ones behind it queue, and when too many do, the connection is not read: back-pressure costs
its sender only.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from realtime import codec, codes, commands
from realtime.channel import Channel
from realtime.core import CONNECTED, CONNECTING, ENDED, NEW, Core
from realtime.frames import text_frame
from realtime.interfaces import Grant, Identity, LogUnavailable, PresenceUnavailable
from realtime.joining import presence_changed
from realtime.protocol import NO_DATA, ClientInfo, Command, Push, Reply, UnsubscribePush, raw
from realtime.websocket import WebSocketConnection, WebSocketEndpoint

logger = logging.getLogger("chalkwire.client")

PING = text_frame(b"{}")
MAX_BACKLOG = 64  # commands that wait before the connection is not read any more
NOBODY = Identity("")


class Work:
    """What a connection has under way; it exists only while there is something."""

    __slots__ = ("backlog", "blocked", "in_flight", "paused", "tasks")

    def __init__(self) -> None:
        self.backlog: deque[Command] = deque()
        self.tasks: set[asyncio.Task[None]] = set()  # strong references
        self.in_flight = 0  # publishes between command and commit
        self.blocked = False  # a command that others wait for is running
        self.paused = False


class ClientConnection(WebSocketConnection):
    """One client of the Centrifuge protocol."""

    __slots__ = (
        "_budget",
        "_budget_tick",
        "_publish_budget",
        "_work",
        "channels",
        "client",
        "core",
        "given",
        "grants",
        "identity",
        "phase",
    )

    def __init__(self, endpoint: WebSocketEndpoint, core: Core) -> None:
        super().__init__(endpoint)
        self.core = core
        self.identity = NOBODY
        self.client = ""
        self.channels: tuple[Channel, ...] = ()  # a tuple of two takes 56 bytes, a dict 184
        self.given = 0  # so many of them, the first, are subscribed by the server
        self.grants: dict[str, Grant] | None = None  # subscriptions with an expiry or info of their own
        self.phase = NEW
        self._work: Work | None = None
        self._budget: float = core.limits.commands_burst
        self._publish_budget: float = core.limits.publishes_burst
        self._budget_tick = endpoint.wheel.tick

    @property
    def user(self) -> str:
        return self.identity.user

    def channel(self, name: str) -> Channel | None:
        """The channel, if this connection is subscribed to it. A look at each, of which there are 128 at most."""
        for channel in self.channels:
            if channel.name == name:
                return channel
        return None

    def is_given(self, name: str) -> bool:
        """Whether the server subscribed the connection to the channel, not the client."""
        return any(channel.name == name for channel in self.channels[: self.given])

    def add(self, channels: Sequence[Channel], *, given: bool) -> None:
        """Note that the connection is subscribed to the channels, by the server or by the client."""
        for channel in channels:
            self._forget(channel)
        if given:
            self.channels = (*self.channels[: self.given], *channels, *self.channels[self.given :])
            self.given += len(channels)
        else:
            self.channels = (*self.channels, *channels)

    def _forget(self, channel: Channel) -> None:
        if channel in self.channels:
            place = self.channels.index(channel)
            self.channels = (*self.channels[:place], *self.channels[place + 1 :])
            self.given -= place < self.given

    def info_in(self, channel: str) -> ClientInfo:
        """Who this is, as others in the channel see it."""
        grant = self.grants.get(channel) if self.grants else None
        identity = self.identity
        return ClientInfo(identity.user, self.client, raw(identity.info), raw(grant.info) if grant else NO_DATA)

    # --- frames ------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        self.endpoint.wheel.after(self.core.limits.connect_timeout, self._end_if_stale)

    def _end_if_stale(self) -> None:
        if self.phase in (NEW, CONNECTING):
            self.end(codes.STALE)

    def message_received(self, payload: bytes, binary: bool) -> None:
        if binary:
            self.end(codes.INAPPROPRIATE_PROTOCOL)
            return
        if payload == b"{}":
            self._spend()
            return  # a pong: being heard of is all it says
        try:
            commands = 0
            for command in codec.decode_frame(payload):
                commands += 1
                self._receive(command)
                if self.phase == ENDED:
                    return
            if not commands:
                self._spend()
        except codec.Malformed as error:
            logger.debug("malformed frame", extra={"client": self.client, "why": str(error)})
            self.end(codes.MALFORMED)

    def parsing(self) -> None:
        self._spend()

    def ping_due(self) -> None:
        if self.phase != CONNECTED:
            self.seen = self.endpoint.wheel.tick  # it is not pinged, so its silence proves nothing
            return
        self._end_what_expired()
        self.write(PING)

    def silent(self) -> None:
        self.end(codes.NO_PONG)

    def closed(self, code: int, reason: str) -> None:
        self.phase = ENDED
        self._leave()

    # --- replies and pushes ------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        self.core.hub.fanout.replies.flush()
        self.send_text(codec.encode_reply(reply))

    def acknowledge(self, command_id: int) -> None:
        """Answer a publish, in one write with those of the same turn of the loop."""
        self.core.hub.fanout.replies.add(self, codec.encode_acknowledgement(command_id))

    def refuse(self, command_id: int, error: codes.CommandError) -> None:
        self.core.counters.errors += 1
        if command_id:
            self.reply(Reply(command_id, error=error.reply()))

    def push(self, push: Push) -> None:
        self.send_text(codec.encode_push(push))

    def end(self, disconnect: codes.Disconnect) -> None:
        """Close the connection with a code that tells the client whether to come back."""
        if self.phase != ENDED:
            self.phase = ENDED
            self.core.hub.fanout.replies.flush()
            self._leave()
            self.disconnect(disconnect.code, disconnect.reason)

    # --- commands ----------------------------------------------------------------------------------------------

    def _receive(self, command: Command) -> None:
        if not self._afford(command):
            return
        work = self._work
        if work is None and self.congested:
            work = self._work = Work()  # whoever does not read its answers gets no more of them
        if work is not None and (work.blocked or work.backlog or self.congested):
            work.backlog.append(command)
            if len(work.backlog) >= MAX_BACKLOG and not work.paused:
                work.paused = True
                self.pause_reading()
        else:
            self._dispatch(command)

    def _afford(self, command: Command) -> bool:
        """Whether the connection has commands, and publications, left. The answer to one that has not is given here."""
        limits = self.core.limits
        if not self._spend():
            if self.phase != ENDED:
                self.refuse(command.id, codes.TOO_MANY_REQUESTS())
            return False
        writes = command.publish is not None or (command.rpc is not None and command.rpc.method in self.core.writes)
        if writes and limits.publishes_per_second:
            if self._publish_budget < 1:
                self.refuse(command.id, codes.TOO_MANY_REQUESTS())
                return False
            self._publish_budget -= 1
        return True

    def _spend(self) -> bool:
        """Take a command from the budget, also for what is none (a pong, a ping, a fragment): nothing is free.

        False when none is left. Whoever goes on for another burst without listening is cut off.
        """
        limits = self.core.limits
        tick = self.endpoint.wheel.tick
        if tick != self._budget_tick:
            passed = tick - self._budget_tick
            self._budget_tick = tick
            self._budget = min(self._budget + passed * limits.commands_per_second, limits.commands_burst)
            self._publish_budget = min(
                self._publish_budget + passed * limits.publishes_per_second, limits.publishes_burst
            )
        if limits.commands_per_second:
            self._budget -= 1
            if self._budget < -limits.commands_burst:
                self.end(codes.FLOOD)
            return self._budget >= 0
        return True

    def _dispatch(self, command: Command) -> None:
        self.core.counters.commands += 1
        if command.connect is not None:
            if self.phase != NEW or not command.id:
                self.end(codes.MALFORMED)
                return
            self.phase = CONNECTING
            self._run(command, commands.connect(self, command.id, command.connect))
            return
        if self.phase != CONNECTED:
            self.end(codes.MALFORMED)
            return
        if command.publish is not None and command.id and not commands.is_looked_up(command.publish):
            self._run(command, commands.publish(self, command.id, command.publish), pipelined=True)
            return
        if self._work is not None and self._work.in_flight:
            # Whoever publishes and then asks for history expects to find it there.
            self._work.backlog.append(command)
            return
        if command.send is not None or (not command.id and command == Command()):
            return  # a message that nobody asked to receive, or a pong
        if not command.id:
            self.end(codes.MALFORMED)
            return
        coroutine = commands.start(self, command)
        if coroutine is not None:
            self._run(command, coroutine)

    def _run(self, command: Command, coroutine: Coroutine[Any, Any, None], *, pipelined: bool = False) -> None:
        work = self._work
        if work is None:
            work = self._work = Work()
        if pipelined:
            work.in_flight += 1
            work.blocked = work.in_flight >= self.core.limits.in_flight
        else:
            work.blocked = True
        task = asyncio.get_running_loop().create_task(self._guard(command, coroutine, work, pipelined))
        work.tasks.add(task)
        task.add_done_callback(work.tasks.discard)

    async def _guard(self, command: Command, coroutine: Coroutine[Any, Any, None], work: Work, pipelined: bool) -> None:
        """Run a command; whatever goes wrong in it has a defined answer."""
        try:
            await coroutine
        except codes.CommandError as error:
            self.refuse(command.id, error)
        except codes.DisconnectError as error:
            self.end(error.disconnect)
        except LogUnavailable:
            self.refuse(command.id, codes.INTERNAL.saying("the message log is not available"))
        except PresenceUnavailable:
            self.refuse(command.id, codes.PRESENCE_UNKNOWN())
        except Exception:
            logger.exception("command failed", extra={"client": self.client})
            self.refuse(command.id, codes.INTERNAL())
        finally:
            if pipelined:
                work.in_flight -= 1
            work.blocked = False
            if self.phase == CONNECTING:
                self.phase = NEW  # refused, but may try again with another token until it is stale
            self._resume(work)

    def _resume(self, work: Work) -> None:
        backlog = work.backlog
        while backlog and not work.blocked and self.phase != ENDED and not self.congested:
            command = backlog.popleft()
            waiting = len(backlog)
            self._dispatch(command)
            if len(backlog) > waiting:  # it went back: publishes before it are in flight
                backlog.rotate(1)
                break
        if work.paused and len(backlog) < MAX_BACKLOG // 2:
            work.paused = False
            self.resume_reading()
        if not backlog and not work.in_flight and not work.blocked and self._work is work:
            self._work = None

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._work is not None:
            self._resume(self._work)

    # --- the end of things -------------------------------------------------------------------------------------

    def remove(self, name: str) -> bool:
        """Leave a channel. False when the connection was not in it."""
        channel = self.channel(name)
        if channel is None:
            return False
        self._forget(channel)
        core = self.core
        info = self.info_in(name)
        if self.grants:
            self.grants.pop(name, None)
        core.hub.unsubscribe(self, channel)
        if channel.options.presence:
            core.presence.leave(name, info)
        presence_changed(core, channel, info, joined=False)
        return True

    def unsubscribe_by_server(self, name: str, reason: codes.Unsubscribe) -> None:
        if self.remove(name):
            self.push(Push(name, unsubscribe=UnsubscribePush(reason.code, reason.reason)))

    def lose_position(self, name: str) -> None:
        """The log cannot say what was missed: the client comes back with its own position."""
        if self.is_given(name):
            self.end(codes.INSUFFICIENT_STATE)
        else:
            self.unsubscribe_by_server(name, codes.INSUFFICIENT_POSITION)

    def _end_what_expired(self) -> None:
        limit = self.core.clock() - self.core.limits.expired_grace
        if 0 < self.identity.expires_at < limit:
            self.end(codes.CONNECTION_EXPIRED)
            return
        for name, grant in list(self.grants.items()) if self.grants else ():
            if 0 < grant.expires_at < limit:
                self.unsubscribe_by_server(name, codes.UNSUBSCRIBED_EXPIRED)

    def _leave(self) -> None:
        """Everything that the hub and others know of this connection goes, once."""
        for channel in self.channels:
            self.remove(channel.name)
        if self.client:
            self.core.hub.remove_connection(self)
            self.client = ""
        if self._work is not None:
            self._work.backlog.clear()
