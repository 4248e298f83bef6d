"""Rooms, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rpc.method import method
from gateway_node.services.rooms import Rooms, user_id_of
from realtime.core import RPC
from realtime.interfaces import Identity


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
        "room.create": method(CreateRoom, create),
        "room.list": method(ListRooms, list_),
        "room.members": method(ListMembers, members),
        "room.invite": method(RoomMember, invite),
        "room.remove": method(RoomMember, remove),
        "room.leave": method(LeaveRoom, leave),
    }
