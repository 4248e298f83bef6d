"""What people do in a live class, as RPC methods: the connection is open already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Raw, Struct

from gateway_node.rpc.method import method
from gateway_node.services.classes.classroom import (
    MAX_PAGE,
    Classrooms,
    HandsPage,
    Joined,
    Peer,
    PeoplePage,
)
from gateway_node.services.classes.ice import IceServers
from gateway_node.services.classes.media import Description
from gateway_node.services.classes.polls import NewPoll, PollResults, Polls
from realtime.classroom.commands import AskedCommand, Track
from realtime.core import RPC
from realtime.interfaces import Identity

WRITES = frozenset(
    {"class.do", "class.whisper", "class.signal", "class.react", "class.offer", "class.watch", "class.answer"}
)
"""Those that cost a client as much as a publication."""


class OneClass(Struct):
    class_id: UUID


class Do(Struct):
    """`id`: the same one again is the same command."""

    class_id: UUID
    command: AskedCommand
    id: UUID | None = None


class People(Struct):
    class_id: UUID
    waiting: bool = False
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class Hands(Struct):
    """`after`: the `at` of the last one that is known."""

    class_id: UUID
    after: int = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class Banned(Struct):
    """`after`: `next` of the page before."""

    class_id: UUID
    after: Annotated[str, Meta(max_length=64)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class React(Struct):
    class_id: UUID
    emoji: str


class Whisper(Struct):
    """`to` none: the teachers."""

    class_id: UUID
    content: str
    to: UUID | None = None
    id: UUID | None = None


class Signal(Struct):
    class_id: UUID
    to: UUID
    peer: Peer
    data: Raw
    to_peer: Annotated[str, Meta(max_length=64)] = ""


class Offer(Struct):
    """`kinds`: what each part of the offer carries, by its `mid`."""

    class_id: UUID
    peer: Peer
    sdp: str
    kinds: dict[str, Track]


class Watch(Struct):
    class_id: UUID
    peer: Peer
    user: UUID


class WatchAnswer(Watch, kw_only=True):
    sdp: str


class Ask(NewPoll, kw_only=True):
    class_id: UUID
    id: UUID | None = None


class Vote(Struct):
    class_id: UUID
    poll_id: UUID
    option: int


class Results(Struct):
    class_id: UUID
    poll_id: UUID
    after: UUID | None = None


def methods(classes: Classrooms, polls: Polls) -> Mapping[str, RPC]:
    """Every method by its name."""

    async def join(identity: Identity, params: OneClass) -> Joined:
        return await classes.join(identity, params.class_id)

    async def do(identity: Identity, params: Do) -> dict[str, object]:
        verdict = await classes.do(identity, params.class_id, params.command, params.id)
        return {"offset": verdict.offset, "changes": verdict.changes}

    async def people(identity: Identity, params: People) -> PeoplePage:
        return await classes.people(
            identity, params.class_id, waiting=params.waiting, after=params.after, limit=params.limit
        )

    async def banned(identity: Identity, params: Banned) -> PeoplePage:
        return await classes.banned(identity, params.class_id, after=params.after, limit=params.limit)

    async def hands(identity: Identity, params: Hands) -> HandsPage:
        return await classes.hands(identity, params.class_id, after=params.after, limit=params.limit)

    async def react(identity: Identity, params: React) -> None:
        await classes.react(identity, params.class_id, params.emoji)

    async def whisper(identity: Identity, params: Whisper) -> None:
        to = str(params.to) if params.to is not None else None
        await classes.whisper(identity, params.class_id, to, params.content, params.id)

    async def signal(identity: Identity, params: Signal) -> None:
        await classes.signal(
            identity, params.class_id, str(params.to), params.data, peer=params.peer, to_peer=params.to_peer
        )

    async def poll(identity: Identity, params: Ask) -> dict[str, UUID]:
        return {"poll_id": await polls.ask(identity, params.class_id, params, params.id)}

    async def vote(identity: Identity, params: Vote) -> None:
        await polls.vote(identity, params.class_id, params.poll_id, params.option)

    async def results(identity: Identity, params: Results) -> PollResults:
        return await polls.results(identity, params.class_id, params.poll_id, params.after)

    async def ice(identity: Identity, params: OneClass) -> IceServers:
        return await classes.ice(identity, params.class_id)

    async def offer(identity: Identity, params: Offer) -> Description:
        described = Description("offer", params.sdp, params.kinds)
        return await classes.publish(identity, params.class_id, params.peer, described)

    async def watch(identity: Identity, params: Watch) -> Description:
        return await classes.watch(identity, params.class_id, params.peer, str(params.user))

    async def answer(identity: Identity, params: WatchAnswer) -> None:
        described = Description("answer", params.sdp)
        await classes.answer(identity, params.class_id, params.peer, str(params.user), described)

    return {
        "class.offer": method(Offer, offer),
        "class.watch": method(Watch, watch),
        "class.answer": method(WatchAnswer, answer),
        "class.ice": method(OneClass, ice),
        "class.join": method(OneClass, join),
        "class.do": method(Do, do),
        "class.people": method(People, people),
        "class.hands": method(Hands, hands),
        "class.banned": method(Banned, banned),
        "class.react": method(React, react),
        "class.whisper": method(Whisper, whisper),
        "class.signal": method(Signal, signal),
        "class.poll": method(Ask, poll),
        "class.vote": method(Vote, vote),
        "class.results": method(Results, results),
    }
