from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from realtime.interfaces import Refused
from realtime.messages import MessageEvent, SentMessage, StoredMessage, compose, event_about
from storage.database import Database
from storage.log import LogReader
from storage.log.append import append_batch
from storage.messages import ChangedMeanwhile, Done, MessageStore, NoMember, NoSuchMessage, Row
from storage.users import UserStore

pytestmark = pytest.mark.integration

DAY = 86400.0


class Talk:
    """A group of two, and what they say in it."""

    def __init__(self, database: Database, room: UUID, ann: UUID, ben: UUID) -> None:
        self.database = database
        self.messages = MessageStore(database)
        self.room = room
        self.ann = ann
        self.ben = ben
        self.channel = f"room:{room}"

    async def say(self, content: str, sender: UUID | None = None, **more: Any) -> UUID:
        sent = SentMessage(uuid4(), content, **more)
        async with self.database.acquire() as connection:
            await append_batch(connection, [compose(self.channel, str(sender or self.ann), sent)])
        return sent.id

    async def row(self, message_id: UUID) -> Row:
        got = await self.messages.get(self.room, self.ann, message_id)
        assert got is not None
        assert got[1] is not None
        return got[1]

    async def edit(self, row: Row, content: str, event: MessageEvent | None = None) -> Done:
        message = row.message
        message.content = content
        event = event or event_about(message, str(self.ann), "message_edited", content=content)
        return await self.messages.change(row, message, event, edited_at=datetime.now(UTC))

    async def delete(self, row: Row) -> Done:
        message = row.message
        left = StoredMessage(
            id=message.id, from_user_id=message.from_user_id, room_id=message.room_id, content="", type=message.type
        )
        return await self.messages.delete(
            row, left, event_about(message, str(self.ann), "message_deleted"), datetime.now(UTC)
        )

    async def log(self) -> list[dict[str, Any]]:
        page = await LogReader(self.database).read(self.channel, 0, 1000)
        assert [each.offset for each in page.publications] == list(range(1, page.head.offset + 1))
        return [msgspec.json.decode(each.data) for each in page.publications]

    async def count(self, statement: str, *args: object) -> int:
        value: int = await self.database.fetchval(statement, *args)
        return value


@pytest.fixture
async def talk(database: Database) -> Talk:
    users = UserStore(database)
    ann, ben = [(await users.create(f"{name}@example.org", "hash", name=name)).id for name in ("ann", "ben")]
    room = await database.fetchval("insert into rooms (kind, title) values ('group', 'Algebra') returning id")
    for user in (ann, ben):
        await database.execute(
            "insert into room_members (room_id, user_id, role) values ($1, $2, 'member')", room, user
        )
    return Talk(database, room, ann, ben)


async def test_an_edit_changes_the_row_and_leaves_an_event(talk: Talk) -> None:
    id = await talk.say("helo")
    done = await talk.edit(await talk.row(id), "hello")
    assert done.appended.offset == 2
    row = await talk.row(id)
    assert (row.offset, row.message.content) == (1, "hello")
    assert row.edited_at is not None
    said, event = await talk.log()
    assert said["content"] == "hello"
    assert (event["type"], event["event"], event["message_id"]) == ("event", "message_edited", str(id))
    assert msgspec.json.decode(done.event.data) == event
    found = "select count(*) from messages where search @@ plainto_tsquery('simple', $1)"
    assert (await talk.count(found, "hello"), await talk.count(found, "helo")) == (1, 0)


async def test_of_concurrent_edits_each_that_is_told_done_is_in_the_log(talk: Talk) -> None:
    id = await talk.say("0")
    row = await talk.row(id)
    outcomes = await asyncio.gather(*(talk.edit(row, str(n)) for n in range(1, 9)), return_exceptions=True)
    done = [each for each in outcomes if isinstance(each, Done)]
    assert len(done) == 1
    assert all(isinstance(each, Done | ChangedMeanwhile) for each in outcomes)
    said, event = await talk.log()
    assert said["content"] == event["content"] != "0"


async def test_concurrent_edits_that_read_again_all_come_through(talk: Talk) -> None:
    id = await talk.say("0")

    async def insist(n: int) -> None:
        while True:
            try:
                await talk.edit(await talk.row(id), str(n))
            except ChangedMeanwhile:
                continue
            return

    await asyncio.gather(*(insist(n) for n in range(1, 9)))
    said, *events = await talk.log()
    assert {event["content"] for event in events} == {str(n) for n in range(1, 9)}
    assert said["content"] == events[-1]["content"], "the row is what the last event says"


async def test_an_edit_and_a_deletion_at_once_leave_no_word(talk: Talk) -> None:
    for _ in range(5):
        id = await talk.say("secret")
        row = await talk.row(id)
        edited, deleted = await asyncio.gather(talk.edit(row, "secret 2"), talk.delete(row), return_exceptions=True)
        assert [isinstance(each, ChangedMeanwhile) for each in (edited, deleted)].count(True) == 1
        if isinstance(deleted, ChangedMeanwhile):
            await talk.delete(await talk.row(id))
    assert "secret" not in str(await talk.log())


async def test_a_retry_with_the_same_event_is_done_once(talk: Talk) -> None:
    id = await talk.say("one")
    row = await talk.row(id)
    event = event_about(row.message, str(talk.ann), "message_edited", content="two")
    first = await talk.edit(row, "two", event)
    await talk.edit(await talk.row(id), "three")
    await talk.database.execute("update channels set closed = true where name = $1", talk.channel)
    again = await talk.edit(row, "two", event)  # as after an unknown outcome
    assert again.appended.duplicate is not None
    assert (again.appended.offset, again.event) == (first.appended.offset, first.event)
    assert (await talk.row(id)).message.content == "three"
    assert len(await talk.log()) == 3


async def test_a_lost_connection_in_between_is_tried_again(talk: Talk, database_url: str) -> None:
    id = await talk.say("one")
    row = await talk.row(id)
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():  # holds the channel, so that the edit waits
            await other.execute("select from channels for no key update")
            edit = asyncio.create_task(talk.edit(row, "two"))
            waiting = (
                "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%change_message%'"
            )
            while not (pid := await other.fetchval(waiting)):
                await asyncio.sleep(0.01)
                await other.execute("select pg_stat_clear_snapshot()")
            await other.execute("select pg_terminate_backend($1)", pid)
        done = await edit
    finally:
        await other.close()
    assert done.appended.offset == 2
    assert len(await talk.log()) == 2


async def test_a_deletion_takes_everything_that_was_said(talk: Talk) -> None:
    id = await talk.say("secret", mentions=[talk.ben])
    other = await talk.say('I say "event":"message_edited" too')
    row = await talk.row(id)
    await talk.edit(row, "secret two")
    await talk.edit(await talk.row(id), 'secret "three"')
    await talk.edit(await talk.row(other), "still here")
    file = uuid4()
    await talk.database.execute(
        "insert into files (id, room_id, name, ready, message_id) values ($1, $2, 'x', true, $3)", file, talk.room, id
    )
    elsewhere = uuid4()  # another room has a message of the same id
    await talk.database.execute(
        "insert into files (id, name, ready, message_id) values ($1, 'x', true, $2)", elsewhere, id
    )
    for table, columns in (
        ("reactions", "emoji, user_id) values ($1, $2, '👍', $3)"),
        ("pins", "pinned_by) values ($1, $2, $3)"),
    ):
        channel = await talk.database.fetchval("select id from channels where name = $1", talk.channel)
        await talk.database.execute(f"insert into {table} (channel_id, message_id, {columns}", channel, id, talk.ben)
    assert await talk.count("select count(*) from mentions") == 1

    await talk.delete(await talk.row(id))
    said, second, *events, gone = await talk.log()
    assert "secret" not in str(await talk.log())
    assert (said["content"], second["content"]) == ("", "still here")
    assert [(each["event"], each["content"]) for each in events] == [
        ("message_edited", ""),
        ("message_edited", ""),
        ("message_edited", "still here"),
    ]
    assert all(set(each) >= {"id", "from_user_id", "room_id", "message_id"} for each in events)
    assert len({each["id"] for each in events}) == 3
    assert gone["event"] == "message_deleted"
    for table in ("mentions", "reactions", "pins"):
        assert await talk.count(f"select count(*) from {table}") == 0
    assert await talk.count("select count(*) from messages where search is not null") == 1
    assert (await talk.row(id)).deleted_at is not None
    assert await talk.count("select count(*) from files where id = $1 and removed_at is null", file) == 0
    assert await talk.count("select count(*) from files where id = $1 and removed_at is null", elsewhere) == 1


async def test_nothing_is_changed_that_is_not_there(talk: Talk) -> None:
    id = await talk.say("one")
    row = await talk.row(id)
    event = event_about(row.message, str(talk.ann), "message_edited")
    event.message_id = uuid4()
    unknown = msgspec.structs.replace(row, id=uuid4())
    with pytest.raises(NoSuchMessage):
        await talk.messages.change(unknown, row.message, event)
    stranger = msgspec.structs.replace(event, room_id=str(uuid4()))
    with pytest.raises(NoSuchMessage):
        await talk.messages.change(row, row.message, stranger)
    done = await talk.edit(row, "two")
    no_message = msgspec.structs.replace(row, id=msgspec.json.decode(done.event.data, type=MessageEvent).id)
    with pytest.raises(NoSuchMessage):
        await talk.edit(no_message, "an event is no message")
    assert len(await talk.log()) == 2


async def test_who_may_not_write_may_not_change_what_was_said(talk: Talk) -> None:
    id = await talk.say("one")
    row = await talk.row(id)
    silence = "insert into silenced select id, $2, $3 from channels where name = $1"
    await talk.database.execute(silence, talk.channel, str(talk.ann), datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(Refused, match="muted until 2"):
        await talk.edit(row, "two")
    await talk.database.execute("update silenced set until = 'infinity'")
    with pytest.raises(Refused, match="muted"):
        await talk.edit(row, "two")
    await talk.database.execute("update silenced set until = now()")
    done = await talk.edit(row, "two")
    assert done.appended.offset == 2
    await talk.database.execute("update channels set closed = true")
    row = await talk.row(id)
    with pytest.raises(Refused, match="archived"):
        await talk.edit(row, "three")
    await talk.delete(row)
    assert [each["content"] for each in await talk.log()] == ["", "", ""]


async def test_who_is_not_in_the_room_any_more_changes_nothing(talk: Talk) -> None:
    """The message was read while they were a member: the removal came in between."""
    id = await talk.say("one")
    row = await talk.row(id)
    event = event_about(row.message, str(talk.ann), "message_edited", content="two")
    first = await talk.edit(row, "two", event)
    seen = await talk.row(id)
    await talk.database.execute("delete from room_members where user_id = $1", talk.ann)
    with pytest.raises(NoMember):
        await talk.edit(seen, "three")
    with pytest.raises(NoMember):
        await talk.delete(seen)
    again = await talk.edit(row, "two", event)  # what came before the removal is told again
    assert again.appended.offset == first.appended.offset
    assert [each["content"] for each in await talk.log()] == ["two", "two"]


async def test_pages_have_no_events_in_them(talk: Talk) -> None:
    ids = [await talk.say(str(n)) for n in range(5)]
    await talk.edit(await talk.row(ids[0]), "0")
    ids += [await talk.say(str(n)) for n in range(5, 8)]
    messages = talk.messages

    async def offsets(**window: int) -> list[int]:
        page = await messages.page(talk.room, talk.ann, **window)
        assert page is not None
        assert page.offset == 9
        return [row.offset for row in page.rows]

    assert await offsets(below=100, newest=4) == [5, 7, 8, 9]
    assert await offsets(below=7, newest=3) == [3, 4, 5]
    assert await offsets(start=5, oldest=3) == [5, 7, 8]
    assert await offsets(below=5, newest=2, start=5, oldest=2) == [3, 4, 5, 7]
    assert await offsets(below=1, newest=2) == []
    await talk.database.execute("update channels set first_offset = 4")
    assert await offsets(below=100, newest=100, start=100, oldest=100) == [4, 5, 7, 8, 9]
    assert await messages.get(talk.room, talk.ann, ids[0]) == (await messages.standing(talk.room, talk.ann), None)


async def test_only_members_read(talk: Talk) -> None:
    id = await talk.say("hi")
    messages = talk.messages
    stranger = (await UserStore(talk.database).create("eve@example.org", "hash")).id
    for room, user in ((talk.room, stranger), (uuid4(), talk.ann)):
        assert await messages.page(room, user, below=10, newest=10) is None
        assert await messages.get(room, user, id) is None
        assert await messages.standing(room, user) is None
    standing = await messages.standing(talk.room, talk.ann)
    assert standing is not None
    assert (standing.role, standing.kind, standing.peer) == ("member", "group", None)
    empty = await talk.database.fetchval("insert into rooms (kind, title) values ('group', 'New') returning id")
    await talk.database.execute(
        "insert into room_members (room_id, user_id, role) values ($1, $2, 'owner')", empty, talk.ann
    )
    page = await messages.page(empty, talk.ann, below=10, newest=10)
    assert page is not None
    assert (page.rows, page.offset) == ([], 0)
    assert page.epoch.endswith(".0")


@pytest.fixture
def upload(talk: Talk) -> Callable[..., Any]:
    async def upload(owner: UUID | None = None, *, ready: bool = True, width: int | None = 8) -> UUID:
        id = uuid4()
        await talk.database.execute(
            "insert into files (id, room_id, owner_id, name, content_type, ready, width, size)"
            " values ($1, $2, $3, 'notes.png', 'image/png', $4, $5, 7)",
            id, talk.room, owner or talk.ann, ready, width,
        )  # fmt: skip
        return id

    return upload


async def test_a_file_is_carried_by_one_message(talk: Talk, upload: Callable[..., Any]) -> None:
    file = await upload()

    async def refer(sent: SentMessage, room: UUID = talk.room, user: UUID = talk.ann) -> UUID | None:
        named = await talk.messages.refer(room, user, sent, DAY)
        return named.file.id if named.file else None

    lost = SentMessage(uuid4(), type="image", file_id=file)  # never stored: its sender's process died
    assert await refer(lost) == file
    sent = SentMessage(uuid4(), type="image", file_id=file)
    assert await refer(sent) == file
    named = await talk.messages.refer(talk.room, talk.ann, sent, DAY)
    async with talk.database.acquire() as connection:
        entry = compose(talk.channel, str(talk.ann), sent, file=named.file)
        await append_batch(connection, [entry])
    assert (await talk.messages.refer(talk.room, talk.ann, sent, DAY)).stored
    assert await refer(sent) == file, "a retry"
    assert await refer(SentMessage(uuid4(), type="image", file_id=file)) is None, "another message has it"
    assert entry.search == "\nnotes.png"

    other = await upload()
    assert await refer(SentMessage(uuid4(), type="file", file_id=other), user=talk.ben) is None
    assert await refer(SentMessage(uuid4(), type="file", file_id=other), room=uuid4()) is None
    assert await refer(SentMessage(uuid4(), type="file", file_id=uuid4())) is None
    assert await refer(SentMessage(uuid4(), type="file", file_id=await upload(ready=False))) is None
    assert await refer(SentMessage(uuid4(), type="image", file_id=await upload(width=None))) is None
    assert await refer(SentMessage(uuid4(), type="file", file_id=await upload(width=None))) is not None
    await talk.database.execute("update files set removed_at = now() where id = $1", other)
    assert await refer(SentMessage(uuid4(), type="file", file_id=other)) is None


async def test_what_a_message_names_is_of_its_room(talk: Talk) -> None:
    said = await talk.say("hi")
    stranger = uuid4()
    named = await talk.messages.refer(
        talk.room, talk.ann, SentMessage(uuid4(), "x", reply_to=said, mentions=[talk.ben, stranger]), DAY
    )
    assert (named.stored, named.replies, named.strangers) == (False, True, [stranger])
    named = await talk.messages.refer(talk.room, talk.ann, SentMessage(uuid4(), "x", reply_to=uuid4()), DAY)
    assert (named.replies, named.strangers) == (False, [])
    done = await talk.edit(await talk.row(said), "ho")
    event = msgspec.json.decode(done.event.data, type=MessageEvent).id
    named = await talk.messages.refer(talk.room, talk.ann, SentMessage(uuid4(), "x", reply_to=event), DAY)
    assert not named.replies
