"""A live class on one node: its log folded (`realtime/classroom`), and what is told and done about it here.

Every node with somebody in the class, or that was asked about it, has one. All of them fold the same log and so agree;
what has to be done once in the world (a row that says when it started, a kept state) is written so that doing it again
changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import cast
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from realtime import codes
from realtime.channel import Channel
from realtime.classroom import wire
from realtime.classroom.commands import Ban, Kick, Role
from realtime.classroom.fold import Sender, Verdict, fold, hear
from realtime.classroom.state import Classroom
from realtime.hub import Hub
from realtime.interfaces import MessageLog
from realtime.namespaces import BUILT_IN
from realtime.protocol import Publication
from storage.database import DatabaseUnavailable
from storage.lms.classes import ClassStore, class_channel

KEEP_EVERY = 200  # offsets between two kept states: what a node that takes over reads at most, or little more
OUTCOMES = 1000  # verdicts that are remembered by offset
READ_BEFORE = 10.0  # s that a page of history may be on its way: it can have what the log has forgotten meanwhile
PAGE, PAGE_BYTES = 1000, 4 << 20  # of the log, read at once

TOO_LATE = Verdict(codes.PERMISSION_DENIED.code, "it came too late")


class _Identified(Struct):
    id: str


_identified = msgspec.json.Decoder(_Identified)


class ClassFollower:
    """`realtime.interfaces.Follower` of one class."""

    def __init__(self, id: UUID, course_id: UUID, hub: Hub, log: MessageLog, store: ClassStore) -> None:
        self.id = id
        self.course_id = course_id
        self.state = Classroom()
        self.speaking: set[str] = set()  # whose message is on its way, while the chat is slow
        self.touched = 0.0  # when it was asked about last, by the loop's clock
        self.on_gone: Callable[[ClassFollower, str, str], None] = lambda follower, user, client: None
        self.on_verdict: Callable[[ClassFollower, Verdict], None] = lambda follower, verdict: None
        self._hub = hub
        self._log = log
        self._store = store
        self._channel: Channel | None = None
        self._loading: asyncio.Task[None] | None = None
        self._loaded = False
        self._waiting: list[Publication] = []  # what came while the past was read
        self._outcomes: OrderedDict[int, Verdict] = OrderedDict()
        self._kept = 0
        self._late: dict[int, bool] = {}  # refused messages, and whether the log has forgotten what they said
        self._snapshot: tuple[int, wire.Snapshot] | None = None  # at an offset

    @property
    def name(self) -> str:
        return class_channel(self.id)

    # --- beginning and end -------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Return when the fold is where this node is. Raises `LogUnavailable`, `DatabaseUnavailable`."""
        self.touched = asyncio.get_running_loop().time()
        while not self._loaded:
            if self._loading is None or self._loading.done():
                self._loading = asyncio.create_task(self._load())
            await asyncio.shield(self._loading)

    async def _load(self) -> None:
        hub = self._hub
        self._waiting.clear()
        self._outcomes.clear()
        channel = self._channel = hub.follow(self.name, BUILT_IN["class"], self)
        await hub.join_broker([channel])
        await hub.read_positions([(channel, None)], 0, 0)
        kept = await self._store.state(self.id)
        state = Classroom()
        if kept is not None:
            try:
                state = wire.decode_state(kept)
            except msgspec.DecodeError:
                pass  # another version kept it: the log has it all
        self.state = state
        self._kept = state.offset
        self._late = dict.fromkeys(state.refused, False)
        decided: list[Verdict | None] = []
        while channel.position is not None and state.offset < channel.position:
            page = await self._log.read(self.name, state.offset, PAGE, PAGE_BYTES)
            if not page.publications:
                state.offset = channel.position  # its past was cleared: what is kept is all there is
            decided += map(self._fold, page.publications)
        waiting, self._waiting = self._waiting, []
        decided += map(self._fold, waiting)
        self._loaded = channel.position is not None
        for verdict in decided:  # whoever folded them first may have died before they did anything about it
            if verdict is not None and verdict.command is not None and not verdict.code:
                self.on_verdict(self, verdict)

    def close(self) -> None:
        """Follow no more."""
        self._loaded = False
        if self._loading is not None:
            self._loading.cancel()
        if self._channel is not None:
            self._hub.unfollow(self._channel)
            self._channel = None

    @property
    def idle(self) -> bool:
        """Whether nobody is in it here."""
        channel = self._channel
        return channel is None or not (channel.subscribers or channel.holds)

    def check_live(self) -> None:
        """Raises error 1003 where the class does not go on."""
        if self.state.phase != "live":
            raise codes.CONFLICT.saying("the class does not go on")

    async def reach(self, offset: int) -> None:
        """Return when the fold has come as far as `offset`. Raises `LogUnavailable`."""
        await self.ready()
        while self.state.offset < offset:
            assert self._channel is not None
            await self._hub.reach(self._channel, offset)
            await self.ready()

    async def refresh(self) -> None:
        """Return when the fold has come to where the log is now. Raises `LogUnavailable`."""
        heads = await self._log.heads([self.name])
        await self.reach(heads[self.name].offset)

    async def outcome(self, offset: int, id: str = "") -> Verdict:
        """What became of what stands at an offset, or of the command of that id. Raises `LogUnavailable`."""
        await self.reach(offset)
        verdict = self._outcomes.get(offset)
        if verdict is not None:
            return verdict
        if id in self.state.verdicts:
            return Verdict(*self.state.verdicts[id][1:])
        if offset in self.state.refused:
            return TOO_LATE
        if id:
            raise codes.CONFLICT.saying("that was decided long ago")
        return Verdict()

    def remembered(self, id: str) -> Verdict | None:
        """The verdict on one of the last commands, with what it changed."""
        verdicts = (each for each in reversed(self._outcomes.values()) if each.command is not None)
        return next((each for each in verdicts if each.command is not None and each.command.id == id), None)

    # --- the log -----------------------------------------------------------------------------------------------

    def take(self, publication: Publication) -> Publication:
        if not self._loaded:
            self._waiting.append(publication)
            return publication
        verdict = self._fold(publication)
        return self._shown(publication, verdict)

    def _fold(self, publication: Publication) -> Verdict | None:
        offset, state = publication.offset, self.state
        if offset <= state.offset:
            return None
        logged = wire.decode_logged(bytes(publication.data))
        if logged is not None:
            verdict = fold(state, logged, offset, publication.time)
        else:
            verdict = hear(state, _sender_of(publication), offset, publication.time)
            if verdict.code and not wire.is_withheld(bytes(publication.data)):
                self._late[offset] = False
        self._outcomes[offset] = verdict
        if len(self._outcomes) > OUTCOMES:
            self._outcomes.popitem(last=False)
        return verdict

    def act(self, publication: Publication) -> None:
        verdict = self._outcomes.get(publication.offset)
        if not self._loaded or verdict is None:
            return
        logged = verdict.command
        if logged is not None and not verdict.code:
            if verdict.out:
                thrown_out = isinstance(logged.command, Kick | Ban)
                reason = codes.UNSUBSCRIBED_BY_SERVER if thrown_out else codes.UNSUBSCRIBED_TO_ASK_AGAIN  # in the lobby
                self._hub.unsubscribe_user(verdict.out, self.name, "", reason, publication.offset)
            self.on_verdict(self, verdict)
        if self.state.offset >= self._kept + KEEP_EVERY:
            self.keep()

    def keep(self) -> None:
        """Keep the fold where it is, for nodes that take over."""
        if self._loaded and self.state.offset > self._kept:
            self._kept = self.state.offset
            late = [offset for offset, forgotten in self._late.items() if not forgotten]
            self._hub.spawn(self._keep(self._kept, wire.encode_state(self.state), late))

    async def _keep(self, offset: int, state: bytes, late: list[int]) -> None:
        with suppress(DatabaseUnavailable):  # then with the next one
            await self._store.keep(self.id, offset, state, late)
            self._late.update(dict.fromkeys(late, True))
            asyncio.get_running_loop().call_later(READ_BEFORE, self._forget, late)

    def _forget(self, late: list[int]) -> None:
        for offset in late:
            self._late.pop(offset, None)

    def show(self, publication: Publication) -> Publication:
        return self._shown(publication, self._outcomes.get(publication.offset))

    def _shown(self, publication: Publication, verdict: Verdict | None) -> Publication:
        logged = wire.decode_logged(bytes(publication.data))
        if logged is not None:
            return replace(publication, data=wire.told(logged, verdict))
        if publication.offset in self.state.refused or publication.offset in self._late:
            id = _identified.decode(bytes(publication.data)).id
            return replace(publication, data=wire.withheld(id), tags=None, info=None)
        if wire.is_withheld(bytes(publication.data)):
            return replace(publication, tags=None, info=None)
        return replace(publication, tags=None) if publication.tags else publication

    def greeting(self, user: str) -> bytes:
        if self._snapshot is None or self._snapshot[0] != self.state.offset:
            self._snapshot = self.state.offset, wire.Snapshot(self.state)
        return self._snapshot[1].for_reader(user)

    def left(self, user: str, client: str) -> None:
        self.on_gone(self, user, client)

    def lost(self) -> None:
        self._loaded = False

    def has(self, user: str, client: str = "") -> bool:
        """Whether somebody is in it on this node; with `client`, by that connection."""
        channel, connections = self._channel, self._hub.connections_of(user, client)
        return channel is not None and any(each in channel.subscribers for each in connections)

    def users(self) -> set[str]:
        """Who is in it on this node."""
        channel = self._channel
        return {each.user for each in channel.subscribers} if channel is not None else set()


def sender_tags(role: Role, seat: int) -> dict[str, str]:
    """What the server says with a message of who sent it."""
    return {"role": role, "seat": str(seat)}


def _sender_of(publication: Publication) -> Sender:
    """Whoever has no tags is the server's own API."""
    tags = publication.tags or {}
    role = cast("Role", tags.get("role", "server"))
    return Sender(publication.info.user if publication.info else "", role, int(tags.get("seat", 0)))
