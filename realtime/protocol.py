"""Wire types of the Centrifuge client protocol, version 2, in JSON.

Source: `definitions/client.proto` of the public repository `centrifugal/protocol`. Field names are the schema's;
`bytes` fields of the schema are embedded raw JSON here (`msgspec.Raw`). Zero values are omitted on the wire.
Unknown fields of a command are ignored, as the schema's evolution requires.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

NO_DATA = Raw()


def raw(data: bytes) -> Raw:
    """Encoded JSON as a field; empty is no field at all."""
    return Raw(data) if data else NO_DATA


class ClientInfo(Struct, omit_defaults=True, frozen=True):
    """Who published, or who is present: a user on one connection (`client`)."""

    user: str = ""
    client: str = ""
    conn_info: Raw = NO_DATA
    chan_info: Raw = NO_DATA


class Publication(Struct, omit_defaults=True, frozen=True):
    """One message of a channel. `offset` is 0 outside the log; `time` is the commit time, Unix milliseconds."""

    data: Raw
    info: ClientInfo | None = None
    offset: int = 0
    tags: dict[str, str] | None = None
    time: int = 0


class StreamPosition(Struct, omit_defaults=True, frozen=True):
    """A place in a channel's log: the offset last seen, and the epoch in which it counts."""

    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    epoch: str = ""


# --- commands (client to server) -------------------------------------------------------------------------------


class SubscribeRequest(Struct):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False


class ConnectRequest(Struct):
    token: str = ""
    data: Raw = NO_DATA
    subs: dict[str, SubscribeRequest] | None = None
    name: str = ""
    version: str = ""


class UnsubscribeRequest(Struct):
    channel: str = ""


class PublishRequest(Struct):
    channel: str = ""
    data: Raw = NO_DATA


class PresenceRequest(Struct):
    channel: str = ""


class PresenceStatsRequest(Struct):
    channel: str = ""


class HistoryRequest(Struct):
    channel: str = ""
    limit: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(Struct):
    pass


class SendRequest(Struct):
    data: Raw = NO_DATA


class RPCRequest(Struct):
    data: Raw = NO_DATA
    method: str = ""


class RefreshRequest(Struct):
    token: str = ""


class SubRefreshRequest(Struct):
    channel: str = ""
    token: str = ""


class Command(Struct):
    """One command. Exactly one of the request fields is set; a command without any is a pong."""

    id: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RPCRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


# --- replies (server to client) --------------------------------------------------------------------------------


class ErrorReply(Struct, omit_defaults=True, frozen=True):
    code: int
    message: str
    temporary: bool = False


class SubscribeResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] | None = None
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw = NO_DATA
    was_recovering: bool = False


class ConnectResult(Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: Raw = NO_DATA
    subs: dict[str, SubscribeResult] | None = None
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""


class RefreshResult(Struct, omit_defaults=True):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class HistoryResult(Struct, omit_defaults=True):
    publications: list[Publication] | None = None
    epoch: str = ""
    offset: int = 0


class PresenceResult(Struct):
    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct, omit_defaults=True):
    num_clients: int = 0
    num_users: int = 0


class RPCResult(Struct, omit_defaults=True):
    data: Raw = NO_DATA


class Empty(Struct):
    """A result without fields: `{}`."""


EMPTY = Empty()


class Reply(Struct, omit_defaults=True):
    id: int
    error: ErrorReply | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: Empty | None = None
    publish: Empty | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    ping: Empty | None = None
    rpc: RPCResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None


# --- pushes (server to client, without id) ---------------------------------------------------------------------


class JoinLeave(Struct):
    info: ClientInfo


class UnsubscribePush(Struct, omit_defaults=True):
    code: int
    reason: str = ""


class SubscribePush(Struct, omit_defaults=True):
    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Raw = NO_DATA


class MessagePush(Struct):
    data: Raw


class DisconnectPush(Struct, omit_defaults=True):
    code: int
    reason: str = ""
    reconnect: bool = False


class RefreshPush(Struct, omit_defaults=True):
    expires: bool = False
    ttl: int = 0


class Push(Struct, omit_defaults=True):
    channel: str = ""
    pub: Publication | None = None
    join: JoinLeave | None = None
    leave: JoinLeave | None = None
    unsubscribe: UnsubscribePush | None = None
    message: MessagePush | None = None
    subscribe: SubscribePush | None = None
    disconnect: DisconnectPush | None = None
    refresh: RefreshPush | None = None


class PushReply(Struct):
    push: Push
