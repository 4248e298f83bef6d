"""People, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from gateway_node.rpc.method import method
from gateway_node.services.people import MAX_ASKED, People
from realtime.core import RPC
from realtime.interfaces import Identity
from storage.people import ProfileChange


class FindUsers(Struct):
    query: str


class UpdateUser(Struct):
    name: str


class GetStatus(Struct):
    user_ids: Annotated[list[UUID], Meta(max_length=MAX_ASKED)]


def methods(people: People) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def find(identity: Identity, params: FindUsers) -> object:
        return {"users": await people.find(identity, params.query)}

    async def update(identity: Identity, params: UpdateUser) -> object:
        user = await people.update(identity, ProfileChange(name=params.name))
        return {"id": user.id, "name": user.name}

    async def status(identity: Identity, params: GetStatus) -> object:
        return {"users": await people.status(identity, params.user_ids)}

    return {
        "user.find": method(FindUsers, find),
        "user.update": method(UpdateUser, update),
        "user.status": method(GetStatus, status),
    }
