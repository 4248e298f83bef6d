"""What a room is told at most once a pulse: how far people have read, and who is typing.

Small rooms hear it of everybody by name, from each node what came together there. Of big rooms one node at a time says
how many they are: a turn in Redis decides which. Nothing here is in a history, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

import msgspec
import structlog

from presence import Away, RedisTyping, Turns
from presence.typing import TTL_SECONDS as TYPING_TTL
from storage.database import DatabaseUnavailable
from storage.reading import MAX_TOGETHER, ReadingStore

SIZE_TTL = 60.0  # s that a node takes a room for as big as it was
SIZES = 50_000  # rooms whose size is remembered
MAX_PENDING = 100_000  # cursors, or rooms, that wait for a pulse; beyond, they are not told
FEW = 3  # typists that a big room is told by name
SLICE = 100  # pushes between two looks at everything else: about 2 ms

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode

Push = Callable[[str, bytes], None]


class Pulse:
    """Rooms and users are their ids as text. `push(channel, data)` tells whoever listens, on every node."""

    def __init__(
        self, push: Push, store: ReadingStore, typing: RedisTyping, turns: Turns, *, small_room: int, seconds: float
    ) -> None:
        self._push = push
        self._store = store
        self._typing = typing
        self._turns = turns
        self._small_room = small_room
        self._seconds = seconds
        self._sizes: OrderedDict[str, tuple[float, bool]] = OrderedDict()  # room -> until when, whether it is small
        self._moved: dict[tuple[str, str], int] = {}  # (room, user) -> offset
        self._unsaved: dict[tuple[str, str], int] = {}  # the same, until PostgreSQL has them
        self._saved: dict[str, float] = {}  # rooms that may have more readers, since when
        self._typists: dict[str, dict[str, float]] = {}  # room -> user -> until when, of this node
        self._typed: dict[str, float] = {}  # rooms where somebody began to type, since when
        self._stopped: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()
        self._silence = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- what happened -----------------------------------------------------------------------------------------

    def moved(self, room: str, user: str, offset: int) -> None:
        """Somebody has read on."""
        if len(self._moved) < MAX_PENDING:
            self._moved[room, user] = self._unsaved[room, user] = offset
            self._wake.set()

    def saved(self, moves: Sequence[tuple[str, str, int]]) -> None:
        """PostgreSQL has these cursors (room, user, offset), so that readers can be counted."""
        now = asyncio.get_running_loop().time()
        for room, user, offset in moves:
            wanted = self._unsaved.get((room, user))
            if wanted is None:
                continue  # an author's: their message says it
            if wanted <= offset:
                del self._unsaved[room, user]
            self._saved[room] = now
            self._wake.set()

    def is_typing(self, room: str, user: str, seconds: float) -> bool:
        """Whether somebody said on this node within the last `seconds` that they type."""
        until = self._typists.get(room, {}).get(user, 0.0)
        return until - TYPING_TTL + seconds > asyncio.get_running_loop().time()

    async def typing(self, room: str, user: str) -> None:
        now = asyncio.get_running_loop().time()
        if room not in self._typists and len(self._typists) >= MAX_PENDING:
            self._forget_typists(now)
            if len(self._typists) >= MAX_PENDING:
                return
        self._typists.setdefault(room, {})[user] = now + TYPING_TTL
        self._stopped.discard((room, user))
        try:
            await self._typing.start(room, user)
        except Away:
            pass  # this node tells of its own
        self._typed[room] = asyncio.get_running_loop().time()
        self._wake.set()

    def wrote(self, room: str, user: str) -> None:
        """Somebody has sent what they typed."""
        typists = self._typists.get(room)
        if typists is not None and typists.pop(user, None) is not None:
            if not typists:
                del self._typists[room]
            self._stopped.add((room, user))
            self._silence.set()

    # --- telling -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._run(), name="pulse"),
            asyncio.create_task(self._keep_silencing(), name="typing stops"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            for beat in (self._tell_cursors, self._tell_numbers, self._tell_typing):
                await self._carefully(beat)
            await asyncio.sleep(self._seconds)

    async def _keep_silencing(self) -> None:
        """Without a pause: until Redis knows, another node may tell that somebody types whose message is there."""
        while True:
            await self._silence.wait()
            self._silence.clear()
            await self._carefully(self._tell_stops)

    async def _tell_stops(self) -> None:
        stopped, self._stopped = self._stopped, set()
        try:
            await self._typing.stop(stopped)
        except Away:
            pass  # it ends by itself

    async def _carefully(self, beat: Callable[[], Awaitable[None]]) -> None:
        try:
            await beat()
        except DatabaseUnavailable as error:
            _log.warning("pulse.skipped", error=str(error))
        except Exception:
            _log.exception("pulse.failed")

    async def _tell_cursors(self) -> None:
        moved, self._moved = self._moved, {}
        rooms: dict[str, dict[str, int]] = {}
        for count, ((room, user), offset) in enumerate(moved.items()):
            rooms.setdefault(room, {})[user] = offset
            self._push(f"user:{user}", _encode({"type": "read", "room_id": room, "offset": offset}))
            if count % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        for count, room in enumerate(await self._small(rooms)):
            self._push(f"room:{room}", _encode({"type": "read", "cursors": rooms[room]}))
            if count % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    async def _tell_numbers(self) -> None:
        saved, self._saved = self._saved, {}
        small = await self._small(saved)
        mine, later = await self._turns_of("read", {room: saved[room] for room in saved if room not in small})
        self._saved = later | self._saved
        if not mine:
            return
        numbers = await self._store.readers([UUID(room) for room in mine])
        for room_id, number in numbers.items():
            told = {"type": "read", "offset": number.offset, "readers": number.readers}
            self._push(f"room:{room_id}", _encode(told))

    async def _tell_typing(self) -> None:
        typed, self._typed = self._typed, {}
        small = await self._small(typed)
        mine, later = await self._turns_of("typing", typed)
        self._typed = later | self._typed
        for room in mine:
            users, count = await self.typists(room, self._small_room if room in small else FEW)
            if count:
                told = {"type": "typing", "users": users, "count": count, "ttl": TYPING_TTL}
                self._push(f"room:{room}", _encode(told))

    async def typists(self, room: str, most: int) -> tuple[list[str], int]:
        """Who is typing, `most` of them, and how many they are."""
        try:
            return (await self._typing.who([room], most))[0]
        except Away:
            now = asyncio.get_running_loop().time()
            users = [user for user, until in self._typists.get(room, {}).items() if until > now]
            return users[:most], len(users)

    # --- what it takes -----------------------------------------------------------------------------------------

    async def _turns_of(self, what: str, since: dict[str, float]) -> tuple[list[str], dict[str, float]]:
        """The rooms where it is this node's turn, and those where it has to try again.

        Whoever had their turn after our news has told it, too. Without Redis every node speaks for itself.
        """
        rooms = list(since)
        try:
            ages = await self._turns.take([f"{what}:{room}" for room in rooms], self._seconds)
        except Away:
            return rooms, {}
        now = asyncio.get_running_loop().time()
        later = {
            room: since[room]
            for room, age in zip(rooms, ages, strict=True)
            if age is not None and now - age <= since[room]
        }
        if later:
            self._wake.set()
        return [room for room, age in zip(rooms, ages, strict=True) if age is None], later

    async def _small(self, rooms: Iterable[str]) -> set[str]:
        """Which of the rooms are small. Raises `DatabaseUnavailable`."""
        now = asyncio.get_running_loop().time()
        small: set[str] = set()
        unknown: list[str] = []
        for room in rooms:
            until, is_small = self._sizes.get(room, (0.0, False))
            if until <= now:
                unknown.append(room)
            elif is_small:
                small.add(room)
        for start in range(0, len(unknown), MAX_TOGETHER):
            asked = [UUID(room) for room in unknown[start : start + MAX_TOGETHER]]
            for room_id, size in (await self._store.sizes(asked, self._small_room + 1)).items():
                room = str(room_id)
                self._sizes[room] = (now + SIZE_TTL, size <= self._small_room)
                self._sizes.move_to_end(room)
                if size <= self._small_room:
                    small.add(room)
        while len(self._sizes) > SIZES:
            self._sizes.popitem(last=False)
        return small

    def _forget_typists(self, now: float) -> None:
        for room in [room for room, users in self._typists.items() if max(users.values()) < now]:
            del self._typists[room]
