"""Live classes: their services, made once a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway_node.rpc import classes as class_methods
from gateway_node.services.classes.classroom import Classrooms
from gateway_node.services.classes.crier import Crier
from gateway_node.services.classes.door import ClassDoor
from gateway_node.services.classes.ice import Ice
from gateway_node.services.classes.janus import JanusClient
from gateway_node.services.classes.media import JanusMedia, MediaBackend
from gateway_node.services.classes.polls import Polls
from gateway_node.services.classes.registry import LiveClasses
from gateway_node.services.classes.servers import MediaServers
from gateway_node.services.classes.timetable import Timetable
from gateway_node.services.shifts import Shifts
from presence import Pipe, RedisMediaRooms
from realtime.core import RPC
from realtime.hub import Hub
from realtime.interfaces import MessageLog
from realtime.publisher import Publisher
from storage.database import Database
from storage.lms.classes import ClassStore

if TYPE_CHECKING:
    from config.sections import Settings


@dataclass(frozen=True, slots=True)
class Classes:
    """Every service of live classes, by the noun that it is about."""

    live: LiveClasses
    timetable: Timetable
    classrooms: Classrooms
    polls: Polls
    door: ClassDoor
    crier: Crier

    def methods(self) -> Mapping[str, RPC]:
        """The RPC methods, by name."""
        return class_methods.methods(self.classrooms, self.polls)

    @property
    def writes(self) -> frozenset[str]:
        """Those of the methods that a client may call as often as it may publish."""
        return class_methods.WRITES

    async def start(self) -> None:
        """Begin the background work."""
        await self.live.start()
        self.crier.start()
        self.classrooms.start()

    async def stop(self) -> None:
        """Finish what was promised; the stores are still open."""
        await self.classrooms.stop()
        await self.polls.stop()
        await self.crier.stop()
        await self.live.stop()


def make_classes(
    settings: Settings,
    *,
    hub: Hub,
    log: MessageLog,
    publisher: Publisher,
    database: Database,
    pipe: Pipe,
    nodes: Callable[[], int],
) -> Classes:
    """`nodes`: how many there are."""
    store, media = ClassStore(database), settings.media
    live = LiveClasses(hub, log, publisher, store, Shifts(nodes) if "worker" in settings.roles else None)
    crier = Crier(publisher.push, store)
    return Classes(
        live,
        Timetable(store, publisher, live, has_media_server=bool(media.janus_urls)),
        Classrooms(
            live,
            store,
            publisher,
            crier,
            ice=Ice(media.ice_servers, media.turn_secret or "", media.turn_ttl),
            media=_media_server(settings, live, publisher, pipe),
        ),
        Polls(live, store, crier),
        ClassDoor(live, store),
        crier,
    )


def _media_server(settings: Settings, live: LiveClasses, publisher: Publisher, pipe: Pipe) -> MediaBackend | None:
    media, secret = settings.media, settings.token.hmac_secret
    if not media.janus_urls or "gateway" not in settings.roles:
        return None
    assert secret, "made on the first start when not given"
    clients = {url: JanusClient(url, media.janus_secret or "") for url in media.janus_urls}
    servers = MediaServers(clients, RedisMediaRooms(pipe))
    return JanusMedia(servers, secret.encode(), publisher.push, publisher.push_here, live.followed)
