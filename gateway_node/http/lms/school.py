"""The school and its people over HTTP, for admins."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import NO_STORE, AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.keys import ApiKeys
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.services import services_of
from gateway_node.rights import SchoolRole
from gateway_node.services.lms.school import AuditPage, PeoplePage
from storage.deliveries import Outbox

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
Before = Annotated[int | None, QueryParameter(name="before", ge=1, le=2**62, description="`next` of the page before.")]
Subject = Annotated[
    UUID | None, QueryParameter(name="subject_id", description="What was done to this user, or to this course, alone.")
]


class NewRole(Struct, forbid_unknown_fields=True):
    role: SchoolRole


class Access(Struct, forbid_unknown_fields=True):
    allowed: bool


@get("/school/people", operation_id="listPeople")
async def people(request: AnyRequest, after: After = None, limit: Limit = MAX_PAGE) -> Response[PeoplePage]:
    """Everybody with an account, the oldest first."""
    found = await services_of(request).lms.school.people(after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@put("/school/people/{user_id:uuid}/role", operation_id="setSchoolRole", status_code=HTTPStatus.NO_CONTENT)
async def set_role(request: AnyRequest, user_id: FromPath[UUID], data: JSONBody[NewRole]) -> None:
    """Give somebody a role in the school. The last admin stays one."""
    await services_of(request).lms.school.set_role(caller_of(request).user_id, user_id, data.role)


@put("/school/people/{user_id:uuid}/access", operation_id="setAccess", status_code=HTTPStatus.NO_CONTENT)
async def set_access(request: AnyRequest, user_id: FromPath[UUID], data: JSONBody[Access]) -> None:
    """Keep somebody out: no login, every login ended, connections closed; or let them in again."""
    await services_of(request).lms.school.set_access(caller_of(request).user_id, user_id, allowed=data.allowed)


@get("/school/people/{user_id:uuid}/keys", operation_id="listKeysOf")
async def keys(request: AnyRequest, user_id: FromPath[UUID]) -> Response[ApiKeys]:
    """Somebody's API keys, by how they begin."""
    return Response(ApiKeys(await services_of(request).keys.list(user_id)), headers=NO_STORE)


@delete("/school/people/{user_id:uuid}/keys/{key_id:uuid}", operation_id="revokeKeyOf")
async def revoke_key(request: AnyRequest, user_id: FromPath[UUID], key_id: FromPath[UUID]) -> None:
    """Revoke somebody's API key."""
    await services_of(request).keys.revoke_of(caller_of(request).user_id, user_id, key_id)


@get("/school/audit", operation_id="listAudit")
async def audit(
    request: AnyRequest, before: Before = None, subject: Subject = None, limit: Limit = MAX_PAGE
) -> Response[AuditPage]:
    """What those in charge did, newest first."""
    found = await services_of(request).lms.school.audit(before=before, subject=subject, limit=limit)
    return page(request, found, {"before": found.next} if found.next else None)


@get("/school/outbox", operation_id="getOutbox")
async def outbox(request: AnyRequest) -> Response[Outbox]:
    """How many mails and pushes wait, and what went wrong last."""
    return Response(await services_of(request).post.deliveries.outbox())


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[people, set_role, set_access, keys, revoke_key, audit, outbox],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["School"],
    )
