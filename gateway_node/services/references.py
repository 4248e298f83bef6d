"""What messages of rooms name: one look-up before such a message is stored, and none for a plain one."""

from __future__ import annotations

from uuid import UUID

from realtime import codes
from realtime.messages import AttachedFile, SentMessage, room_of
from storage.database import DatabaseUnavailable
from storage.messages import MessageStore

NOBODY = UUID(int=0)  # sends for the server API: no file is theirs


class RoomReferences:
    """`realtime.messages.References`. `orphan_ttl`: seconds that a file waits for its message to be stored."""

    def __init__(self, store: MessageStore, orphan_ttl: float) -> None:
        self._store = store
        self._orphan_ttl = orphan_ttl

    async def of(self, channel: str, sender: str, sent: SentMessage) -> AttachedFile | None:
        if not channel.startswith("room:"):
            raise codes.NOT_AVAILABLE.saying("only messages of rooms name something")
        try:
            named = await self._store.refer(UUID(room_of(channel)), _user(sender), sent, self._orphan_ttl)
        except DatabaseUnavailable:
            raise codes.INTERNAL from None
        if named.stored:
            return named.file  # a retry: what it named was looked up then
        if not named.replies:
            raise codes.BAD_REQUEST.at("/reply_to", "the room has no such message")
        if named.strangers:
            place = sent.mentions.index(named.strangers[0])
            raise codes.BAD_REQUEST.at(f"/mentions/{place}", "the room has no such member")
        if sent.file_id is not None and named.file is None:
            what = "image" if sent.type == "image" else "file"
            raise codes.BAD_REQUEST.at("/file_id", f"no {what} of yours in this room that no message carries yet")
        return named.file


def _user(sender: str) -> UUID:
    try:
        return UUID(sender)
    except ValueError:
        return NOBODY
