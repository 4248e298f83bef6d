from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from realtime.messages import SentMessage, StoredMessage, compose, event_about
from storage.database import Database
from storage.files import File, FileStore
from storage.log.append import append_batch
from storage.messages import MessageStore
from storage.people import NoPicture, PeopleStore, ProfileChange
from storage.users import UserStore

pytestmark = pytest.mark.integration

DAY = 86400.0


class Room:
    """A group of Ann and Ben, and Eve outside; files of theirs."""

    def __init__(self, database: Database, id: UUID, ann: UUID, ben: UUID, eve: UUID) -> None:
        self.database = database
        self.id = id
        self.ann, self.ben, self.eve = ann, ben, eve
        self.files = FileStore(database, DAY)
        self.messages = MessageStore(database)

    async def upload(self, store: FileStore | None = None) -> File:
        """A file of Ann's."""
        store = store or self.files
        file_id = uuid4()
        assert await store.begin(file_id, self.id, self.ann, "notes.txt")
        file = await store.finish(file_id, content_type="text/plain", size=5, sha256=b"x" * 32)
        assert file is not None
        return file

    async def name(self, file: File, message_id: UUID | None = None) -> SentMessage:
        """Ann's message that names a file, not stored yet."""
        sent = SentMessage(message_id or uuid4(), "look", "file", file_id=file.id)
        named = await self.messages.refer(self.id, self.ann, sent, DAY)
        assert named.file is not None
        return sent

    async def say(self, sent: SentMessage) -> None:
        async with self.database.acquire() as connection:
            await append_batch(connection, [compose(f"room:{self.id}", str(self.ann), sent)])

    async def delete(self, message_id: UUID) -> None:
        got = await self.messages.get(self.id, self.ann, message_id)
        assert got is not None
        assert got[1] is not None
        message = got[1].message
        left = StoredMessage(
            id=message.id, from_user_id=message.from_user_id, room_id=message.room_id, content="", type=message.type
        )
        now = await self.database.fetchval("select now()")
        await self.messages.delete(got[1], left, event_about(message, str(self.ann), "message_deleted"), now)

    async def in_time(self, seconds: float) -> None:
        """As if so much time had gone by."""
        await self.database.execute("update files set sweep_at = sweep_at - make_interval(secs => $1)", seconds)

    async def swept(self) -> set[UUID]:
        return set((await self.files.due())[1])


@pytest.fixture
async def room(database: Database) -> Room:
    users = UserStore(database)
    people = [(await users.create(f"{name}@example.org", "hash", name=name)).id for name in ("ann", "ben", "eve")]
    id = await database.fetchval("insert into rooms (kind, title) values ('group', 'Algebra') returning id")
    for user in people[:2]:
        await database.execute("insert into room_members (room_id, user_id, role) values ($1, $2, 'member')", id, user)
    return Room(database, id, *people)


async def test_members_alone_upload(room: Room) -> None:
    assert not await room.files.begin(uuid4(), room.id, room.eve, "x")
    assert not await room.files.begin(uuid4(), uuid4(), room.ann, "x")
    assert not await room.files.begin(uuid4(), room.id, uuid4(), "x")
    assert await room.database.fetchval("select count(*) from files") == 0


async def test_a_file_is_there_when_it_is_whole(room: Room) -> None:
    file_id = uuid4()
    assert await room.files.begin(file_id, room.id, room.ann, "photo.png")
    assert await room.files.visible(file_id, room.ann) is None
    file = await room.files.finish(
        file_id, content_type="image/png", size=7, sha256=b"h" * 32, width=3, height=2, thumbnail=True
    )
    assert file is not None
    assert await room.files.visible(file_id, room.ann) == file
    assert (file.room_id, file.owner_id, file.name, file.size) == (room.id, room.ann, "photo.png", 7)
    assert (file.content_type, file.sha256, file.width, file.height, file.thumbnail) == (
        "image/png", b"h" * 32, 3, 2, True,
    )  # fmt: skip


async def test_nobody_else_sees_a_file_before_a_message_carries_it(room: Room) -> None:
    file = await room.upload()
    assert await room.files.visible(file.id, room.ben) is None
    await room.say(await room.name(file))
    assert await room.files.visible(file.id, room.ben) is not None
    assert await room.files.visible(file.id, room.eve) is None
    assert await room.files.visible(uuid4(), room.ben) is None


async def test_who_leaves_or_is_disabled_has_it_no_more(room: Room) -> None:
    file = await room.upload()
    await room.say(await room.name(file))
    await room.database.execute("update users set disabled_at = now() where id = $1", room.ben)
    assert await room.files.visible(file.id, room.ben) is None
    await room.database.execute("delete from room_members where user_id = $1", room.ann)
    assert await room.files.visible(file.id, room.ann) is None


async def test_what_no_message_carries_is_swept_in_time(room: Room) -> None:
    file = await room.upload()
    await room.in_time(DAY - 60)
    assert await room.swept() == set()
    await room.in_time(120)
    assert await room.swept() == {file.id}
    assert await room.files.visible(file.id, room.ann) is None
    named = await room.messages.refer(room.id, room.ann, SentMessage(uuid4(), file_id=file.id, type="file"), DAY)
    assert named.file is None, "too late"


async def test_an_upload_has_the_time_that_it_may_take(room: Room) -> None:
    file_id = uuid4()
    assert await room.files.begin(file_id, room.id, room.ann, "x")
    await room.in_time(1.5 * DAY)
    assert await room.swept() == set(), "it may still be finishing"
    await room.in_time(DAY)
    assert await room.swept() == {file_id}
    assert await room.files.finish(file_id, content_type="", size=1, sha256=b"") is None


async def test_a_sweep_that_dies_is_gone_through_again(room: Room) -> None:
    file = await room.upload()
    await room.in_time(2 * DAY)
    assert await room.swept() == {file.id}
    assert await room.swept() == set(), "another sweep leaves it to this one"
    await room.in_time(601)
    assert await room.swept() == {file.id}
    await room.files.forget(file.id)
    await room.in_time(601)
    assert await room.swept() == set()
    assert await room.database.fetchval("select count(*) from files") == 0


async def test_what_a_message_carries_is_kept_and_looked_at_again(room: Room) -> None:
    file = await room.upload()
    sent = await room.name(file)
    await room.say(sent)
    for _ in range(3):
        await room.in_time(31 * DAY)
        assert await room.swept() == set()
        assert await room.files.visible(file.id, room.ben) is not None
    await room.database.execute("delete from messages where id = $1", sent.id)  # a history that was cleared
    await room.in_time(31 * DAY)
    assert await room.swept() == {file.id}


async def test_a_message_that_was_never_stored_keeps_nothing(room: Room) -> None:
    file = await room.upload()
    await room.name(file)
    await room.in_time(DAY + 60)
    assert await room.swept() == {file.id}


async def test_the_file_of_a_deleted_message_goes_at_once(room: Room) -> None:
    file = await room.upload()
    sent = await room.name(file)
    await room.say(sent)
    await room.delete(sent.id)
    assert await room.files.visible(file.id, room.ann) is None
    assert await room.swept() == {file.id}


async def test_a_message_of_the_same_id_elsewhere_keeps_nothing(room: Room) -> None:
    file = await room.upload()
    sent = await room.name(file)
    async with room.database.acquire() as connection:
        await append_batch(connection, [compose(f"room:{uuid4()}", str(room.ann), sent)])
    await room.in_time(2 * DAY)
    assert await room.swept() == {file.id}


async def test_the_files_of_a_room_that_is_gone_are_swept(room: Room) -> None:
    file = await room.upload()
    await room.say(await room.name(file))
    await room.database.execute("delete from rooms where id = $1", room.id)
    await room.in_time(31 * DAY)
    assert await room.swept() == {file.id}


async def test_a_sweep_goes_by_pages(room: Room) -> None:
    wanted = {(await room.upload()).id for _ in range(5)}
    await room.in_time(2 * DAY)
    seen: set[UUID] = set()
    counts = []
    while True:
        count, gone = await room.files.due(limit=2)
        counts.append(count)
        seen |= set(gone)
        if not count:
            break
    assert (seen, counts) == (wanted, [2, 2, 1, 0])


# --- pictures of people -----------------------------------------------------------------------------------------------


class Portraits:
    """Of Ann: pictures that she has uploaded to the room."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.people = PeopleStore(room.database)

    async def upload(self, *, thumbnail: bool = True) -> File:
        file_id = uuid4()
        assert await self.room.files.begin(file_id, self.room.id, self.room.ann, "me.png")
        file = await self.room.files.finish(
            file_id, content_type="image/png", size=5, sha256=b"x" * 32, thumbnail=thumbnail
        )
        assert file is not None
        return file

    async def show(self, file_id: UUID | None, person: UUID | None = None) -> None:
        await self.people.update(person or self.room.ann, ProfileChange(avatar_id=file_id))

    async def shown(self) -> UUID | None:
        file = await self.room.files.avatar(self.room.ann)
        return file.id if file else None


async def test_a_picture_of_somebody_stays_until_they_have_another(room: Room) -> None:
    portraits = Portraits(room)
    first, second = await portraits.upload(), await portraits.upload()
    await portraits.show(first.id)
    await room.in_time(29 * DAY)
    assert await room.swept() == {second.id}, "nobody wants the other one, and the first is not looked at yet"
    await room.in_time(2 * DAY)
    assert first.id not in await room.swept(), "looked at, and found to be wanted"
    assert await portraits.shown() == first.id

    third = await portraits.upload()
    await portraits.show(third.id)
    assert await room.swept() == {first.id}
    assert await portraits.shown() == third.id
    await portraits.show(None)
    assert await room.swept() >= {third.id}
    assert await portraits.shown() is None


async def test_a_picture_that_a_message_carries_outlives_its_place_in_a_profile(room: Room) -> None:
    portraits = Portraits(room)
    file = await portraits.upload()
    await room.say(await room.name(file))
    await portraits.show(file.id)
    await portraits.show(None)
    assert await room.swept() == set()
    assert await room.files.visible(file.id, room.ben) is not None


async def test_only_a_picture_of_ones_own_can_be_shown(room: Room) -> None:
    portraits = Portraits(room)
    good, text, gone = await portraits.upload(), await portraits.upload(thumbnail=False), await portraits.upload()
    await portraits.show(good.id)
    await room.database.execute("update files set removed_at = now() where id = $1", gone.id)
    for person, file_id in ((room.ben, good.id), (room.ann, text.id), (room.ann, gone.id), (room.ann, uuid4())):
        with pytest.raises(NoPicture):
            await portraits.show(file_id, person)
    assert await portraits.shown() == good.id
    await UserStore(room.database).disable(room.ann)
    assert await portraits.shown() is None


async def test_the_sweep_and_a_new_picture_at_the_same_moment(room: Room) -> None:
    """Whichever comes first: nobody's picture is removed."""
    portraits = Portraits(room)
    for _ in range(10):
        file = await portraits.upload()
        await room.in_time(31 * DAY)
        swept, shown = await asyncio.gather(room.swept(), portraits.show(file.id), return_exceptions=True)
        assert isinstance(swept, set)
        assert (file.id in swept) == isinstance(shown, NoPicture)
        await portraits.show(None)


async def test_whose_picture_a_file_is_takes_no_scan(room: Room) -> None:
    await room.database.execute(
        "insert into users (email, password_hash, role) "
        "select n || '@example.org', 'x', 'student' from generate_series(1, 3000) n"
    )
    await room.database.execute("analyze users")
    file = await Portraits(room).upload()
    plan = await room.database.fetch("explain select from users where avatar_id = $1::uuid", file.id)
    assert "users_by_avatar" in "".join(row[0] for row in plan)
