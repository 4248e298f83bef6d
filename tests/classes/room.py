"""A class that goes on, and what people do in it.

async with lesson(server, "ann", "ben") as (room, teacher, ann, ben):
    await room.do(ann, "raise_hand")
    assert await room.seen(teacher, lambda state: ann.id in state["hands"])
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from config.embedded import read_urls
from loadtest.server import Server
from realtime.classroom.commands import AnyCommand, Logged, RaiseHand, Start
from realtime.classroom.wire import encode_logged
from realtime.interfaces import Entry
from storage.database import Database
from storage.log.append import append_batch
from tests.chat.person import Device, Person
from tests.invariants.rawclient import Refused
from tests.lms.school import enrol, ok, published_course, school

Data = dict[str, Any]


@dataclass
class Room:
    """A live class, as its course has it."""

    course: Data
    id: str

    @property
    def channel(self) -> str:
        return f"class:{self.id}"

    @property
    def path(self) -> str:
        return f"/v1/courses/{self.course['id']}/classes/{self.id}"

    async def do(self, person: Person, do: str, **fields: Any) -> Any:
        """Raises `Refused`."""
        return await person.rpc("class.do", class_id=self.id, command={"do": do, **fields})

    async def refusal(self, person: Person, do: str, **fields: Any) -> int:
        with pytest.raises(Refused) as refused:
            await self.do(person, do, **fields)
        return refused.value.code

    async def enter(self, person: Person, device: Device | None = None) -> Any:
        """Join and subscribe. Raises `Refused`."""
        device = device or person.device
        joined = await device.rpc("class.join", class_id=self.id)
        if joined["status"] == "in":
            await device.subscribe(self.channel)
        return joined

    def state(self, person: Person | Device) -> Data:
        """What somebody's page shows: the snapshot that they got, and the changes that came after it."""
        device = person.device if isinstance(person, Person) else person
        subscription = device.subscriptions[self.channel]
        state: Data = json.loads(json.dumps(subscription.greeting))
        for publication in subscription.publications:
            if publication.get("offset", 0) > state["offset"] and publication["data"].get("type") == "command":
                for change in publication["data"].get("changes", ()):
                    apply(state, change)
        return state

    async def seen(self, person: Person | Device, holds: Callable[[Data], Any]) -> Data:
        """What somebody's page shows once it is so. Raises TimeoutError."""
        device = person.device if isinstance(person, Person) else person
        await device.until(lambda: holds(self.state(person)))
        return self.state(person)

    async def seen_within(self, person: Person, holds: Callable[[Data], Any], seconds: float) -> None:
        """Wait until somebody's page shows that it is so. Raises TimeoutError."""
        await person.device.until(lambda: bool(holds(self.state(person))), seconds)

    async def say(self, person: Person, content: str, **more: Any) -> None:
        """Raises `Refused`."""
        message = {"id": str(uuid.uuid4()), "type": "text", "content": content, **more}
        await person.device.publish(self.channel, message)


def apply(state: Data, change: list[Any]) -> None:
    match change:
        case ["set", field, value]:
            state[field] = value
        case ["add", field, key, value]:
            state[field].pop(key, None) if field == "sending" else None
            state[field][key] = value
        case ["remove", field, key]:
            state[field].pop(key, None)


def times(*, begins: timedelta = timedelta(), lasts: timedelta = timedelta(hours=1)) -> Data:
    start = datetime.now(UTC) + begins
    return {"starts_at": start.isoformat(), "ends_at": (start + lasts).isoformat()}


async def scheduled(teacher: Person, course: Data, **fields: Any) -> Room:
    path = f"/v1/courses/{course['id']}/classes"
    made = ok(await teacher.http("POST", path, {"title": "Channels", **times(), **fields}), 201)
    return Room(course, made["id"])


async def log_as_server(server: Server, room: Room, *logged: AnyCommand) -> None:
    """Append commands to the log of a class, and tell nobody."""
    await write_log(
        server, room, *(Logged(id=str(uuid.uuid4()), by="", role="server", command=each) for each in logged)
    )


async def write_log(server: Server, room: Room, *commands: Logged) -> None:
    """Commands in the log of a class that no node has heard of yet, as one that died leaves them."""
    entries = [
        Entry(room.channel, UUID(each.id).bytes, each.by, encode_logged(each), type="command", counted=False)
        for each in commands
    ]
    await log_entries(server, *entries)


async def log_entries(server: Server, *entries: Entry) -> None:
    database = Database(str(read_urls(server.data_dir).database))
    async with database.transaction() as connection:
        await append_batch(connection, entries)
    await database.close()


def crowd(hands: int) -> list[Logged]:
    """A class that has begun, in which so many have raised a hand (`hand 0` …)."""
    ids = [str(uuid.uuid4()) for _ in range(hands)]
    return [
        Logged(id=str(uuid.uuid4()), by="", role="server", command=Start()),
        *(
            Logged(id=id, by=id, role="student", name=f"hand {i}", seat=1, command=RaiseHand())
            for i, id in enumerate(ids)
        ),
    ]


@asynccontextmanager
async def lesson(server: Server, *students: str, assistant: bool = False, **fields: Any) -> AsyncIterator[list[Any]]:
    """A class that the teacher has started, in which everybody is: the room, the teacher, then the students."""
    names = ("teacher", *students, *(["assistant"] if assistant else []))
    async with school(server, *names) as (teacher, *others):
        course = await published_course(teacher)
        for person in others:
            await enrol(person, course)
        if assistant:
            path = f"/v1/courses/{course['id']}/participants/{others[-1].id}"
            ok(await teacher.http("PUT", path, {"role": "assistant"}), 204)
        room = await scheduled(teacher, course, **fields)
        await room.enter(teacher)
        await room.do(teacher, "start")
        await asyncio.gather(*(room.enter(person) for person in others))
        yield [room, teacher, *others]
