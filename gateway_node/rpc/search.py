"""Search, as an RPC method."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rpc.method import method
from gateway_node.services.search import PAGE, Found, Search
from realtime.core import RPC
from realtime.interfaces import Identity


class FindMessages(Struct):
    query: str
    room_id: UUID | None = None
    before: str | None = None
    limit: int = PAGE


def methods(search: Search) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def find(identity: Identity, params: FindMessages) -> Found:
        return await search.find(identity, params.query, params.room_id, params.before, params.limit)

    return {"message.search": method(FindMessages, find)}
