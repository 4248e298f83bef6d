"""Accounts over HTTP: register, log in, refresh, log out, who am I and what am I called."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, delete, get, patch, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, HeaderParameter, JSONBody
from msgspec import Meta, Struct

from gateway_node.http.guards import address_of, bearer, limit_address
from gateway_node.http.problems import BEARER, Trouble, answer, unavailable
from gateway_node.http.services import services_of
from gateway_node.passwords import PasswordsBusy
from gateway_node.services.accounts import Login, LoginRefused, RefreshRefused
from storage.people import ProfileChange
from storage.users import EmailTaken, User

AnyRequest = Request[Any, Any, Any]
# What is an address is for a mail server to say; this keeps out what cannot be one.
Email = Annotated[str, Meta(max_length=255, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$")]
Password = Annotated[str, Meta(max_length=1024)]
NewPassword = Annotated[str, Meta(min_length=8, max_length=1024, description="At least 8 characters, of any kind.")]
# `$` alone would let a last line break pass.
Name = Annotated[str, Meta(max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$(?!\n)")]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Says that the request may be a retry: an account that it made before is its answer.",
    ),
]

NO_STORE = {"Cache-Control": "no-store"}  # RFC 6749, section 5.1: nobody keeps answers with tokens


class Registration(Struct, forbid_unknown_fields=True):
    email: Email
    password: NewPassword
    name: Name = ""


class Credentials(Struct, forbid_unknown_fields=True):
    email: Email
    password: Password


class RefreshToken(Struct, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=256)]


class Profile(Struct):
    id: UUID
    email: str
    name: str
    role: str
    created_at: datetime
    email_verified: bool
    bio: str
    locale: str
    time_zone: str
    avatar_id: UUID | None


class OpenSession(Struct):
    """A login on one device; `current`: the one that asks."""

    id: UUID
    user_agent: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool


class Sessions(Struct):
    sessions: list[OpenSession]


@post("/auth/register", operation_id="register")
async def register(
    request: AnyRequest, data: JSONBody[Registration], idempotency_key: IdempotencyKey = None
) -> Response[Profile]:
    """Make an account."""
    services = services_of(request)
    await services.limits.registrations_per_address.spend(address_of(request))
    user = await services.accounts.register(
        data.email, data.password, name=data.name.strip(), again=idempotency_key is not None
    )
    await services.post.recovery.welcome(user)
    return Response(_profile(user), status_code=HTTPStatus.CREATED, headers={"Location": "/v1/me"})


@post("/auth/login", operation_id="login", status_code=HTTPStatus.OK)
async def login(request: AnyRequest, data: JSONBody[Credentials]) -> Response[Login]:
    """Exchange an address and a password for tokens."""
    services = services_of(request)
    await services.limits.logins_per_address.spend(address_of(request))
    await services.limits.logins_per_user.spend(sha256(data.email.lower().encode()).hexdigest())
    user_agent = request.headers.get("user-agent", "")
    tokens = await services.accounts.login(data.email, data.password, user_agent=user_agent)
    return Response(tokens, headers=NO_STORE)


@post("/auth/refresh", operation_id="refreshLogin", status_code=HTTPStatus.OK)
async def refresh(request: AnyRequest, data: JSONBody[RefreshToken]) -> Response[Login]:
    """Exchange a refresh token for the next pair. It is used up; using it again ends the login."""
    return Response(await services_of(request).accounts.refresh(data.refresh_token), headers=NO_STORE)


@post("/auth/logout", operation_id="logout", status_code=HTTPStatus.NO_CONTENT)
async def logout(request: AnyRequest, data: JSONBody[RefreshToken]) -> None:
    """End the login that a refresh token belongs to."""
    await services_of(request).accounts.logout(data.refresh_token)


@get("/me", operation_id="me", security=[{"accessToken": []}])
async def me(request: AnyRequest) -> Response[Profile]:
    """The account that the access token names."""
    identity = await bearer(request)
    user = await services_of(request).accounts.profile(identity.user)
    if user is None:
        raise NotFoundException("the token names no account of this server")
    return Response(_profile(user), headers=NO_STORE)


@patch("/me", operation_id="updateMe", security=[{"accessToken": []}])
async def update(request: AnyRequest, data: JSONBody[ProfileChange]) -> Response[Profile]:
    """Change one's profile."""
    identity = await bearer(request)
    user = await services_of(request).chat.people.update(identity, data)
    return Response(_profile(user), headers=NO_STORE)


@get("/me/sessions", operation_id="listSessions", security=[{"accessToken": []}])
async def sessions(request: AnyRequest) -> Response[Sessions]:
    """One's logins on all devices, the last used one first."""
    identity = await bearer(request)
    found = await services_of(request).accounts.sessions(identity.user)
    return Response(
        Sessions(
            [
                OpenSession(
                    each.id,
                    each.user_agent,
                    each.created_at,
                    each.last_used_at,
                    each.expires_at,
                    str(each.id) == identity.session,
                )
                for each in found
            ]
        ),
        headers=NO_STORE,
    )


@delete("/me/sessions/{session_id:uuid}", operation_id="endSession", security=[{"accessToken": []}])
async def end_session(request: AnyRequest, session_id: FromPath[UUID]) -> None:
    """End a login: its refresh token opens nothing any more, and its connections close."""
    identity = await bearer(request)
    if not await services_of(request).accounts.end_session(identity.user, session_id):
        raise NotFoundException("there is no such login")


def _profile(user: User) -> Profile:
    return Profile(
        user.id,
        user.email,
        user.name,
        user.role,
        user.created_at,
        user.email_verified_at is not None,
        user.bio,
        user.locale,
        user.time_zone,
        user.avatar_id,
    )


def _refused(request: AnyRequest, error: Exception) -> Response[bytes]:
    return answer(request, HTTPStatus.UNAUTHORIZED, str(error), headers=BEARER)


def _taken(request: AnyRequest, _error: EmailTaken) -> Response[bytes]:
    detail = "there is an account with this address"
    return answer(request, HTTPStatus.CONFLICT, detail, [Trouble(detail, pointer="/email")])


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[register, login, refresh, logout, me, update, sessions, end_session],
        guards=[limit_address],
        exception_handlers={
            LoginRefused: _refused,
            RefreshRefused: _refused,
            EmailTaken: _taken,
            PasswordsBusy: unavailable,
        },
        tags=["Accounts"],
    )
