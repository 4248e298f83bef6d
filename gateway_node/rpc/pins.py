"""Pins, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rpc.method import method
from gateway_node.services.pins import PinList, Pins
from realtime.core import RPC
from realtime.interfaces import Identity

WRITES = frozenset({"message.pin", "message.unpin"})
"""Those that cost a client as much as a publication."""


class OneMessage(Struct):
    room_id: UUID
    message_id: UUID


class OneRoom(Struct):
    room_id: UUID


def methods(pins: Pins) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def pin(identity: Identity, params: OneMessage) -> None:
        await pins.pin(identity, params.room_id, params.message_id)

    async def unpin(identity: Identity, params: OneMessage) -> None:
        await pins.unpin(identity, params.room_id, params.message_id)

    async def list_(identity: Identity, params: OneRoom) -> PinList:
        return await pins.list(identity, params.room_id)

    return {
        "message.pin": method(OneMessage, pin),
        "message.unpin": method(OneMessage, unpin),
        "message.pins": method(OneRoom, list_),
    }
