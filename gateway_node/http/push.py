"""Browsers that take web pushes, over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.services import services_of
from gateway_node.services.subscriptions import Subscriptions
from storage.deliveries import Subscription

Key = Annotated[str, Meta(min_length=1, max_length=200)]


class Keys(Struct):
    p256dh: Key
    auth: Key


class PushSubscription(Struct):
    """What `PushSubscription.toJSON()` gives in the browser; what else is in it is not looked at."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=2000)]
    keys: Keys


class PublicKey(Struct):
    """For `applicationServerKey` in the browser."""

    key: str


class SubscriptionList(Struct):
    subscriptions: list[Subscription]


@get("/push/key", operation_id="getPushKey")
async def key(request: AnyRequest) -> Response[PublicKey]:
    """The server's public key; 409 where no pushes are sent."""
    return Response(PublicKey(_subscriptions(request).public_key()))


@post("/me/push", operation_id="subscribePush")
async def subscribe(request: AnyRequest, data: JSONBody[PushSubscription]) -> Response[Subscription]:
    """Have pushes sent to this browser, until its login ends. Once more is fine."""
    caller = caller_of(request)
    made = await _subscriptions(request).add(
        caller.user_id, caller.identity.session, data.endpoint, data.keys.p256dh, data.keys.auth
    )
    return Response(made, status_code=HTTPStatus.CREATED, headers={"Location": f"/v1/me/push/{made.id}"})


@get("/me/push", operation_id="listPush")
async def list_(request: AnyRequest) -> Response[SubscriptionList]:
    """One's browsers that pushes are sent to."""
    return Response(SubscriptionList(await _subscriptions(request).list(caller_of(request).user_id)))


@delete("/me/push/{subscription_id:uuid}", operation_id="unsubscribePush")
async def unsubscribe(request: AnyRequest, subscription_id: FromPath[UUID]) -> None:
    """Send no more pushes to a browser."""
    await _subscriptions(request).remove(caller_of(request).user_id, subscription_id)


def _subscriptions(request: AnyRequest) -> Subscriptions:
    return services_of(request).post.subscriptions


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[key, subscribe, list_, unsubscribe],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Notifications and reports"],
    )
