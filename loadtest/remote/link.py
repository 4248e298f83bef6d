"""A connection to NATS that is lost once, for good: a run cannot bridge a gap, and whoever waits connects anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from loadtest.remote.chunks import Splitter

CONNECT_SECONDS = 3
CLOSE_SECONDS = 2.0
LOOK_EVERY = 0.5  # s
PING_SECONDS = 5
PINGS_UNANSWERED = 2  # a silent server is given up after 15 s
FRAME = 256 * 1024  # bytes, where the server would take more
WINDOW = 2 << 20  # bytes that a sender is ahead of the reader: the server cuts off who is 64 MB behind
ACKNOWLEDGE_SECONDS = 60

Take = Callable[[bytes], Awaitable[bytes | None]]


class Away(Exception):
    """NATS cannot be reached; a sentence."""


class Nobody(Exception):
    """Nobody listens to that subject."""


class Link:
    """`lost` is set when the connection has ended, and `reason` says why."""

    def __init__(self, refused: Callable[[str], None] = lambda reason: None) -> None:
        self.lost = asyncio.Event()
        self.reason = ""
        self._refused = refused
        self._client = Client()
        self._watching: asyncio.Task[None] | None = None

    async def open(self, url: str, name: str) -> None:
        """`url` is one server or several, separated by commas, as nats-py takes them. Raises Away."""
        servers = [each.strip() for each in url.split(",") if each.strip()]
        try:
            await self._client.connect(
                servers,
                name=name,
                error_cb=self._failed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_SECONDS,
                ping_interval=PING_SECONDS,
                max_outstanding_pings=PINGS_UNANSWERED,
            )
        except (OSError, TimeoutError, errors.Error) as error:
            await self.close()
            reason = self.reason or str(error) or type(error).__name__
            lost = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
            if lost or "reset by peer" in reason:
                reason += " (are the token, or user and password, right?)"  # its complaint is lost with the connection
            raise Away(f"NATS cannot be reached at {', '.join(map(shown, servers))}: {reason}.") from None
        except BaseException:
            await self.close()
            raise
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Look every now and then: nats-py calls nobody when its own goodbye to a lost server fails."""
        while self._client.is_connected:  # noqa: ASYNC110 - there is no event that always comes
            await asyncio.sleep(LOOK_EVERY)
        self.lost.set()

    async def _failed(self, error: Exception) -> None:
        self.reason = str(error) or type(error).__name__
        if "permissions violation" in self.reason.lower():
            self._refused(self.reason)  # the connection goes on

    @property
    def frame(self) -> int:
        """bytes of the largest message that goes through."""
        return min(FRAME, self._client.max_payload)

    def new_inbox(self) -> str:
        return self._client.new_inbox()

    async def hear(self, subject: str, take: Take) -> None:
        """`take` gets each message; what it returns is sent to whoever asked for an answer."""

        async def each(message: Msg) -> None:
            try:
                answer = await take(message.data)
                if message.reply and answer is not None:
                    await message.respond(answer)
            except Exception as error:  # nats-py would go on as if nothing had happened
                self.reason = f"{type(error).__name__}: {error}"
                self.lost.set()

        # Without limits: nats-py would drop what is above them, and the window holds the streams back.
        await self._client.subscribe(subject, cb=each, pending_msgs_limit=0, pending_bytes_limit=0)

    async def settled(self) -> None:
        """Until NATS has every subscription."""
        await self._client.flush(CONNECT_SECONDS)

    async def tell(self, subject: str, data: bytes, reply: str = "") -> None:
        await self._client.publish(subject, data, reply=reply)

    async def ask(self, subject: str, data: bytes, seconds: float) -> bytes:
        """Raises Nobody, TimeoutError, or `nats.errors.Error` when the connection is lost."""
        try:
            answer = await self._client.request(subject, data, timeout=seconds)
        except errors.NoRespondersError:
            raise Nobody(subject) from None
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # wait_for of Python 3.11, which nats-py uses, loses a cancellation that meets the answer in one turn. Who
            # cancelled would wait for ever: a stopped run hung in one of five tries.
            raise asyncio.CancelledError
        return answer.data

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        with contextlib.suppress(OSError, TimeoutError, errors.Error):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.close()
        transport = self._client._transport  # which nats-py leaves open when the goodbye failed
        if isinstance(transport, TcpTransport) and transport._io_writer is not None:
            transport._io_writer.transport.abort()
            await asyncio.sleep(0)
        self.lost.set()


class Sender:
    """One direction of messages of any size. Whoever reads them answers where a frame asks for it."""

    def __init__(self, link: Link, subject: str) -> None:
        self._link = link
        self._subject = subject
        self._splitter = Splitter(link.frame)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._task = asyncio.create_task(self._send())

    def put(self, message: bytes) -> None:
        self._queue.put_nowait(message)

    async def _send(self) -> None:
        ahead = 0
        try:
            while True:
                message = await self._queue.get()
                for frame in self._splitter.split(message):
                    ahead += len(frame)
                    if ahead < WINDOW:
                        await self._link.tell(self._subject, frame)
                    else:
                        await self._link.ask(self._subject, frame, ACKNOWLEDGE_SECONDS)
                        ahead = 0
                self._queue.task_done()
        except (OSError, TimeoutError, errors.Error, Nobody) as error:
            self._link.reason = self._link.reason or f"nobody takes what is sent ({type(error).__name__})"
            self._link.lost.set()

    async def close(self, seconds: float) -> None:
        """Send what is left, for so long at most."""
        joined = asyncio.ensure_future(self._queue.join())
        await asyncio.wait((joined, self._task), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        self._task.cancel()
        await asyncio.gather(joined, self._task, return_exceptions=True)


def shown(url: str) -> str:
    """A server's address without what authenticates."""
    return urlsplit(url if "//" in url else f"//{url}").netloc.rpartition("@")[2]
