"""Forums over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct

from gateway_node.http.accounts import AnyRequest
from gateway_node.http.guards import limit_address
from gateway_node.http.lists import MAX_PAGE, Limit, page
from gateway_node.http.lms.courses import Title
from gateway_node.http.rights import caller_of, enforce
from gateway_node.http.rooms import IdempotencyKey
from gateway_node.http.services import services_of
from gateway_node.services.lms.forums import Forums, NewPost, NewThread, PostPage, ThreadPage
from storage.lms.forums import Post, Thread

After = Annotated[str | None, QueryParameter(name="after", max_length=2048, description="`next` of the page before.")]
AfterPost = Annotated[int, QueryParameter(name="after", ge=0, le=2**31 - 1, description="The number of a post.")]
THREADS = "/courses/{course_id:uuid}/threads"
THREAD = THREADS + "/{thread_id:uuid}"
POST = THREAD + "/posts/{post_id:uuid}"


class Content(Struct, forbid_unknown_fields=True):
    content: str


class Answer(Struct, forbid_unknown_fields=True):
    """`post_id` null: none of them."""

    post_id: UUID | None


@post(THREADS, operation_id="createThread")
async def open_(
    request: AnyRequest, course_id: FromPath[UUID], data: JSONBody[NewThread], idempotency_key: IdempotencyKey = None
) -> Response[Thread]:
    """Begin a thread with its first post."""
    made, new = await _forums(request).open(caller_of(request).user_id, course_id, data, idempotency_key or "")
    location = f"/v1/courses/{course_id}/threads/{made.id}"
    status = HTTPStatus.CREATED if new else HTTPStatus.OK
    return Response(made, status_code=status, headers={"Location": location})


@get(THREADS, operation_id="listThreads")
async def threads(
    request: AnyRequest, course_id: FromPath[UUID], after: After = None, limit: Limit = MAX_PAGE
) -> Response[ThreadPage]:
    """Pinned threads first, then those with the newest posts."""
    found = await _forums(request).threads(course_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@get(THREAD, operation_id="getThread")
async def thread(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> Response[Thread]:
    """A thread, without its posts."""
    return Response(await _forums(request).thread(caller_of(request).user_id, course_id, thread_id))


@patch(THREAD, operation_id="updateThread", status_code=HTTPStatus.NO_CONTENT)
async def rename(
    request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID], data: JSONBody[Title]
) -> None:
    """Change the title of one's own thread; the staff, of anybody's."""
    caller = caller_of(request)
    await _forums(request).rename(caller.user_id, course_id, thread_id, data.title, teaches=caller.standing.teaches)


@get(THREAD + "/posts", operation_id="listPosts")
async def posts(
    request: AnyRequest,
    course_id: FromPath[UUID],
    thread_id: FromPath[UUID],
    after: AfterPost = 0,
    limit: Limit = MAX_PAGE,
) -> Response[PostPage]:
    """The posts of a thread, the first one first."""
    caller = caller_of(request)
    found = await _forums(request).posts(caller.user_id, course_id, thread_id, after=after, limit=limit)
    return page(request, found, {"after": found.next} if found.next else None)


@post(THREAD + "/posts", operation_id="createPost")
async def reply(
    request: AnyRequest,
    course_id: FromPath[UUID],
    thread_id: FromPath[UUID],
    data: JSONBody[NewPost],
    idempotency_key: IdempotencyKey = None,
) -> Response[Post]:
    """Say something in a thread."""
    caller = caller_of(request)
    made, new = await _forums(request).reply(
        caller.user_id, course_id, thread_id, data, idempotency_key or "", teaches=caller.standing.teaches
    )
    return Response(made, status_code=HTTPStatus.CREATED if new else HTTPStatus.OK)


@patch(POST, operation_id="editPost", status_code=HTTPStatus.NO_CONTENT)
async def edit(
    request: AnyRequest,
    course_id: FromPath[UUID],
    thread_id: FromPath[UUID],
    post_id: FromPath[UUID],
    data: JSONBody[Content],
) -> None:
    """Change one's own post."""
    await _forums(request).edit(caller_of(request).user_id, course_id, thread_id, post_id, data.content)


@delete(POST, operation_id="deletePost")
async def delete_(
    request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID], post_id: FromPath[UUID]
) -> None:
    """Delete one's own post; the staff, anybody's."""
    caller = caller_of(request)
    await _forums(request).delete(caller.user_id, course_id, thread_id, post_id, teaches=caller.standing.teaches)


@put(THREAD + "/pin", operation_id="pinThread", status_code=HTTPStatus.NO_CONTENT)
async def pin(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> None:
    """Keep a thread at the top."""
    await _forums(request).mark(caller_of(request).user_id, course_id, thread_id, pinned=True)


@delete(THREAD + "/pin", operation_id="unpinThread")
async def unpin(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> None:
    """Let a thread take its place among the others."""
    await _forums(request).mark(caller_of(request).user_id, course_id, thread_id, pinned=False)


@put(THREAD + "/lock", operation_id="lockThread", status_code=HTTPStatus.NO_CONTENT)
async def lock(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> None:
    """Let the staff alone write in a thread."""
    await _forums(request).mark(caller_of(request).user_id, course_id, thread_id, locked=True)


@delete(THREAD + "/lock", operation_id="unlockThread")
async def unlock(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> None:
    """Let everybody write in a thread again."""
    await _forums(request).mark(caller_of(request).user_id, course_id, thread_id, locked=False)


@put(THREAD + "/answer", operation_id="acceptAnswer", status_code=HTTPStatus.NO_CONTENT)
async def accept(
    request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID], data: JSONBody[Answer]
) -> None:
    """Say which post answers the question."""
    caller = caller_of(request)
    await _forums(request).accept(caller.user_id, course_id, thread_id, data.post_id, teaches=caller.standing.teaches)


@put(THREAD + "/following", operation_id="followThread", status_code=HTTPStatus.NO_CONTENT)
async def follow(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> None:
    """Be told of new posts."""
    await _forums(request).follow(caller_of(request).user_id, course_id, thread_id)


@delete(THREAD + "/following", operation_id="unfollowThread")
async def unfollow(request: AnyRequest, course_id: FromPath[UUID], thread_id: FromPath[UUID]) -> None:
    """Be told no more."""
    await _forums(request).follow(caller_of(request).user_id, course_id, thread_id, following=False)


def _forums(request: AnyRequest) -> Forums:
    return services_of(request).lms.forums


def router() -> Router:
    return Router(
        path="/v1",
        route_handlers=[
            *(open_, threads, thread, rename, posts, reply, edit, delete_),
            *(pin, unpin, lock, unlock, accept, follow, unfollow),
        ],
        guards=[limit_address, enforce],
        security=[{"accessToken": []}],
        tags=["Forums"],
    )
