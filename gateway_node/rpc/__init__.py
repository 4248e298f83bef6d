"""RPC methods: the verbs for which the client protocol has no command. Thin: parse, call one service, shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway_node.services.rooms import Rooms, user_id_of
from realtime import codes
from realtime.core import RPC
from realtime.interfaces import Identity

P = TypeVar("P", bound=Struct)


class CreateRoom(Struct):
    title: str


class ListRooms(Struct):
    pass


class ListMembers(Struct):
    room_id: UUID
    after: UUID | None = None


class RoomMember(Struct):
    room_id: UUID
    user_id: UUID


class LeaveRoom(Struct):
    room_id: UUID


def methods(rooms: Rooms) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def create(identity: Identity, params: CreateRoom) -> object:
        return await rooms.create(identity, params.title)

    async def list_(identity: Identity, params: ListRooms) -> object:
        return {"rooms": await rooms.of_user(identity)}

    async def members(identity: Identity, params: ListMembers) -> object:
        return {"members": await rooms.members(identity, params.room_id, params.after)}

    async def invite(identity: Identity, params: RoomMember) -> None:
        await rooms.invite(identity, params.room_id, params.user_id)

    async def remove(identity: Identity, params: RoomMember) -> None:
        await rooms.remove(identity, params.room_id, params.user_id)

    async def leave(identity: Identity, params: LeaveRoom) -> None:
        await rooms.remove(identity, params.room_id, user_id_of(identity))

    return {
        "room.create": _method(CreateRoom, create),
        "room.list": _method(ListRooms, list_),
        "room.members": _method(ListMembers, members),
        "room.invite": _method(RoomMember, invite),
        "room.remove": _method(RoomMember, remove),
        "room.leave": _method(LeaveRoom, leave),
    }


def _method(params: type[P], run: Callable[[Identity, P], Awaitable[object]]) -> RPC:
    decode = msgspec.json.Decoder(params).decode

    async def method(identity: Identity, data: bytes) -> bytes:
        try:
            parsed = decode(data)
        except msgspec.DecodeError as error:
            raise codes.BAD_REQUEST.saying(str(error)) from None
        answer = await run(identity, parsed)
        return msgspec.json.encode({} if answer is None else answer)

    return method
