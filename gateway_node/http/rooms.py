"""Rooms over HTTP."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, Router, delete, get, patch, post, put
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from msgspec import Meta, Struct

from gateway_node.http.guards import bearer, limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.preconditions import IfMatch, etag, expected
from gateway_node.http.services import services_of
from gateway_node.services.rooms import MAX_MUTE, MemberPage, OpenRoomPage, RoomPage, Rooms, RoomView
from storage.rooms import Role

AnyRequest = Request[Any, Any, Any]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Says that the request may be a retry: a group that it made before is its answer.",
    ),
]
Archived = Annotated[bool, QueryParameter(name="archived", description="The archived rooms, not the others.")]
After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
AfterMember = Annotated[UUID | None, QueryParameter(name="after", description="`next` of the page before.")]
Query = Annotated[
    str, QueryParameter(name="query", max_length=255, description="The beginning of the title. Empty: all.")
]


class NewGroup(Struct, forbid_unknown_fields=True):
    title: str
    open: bool = False
    members: list[UUID] = []


class OtherUser(Struct, forbid_unknown_fields=True):
    user_id: UUID


class RoomChanges(Struct, forbid_unknown_fields=True):
    title: str | None = None
    open: bool | None = None


class NewRole(Struct, forbid_unknown_fields=True):
    role: Role


class MuteFor(Struct, forbid_unknown_fields=True):
    """Without `seconds`: until somebody says otherwise."""

    seconds: Annotated[int, Meta(ge=1, le=MAX_MUTE)] | None = None


@post("/rooms", operation_id="createRoom")
async def create(
    request: AnyRequest, data: JSONBody[NewGroup], idempotency_key: IdempotencyKey = None
) -> Response[RoomView]:
    """Make a group."""
    room, new = await _rooms(request).create(
        await bearer(request), data.title, open=data.open, members=data.members, key=idempotency_key or ""
    )
    return _made(room, new=new)


@post("/rooms/direct", operation_id="openDirectRoom")
async def direct(request: AnyRequest, data: JSONBody[OtherUser]) -> Response[RoomView]:
    """Open the room of oneself and somebody else; 200 when it was there."""
    room, new = await _rooms(request).direct(await bearer(request), data.user_id)
    return _made(room, new=new)


@get("/rooms", operation_id="listRooms")
async def list_(
    request: AnyRequest, archived: Archived = False, after: After = None, limit: Limit = MAX_PAGE
) -> Response[RoomPage]:
    """One's rooms, newest talk first."""
    found = await _rooms(request).of_user(await bearer(request), archived=archived, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/rooms/open", operation_id="findOpenRooms")
async def find(
    request: AnyRequest, wanted: Query = "", after: After = None, limit: Limit = MAX_PAGE
) -> Response[OpenRoomPage]:
    """Open groups to join, by the beginning of their title."""
    found = await _rooms(request).find(await bearer(request), wanted, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get("/rooms/{room_id:uuid}", operation_id="getRoom")
async def get_(request: AnyRequest, room_id: FromPath[UUID]) -> Response[RoomView]:
    """One room."""
    return _tagged(await _rooms(request).get(await bearer(request), room_id))


@patch("/rooms/{room_id:uuid}", operation_id="updateRoom")
async def update(
    request: AnyRequest,
    room_id: FromPath[UUID],
    data: JSONBody[RoomChanges],
    if_match: IfMatch = None,
) -> Response[RoomView]:
    """Rename a group, or open or close it to joiners."""
    room = await _rooms(request).update(
        await bearer(request), room_id, title=data.title, open=data.open, check=partial(expected, request)
    )
    return _tagged(room)


@put("/rooms/{room_id:uuid}/archive", operation_id="archiveRoom", status_code=HTTPStatus.NO_CONTENT)
async def archive(request: AnyRequest, room_id: FromPath[UUID]) -> None:
    """Close a group to messages."""
    await _rooms(request).archive(await bearer(request), room_id)


@delete("/rooms/{room_id:uuid}/archive", operation_id="restoreRoom")
async def restore(request: AnyRequest, room_id: FromPath[UUID]) -> None:
    """Open an archived group to messages again."""
    await _rooms(request).archive(await bearer(request), room_id, archived=False)


@post("/rooms/{room_id:uuid}/join", operation_id="joinRoom", status_code=HTTPStatus.OK)
async def join(request: AnyRequest, room_id: FromPath[UUID]) -> Response[RoomView]:
    """Come into an open group."""
    return _tagged(await _rooms(request).join(await bearer(request), room_id))


@post("/rooms/{room_id:uuid}/leave", operation_id="leaveRoom", status_code=HTTPStatus.NO_CONTENT)
async def leave(request: AnyRequest, room_id: FromPath[UUID]) -> None:
    """Leave a group. Its last owner hands it over."""
    await _rooms(request).leave(await bearer(request), room_id)


@get("/rooms/{room_id:uuid}/members", operation_id="listMembers")
async def members(
    request: AnyRequest, room_id: FromPath[UUID], after: AfterMember = None, limit: Limit = MAX_PAGE
) -> Response[MemberPage]:
    """Who is in a room, by id."""
    found = await _rooms(request).members(await bearer(request), room_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@put("/rooms/{room_id:uuid}/members/{user_id:uuid}", operation_id="inviteMember", status_code=HTTPStatus.NO_CONTENT)
async def invite(request: AnyRequest, room_id: FromPath[UUID], user_id: FromPath[UUID]) -> None:
    """Make somebody a member of a group."""
    await _rooms(request).invite(await bearer(request), room_id, user_id)


@delete("/rooms/{room_id:uuid}/members/{user_id:uuid}", operation_id="removeMember")
async def remove(request: AnyRequest, room_id: FromPath[UUID], user_id: FromPath[UUID]) -> None:
    """End the membership of somebody of lower rank."""
    await _rooms(request).remove(await bearer(request), room_id, user_id)


@put("/rooms/{room_id:uuid}/members/{user_id:uuid}/role", operation_id="setRole", status_code=HTTPStatus.NO_CONTENT)
async def role(request: AnyRequest, room_id: FromPath[UUID], user_id: FromPath[UUID], data: JSONBody[NewRole]) -> None:
    """Give a member a role."""
    await _rooms(request).set_role(await bearer(request), room_id, user_id, data.role)


@put("/rooms/{room_id:uuid}/members/{user_id:uuid}/mute", operation_id="muteMember", status_code=HTTPStatus.NO_CONTENT)
async def mute(request: AnyRequest, room_id: FromPath[UUID], user_id: FromPath[UUID], data: JSONBody[MuteFor]) -> None:
    """Let a member of lower rank read only."""
    await _rooms(request).mute(await bearer(request), room_id, user_id, data.seconds)


@delete("/rooms/{room_id:uuid}/members/{user_id:uuid}/mute", operation_id="unmuteMember")
async def unmute(request: AnyRequest, room_id: FromPath[UUID], user_id: FromPath[UUID]) -> None:
    """Let a muted member write again."""
    await _rooms(request).unmute(await bearer(request), room_id, user_id)


def _rooms(request: AnyRequest) -> Rooms:
    return services_of(request).chat.rooms


def _tagged(room: RoomView) -> Response[RoomView]:
    return Response(room, headers={"ETag": etag(room.updated_at)})


def _made(room: RoomView, *, new: bool) -> Response[RoomView]:
    headers = {"ETag": etag(room.updated_at), "Location": f"/v1/rooms/{room.id}"}
    return Response(room, status_code=HTTPStatus.CREATED if new else HTTPStatus.OK, headers=headers)


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[
            *(create, direct, list_, find, get_, update, archive, restore, join, leave),
            *(members, invite, remove, role, mute, unmute),
        ],
        guards=[limit_address],
        security=[{"accessToken": []}],
        tags=["Rooms"],
    )
