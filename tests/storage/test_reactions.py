"""Reactions and pins: the summary in the message says what the rows say, whatever happens in which order."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID, uuid4

import msgspec
import pytest

from realtime.interfaces import Refused
from realtime.messages import MessageEvent, Reaction, SentMessage, StoredMessage, compose, event_about
from storage.database import Database
from storage.log.append import append_batch
from storage.messages import ChangedMeanwhile, Done, Full, MessageStore, NoMember, NoSuchMessage, Unchanged
from storage.pins import PinStore
from storage.reactions import ReactionStore

pytestmark = pytest.mark.integration

LISTED, KINDS = 3, 4  # small, so that the limits are met often


class Board:
    """A room with one message, and what is done to it."""

    def __init__(self, database: Database, room: UUID) -> None:
        self.database = database
        self.room = room
        self.author: UUID
        self.messages = MessageStore(database)
        self.reactions = ReactionStore(database, self.messages)
        self.pins = PinStore(database, self.messages)
        self.said: StoredMessage | None = None

    async def people(self, count: int) -> list[UUID]:
        """New members of the room."""
        members = await self.database.fetch(
            "with people as (insert into users (email, password_hash, role)"
            " select gen_random_uuid(), '', 'user' from generate_series(1, $2) returning id)"
            " insert into room_members (room_id, user_id, role) select $1, id, 'member' from people returning user_id",
            *(self.room, count),
        )
        return [each["user_id"] for each in members]

    async def say(self, content: str) -> StoredMessage:
        entry = compose(f"room:{self.room}", str(self.author), SentMessage(uuid4(), content))
        async with self.database.acquire() as connection:
            await append_batch(connection, [entry])
        self.said = msgspec.json.decode(entry.data, type=StoredMessage)
        return self.said

    def event(self, actor: UUID, emoji: str = "") -> MessageEvent:
        assert self.said is not None
        event = event_about(self.said, str(actor), "reaction_added" if emoji else "message_pinned")
        event.emoji = emoji
        return event

    async def react(self, actor: UUID, emoji: str, adding: bool = True, event: MessageEvent | None = None) -> Done:
        event = event or self.event(actor, emoji)
        return await self.reactions.change(event, actor, adding=adding, most_emoji=KINDS, most_listed=LISTED)

    async def pin(self, actor: UUID, adding: bool = True, event: MessageEvent | None = None) -> Done:
        return await self.pins.change(event or self.event(actor), actor, adding=adding, most=2)

    async def stored(self) -> StoredMessage:
        assert self.said is not None
        data = await self.database.fetchval("select data from messages where id = $1", self.said.id)
        return msgspec.json.decode(data, type=StoredMessage)


@pytest.fixture
async def board(database: Database) -> Board:
    board = Board(database, await database.fetchval("insert into rooms (kind) values ('group') returning id"))
    (board.author,) = await board.people(1)
    return board


@pytest.mark.parametrize("seed", range(4))
async def test_the_summary_is_that_of_a_model(board: Board, seed: int) -> None:
    chance = random.Random(seed)
    content = 'a "quote", ,"reactions":{"👍":{"count":9}} \0 \ud7ff 1e999 }'
    await board.say(content)
    people = await board.people(6)
    model: dict[str, list[UUID]] = {}
    for _ in range(150):
        actor, emoji, adding = chance.choice(people), chance.choice("👍❤😀🎉🔥"), chance.random() < 0.6
        givers = model.get(emoji, [])
        try:
            done = await board.react(actor, emoji, adding)
        except Unchanged:
            assert (actor in givers) == adding
        except Full:
            assert adding
            assert emoji not in model
            assert len(model) == KINDS
        else:
            assert (actor in givers) != adding
            model[emoji] = [*givers, actor] if adding else [each for each in givers if each != actor]
            if not model[emoji]:
                del model[emoji]
            told = msgspec.json.decode(done.event.data, type=MessageEvent)
            assert (told.emoji, told.count) == (emoji, len(model.get(emoji, ())))
        stored = await board.stored()
        assert stored.content == content
        assert set(stored.reactions) == set(model)
        for emoji, givers in model.items():
            summary = stored.reactions[emoji]
            assert summary.count == len(givers)
            assert len(summary.users) == min(len(givers), LISTED)
            assert set(summary.users) <= {str(each) for each in givers}
        listed = await board.reactions.page(board.room, stored.id, None, 100)
        assert {(each.emoji, each.user_id) for each in listed} == {
            (emoji, giver) for emoji, givers in model.items() for giver in givers
        }


async def test_whoever_was_first_is_listed(board: Board) -> None:
    await board.say("hi")
    people = await board.people(6)
    for each in people:
        await board.react(each, "👍")
    await board.react(people[4], "👍", adding=False)  # is not listed
    await board.react(people[1], "👍", adding=False)  # is, and the next one moves up
    expected = Reaction(4, [str(people[number]) for number in (0, 2, 3)])
    assert (await board.stored()).reactions == {"👍": expected}


async def test_a_change_that_is_tried_again_happens_once(board: Board) -> None:
    """The outcome of the first attempt may have been lost, and others may have come since."""
    said = await board.say("hi")
    ann, ben = await board.people(2)
    added, pinned = board.event(ann, "👍"), board.event(board.author)
    first = await board.react(ann, "👍", event=added), await board.pin(board.author, event=pinned)
    await board.react(ben, "👍")
    again = await board.react(ann, "👍", event=added), await board.pin(board.author, event=pinned)
    for one, two in zip(first, again, strict=True):
        assert (one.appended.offset, one.appended.epoch) == (two.appended.offset, two.appended.epoch)
        assert bytes(one.event.data) == bytes(two.event.data)
    assert (await board.stored()).reactions == {"👍": Reaction(2, [str(ann), str(ben)])}
    assert await board.database.fetchval("select count(*) from messages") == 4
    assert await board.database.fetchval("select count(*) from pins where message_id = $1", said.id) == 1


async def test_a_hundred_at_once_are_all_counted(board: Board) -> None:
    await board.say("hi")
    people = await board.people(100)
    done = await asyncio.gather(*(board.react(each, "👍") for each in people))
    counts = [msgspec.json.decode(each.event.data, type=MessageEvent).count for each in done]
    assert sorted(counts) == list(range(1, 101))  # type: ignore[type-var]
    by_offset = sorted(done, key=lambda each: each.appended.offset)
    assert [msgspec.json.decode(each.event.data, type=MessageEvent).count for each in by_offset] == list(range(1, 101))


async def test_what_is_refused_changes_nothing(board: Board) -> None:
    ann = board.author
    for number in range(3):
        said = await board.say(str(number))
        if number < 2:
            await board.pin(ann)
            with pytest.raises(Unchanged):
                await board.pin(ann)
        else:
            with pytest.raises(Full):
                await board.pin(ann)
    with pytest.raises(Unchanged):
        await board.pin(ann, adding=False)
    await board.database.execute("update channels set closed = true")
    for change in (board.react(ann, "👍"), board.pin(ann)):
        with pytest.raises((Refused, Full)):
            await change
    await board.database.execute("update channels set closed = false")
    await board.database.execute("update messages set deleted_at = now() where id = $1", said.id)
    with pytest.raises(ChangedMeanwhile):
        await board.react(ann, "👍")
    with pytest.raises(Unchanged):
        await board.react(ann, "👍", adding=False)
    said.id = uuid4()
    for change in (board.react(ann, "👍"), board.pins.change(board.event(ann), ann, adding=True, most=9)):
        with pytest.raises(NoSuchMessage):
            await change
    board.room, said.room_id = uuid4(), str(uuid4())  # without a log
    with pytest.raises(NoSuchMessage):
        await board.react(ann, "👍")
    assert await board.database.fetchval("select count(*) from reactions") == 0
    assert await board.database.fetchval("select count(*) from pins") == 2


async def test_who_is_not_in_the_room_any_more_neither_reacts_nor_pins(board: Board) -> None:
    await board.say("hi")
    ann = board.author
    await board.react(ann, "👍")
    await board.database.execute("delete from room_members")
    for change in (board.react(ann, "❤"), board.react(ann, "👍", adding=False), board.pin(ann)):
        with pytest.raises(NoMember):
            await change
    assert (await board.stored()).reactions == {"👍": Reaction(1, [str(ann)])}
    assert await board.database.fetchval("select count(*) from pins") == 0
