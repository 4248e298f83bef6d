"""Rooms, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.rpc.method import method
from gateway_node.services.rooms import MAX_MUTE, Rooms
from realtime.core import RPC
from realtime.interfaces import Identity
from storage.rooms import Role


class CreateRoom(Struct):
    title: str
    open: bool = False
    members: list[UUID] = []
    key: Annotated[str, Meta(max_length=255)] = ""


class OneUser(Struct):
    user_id: UUID


class ListRooms(Struct):
    archived: bool = False
    after: str | None = None


class FindRooms(Struct):
    query: Annotated[str, Meta(max_length=255)] = ""
    after: str | None = None


class OneRoom(Struct):
    room_id: UUID


class UpdateRoom(Struct):
    room_id: UUID
    title: str | None = None
    open: bool | None = None


class ListMembers(Struct):
    room_id: UUID
    after: UUID | None = None


class RoomMember(Struct):
    room_id: UUID
    user_id: UUID


class SetRole(Struct):
    room_id: UUID
    user_id: UUID
    role: Role


class Mute(Struct):
    room_id: UUID
    user_id: UUID
    seconds: Annotated[int, Meta(ge=1, le=MAX_MUTE)] | None = None


def methods(rooms: Rooms) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def create(identity: Identity, params: CreateRoom) -> object:
        room, _ = await rooms.create(identity, params.title, open=params.open, members=params.members, key=params.key)
        return room

    async def direct(identity: Identity, params: OneUser) -> object:
        room, _ = await rooms.direct(identity, params.user_id)
        return room

    async def list_(identity: Identity, params: ListRooms) -> object:
        return await rooms.of_user(identity, archived=params.archived, after=params.after)

    async def find(identity: Identity, params: FindRooms) -> object:
        return await rooms.find(identity, params.query, after=params.after)

    async def get(identity: Identity, params: OneRoom) -> object:
        return await rooms.get(identity, params.room_id)

    async def update(identity: Identity, params: UpdateRoom) -> object:
        return await rooms.update(identity, params.room_id, title=params.title, open=params.open)

    async def archive(identity: Identity, params: OneRoom) -> None:
        await rooms.archive(identity, params.room_id)

    async def restore(identity: Identity, params: OneRoom) -> None:
        await rooms.archive(identity, params.room_id, archived=False)

    async def join(identity: Identity, params: OneRoom) -> object:
        return await rooms.join(identity, params.room_id)

    async def leave(identity: Identity, params: OneRoom) -> None:
        await rooms.leave(identity, params.room_id)

    async def members(identity: Identity, params: ListMembers) -> object:
        return await rooms.members(identity, params.room_id, after=params.after)

    async def invite(identity: Identity, params: RoomMember) -> None:
        await rooms.invite(identity, params.room_id, params.user_id)

    async def remove(identity: Identity, params: RoomMember) -> None:
        await rooms.remove(identity, params.room_id, params.user_id)

    async def role(identity: Identity, params: SetRole) -> None:
        await rooms.set_role(identity, params.room_id, params.user_id, params.role)

    async def mute(identity: Identity, params: Mute) -> None:
        await rooms.mute(identity, params.room_id, params.user_id, params.seconds)

    async def unmute(identity: Identity, params: RoomMember) -> None:
        await rooms.unmute(identity, params.room_id, params.user_id)

    return {
        "room.create": method(CreateRoom, create),
        "room.direct": method(OneUser, direct),
        "room.list": method(ListRooms, list_),
        "room.find": method(FindRooms, find),
        "room.get": method(OneRoom, get),
        "room.update": method(UpdateRoom, update),
        "room.archive": method(OneRoom, archive),
        "room.restore": method(OneRoom, restore),
        "room.join": method(OneRoom, join),
        "room.leave": method(OneRoom, leave),
        "room.members": method(ListMembers, members),
        "room.invite": method(RoomMember, invite),
        "room.remove": method(RoomMember, remove),
        "room.role": method(SetRole, role),
        "room.mute": method(Mute, mute),
        "room.unmute": method(RoomMember, unmute),
    }
