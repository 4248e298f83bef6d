"""What carries the video and voice of a class: from browser to browser, or by way of a media server.

The class decides who may send what (`realtime/classroom`), whichever carries it. Over `p2p` a page obeys, and every
other page takes no more than is allowed; over `janus` the server itself forwards no more.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway_node.services.classes.follower import ClassFollower
from gateway_node.services.classes.janus import Handle, JanusAway, JanusClient, JanusRefused, Message, attach
from gateway_node.services.classes.servers import MediaServers
from realtime import codes
from realtime.classroom.commands import PUBLISHERS, End, Track
from realtime.classroom.fold import Verdict
from storage.lms.classes import class_channel

MAX_SDP = 32_768  # bytes: a camera, a screen and sound take 10,000
MAX_REASON = 200  # characters: Janus says again each line that it cannot read, however long
GRACE = 15.0  # s that the media of somebody who is gone are kept: they may be back
MAX_WATCHED = 4 * PUBLISHERS["janus"]  # by one person: each is a handle of Janus, and names of pages are made up
BITRATE = 1_200_000  # bit/s of one sender
NO_SUCH_ROOM, ROOM_EXISTS, NO_SUCH_FEED = 426, 427, 428

_MEDIA_OF = {"microphone": "audio", "camera": "video", "screen": "video"}
_encode = msgspec.json.Encoder().encode
_RESTART = _encode({"type": "media"})


class Description(Struct, frozen=True):
    """As `RTCPeerConnection` takes it; `kinds`: what each of its parts (by `mid`) carries."""

    type: str
    sdp: str
    kinds: dict[str, Track] = {}


class Page(Struct, frozen=True):
    """Somebody's page in a class."""

    class_id: UUID
    user: str
    peer: str


class MediaBackend(Protocol):
    """Every method raises `CommandError`: 106 for a description that is too long, 107 for one that cannot be, 103 for
    what may not be sent, 108 where pages do it among themselves, 1003 where there is nothing to watch yet, 100 while
    the media server is away."""

    async def publish(self, follower: ClassFollower, page: Page, offer: Description) -> Description:
        """The answer to an offer of tracks that the class lets this page send."""
        ...

    async def watch(self, follower: ClassFollower, page: Page, user: str) -> Description:
        """An offer of what somebody sends."""
        ...

    async def answer(self, page: Page, user: str, answer: Description) -> None:
        """The answer to that offer."""
        ...

    def obey(self, follower: ClassFollower, verdict: Verdict) -> None:
        """The class has changed: mute, end and let go of what may not be sent or seen any more."""
        ...

    def gone(self, follower: ClassFollower, user: str) -> None:
        """Somebody is on this node no more."""
        ...

    def start(self) -> None: ...

    async def stop(self) -> None: ...


class NoMediaServer:
    """`p2p`: the pages do it, and signals are handed on (`Classrooms.signal`)."""

    async def publish(self, follower: ClassFollower, page: Page, offer: Description) -> Description:
        raise codes.NOT_AVAILABLE.saying("there is no media server here")

    async def watch(self, follower: ClassFollower, page: Page, user: str) -> Description:
        raise codes.NOT_AVAILABLE.saying("there is no media server here")

    async def answer(self, page: Page, user: str, answer: Description) -> None:
        raise codes.NOT_AVAILABLE.saying("there is no media server here")

    def obey(self, follower: ClassFollower, verdict: Verdict) -> None:
        pass

    def gone(self, follower: ClassFollower, user: str) -> None:
        pass

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@dataclass(eq=False)
class _Sender:
    """A page that sends. `feed` is its name in Janus; `silent`: the parts that Janus forwards no more."""

    handle: Handle
    feed: str
    kinds: dict[str, Track]
    silent: set[str] = field(default_factory=set)


class JanusMedia:
    """Classes in Janus's VideoRoom: a room each, named by the class; every node speaks for its own pages."""

    def __init__(
        self,
        servers: MediaServers,
        secret: bytes,
        push: Callable[[str, bytes], None],
        push_here: Callable[[str, bytes], None],
        followed: Callable[[], list[ClassFollower]],
    ) -> None:
        """`push(channel, data)` tells whoever listens, on every node; `push_here`, on this one."""
        self._servers = servers
        self._secret = secret
        self._push = push
        self._push_here = push_here
        self._followed = followed
        self._senders: dict[Page, _Sender] = {}
        self._watchers: dict[tuple[UUID, str], dict[tuple[str, str], Handle]] = {}
        """By class and user: (page, whom it watches) -> handle."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._were_up: set[JanusClient] = set()
        servers.goes_on = lambda id: any(each.id == id for each in self._live())
        servers.on_moved = self._moved
        for client in servers.clients:
            client.on_event = partial(self._event, client)
            client.on_up = partial(self._up, client)
            client.on_down = partial(self._down, client)

    def start(self) -> None:
        self._servers.start()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._servers.stop()

    # --- sending -----------------------------------------------------------------------------------------------

    async def publish(self, follower: ClassFollower, page: Page, offer: Description) -> Description:
        _check(offer)
        _check_kinds(offer)
        sending = follower.state.sending.get(page.user)
        if sending is None or sending.peer != page.peer or not set(offer.kinds.values()) <= set(sending.tracks):
            raise codes.PERMISSION_DENIED.saying("the class does not let this page send that")
        with _trouble():
            handle = await attach(await self._servers.of(page.class_id))
            sender = _Sender(handle, f"{page.user}.{page.peer}.{time.time_ns()}", dict(offer.kinds))
            before, self._senders[page] = self._senders.get(page), sender  # of two offers at once, one stays
            await self._let_go(before)
            await self._open(handle, page.class_id)
            body = {
                "request": "joinandconfigure",
                "ptype": "publisher",
                "room": str(page.class_id),
                "id": sender.feed,
                "descriptions": [{"mid": mid, "description": kind} for mid, kind in offer.kinds.items()],
            }
            _, answer = await handle.message(body, {"type": "offer", "sdp": offer.sdp})
        if answer is None:
            raise codes.BAD_REQUEST.at("/sdp", "the media server makes nothing of it")
        sender.silent.clear()  # whatever the class took away meanwhile, there was nothing to mute yet
        self._hold(follower, page, sender)
        return Description(answer["type"], answer["sdp"])

    async def _open(self, handle: Handle, id: UUID) -> None:
        """The room of a class, whichever node was first."""
        body = {
            "request": "create",
            "room": str(id),
            "secret": self._room_secret(id),
            "permanent": False,
            "is_private": True,
            "publishers": 2 * PUBLISHERS["janus"],  # the class counts: who gives way may be there a moment longer
            "bitrate": BITRATE,
            "fir_freq": 10,
        }
        try:
            await handle.message(body)
        except JanusRefused as refused:
            if refused.code != ROOM_EXISTS:
                raise

    async def _close(self, id: UUID) -> None:
        """Whichever node is first ends the room, and a class that was on several has several."""
        await self._servers.forget(id)
        body = {"request": "destroy", "room": str(id), "secret": self._room_secret(id)}
        for client in self._servers.clients:
            if client.connected:
                with suppress(JanusAway, JanusRefused):
                    await self._destroy(client, body)

    async def _destroy(self, client: JanusClient, body: Message) -> None:
        handle = await attach(client)
        try:
            await handle.message(body)
        finally:
            await handle.detach()

    def _room_secret(self, id: UUID) -> str:
        """All nodes have the same: whichever opened the room, each may mute in it."""
        return hmac.digest(self._secret, b"janus " + id.bytes, "sha256").hex()

    # --- watching ----------------------------------------------------------------------------------------------

    async def watch(self, follower: ClassFollower, page: Page, user: str) -> Description:
        sending = follower.state.sending.get(user)
        if sending is None:
            raise codes.CONFLICT.saying("they send nothing")
        held = self._watchers.get((page.class_id, page.user), {})
        if len(held) >= MAX_WATCHED and (page.peer, user) not in held:
            raise codes.LIMIT_EXCEEDED.saying(f"one person watches at most {MAX_WATCHED} at once, by all their pages")
        with _trouble():
            handle = await attach(await self._servers.of(page.class_id))
            held = self._watchers.setdefault((page.class_id, page.user), {})
            before, held[page.peer, user] = held.get((page.peer, user)), handle
            if before is not None:
                await before.detach()
            feed = await self._feed(handle, page.class_id, f"{user}.{sending.peer}.")
            body = {
                "request": "join",
                "ptype": "subscriber",
                "room": str(page.class_id),
                "streams": [{"feed": feed}],
            }
            data, offer = await handle.message(body)
        if offer is None:
            raise codes.CONFLICT.saying("nothing comes yet")
        kinds = {each["mid"]: each.get("feed_description", "") for each in data.get("streams", ())}
        return Description(offer["type"], offer["sdp"], kinds)

    async def _feed(self, handle: Handle, id: UUID, beginning: str) -> str:
        """The newest feed of a page. Raises error 1003 where there is none."""
        data, _ = await handle.message({"request": "listparticipants", "room": str(id)})
        feeds = [each["id"] for each in data.get("participants", ()) if each["id"].startswith(beginning)]
        if not feeds:
            raise codes.CONFLICT.saying("nothing comes yet")
        return str(max(feeds, key=lambda feed: int(feed.rpartition(".")[2])))

    async def answer(self, page: Page, user: str, answer: Description) -> None:
        _check(answer)
        handle = self._watchers.get((page.class_id, page.user), {}).get((page.peer, user))
        if handle is None:
            raise codes.CONFLICT.saying("nothing was offered")
        with _trouble():
            await handle.message({"request": "start"}, {"type": "answer", "sdp": answer.sdp})

    async def _unwatch(self, id: UUID, watcher: str, watched: str = "") -> None:
        """No page of somebody watches the other any more, or anybody."""
        held = self._watchers.get((id, watcher), {})
        handles = [held.pop(key) for key in list(held) if watched in ("", key[1])]
        if not held:
            self._watchers.pop((id, watcher), None)
        for handle in handles:
            await handle.detach()

    # --- obeying -----------------------------------------------------------------------------------------------

    def obey(self, follower: ClassFollower, verdict: Verdict) -> None:
        state = follower.state
        if verdict.command is not None and isinstance(verdict.command.command, End) and state.media == "janus":
            self._spawn(self._close(follower.id))
        for page, sender in list(self._senders.items()):
            if page.class_id == follower.id:
                self._hold(follower, page, sender)
        for (id, watcher), held in list(self._watchers.items()):
            if id != follower.id:
                continue
            if state.phase != "live" or watcher == verdict.out:
                self._spawn(self._unwatch(id, watcher))
                continue
            for watched in {user for _, user in held if user not in state.sending}:
                self._spawn(self._unwatch(id, watcher, watched))

    def _hold(self, follower: ClassFollower, page: Page, sender: _Sender) -> None:
        """Hold what a page sends against what the class lets it send."""
        if self._senders.get(page) is not sender:
            return
        sending = follower.state.sending.get(page.user)
        if sending is None or sending.peer != page.peer:
            del self._senders[page]
            self._spawn(self._let_go(sender))
            return
        for mid, kind in sender.kinds.items():
            mute = kind not in sending.tracks
            if mute != (mid in sender.silent):
                (sender.silent.add if mute else sender.silent.discard)(mid)
                self._spawn(self._moderate(page.class_id, sender, mid, mute=mute))

    async def _moderate(self, id: UUID, sender: _Sender, mid: str, *, mute: bool) -> None:
        body = {"request": "moderate", "room": str(id), "secret": self._room_secret(id), "id": sender.feed, "mid": mid}
        with suppress(JanusAway, JanusRefused):
            await sender.handle.message({**body, "mute": mute})

    async def _let_go(self, sender: _Sender | None) -> None:
        if sender is not None:
            await sender.handle.detach()

    def gone(self, follower: ClassFollower, user: str) -> None:
        self._spawn(self._forget_later(follower, user))

    async def _forget_later(self, follower: ClassFollower, user: str) -> None:
        await asyncio.sleep(GRACE)
        if follower.has(user):
            return
        for page, sender in list(self._senders.items()):
            if (page.class_id, page.user) == (follower.id, user):
                del self._senders[page]
                await self._let_go(sender)
        await self._unwatch(follower.id, user)

    # --- what Janus says -----------------------------------------------------------------------------------------

    def _event(self, client: JanusClient, number: int, message: Message) -> None:
        """Media of a page arrive in Janus: only now there is something to watch. (Watching as soon as the browser said
        that it is connected failed 5 times in 12.)"""
        if message["janus"] != "webrtcup":
            return
        for page, sender in self._senders.items():
            if sender.handle == (client, number):
                told = {"type": "feed", "user": page.user, "peer": page.peer}
                self._push(class_channel(page.class_id), _encode(told))

    def _down(self, client: JanusClient) -> None:
        self._senders = {page: each for page, each in self._senders.items() if each.handle.client is not client}
        for key, held in list(self._watchers.items()):
            left = {watched: handle for watched, handle in held.items() if handle.client is not client}
            if left:
                self._watchers[key] = left
            else:
                del self._watchers[key]
        self._were_up.add(client)
        self._servers.lost(client)

    def _up(self, client: JanusClient) -> None:
        """A Janus that knows nothing of this node's pages: they begin anew."""
        if client in self._were_up:
            for follower in self._live():
                if self._servers.has(client, follower.id):
                    self._push_here(follower.name, _RESTART)

    def _moved(self, id: UUID, here: bool) -> None:
        """A class is on another Janus: everybody begins anew, told by the node that moved it; or this node's pages do,
        where it was away when the others were told."""
        (self._push if here else self._push_here)(class_channel(id), _RESTART)

    def _live(self) -> Iterator[ClassFollower]:
        for follower in self._followed():
            if follower.state.media == "janus" and follower.state.phase == "live":
                yield follower

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextmanager
def _trouble() -> Iterator[None]:
    """Janus's trouble as a client is told it."""
    try:
        yield
    except JanusAway:
        raise codes.INTERNAL.saying("the media server is away") from None
    except JanusRefused as error:
        if error.code in (NO_SUCH_ROOM, NO_SUCH_FEED):
            raise codes.CONFLICT.saying("nothing comes yet") from None
        raise codes.BAD_REQUEST.saying(f"the media server refused it: {str(error)[:MAX_REASON]}") from None


def _check(description: Description) -> None:
    """Raises error 106 or 107."""
    if len(description.sdp.encode(errors="replace")) > MAX_SDP:
        raise codes.LIMIT_EXCEEDED.at("/sdp", f"a description has at most {MAX_SDP} bytes")
    if not description.sdp.startswith("v=0"):
        raise codes.BAD_REQUEST.at("/sdp", "that is no session description")


def _check_kinds(offer: Description) -> None:
    """Each part of an offer says what it is, and is of that medium: sound is no picture. Raises error 107."""
    parts = {}
    for part in re.split(r"^m=", offer.sdp, flags=re.MULTILINE)[1:]:
        mid = re.search(r"^a=mid:(\S+)", part, re.MULTILINE)
        parts[mid[1] if mid else ""] = part.partition(" ")[0]
    if not offer.kinds or parts != {mid: _MEDIA_OF[kind] for mid, kind in offer.kinds.items()}:
        raise codes.BAD_REQUEST.at("/kinds", "they say of each part of the offer what it carries")
