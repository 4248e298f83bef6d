"""The server API: what an application's backend asks of the server, `POST /api/<method>` in Centrifugo's shape.

Source: `internal/apiproto/api.proto` of the public repository `centrifugal/centrifugo` and
https://centrifugal.dev/docs/server/server_api. A command that is understood is answered with HTTP 200 and either
`{"result": …}` or `{"error": {"code", "message"}}`. What is asked for and cannot be done here (a `whitelist`, say) is
error 108: to leave it out silently would do something else than was asked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import structlog
from litestar import Request, Router, post
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import JSONBody
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway_node.http.guards import Connection, address_of
from gateway_node.http.services import Messaging, Services, services_of
from realtime import codes
from realtime.codec import safe_json
from realtime.protocol import EMPTY, ClientInfo, Empty, Publication, StreamPosition

CONCURRENCY = 32  # publications of one broadcast, or commands of one parallel batch, under way at once
MAX_REASON = 123  # bytes; RFC 6455, section 5.5: a close frame carries 125, two of them the code

_log = structlog.get_logger(__name__)


class ErrorBody(Struct):
    code: int
    message: str


P = TypeVar("P")
R = TypeVar("R")


class Reply(Struct, Generic[R], omit_defaults=True):
    error: ErrorBody | None = None
    result: R | None = None


# --- parameters and results -------------------------------------------------------------------------------------


class PublishParams(Struct):
    channel: str
    data: Raw | UnsetType = UNSET
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] | None = None
    idempotency_key: str = ""


class BroadcastParams(Struct):
    channels: list[str]
    data: Raw | UnsetType = UNSET
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] | None = None
    idempotency_key: str = ""


class PublishResult(Struct):
    offset: int = 0
    epoch: str = ""


class BroadcastResult(Struct):
    responses: list[Reply[PublishResult]]


class SubscribeParams(Struct):
    user: str
    channel: str
    client: str = ""
    session: str = ""
    expire_at: int = 0
    info: Raw | UnsetType = UNSET
    b64info: str = ""
    data: Raw | UnsetType = UNSET
    b64data: str = ""
    recover_since: StreamPosition | None = None
    override: dict[str, Any] | None = None


class UnsubscribeParams(Struct):
    user: str
    channel: str
    client: str = ""
    session: str = ""


class DisconnectObject(Struct):
    code: int = codes.FORCE_DISCONNECT.code
    reason: str = codes.FORCE_DISCONNECT.reason


class DisconnectParams(Struct):
    user: str
    client: str = ""
    session: str = ""
    whitelist: list[str] = []
    disconnect: DisconnectObject | None = None


class RefreshParams(Struct):
    user: str
    client: str = ""
    session: str = ""
    expired: bool = False
    expire_at: int = 0


class ChannelParams(Struct):
    channel: str


class PresenceResult(Struct):
    presence: dict[str, ClientInfo]


class PresenceStatsResult(Struct):
    num_clients: int
    num_users: int


class HistoryParams(Struct):
    channel: str
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class HistoryPage(Struct):
    publications: list[Publication]
    epoch: str
    offset: int


class InfoParams(Struct):
    pass


class InfoResult(Struct):
    nodes: list[dict[str, Any]]


class ChannelsParams(Struct):
    pattern: str = ""


class ChannelInfo(Struct):
    num_clients: int


class ChannelsResult(Struct):
    channels: dict[str, ChannelInfo]


class BatchCommand(Struct):
    """One command; exactly one of the fields is set."""

    publish: PublishParams | None = None
    broadcast: BroadcastParams | None = None
    subscribe: SubscribeParams | None = None
    unsubscribe: UnsubscribeParams | None = None
    disconnect: DisconnectParams | None = None
    refresh: RefreshParams | None = None
    presence: ChannelParams | None = None
    presence_stats: ChannelParams | None = None
    history: HistoryParams | None = None
    history_remove: ChannelParams | None = None
    info: InfoParams | None = None
    channels: ChannelsParams | None = None


class BatchParams(Struct):
    commands: list[BatchCommand]
    parallel: bool = False


class BatchReplies(Struct):
    replies: list[dict[str, Any]]


# --- the commands -----------------------------------------------------------------------------------------------


async def publish(messaging: Messaging, params: PublishParams) -> PublishResult:
    """Publish into a channel. Answered after the commit where the channel has history."""
    return await _publish(messaging, params.channel, _data(params), params)


async def broadcast(messaging: Messaging, params: BroadcastParams) -> BroadcastResult:
    """Publish the same data into several channels; each has its own answer."""
    if not params.channels:
        raise codes.BAD_REQUEST.saying("channels is empty")
    data = _data(params)
    return BroadcastResult(
        await _together(lambda channel: _reply(_publish(messaging, channel, data, params)), params.channels)
    )


async def subscribe(messaging: Messaging, params: SubscribeParams) -> Empty:
    """Subscribe a user's connections, or one of them, to a channel."""
    _required(user=params.user, channel=params.channel)
    _impossible(
        session=params.session,
        expire_at=params.expire_at,
        info=params.info is not UNSET or params.b64info,
        data=params.data is not UNSET or params.b64data,
        recover_since=params.recover_since,
        override=params.override,
    )
    await messaging.subscribe(params.user, params.channel, params.client)
    return EMPTY


async def unsubscribe(messaging: Messaging, params: UnsubscribeParams) -> Empty:
    """Unsubscribe a user's connections, or one of them, from a channel."""
    _required(user=params.user, channel=params.channel)
    _impossible(session=params.session)
    await messaging.unsubscribe(params.user, params.channel, params.client)
    return EMPTY


async def disconnect(messaging: Messaging, params: DisconnectParams) -> Empty:
    """Close a user's connections, or one of them."""
    _required(user=params.user)
    _impossible(session=params.session, whitelist=params.whitelist)
    end = params.disconnect or DisconnectObject()
    if not 3000 <= end.code <= 4999:
        raise codes.BAD_REQUEST.saying("disconnect.code is between 3000 and 4999")
    if len(end.reason.encode()) > MAX_REASON:
        raise codes.BAD_REQUEST.saying(f"disconnect.reason is at most {MAX_REASON} bytes")
    await messaging.disconnect(params.user, params.client, end.code, end.reason)
    return EMPTY


async def refresh(messaging: Messaging, params: RefreshParams) -> Empty:
    """End a user's connections as expired: the client fetches a new token and comes back."""
    _required(user=params.user)
    _impossible(session=params.session, expire_at=params.expire_at)
    if not params.expired:
        raise codes.NOT_AVAILABLE.saying("refresh is available with expired: true")
    end = codes.CONNECTION_EXPIRED
    await messaging.disconnect(params.user, params.client, end.code, end.reason)
    return EMPTY


async def presence(messaging: Messaging, params: ChannelParams) -> PresenceResult:
    """Who is in a channel, by connection."""
    _required(channel=params.channel)
    return PresenceResult(await messaging.presence(params.channel))


async def presence_stats(messaging: Messaging, params: ChannelParams) -> PresenceStatsResult:
    """How many connections and users are in a channel."""
    _required(channel=params.channel)
    stats = await messaging.presence_stats(params.channel)
    return PresenceStatsResult(stats.num_clients, stats.num_users)


async def history(messaging: Messaging, params: HistoryParams) -> HistoryPage:
    """A part of a channel's past. Without `limit` only the position; -1: as many as the server allows."""
    _required(channel=params.channel)
    page = await messaging.history(params.channel, params.limit, params.since, params.reverse)
    return HistoryPage(page.publications or [], page.epoch, page.offset)


async def history_remove(messaging: Messaging, params: ChannelParams) -> Empty:
    """Forget a channel's past."""
    _required(channel=params.channel)
    await messaging.history_remove(params.channel)
    return EMPTY


async def info(messaging: Messaging, params: InfoParams) -> InfoResult:
    """The nodes that run, and what each holds."""
    return InfoResult(await messaging.info())


async def channels(messaging: Messaging, params: ChannelsParams) -> ChannelsResult:
    """The channels that have subscribers now, those that match a glob pattern if one is given."""
    counts = await messaging.channels(params.pattern)
    return ChannelsResult({channel: ChannelInfo(count) for channel, count in counts.items()})


@dataclass(frozen=True, slots=True)
class Method:
    run: Callable[[Messaging, Any], Awaitable[Any]]
    params: type[Struct]
    result: type[Struct]


METHODS = {
    "publish": Method(publish, PublishParams, PublishResult),
    "broadcast": Method(broadcast, BroadcastParams, BroadcastResult),
    "subscribe": Method(subscribe, SubscribeParams, Empty),
    "unsubscribe": Method(unsubscribe, UnsubscribeParams, Empty),
    "disconnect": Method(disconnect, DisconnectParams, Empty),
    "refresh": Method(refresh, RefreshParams, Empty),
    "presence": Method(presence, ChannelParams, PresenceResult),
    "presence_stats": Method(presence_stats, ChannelParams, PresenceStatsResult),
    "history": Method(history, HistoryParams, HistoryPage),
    "history_remove": Method(history_remove, ChannelParams, Empty),
    "info": Method(info, InfoParams, InfoResult),
    "channels": Method(channels, ChannelsParams, ChannelsResult),
}


async def batch(messaging: Messaging, params: BatchParams) -> BatchReplies:
    """Several commands in one request, one after the other or in parallel; each has its own reply."""

    async def run(command: BatchCommand) -> dict[str, Any]:
        given = [name for name in METHODS if getattr(command, name) is not None]
        if len(given) != 1:
            return {"error": _error(codes.METHOD_NOT_FOUND.saying("a command names exactly one method"))}
        reply = await _reply(METHODS[given[0]].run(messaging, getattr(command, given[0])))
        return {given[0]: reply.result} if reply.error is None else {"error": reply.error}

    if not params.parallel:
        return BatchReplies([await run(command) for command in params.commands])
    return BatchReplies(await _together(run, params.commands))


async def _publish(
    messaging: Messaging, channel: str, data: bytes, params: PublishParams | BroadcastParams
) -> PublishResult:
    _required(channel=channel)
    key = params.idempotency_key
    position = await messaging.publish(
        channel,
        data,
        id=hashlib.sha256(key.encode()).digest()[:16] if key else None,
        tags=params.tags,
        skip_history=params.skip_history,
    )
    return PublishResult(position.offset, position.epoch)


def _data(params: PublishParams | BroadcastParams) -> bytes:
    if not params.b64data:
        if params.data is UNSET:
            raise codes.BAD_REQUEST.saying("data is missing")
        return bytes(params.data)  # safe: the whole body was checked
    try:
        return safe_json(base64.b64decode(params.b64data, validate=True))
    except binascii.Error:
        raise codes.BAD_REQUEST.saying("b64data is not base64") from None


def _required(**values: str) -> None:
    for name, value in values.items():
        if not value:
            raise codes.BAD_REQUEST.saying(f"{name} is empty")


def _impossible(**values: object) -> None:
    for name, value in values.items():
        if value:
            raise codes.NOT_AVAILABLE.saying(f"{name} is not available")


async def _reply(command: Awaitable[R]) -> Reply[R]:
    try:
        return Reply(result=await command)
    except codes.CommandError as error:
        return Reply(error=_error(error))
    except Exception as error:
        _log.error("api.failed", exc_info=error)
        return Reply(error=_error(codes.INTERNAL()))


def _error(error: codes.CommandError) -> ErrorBody:
    return ErrorBody(error.code, error.message)


async def _together(job: Callable[[P], Awaitable[R]], parts: Sequence[P]) -> list[R]:
    """Do the job for each part, at most `CONCURRENCY` at once; the results in the order of the parts."""
    results: dict[int, R] = {}
    waiting = iter(enumerate(parts))

    async def work() -> None:
        for number, part in waiting:
            results[number] = await job(part)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONCURRENCY, len(parts))):
            group.create_task(work())
    return [results[number] for number in range(len(parts))]


# --- the routes -------------------------------------------------------------------------------------------------


async def require_key(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Guard: `X-API-Key: <key>`, or `Authorization: apikey <key>`. Wrong ones count against their address."""
    services: Services = connection.app.state.services
    given = connection.headers.get("x-api-key", "")
    if not given:
        scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
        given = credentials.strip() if scheme.lower() == "apikey" else ""
    if services.api_key and hmac.compare_digest(given.encode(), services.api_key.encode()):
        return
    await services.limits.requests_per_address.spend(address_of(connection))
    raise NotAuthorizedException(
        "the X-API-Key header is missing or wrong", headers={"WWW-Authenticate": 'ApiKey realm="chalkwire"'}
    )


def _route(name: str, method: Method) -> HTTPRouteHandler:
    async def handle(request: Request[Any, Any, Any], data: Any) -> Any:
        return await _reply(method.run(services_of(request).messaging, data))

    handle.__annotations__["data"] = JSONBody[method.params]  # type: ignore[misc,name-defined]
    handle.__annotations__["return"] = Reply[method.result]  # type: ignore[name-defined]
    handle.__doc__ = method.run.__doc__
    return post(f"/{name}", name=f"api.{name}", operation_id=name, status_code=HTTPStatus.OK)(handle)


@post("/batch", name="api.batch", operation_id="batch", status_code=HTTPStatus.OK)
async def _batch(request: Request[Any, Any, Any], data: JSONBody[BatchParams]) -> BatchReplies:
    return await batch(services_of(request).messaging, data)


def router() -> Router:
    routes: Iterable[HTTPRouteHandler] = [_route(name, method) for name, method in METHODS.items()]
    return Router(
        path="/api",
        route_handlers=[*routes, _batch],
        guards=[require_key],
        tags=["Server API"],
        security=[{"apiKey": []}],
    )
