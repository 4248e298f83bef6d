"""One frame, many readers: joining, pacing and slicing of writes.

Why so. A `send()` costs 4-7 us whoever makes it (C included), so deliveries per second pass that limit only when
publications share a write: ten a write gave 1.25 M deliveries/s where one a write gave 0.14 M. And 19,000 writes
take about 95 ms, which would hold up everybody else on the node, so they are done in slices.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, cast

from realtime.codes import WRITE_ERROR
from realtime.frames import deflated_text_frame, text_frame
from realtime.replies import Replies

if TYPE_CHECKING:
    from realtime.channel import Channel
    from realtime.client import ClientConnection
    from realtime.websocket import Transport

logger = logging.getLogger("chalkwire.fanout")

SLICE_WRITES = 64  # writes between two looks at the clock (about 0.3 ms)
SLICE_SECONDS = 0.002  # the loop is given back after this
FRAME_BYTES = 64 * 1024  # pushes are joined into frames of about this size

WRITE_SECONDS = 5e-6  # measured cost of one write
SHORT_WINDOW = 0.010  # s: most that a publication waits for company
LONG_WINDOW = 0.100  # s: the same where recipients x rate exceeds HEAVY
HEAVY = 50_000  # deliveries/s of one channel


def window(recipients: int, publications: int, since_flush: float) -> float:
    """Seconds a channel waits after a flush before the next one, so that publications share writes.

    0 for a channel that was quiet, or whose writes cost less than a millisecond; up to 10 ms for big rooms; up to
    100 ms where one write per publication would exceed 50 k deliveries/s.
    """
    cost = recipients * WRITE_SECONDS
    if cost < 0.001:
        return 0.0
    rate = publications / since_flush if since_flush > 0 else float("inf")
    if recipients * rate > HEAVY:
        return min(2 * cost, LONG_WINDOW)
    return min(cost, SHORT_WINDOW)


class Batch:
    """A frame for a fixed list of readers: who subscribed later has got it with its reply.

    It goes by their transports: at 5,000 readers nothing of a connection is in the processor's caches any more when
    its turn comes, and to look at each on the way cost 6 % of a delivery. The list is shared, and never changed.
    """

    __slots__ = ("frame", "next", "transports")

    def __init__(self, frame: bytes, transports: list[Transport]) -> None:
        self.frame = frame
        self.transports = transports
        self.next = 0

    def write_slice(self) -> bool:
        """Write to the next readers. True when all are done."""
        frame = self.frame
        transports = iter(self.transports[self.next : self.next + SLICE_WRITES])
        self.next += SLICE_WRITES
        while True:
            try:
                for transport in transports:
                    transport.write(frame)
                return self.next >= len(self.transports)
            except Exception:  # a transport that refuses to be written to must cost its own reader only
                _refused(transport)


def _refused(transport: Transport) -> None:
    """End the reader whose transport raised, unless it has ended since the batch was made.

    Nothing may come out of here: a pump that stops is a node that delivers nothing any more.
    """
    # uvloop's transport has no protocol once it is closed.
    reader = cast("ClientConnection | None", transport.get_protocol())
    if reader is not None and reader.transport is transport:
        logger.exception("a frame could not be written", extra={"client": reader.client})
        with suppress(Exception):
            reader.end(WRITE_ERROR)


def join_pushes(pushes: list[bytes]) -> Iterable[bytes]:
    """Pushes joined by newlines into payloads of about 64 KiB."""
    if len(pushes) == 1:
        yield pushes[0]
        return
    part: list[bytes] = []
    size = 0
    for push in pushes:
        if part and size + len(push) > FRAME_BYTES:
            yield b"\n".join(part)
            part, size = [], 0
        part.append(push)
        size += len(push) + 1
    yield b"\n".join(part)


def _frames(pushes: list[bytes], frame: Callable[[bytes], bytes]) -> bytes:
    return b"".join(map(frame, join_pushes(pushes)))


class Fanout:
    """Writes what channels have pending, fairly between channels."""

    def __init__(self, *, compress: bool, after_slices: Callable[[], None]) -> None:
        self._compress = compress
        self._after_slices = after_slices  # cuts off readers whose outbox is full
        self._dirty: list[Channel] = []
        self._late: set[Channel] = set()  # those whose time has come while they are still being written
        self._writing: deque[Channel] = deque()
        self._flush_scheduled = False
        self._pumping = False
        self.replies = Replies()
        self.deliveries = 0
        self.writes = 0

    def add(self, channel: Channel, push: bytes) -> None:
        """Queue an encoded push for everybody who is subscribed when it is flushed."""
        pending = channel.pending
        if pending is not None:
            pending.append(push)
            return
        channel.pending = [push]
        loop = asyncio.get_running_loop()
        readers = len(channel.subscribers)
        if readers * WRITE_SECONDS >= 0.001:
            since = loop.time() - channel.flushed_at
            wait = window(readers, 1, since) - since
            if wait > 0:
                loop.call_later(wait, self._flush_in_time, channel)
                return
        self._dirty.append(channel)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            loop.call_soon(self._flush_dirty)

    def _flush_dirty(self) -> None:
        self._flush_scheduled = False
        dirty, self._dirty = self._dirty, []
        for channel in dirty:
            self._flush_in_time(channel)

    def _flush_in_time(self, channel: Channel) -> None:
        """Flush, unless the batch before is still being written: what comes meanwhile goes with this one.

        Else a node that gets too little of its processor queues batch behind batch: with 10,000 readers and 20
        messages a second, half a core of one that others use too, they waited 9 s.
        """
        if channel.batches is None:
            self.flush(channel)
        elif channel.pending is not None:
            self._late.add(channel)

    def flush(self, channel: Channel) -> None:
        """Turn what is pending into a batch for the present subscribers.

        Called by time, and before a subscriber is added: its reply covers what is pending.
        """
        pushes = channel.pending
        if pushes is None:
            return
        self.replies.flush()  # a sender's acknowledgement comes before its message
        channel.pending = None
        self._late.discard(channel)
        if not channel.subscribers:
            return
        if len(channel.subscribers) * WRITE_SECONDS >= 0.001:
            channel.flushed_at = asyncio.get_running_loop().time()
        self.deliveries += len(pushes) * len(channel.subscribers)
        if self._compress:
            self.send(channel, pushes, list(channel.subscribers))
        else:
            self._write(channel, _frames(pushes, text_frame), channel.transports())

    def send(self, channel: Channel, pushes: list[bytes], readers: Iterable[ClientConnection]) -> None:
        """Write pushes to some readers of a channel, after everything queued for it before."""
        plain = [reader.transport for reader in readers if not reader.deflate]
        deflated = [reader.transport for reader in readers if reader.deflate]
        if plain:
            self._write(channel, _frames(pushes, text_frame), plain)
        if deflated:
            self._write(channel, _frames(pushes, deflated_text_frame), deflated)

    def _write(self, channel: Channel, frame: bytes, transports: list[Transport]) -> None:
        batch = Batch(frame, transports)
        self.writes += len(transports)
        if channel.batches is None:
            if len(transports) <= SLICE_WRITES and not self._writing:
                batch.write_slice()  # the usual small room: no queue
                self._after_slices()
                return
            channel.batches = [batch]
            self._writing.append(channel)
        else:
            channel.batches.append(batch)
        if not self._pumping:
            self._pumping = True
            self._pump()

    def withdraw(self, channel: Channel, reader: ClientConnection) -> None:
        """Spare a reader the frames of the channel that were not written to it yet."""
        for batch in channel.batches or ():
            if reader.transport in batch.transports[batch.next :]:
                batch.transports = [each for each in batch.transports[batch.next :] if each is not reader.transport]
                batch.next = 0

    def _pump(self) -> None:
        """Write slices, one channel after the other, for 2 ms; then let the loop breathe."""
        writing = self._writing
        deadline = perf_counter() + SLICE_SECONDS
        while writing:
            channel = writing.popleft()
            batches = channel.batches
            assert batches is not None
            if batches[0].write_slice():
                del batches[0]
            if batches:
                writing.append(channel)
            else:
                channel.batches = None
                if channel in self._late:
                    self.flush(channel)
            if perf_counter() > deadline:
                break
        self._after_slices()
        if writing:
            asyncio.get_running_loop().call_soon(self._pump)
        else:
            self._pumping = False
