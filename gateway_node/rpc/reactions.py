"""Reactions, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from gateway_node.rpc.method import method
from gateway_node.services.reactions import MAX_PAGE, ReactionPage, Reactions
from realtime.core import RPC
from realtime.interfaces import Identity

WRITES = frozenset({"message.react"})
"""Those that cost a client as much as a publication."""


class React(Struct):
    room_id: UUID
    message_id: UUID
    emoji: str
    remove: bool = False


class ListReactions(Struct):
    room_id: UUID
    message_id: UUID
    after: str | None = None
    limit: int = MAX_PAGE


def methods(reactions: Reactions) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def react(identity: Identity, params: React) -> None:
        change = reactions.remove if params.remove else reactions.add
        await change(identity, params.room_id, params.message_id, params.emoji)

    async def list_(identity: Identity, params: ListReactions) -> ReactionPage:
        return await reactions.page(identity, params.room_id, params.message_id, params.after, params.limit)

    return {"message.react": method(React, react), "message.reactions": method(ListReactions, list_)}
