"""The way of a publication: log, other nodes, acknowledgement, own subscribers. In this order.

The acknowledgement is the PostgreSQL commit. The other nodes come before it, so that a sender who has seen it and
looks at another node finds its message on the way; the local fan-out comes after it, because 19,000 writes take
95 ms and the sender need not wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Raw

from realtime import codec, codes, messages
from realtime.hub import Hub
from realtime.interfaces import Broker, Entry, IdTaken, LogUnavailable, MessageLog, Refused, Rejected
from realtime.messages import SentMessage
from realtime.namespaces import UNLIMITED, ChannelOptions
from realtime.protocol import ClientInfo, Publication, StreamPosition

EVENT_TAG = "event"  # in rooms and classes it says that a row is no message, and nodes act on it


def _no_acknowledgement() -> None:
    pass


class Sent(NamedTuple):
    """What the log has now. `again`: it had it before, and tells what is stored."""

    publication: Publication
    epoch: str
    again: bool

    @property
    def position(self) -> StreamPosition:
        return StreamPosition(self.publication.offset, self.epoch)


class Publisher:
    """Publishes for clients, the server API and the services alike.

    `on_message(channel, sender, offset)` is called for each message of a room or class that is in the log.
    """

    def __init__(
        self, hub: Hub, log: MessageLog, broker: Broker, references: messages.References | None = None
    ) -> None:
        self._hub = hub
        self._log = log
        self._broker = broker
        self._references = references or messages.NoReferences()
        self.on_message: Callable[[str, str, int], None] = lambda channel, sender, offset: None

    async def publish(
        self,
        channel: str,
        options: ChannelOptions,
        data: bytes,
        *,
        sender: str = "",
        to: str = "",
        id: bytes | None = None,
        info: ClientInfo | None = None,
        tags: dict[str, str] | None = None,
        skip_history: bool = False,
        acknowledge: Callable[[], None] = _no_acknowledgement,
    ) -> StreamPosition:
        """Publish checked JSON. Durable channels: `acknowledge` is called after the commit. `to`: the other one of a
        direct room.

        Raises:
            CommandError: 107 for data or a tag that the channel does not take, 103 while the room is archived or the
                sender muted, 100 (temporary) while the log is away; whether it was stored is then unknown, and
                publishing again with the same id is safe.
        """
        if options.messages and tags and EVENT_TAG in tags:
            raise codes.BAD_REQUEST.saying(f"the tag `{EVENT_TAG}` is the server's own in this channel")
        if skip_history or not options.durable:
            self._publish_ephemeral(channel, Publication(Raw(data), info, 0, tags), acknowledge)
            return StreamPosition()
        if options.messages:
            message = messages.decode(data)
            sent = await self.send(channel, message, sender, to=to, info=info, tags=tags, acknowledge=acknowledge)
            return sent.position
        entry = Entry(
            channel,
            id or os.urandom(16),
            sender,
            data,
            info=codec.encode_info(info) if info else b"",
            tags=codec.encode_info(tags) if tags else b"",
            history_size=0 if options.history_size == UNLIMITED else options.history_size,
            history_ttl=options.history_ttl,
        )
        return (await self._append(entry, info, tags, acknowledge)).position

    async def send(
        self,
        channel: str,
        message: SentMessage,
        sender: str,
        *,
        to: str = "",
        info: ClientInfo | None = None,
        tags: dict[str, str] | None = None,
        acknowledge: Callable[[], None] = _no_acknowledgement,
    ) -> Sent:
        """Say something, checked by `messages.check`, in a room or class. Raises as `publish` does."""
        file = await self._references.of(channel, sender, message) if message.refers else None
        entry = messages.compose(channel, sender, message, to=to, file=file)
        entry.info = codec.encode_info(info) if info else b""
        entry.tags = codec.encode_info(tags) if tags else b""
        sent = await self._append(entry, info, tags, acknowledge)
        self.on_message(channel, sender, sent.publication.offset)
        return sent

    async def append(self, entry: Entry) -> Sent:
        """Publish what a service has made. Raises as `publish` does."""
        return await self._append(entry, None, None, _no_acknowledgement)

    async def _append(
        self, entry: Entry, info: ClientInfo | None, tags: dict[str, str] | None, acknowledge: Callable[[], None]
    ) -> Sent:
        try:
            stored = await self._log.append(entry)
        except IdTaken:
            raise codes.BAD_REQUEST.at("/id", "it is that of another sender's message") from None
        except Refused as error:
            raise codes.PERMISSION_DENIED.saying(str(error)) from None
        except Rejected as error:
            raise codes.BAD_REQUEST.saying(str(error)) from None
        except LogUnavailable:
            raise codes.INTERNAL.saying("the message log is not available") from None
        publication, encoded = stored.duplicate, b""
        if publication is None:
            publication, encoded = Publication(Raw(entry.data), info, stored.offset, tags, stored.time), entry.info
        self._broker.publish(entry.channel, codec.pack_publication(publication, stored.epoch, encoded))
        acknowledge()
        self._hub.publish(entry.channel, publication, stored.epoch)
        return Sent(publication, stored.epoch, stored.duplicate is not None)

    def forward(self, channel: str, publication: Publication, epoch: str) -> None:
        """Tell everybody of a publication that is in the log. Receivers drop by offset what they have seen."""
        self._broker.publish(channel, codec.pack_publication(publication, epoch))
        self._hub.publish(channel, publication, epoch)

    def push(self, channel: str, data: bytes) -> None:
        """Tell whoever listens now, on every node. It is in no history: checked JSON, lost on those who are away."""
        self._publish_ephemeral(channel, Publication(Raw(data)), _no_acknowledgement)

    def push_here(self, channel: str, data: bytes) -> None:
        """`push` to whoever listens on this node alone."""
        self._hub.publish(channel, Publication(Raw(data)))

    def _publish_ephemeral(self, channel: str, publication: Publication, acknowledge: Callable[[], None]) -> None:
        self._broker.publish(channel, codec.pack_publication(publication, ""))
        acknowledge()
        self._hub.publish(channel, publication)

    def presence_changed(self, channel: str, info: ClientInfo, *, joined: bool) -> None:
        """Announce a join or leave to every node."""
        encoded = codec.encode_info(info)
        self._broker.publish(channel, codec.pack(codec.Joined(encoded) if joined else codec.Left(encoded)))
        self._hub.publish_join(channel, info, joined=joined)

    def received(self, channel: str, message: bytes) -> None:
        """A message of another node. Raises `codec.Malformed`."""
        envelope = codec.unpack(message)
        if isinstance(envelope, codec.Published):
            self._hub.publish(channel, codec.unpack_publication(envelope), envelope.epoch)
        else:
            info = codec.decode_info(codec.safe_json(envelope.info))
            self._hub.publish_join(channel, info, joined=isinstance(envelope, codec.Joined))
