"""NATS between the nodes: one exact subject a channel, one subscription number a channel, no other state.

Messages may be lost here, never repeated or reordered: the log is the truth (docs/fanout.md). So nothing is kept for a
server that is away, except the list of channels.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import Future, Task, TimerHandle
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import quote, urlsplit

import structlog

from gateway_node.nats_client import UNREACHABLE, NatsConnection
from realtime.interfaces import BrokerUnavailable

log = structlog.get_logger(__name__)

PREFIX = "cw.ch."
CONTROL_SUBJECT = "cw.ctl.all"
CONTROL_INTEREST = "cw.ctl.>"
CONTROL_SID = 1

# Printable ASCII that is left as it is. Not in here: `%` (the escape), `*` and `>` (wildcards); `.` is seen to apart.
PLAIN = "!\"#$&'()+,/:;<=?@[\\]^`{|}"
LONGEST_TOKEN = 1024  # characters; a channel of 255 bytes takes 765 at most, the server's line limit is 4096

MAX_MESSAGE_SIZE = 65536  # bytes of a message's data
HEADROOM = 65536  # what our envelope, sender's info and tags may add to it
PENDING_LIMIT = 8 * 1024 * 1024  # bytes that wait for the server before messages are dropped
FLUSH_SECONDS = 5.0  # that a connection which has just been made may take to have every subscription
CONFIRM_SECONDS = 1.0  # that a subscriber waits: a NATS that hangs must not hold up whoever connects; the sweep repairs
RECONNECT_SECONDS = (0.1, 5.0)  # first and longest pause between attempts; each is shortened by up to half at random
RESUBSCRIBE_BATCH = 1000  # subscriptions sent between two answers of the server
LINGER_SECONDS = 5.0  # a channel that nobody here needs any more stays subscribed so long: people come back
UNSUBSCRIBE_BATCH = 1000  # the most subscriptions ended a second


class BrokerMisconfigured(Exception):
    """NATS is there, but cannot carry our messages; the text says what to change."""


@lru_cache(maxsize=4096)
def subject_of(channel: str) -> str:
    """The subject of a channel: one token behind the prefix, another one for every other channel.

    Any text has one, an empty and an overlong one too, because a bad subject costs the node its connection.
    """
    token = quote(channel, safe=PLAIN, errors="surrogatepass").replace(".", "%2E")
    if len(token) > LONGEST_TOKEN:
        token = "%%" + blake2b(token.encode(), digest_size=32).hexdigest()  # no escape begins like this
    return PREFIX + (token or "%")


class NatsBroker:
    """Implements `realtime.interfaces.Broker`.

    `url` is one server or several, separated by commas (`nats://token@host:4222`, `tls://user:password@host`).
    `on_message(channel, message)` and `on_control(message)` get what other nodes published, in each publisher's order,
    never what this node did. A channel may still get messages for `linger` seconds after `unsubscribe`.
    `on_reconnect` is called each time that the server has all subscriptions again after it was away: messages of the
    time between are gone.
    """

    def __init__(
        self,
        url: str,
        on_message: Callable[[str, bytes], None],
        on_control: Callable[[bytes], None],
        on_reconnect: Callable[[], None] = lambda: None,
        *,
        name: str = "chalkwire",
        max_message_size: int = MAX_MESSAGE_SIZE,
        linger: float = LINGER_SECONDS,
    ) -> None:
        self._servers = _servers(url)
        self._on_message = on_message
        self._on_control = on_control
        self._on_reconnect = on_reconnect
        self._name = name
        self._required_payload = max_message_size + HEADROOM
        self._linger = linger

        self._link: NatsConnection | None = None
        self._task: Task[None] | None = None
        self._sids: dict[str, int] = {}
        self._channels: dict[int, str] = {CONTROL_SID: ""}
        self._last_sid = CONTROL_SID
        self._settled = False  # the server has had every subscription of before the connection
        self._confirmed = 0  # the server has every subscription up to this number, while settled
        self._leaving: dict[str, float] = {}  # channel -> when to unsubscribe, soonest first
        self._sweeper: TimerHandle | None = None

        self._out: list[bytes] = []
        self._out_size = 0
        self._pong: Future[bool] | None = None  # of the tick under way; every subscribe of the tick shares it
        self._flushing = False

        self.published = 0
        self.received = 0
        self.dropped = 0

    @property
    def connected(self) -> bool:
        """Whether messages of every subscribed channel come in."""
        return self._settled

    @property
    def subscriptions(self) -> int:
        return len(self._sids)

    async def start(self) -> None:
        """Return when connected, or after the first attempt failed; further ones go on for ever.

        Raises `BrokerMisconfigured` when the server's `max_payload` is too small.
        """
        link = await self._connect()
        if link is not None and (complaint := self._complaint(link)):
            await link.abort()
            raise BrokerMisconfigured(complaint)
        settled = asyncio.Event()
        self._task = asyncio.create_task(self._run(link, settled), name="broker")
        if link is not None:
            waiting = asyncio.create_task(settled.wait())
            await asyncio.wait([waiting, self._task], timeout=FLUSH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def close(self) -> None:
        """Hand over what was published, waiting a second at most, and disconnect."""
        if self._link is not None:
            try:
                async with asyncio.timeout(1):
                    await self._flushed()
            except TimeoutError:
                pass
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- channels ----------------------------------------------------------------------------------------------

    async def subscribe(self, *channels: str) -> None:
        asked = False
        for channel in channels:
            self._leaving.pop(channel, None)
            sid = self._sids.get(channel)
            if sid is None:
                sid = self._last_sid = self._last_sid + 1
                self._sids[channel] = sid
                self._channels[sid] = channel
            elif self._settled and sid <= self._confirmed:
                continue
            asked = True
            self._write(_sub(subject_of(channel), sid))  # the server ignores one that it has
        if not asked:
            return
        if self._link is None:
            raise BrokerUnavailable("NATS is away")
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                taken = await self._flushed()
        except TimeoutError:
            taken = False
        if not taken:
            raise BrokerUnavailable("NATS did not confirm the subscriptions")

    def unsubscribe(self, channel: str) -> None:
        if channel not in self._sids:
            return
        loop = asyncio.get_running_loop()
        self._leaving.pop(channel, None)
        self._leaving[channel] = loop.time() + self._linger
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._linger, self._sweep)

    def _sweep(self) -> None:
        """End subscriptions that were given up long enough ago."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due: list[str] = []
        for channel, when in self._leaving.items():
            if when > now or len(due) == UNSUBSCRIBE_BATCH:
                break
            due.append(channel)
        self._forget(due)
        self._sweeper = loop.call_later(min(1.0, self._linger), self._sweep) if self._leaving else None

    def _forget(self, channels: Iterable[str]) -> None:
        for channel in channels:
            del self._leaving[channel]
            sid = self._sids.pop(channel)
            del self._channels[sid]
            self._write(b"UNSUB %d\r\n" % sid)

    # --- messages ----------------------------------------------------------------------------------------------

    def publish(self, channel: str, message: bytes) -> None:
        self._publish(subject_of(channel), message)

    def publish_control(self, message: bytes) -> None:
        self._publish(CONTROL_SUBJECT, message)

    def _publish(self, subject: str, message: bytes) -> None:
        link = self._link
        if link is None or link.lost.is_set() or len(message) > link.max_payload:
            self.dropped += 1
        elif self._out_size + len(message) + link.buffered > PENDING_LIMIT:
            self.dropped += 1  # a message that comes minutes late is worth less than the memory it waits in
        else:
            self.published += 1
            self._write(f"PUB {subject} {len(message)}\r\n".encode() + message + b"\r\n")

    def _deliver(self, sid: int, message: bytes) -> None:
        channel = self._channels.get(sid)
        if channel is None:
            return
        self.received += 1
        try:
            if sid == CONTROL_SID:
                self._on_control(message)
            else:
                self._on_message(channel, message)
        except Exception:
            log.exception("broker.message_not_handled", channel=channel)

    # --- writing: once a tick ------------------------------------------------------------------------------------

    def _write(self, line: bytes) -> None:
        if self._link is None:
            return
        self._out.append(line)
        self._out_size += len(line)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flushed(self) -> Future[bool]:
        """Done when the server has worked through all that was written before; `False` when it went away."""
        if self._pong is None:
            self._pong = asyncio.get_running_loop().create_future()
            self._flush_soon()
        return asyncio.shield(self._pong)  # one waiter's cancellation is not the others'

    def _flush(self) -> None:
        self._flushing = False
        out, self._out, self._out_size = self._out, [], 0
        pong, self._pong = self._pong, None
        link = self._link
        if link is None:
            if pong is not None:
                pong.set_result(False)
            return
        if out:
            link.send(b"".join(out))
        if pong is not None:
            sid = self._last_sid
            pong.add_done_callback(lambda done: self._confirm(link, sid, done))
            link.ping(pong)

    def _confirm(self, link: NatsConnection, sid: int, pong: Future[bool]) -> None:
        if self._settled and link is self._link and pong.result():
            self._confirmed = max(self._confirmed, sid)

    # --- the connection --------------------------------------------------------------------------------------------

    async def _run(self, link: NatsConnection | None, settled: asyncio.Event) -> None:
        """Keep a connection up for ever."""
        first, longest = RECONNECT_SECONDS
        pause = first
        starting = link is not None  # nothing was missed before the first connection that `start` waits for
        while True:
            if link is None:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, longest)
                link = await self._connect(quiet=pause > 2 * first)
                if link is None:
                    continue
                if complaint := self._complaint(link):
                    log.error("broker.misconfigured", reason=complaint)
            try:
                if await self._resubscribe(link):
                    pause = first
                    log.info("broker.connected", subscriptions=len(self._sids))
                    settled.set()
                    if not starting:
                        self._reconnected()
                    starting = False
                    await link.lost.wait()
                log.warning("broker.away", reason=link.reason)
            finally:
                self._settled = False
                self._link = None
                await link.abort()
                link = None

    async def _connect(self, *, quiet: bool = False) -> NatsConnection | None:
        link = NatsConnection(self._deliver)
        try:
            await link.open(self._servers, self._name)
        except UNREACHABLE as error:
            if not quiet:
                log.warning("broker.unreachable", reason=link.reason or str(error))
            await link.abort()
            return None
        except BaseException:
            await link.abort()
            raise
        return link

    def _complaint(self, link: NatsConnection) -> str:
        if link.max_payload >= self._required_payload:
            return ""
        return (
            f"NATS takes messages of {link.max_payload} bytes at most; {self._required_payload} are needed "
            f"(the message limit and {HEADROOM} around it). Set max_payload: {self._required_payload} in its "
            "configuration, or lower the message limit."
        )

    async def _resubscribe(self, link: NatsConnection) -> bool:
        """Tell a new connection every channel, in batches; `False` when it is lost on the way."""
        self._forget(list(self._leaving))
        self._link = link  # from here on new subscriptions go out by themselves
        last = self._last_sid
        interests = [(subject_of(channel), sid) for channel, sid in self._sids.items()]
        interests.insert(0, (CONTROL_INTEREST, CONTROL_SID))
        loop = asyncio.get_running_loop()
        for start in range(0, len(interests), RESUBSCRIBE_BATCH):
            batch = interests[start : start + RESUBSCRIBE_BATCH]
            link.send(b"".join([_sub(subject, sid) for subject, sid in batch]))
            pong: Future[bool] = loop.create_future()
            link.ping(pong)
            if not await pong:
                return False
        self._confirmed = last
        self._settled = True
        return True

    def _reconnected(self) -> None:
        try:
            self._on_reconnect()
        except Exception:
            log.exception("broker.reconnection_not_handled")


def _sub(subject: str, sid: int) -> bytes:
    return f"SUB {subject}  {sid}\r\n".encode()


def _servers(url: str) -> list[str]:
    servers = [each.strip() for each in url.split(",") if each.strip()]
    if not servers:
        raise ValueError("a NATS URL is needed, like nats://host:4222")
    for server in servers:
        if urlsplit(server).scheme not in {"nats", "tls"}:
            raise ValueError("a NATS URL begins with nats:// or tls://")
    return servers
