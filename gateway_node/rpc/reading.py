"""Reading, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.rpc.method import method
from gateway_node.services.reading import MAX_OFFSET, Reading
from realtime.core import RPC
from realtime.interfaces import Identity

Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]


class ReadUpTo(Struct):
    room_id: UUID
    offset: Offset


class GetReceipts(Struct):
    room_id: UUID
    offset: Offset | None = None


class CountUnread(Struct):
    pass


class IsTyping(Struct):
    room_id: UUID


def methods(reading: Reading) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def read(identity: Identity, params: ReadUpTo) -> None:
        await reading.read(identity, params.room_id, params.offset)

    async def receipts(identity: Identity, params: GetReceipts) -> object:
        return await reading.receipts(identity, params.room_id, params.offset)

    async def unread(identity: Identity, params: CountUnread) -> object:
        return await reading.unread(identity)

    async def typing(identity: Identity, params: IsTyping) -> None:
        await reading.typing(identity, params.room_id)

    return {
        "room.read": method(ReadUpTo, read),
        "room.receipts": method(GetReceipts, receipts),
        "room.unread": method(CountUnread, unread),
        "room.typing": method(IsTyping, typing),
    }
