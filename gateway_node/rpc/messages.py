"""Messages, as RPC methods."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID, uuid4

from msgspec import Raw, Struct

from gateway_node.rpc.method import method
from gateway_node.services.messages import MAX_PAGE, Messages, Talk
from realtime import codes
from realtime.core import RPC
from realtime.interfaces import Identity
from realtime.messages import Content, Kind, Mentions, SentMessage

WRITES = frozenset({"message.send", "message.edit", "message.delete"})
"""Those that cost a client as much as a publication."""


class SendMessage(Struct):
    room_id: UUID | None = None
    to_user_id: UUID | None = None
    id: UUID | None = None
    content: Content = ""
    type: Kind = "text"
    reply_to: UUID | None = None
    mentions: Mentions = []
    file_id: UUID | None = None


class ListMessages(Struct):
    room_id: UUID
    before: int | None = None
    after: int | None = None
    around: int | None = None
    limit: int = MAX_PAGE


class OneMessage(Struct):
    room_id: UUID
    message_id: UUID


class EditMessage(Struct):
    room_id: UUID
    message_id: UUID
    content: Content


def methods(messages: Messages) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def send(identity: Identity, params: SendMessage) -> Raw:
        sent = SentMessage(
            params.id or uuid4(), params.content, params.type, params.reply_to, params.mentions, params.file_id
        )
        if (params.room_id is None) == (params.to_user_id is None):
            raise codes.BAD_REQUEST.at("/room_id", "either `room_id` or `to_user_id` is wanted")
        if params.room_id is not None:
            return (await messages.send(identity, params.room_id, sent)).message
        assert params.to_user_id is not None
        return (await messages.send_to(identity, params.to_user_id, sent)).message

    async def list_(identity: Identity, params: ListMessages) -> Talk:
        page = await messages.page(
            identity,
            params.room_id,
            before=params.before,
            after=params.after,
            around=params.around,
            limit=params.limit,
        )
        return page.talk

    async def get(identity: Identity, params: OneMessage) -> Raw:
        return (await messages.get(identity, params.room_id, params.message_id)).shown()

    async def edit(identity: Identity, params: EditMessage) -> Raw:
        return (await messages.edit(identity, params.room_id, params.message_id, params.content)).shown()

    async def delete(identity: Identity, params: OneMessage) -> None:
        await messages.delete(identity, params.room_id, params.message_id)

    return {
        "message.send": method(SendMessage, send),
        "message.list": method(ListMessages, list_),
        "message.get": method(OneMessage, get),
        "message.edit": method(EditMessage, edit),
        "message.delete": method(OneMessage, delete),
    }
