"""Forums: threads and posts over HTTP, live in the thread's channel, and for nobody outside the course."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from loadtest.server import Server
from tests.chat.person import Person
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol, execute, ok, published_course, school

pytestmark = pytest.mark.integration


def at(course: dict[str, Any], *path: str) -> str:
    return "/".join((f"/v1/courses/{course['id']}", *path))


async def ask(person: Person, course: dict[str, Any], title: str, **fields: Any) -> dict[str, Any]:
    asked = {"title": title, "content": f"{title}?", **fields}
    return dict(ok(await person.http("POST", at(course, "threads"), asked), 201))


async def reply(person: Person, course: dict[str, Any], thread: dict[str, Any], content: str, **more: Any) -> Any:
    path = at(course, "threads", thread["id"], "posts")
    return ok(await person.http("POST", path, {"content": content, **more}), 201)


async def test_posts_arrive_live_and_are_recovered(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        thread = await ask(ann, course, "How do channels work")
        assert thread["channel"] == f"thread:{course['id']}:{thread['id']}"
        await ben.device.subscribe(thread["channel"])
        answer = await reply(teacher, course, thread, "Like pipes", parent_id=None)
        heard = await ben.device.hears(thread["channel"], event="post_created")
        assert (heard["post"]["content"], heard["post"]["number"], heard["by"]) == ("Like pipes", 2, teacher.id)
        await ben.device.cut_and_return()
        path = at(course, "threads", thread["id"], "posts", answer["id"])
        ok(await teacher.http("PATCH", path, {"content": "Like pipes with types"}), 204)
        await ben.device.hears(thread["channel"], event="post_edited")
        await reply(ben, course, thread, "Thank you", parent_id=answer["id"])
        posts = ok(await ann.http("GET", at(course, "threads", thread["id"], "posts")))["posts"]
        assert [(each["number"], each["author"], each["content"]) for each in posts] == [
            (1, "ann", "How do channels work?"),
            (2, "teacher", "Like pipes with types"),
            (3, "ben", "Thank you"),
        ]
        page = await ann.http("GET", at(course, "threads", thread["id"], "posts?after=1&limit=1"))
        assert [each["number"] for each in ok(page)["posts"]] == [2]
        assert "after=2" in page.headers["link"]


async def test_whoever_leaves_the_course_is_out_of_its_threads_on_every_node(server: Server) -> None:
    async with school(server, "teacher", "ann", "stranger") as (teacher, ann, stranger):
        course = await published_course(teacher)
        await enrol(ann, course)
        thread = await ask(teacher, course, "Welcome")
        for person in (stranger,):
            with pytest.raises(Refused) as refused:
                await person.device.subscribe(thread["channel"])
            assert refused.value.code == 103
        tablet = await ann.another_device(0)
        for device in (ann.device, tablet):
            await device.subscribe(thread["channel"])
        # A client that is not subscribed to the room of the course is as much out of it.
        await ann.device.is_in(f"room:{course['room_id']}")
        ok(await teacher.http("DELETE", at(course, "participants", ann.id)), 204)
        for device in (ann.device, tablet):
            await device.is_out(thread["channel"])
        await reply(teacher, course, thread, "Among ourselves")
        for device in (ann.device, tablet):
            await device.in_step()
            assert not [each for each in device.heard(thread["channel"]) if each["event"] == "post_created"]
            with pytest.raises(Refused):
                await device.subscribe(thread["channel"])
        assert (await ann.http("GET", at(course, "threads", thread["id"], "posts"))).status == 403


async def test_nobody_writes_past_the_forum(server: Server) -> None:
    async with school(server, "teacher", "ann") as (teacher, ann):
        course = await published_course(teacher)
        await enrol(ann, course)
        thread = await ask(teacher, course, "Rules")
        await ann.device.subscribe(thread["channel"])
        with pytest.raises(Refused) as refused:
            await ann.device.publish(thread["channel"], {"event": "post_created"})
        assert refused.value.code == 103
        for channel in (f"thread:{course['id']}", f"thread:{thread['id']}:{course['id']}", "thread:x:y"):
            with pytest.raises(Refused) as refused:
                await ann.device.subscribe(channel)
            assert refused.value.code in (102, 103)


async def test_pinned_locked_and_answered(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        first, second, third = [await ask(ann, course, title) for title in ("First", "Second", "Third")]
        await reply(ben, course, first, "It moves up")
        ok(await teacher.http("PUT", at(course, "threads", second["id"], "pin")), 204)
        listed: list[str] = []
        path = at(course, "threads?limit=1")
        while path:
            answer = await ben.http("GET", path)
            listed += [each["title"] for each in ok(answer)["threads"]]
            link = answer.headers.get("link", "")
            path = link[1 : link.index(">")] if link else ""
        assert listed == ["Second", "First", "Third"]

        post = await reply(ben, course, third, "So")
        thread = at(course, "threads", third["id"])
        assert (await ben.http("PUT", f"{thread}/answer", {"post_id": post["id"]})).status == 403
        ok(await ann.http("PUT", f"{thread}/answer", {"post_id": post["id"]}), 204)
        assert ok(await ben.http("GET", thread))["accepted_id"] == post["id"]
        assert (await ann.http("PUT", f"{thread}/answer", {"post_id": str(uuid4())})).status == 404

        assert (await ann.http("PUT", f"{thread}/lock")).status == 403
        ok(await teacher.http("PUT", f"{thread}/lock"), 204)
        assert (await ben.http("POST", f"{thread}/posts", {"content": "But"})).status == 403
        assert (await ben.http("PATCH", f"{thread}/posts/{post['id']}", {"content": "But"})).status == 403
        ok(await teacher.http("POST", f"{thread}/posts", {"content": "Closed"}), 201)
        ok(await teacher.http("DELETE", f"{thread}/lock"), 204)
        ok(await ben.http("POST", f"{thread}/posts", {"content": "Again"}), 201)

        assert (await ann.http("DELETE", f"{thread}/posts/{post['id']}")).status == 403
        await ben.device.subscribe(third["channel"])
        ok(await teacher.http("DELETE", f"{thread}/posts/{post['id']}"), 204)
        await ben.device.hears(third["channel"], event="answer_accepted", post_id=None)
        assert "accepted_id" not in ok(await ben.http("GET", thread))  # what is gone answers nothing
        ok(await teacher.http("DELETE", f"{thread}/posts/{post['id']}"), 204)
        gone = ok(await ann.http("GET", f"{thread}/posts"))["posts"][1]
        assert (gone["content"], gone["number"]) == ("", 2) and gone["deleted_at"]


async def test_a_title_is_changed_by_whoever_began_the_thread_or_the_staff(server: Server) -> None:
    async with school(server, "admin", "teacher", "ann", "ben") as (admin, teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        thread = await ask(ann, course, "Buy this")
        path = at(course, "threads", thread["id"])
        await ben.device.subscribe(thread["channel"])
        ok(await ann.http("PATCH", path, {"title": "Buy that"}), 204)
        await ben.device.hears(thread["channel"], event="thread_updated", title="Buy that")
        assert (await ben.http("PATCH", path, {"title": "Mine"})).status == 403
        assert (await ann.http("PATCH", path, {"title": " "})).pointers == ["/title"]
        ok(await teacher.http("PUT", f"{path}/lock"), 204)
        assert (await ann.http("PATCH", path, {"title": "Again"})).status == 403
        ok(await teacher.http("PATCH", path, {"title": "An advertisement"}), 204)
        assert ok(await ben.http("GET", path))["title"] == "An advertisement"
        (act,) = ok(await admin.http("GET", f"/v1/school/audit?subject_id={ann.id}"))["acts"]
        assert (act["act"], act["actor_id"], act["data"]["title"]) == ("thread.renamed", teacher.id, "Buy that")


async def test_followers_and_whoever_is_mentioned_are_told(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben", "cleo") as (teacher, ann, ben, cleo):
        course = await published_course(teacher)
        for person in (ann, ben, cleo):
            await enrol(person, course)
        thread = await ask(ann, course, "Question")
        post = await reply(ben, course, thread, "See Cleo", mentions=[cleo.id, teacher.id, str(uuid4())])
        told = await cleo.hears(cleo.channel, kind="post.mentioned")
        assert (told["data"]["title"], told["data"]["post_id"]) == ("Question", post["id"])
        await ann.hears(ann.channel, kind="post.created")  # its author follows a thread
        ok(await ann.http("DELETE", at(course, "threads", thread["id"], "following")), 204)
        ok(await cleo.http("PUT", at(course, "threads", thread["id"], "following")), 204)
        assert ok(await cleo.http("GET", at(course, "threads", thread["id"])))["following"] is True
        await reply(teacher, course, thread, "And again")
        await cleo.hears(cleo.channel, kind="post.created", holds=lambda each: each["data"]["number"] == 3)
        await ben.hears(ben.channel, kind="post.created", holds=lambda each: each["data"]["number"] == 3)
        kinds = [each.get("kind") for each in ann.device.heard(ann.channel)]
        assert kinds.count("post.created") == 1
        ok(await ann.http("PUT", at(course, "threads", thread["id"], "answer"), {"post_id": post["id"]}), 204)
        await ben.hears(ben.channel, kind="post.accepted")


async def test_posts_are_numbered_without_a_hole_when_all_write_at_once(server: Server) -> None:
    async with school(server, "teacher", "ann", "ben") as (teacher, ann, ben):
        course = await published_course(teacher)
        for person in (ann, ben):
            await enrol(person, course)
        thread = await ask(ann, course, "All at once")
        await ben.device.subscribe(thread["channel"])
        path = at(course, "threads", thread["id"], "posts")
        key = {"Idempotency-Key": "k"}
        answers = await asyncio.gather(
            *(
                (ann, ben)[i % 2].http("POST", path, {"content": f"{i}"}, headers=key if i < 2 else None)
                for i in range(20)
            ),
            ann.http("POST", path, {"content": "0"}, headers=key),
        )
        assert sorted(each.status for each in answers) == [200] + [201] * 20
        posts = ok(await ann.http("GET", path))["posts"]
        assert [each["number"] for each in posts] == list(range(1, 22))

        def heard() -> list[int]:
            return [each["post"]["number"] for each in ben.device.heard(thread["channel"])]

        await ben.device.until(lambda: len(heard()) == 20)
        assert heard() == list(range(2, 22))


async def test_a_page_of_a_long_thread_is_as_cheap_as_of_a_short_one(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        thread = await ask(teacher, course, "Long")
        await execute(
            server,
            "insert into posts (thread_id, number, id, content)"
            " select $1::text::uuid, n, gen_random_uuid(), 'x' from generate_series(2, 100000) n",
            thread["id"],
        )
        rows = await execute(
            server,
            "explain (analyze, buffers, costs off, timing off) select p.* from posts p"
            f" where p.thread_id = '{thread['id']}' and p.number > 60000 order by p.number limit 50",
        )
        blocks = next(row[0] for row in rows if "Buffers" in row[0])
        assert sum(int(part.split("=")[1]) for part in blocks.split() if "=" in part) < 20, blocks
        page = ok(await teacher.http("GET", at(course, "threads", thread["id"], "posts?after=60000&limit=50")))
        assert [page["posts"][0]["number"], page["next"]] == [60001, "60050"]


async def test_bad_input_is_refused_at_its_place(server: Server) -> None:
    async with school(server, "teacher") as (teacher,):
        course = await published_course(teacher)
        for fields, pointer in (
            ({"title": "", "content": "x"}, "/title"),
            ({"title": "x", "content": " "}, "/content"),
            ({"title": "x", "content": "\0"}, "/content"),
            ({"title": "x", "content": "x" * 20_001}, "/content"),
            ({"title": "x", "content": "x", "mentions": [str(uuid4())] * 21}, "/mentions"),
        ):
            refused = await teacher.http("POST", at(course, "threads"), fields)
            assert (refused.status, refused.pointers) == (422, [pointer]), fields
        thread = await ask(teacher, course, "Fine")
        path = at(course, "threads", thread["id"], "posts")
        refused = await teacher.http("POST", path, {"content": "x", "parent_id": str(uuid4())})
        assert (refused.status, refused.pointers) == (422, ["/parent_id"])
        assert (await teacher.http("GET", f"{path}?after=-1")).status == 400
        foreign = await published_course(teacher)
        assert (await teacher.http("GET", at(foreign, "threads", thread["id"]))).status == 404
