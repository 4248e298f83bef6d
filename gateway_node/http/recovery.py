"""Lost passwords and unknown addresses over HTTP."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from typing import Annotated

from litestar import Router, post, put
from litestar.params import JSONBody
from msgspec import Meta, Struct

from gateway_node.http.accounts import AnyRequest, Email, NewPassword, Password
from gateway_node.http.guards import address_of, bearer, limit_address
from gateway_node.http.problems import unavailable
from gateway_node.http.services import services_of
from gateway_node.passwords import PasswordsBusy

Token = Annotated[str, Meta(min_length=1, max_length=1024)]


class Forgotten(Struct, forbid_unknown_fields=True):
    email: Email


class NewByLink(Struct, forbid_unknown_fields=True):
    token: Token
    password: NewPassword


class Proof(Struct, forbid_unknown_fields=True):
    token: Token


class PasswordChange(Struct, forbid_unknown_fields=True):
    password: Password
    new_password: NewPassword


@post("/auth/forgotten", operation_id="forgotPassword", status_code=HTTPStatus.ACCEPTED)
async def forgotten(request: AnyRequest, data: JSONBody[Forgotten]) -> None:
    """Send a link for a new password to whoever has this address. The answer is the same when nobody has."""
    limits = services_of(request).limits
    await limits.logins_per_address.spend(address_of(request))
    await limits.logins_per_user.spend(sha256(data.email.lower().encode()).hexdigest())
    await services_of(request).post.recovery.forgotten(data.email)


@post("/auth/password", operation_id="resetPassword", status_code=HTTPStatus.NO_CONTENT)
async def reset(request: AnyRequest, data: JSONBody[NewByLink]) -> None:
    """A new password, by the token of such a link. Every login ends."""
    await services_of(request).limits.logins_per_address.spend(address_of(request))
    await services_of(request).post.recovery.reset(data.token, data.password)


@post("/auth/verification", operation_id="verifyEmail", status_code=HTTPStatus.NO_CONTENT)
async def verify(request: AnyRequest, data: JSONBody[Proof]) -> None:
    """Say that an address is one's own, by the token of the link that was sent there."""
    await services_of(request).post.recovery.verify(data.token)


@put("/me/password", operation_id="changePassword", status_code=HTTPStatus.NO_CONTENT, security=[{"accessToken": []}])
async def change(request: AnyRequest, data: JSONBody[PasswordChange]) -> None:
    """Change one's password. The other logins end."""
    identity = await bearer(request)
    await services_of(request).limits.logins_per_user.spend(identity.user)
    await services_of(request).post.recovery.change(identity, data.password, data.new_password)


@post(
    "/me/verification",
    operation_id="askVerification",
    status_code=HTTPStatus.ACCEPTED,
    security=[{"accessToken": []}],
)
async def ask(request: AnyRequest) -> None:
    """Send the link that verifies one's address once more."""
    await services_of(request).post.recovery.ask_again(await bearer(request))


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[forgotten, reset, verify, change, ask],
        guards=[limit_address],
        exception_handlers={PasswordsBusy: unavailable},
        tags=["Accounts"],
    )
