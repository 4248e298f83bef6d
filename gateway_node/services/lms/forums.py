"""Forums: threads of a course, and what is said in them, live in the thread's channel.

Every method raises `CommandError`: 1002 for what is not there, 103 where one may not (a locked thread; a post of
somebody else), 107 for a value that cannot be, 100 while PostgreSQL is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

import msgspec
from msgspec import Struct

from gateway_node.services.bookmarks import Microseconds, bookmark, place_of
from gateway_node.services.lms.courses import MAX_TITLE
from gateway_node.services.stores import asked, database
from gateway_node.services.text import line, storable
from realtime import codes
from realtime.publisher import Publisher
from storage.lms.forums import ForumStore, Post, Thread, ThreadChange

MAX_PAGE = 100
MAX_POST = 20_000  # characters
MAX_MENTIONS = 20

_EPOCH = datetime.fromtimestamp(0, UTC)


class NewPost(Struct, forbid_unknown_fields=True):
    """`mentions`: who is told of it, of those who take part."""

    content: str
    parent_id: UUID | None = None
    mentions: list[UUID] = []


class NewThread(Struct, forbid_unknown_fields=True):
    title: str
    content: str
    mentions: list[UUID] = []


class ThreadPage(Struct, frozen=True, omit_defaults=True):
    threads: Sequence[Thread]
    next: str = ""


class PostPage(Struct, frozen=True, omit_defaults=True):
    posts: Sequence[Post]
    next: str = ""


class Forums:
    def __init__(self, store: ForumStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    # --- reading -----------------------------------------------------------------------------------------------

    async def threads(self, course_id: UUID, *, after: str | None, limit: int = MAX_PAGE) -> ThreadPage:
        """Pinned ones first, then those with the newest posts."""
        place = place_of(after, tuple[bool, Microseconds, UUID], "after")
        moment = (place[0], _EPOCH + timedelta(microseconds=place[1]), place[2]) if place else None
        found = await asked(self._store.threads(course_id, after=moment, limit=limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        following = ""
        if last:
            following = bookmark(last.pinned, (last.active_at - _EPOCH) // timedelta(microseconds=1), last.id)
        return ThreadPage(found[:limit], following)

    async def thread(self, user_id: UUID, course_id: UUID, thread_id: UUID) -> Thread:
        found = await asked(self._store.thread(course_id, thread_id, user_id))
        if found is None:
            raise codes.NOT_FOUND.saying("there is no such thread")
        return found

    async def posts(
        self, user_id: UUID, course_id: UUID, thread_id: UUID, *, after: int, limit: int = MAX_PAGE
    ) -> PostPage:
        """By number, those that follow `after`."""
        await self.thread(user_id, course_id, thread_id)
        found = await asked(self._store.posts(thread_id, after=after, limit=limit + 1))
        return PostPage(found[:limit], str(found[limit - 1].number) if len(found) > limit else "")

    # --- writing -----------------------------------------------------------------------------------------------

    async def open(self, user_id: UUID, course_id: UUID, new: NewThread, key: str) -> tuple[Thread, bool]:
        """A thread with its first post. With the `key` of an earlier request it is the thread of then."""
        id = uuid5(user_id, f"thread {course_id} {key}") if key else uuid4()
        title = line(new.title, "/title", MAX_TITLE)
        post = NewPost(new.content, None, new.mentions)
        _check(post)
        with database():
            async with self._store.opening(course_id, id, user_id, title) as change:
                if change is not None:
                    await change.record("thread.created", user_id, id, title=title)
                    await self._add(change, user_id, post, uuid4())
        if change is not None:
            self._forward(change)
        return await self.thread(user_id, course_id, id), change is not None

    async def reply(
        self, user_id: UUID, course_id: UUID, thread_id: UUID, new: NewPost, key: str, *, teaches: bool
    ) -> tuple[Post, bool]:
        """With the `key` of an earlier request it is the post of then."""
        _check(new)
        id = uuid5(user_id, f"post {thread_id} {key}") if key else uuid4()
        async with self._changing(course_id, thread_id) as change:
            if key and (made := await change.post(id)) is not None:
                return made, False
            if change.thread.locked and not teaches:
                raise codes.PERMISSION_DENIED.saying("the thread is locked")
            if new.parent_id is not None and await change.post(new.parent_id) is None:
                raise codes.BAD_REQUEST.at("/parent_id", "there is no such post in this thread")
            return await self._add(change, user_id, new, id), True

    async def _add(self, change: ThreadChange, user_id: UUID, new: NewPost, id: UUID) -> Post:
        mentions = await change.taking_part(new.mentions) if new.mentions else []
        post = await change.add(id, user_id, new.content, new.parent_id)
        change.tell("post_created", user_id, post=msgspec.to_builtins(post))
        title = change.thread.title
        await change.record(
            "post.created", user_id, id, title=title, thread_id=change.thread.id, number=post.number, mentions=mentions
        )
        return post

    async def edit(self, user_id: UUID, course_id: UUID, thread_id: UUID, post_id: UUID, content: str) -> None:
        """One's own."""
        _check(NewPost(content))
        async with self._changing(course_id, thread_id) as change:
            post = await _post_of(change, post_id)
            if post.author_id != user_id:
                raise codes.PERMISSION_DENIED.saying("its author edits a post")
            if change.thread.locked:
                raise codes.PERMISSION_DENIED.saying("the thread is locked")
            if post.deleted_at is not None:
                raise codes.CONFLICT.saying("the post is deleted")
            await change.edit(post_id, content)
            change.tell("post_edited", user_id, post_id=post_id, content=content)

    async def delete(self, user_id: UUID, course_id: UUID, thread_id: UUID, post_id: UUID, *, teaches: bool) -> None:
        """One's own, or anybody's by the staff. Once more is fine."""
        async with self._changing(course_id, thread_id) as change:
            post = await _post_of(change, post_id)
            if post.author_id != user_id and not teaches:
                raise codes.PERMISSION_DENIED.saying("its author, or the staff, deletes a post")
            if post.deleted_at is None:
                await change.delete(post_id)
                change.tell("post_deleted", user_id, post_id=post_id)
                if post_id == change.thread.accepted_id:  # nothing answers the question any more
                    await change.mark(pinned=change.thread.pinned, locked=change.thread.locked, accepted_id=None)
                    change.tell("answer_accepted", user_id, post_id=None)
                if post.author_id != user_id:
                    await change.note("post.deleted", user_id, post.author_id, post_id=post_id, number=post.number)

    async def mark(
        self, user_id: UUID, course_id: UUID, thread_id: UUID, *, pinned: bool | None = None, locked: bool | None = None
    ) -> None:
        """Keep a thread at the top, or close it to everybody but the staff."""
        async with self._changing(course_id, thread_id) as change:
            thread = change.thread
            pinned = thread.pinned if pinned is None else pinned
            locked = thread.locked if locked is None else locked
            await change.mark(pinned=pinned, locked=locked, accepted_id=thread.accepted_id)
            change.tell("thread_updated", user_id, pinned=pinned, locked=locked)

    async def rename(self, user_id: UUID, course_id: UUID, thread_id: UUID, title: str, *, teaches: bool) -> None:
        """By whoever began it, while it is open, or by the staff."""
        title = line(title, "/title", MAX_TITLE)
        async with self._changing(course_id, thread_id) as change:
            thread = change.thread
            if not teaches and (thread.author_id != user_id or thread.locked):
                raise codes.PERMISSION_DENIED.saying("whoever began an open thread, or the staff, renames it")
            await change.rename(title)
            change.tell("thread_updated", user_id, title=title)
            if thread.author_id != user_id:
                await change.note("thread.renamed", user_id, thread.author_id)

    async def accept(
        self, user_id: UUID, course_id: UUID, thread_id: UUID, post_id: UUID | None, *, teaches: bool
    ) -> None:
        """Say which post answers the question, or that none does: whoever asked it, or the staff."""
        async with self._changing(course_id, thread_id) as change:
            thread = change.thread
            if thread.author_id != user_id and not teaches:
                raise codes.PERMISSION_DENIED.saying("whoever asked, or the staff, accepts an answer")
            if post_id is not None:
                post = await _post_of(change, post_id)
                if post.deleted_at is not None:
                    raise codes.CONFLICT.saying("the post is deleted")
                if post_id != thread.accepted_id and post.author_id is not None:
                    await change.record(
                        "post.accepted", user_id, post_id, title=thread.title, recipients=[post.author_id]
                    )
            await change.mark(pinned=thread.pinned, locked=thread.locked, accepted_id=post_id)
            change.tell("answer_accepted", user_id, post_id=post_id)

    async def follow(self, user_id: UUID, course_id: UUID, thread_id: UUID, *, following: bool = True) -> None:
        """Be told of new posts, or not any more."""
        await self.thread(user_id, course_id, thread_id)
        if not following:
            await asked(self._store.unfollow(thread_id, user_id))
            return
        async with self._changing(course_id, thread_id) as change:
            await change.follow(user_id)

    # --- how ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _changing(self, course_id: UUID, thread_id: UUID) -> AsyncIterator[ThreadChange]:
        with database():
            async with self._store.changing(course_id, thread_id) as change:
                if change is None:
                    raise codes.NOT_FOUND.saying("there is no such thread")
                yield change
        self._forward(change)

    def _forward(self, change: ThreadChange) -> None:
        for told in change.told:
            self._publisher.forward(told.channel, told.publication, told.epoch)


async def _post_of(change: ThreadChange, post_id: UUID) -> Post:
    post = await change.post(post_id)
    if post is None:
        raise codes.NOT_FOUND.saying("there is no such post")
    return post


def _check(post: NewPost) -> None:
    storable(post.content, "/content", MAX_POST)
    if not post.content.strip():
        raise codes.BAD_REQUEST.at("/content", "there is nothing in it")
    if len(post.mentions) > MAX_MENTIONS:
        raise codes.BAD_REQUEST.at("/mentions", f"at most {MAX_MENTIONS} people are mentioned")
