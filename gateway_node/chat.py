"""The chat: its services, made once a node, and given to RPC and HTTP alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway_node.rpc import files as file_methods
from gateway_node.rpc import messages as message_methods
from gateway_node.rpc import people as people_methods
from gateway_node.rpc import pins as pin_methods
from gateway_node.rpc import reactions as reaction_methods
from gateway_node.rpc import reading as reading_methods
from gateway_node.rpc import rooms as room_methods
from gateway_node.rpc import search as search_methods
from gateway_node.services.files import Files
from gateway_node.services.messages import Messages
from gateway_node.services.people import People
from gateway_node.services.pins import Pins
from gateway_node.services.reactions import Reactions
from gateway_node.services.reading import Reading
from gateway_node.services.rooms import Rooms
from gateway_node.services.search import Search
from presence import Pipe
from realtime.core import RPC
from realtime.publisher import Publisher
from storage.database import Database
from storage.files import FileStore
from storage.messages import MessageStore
from storage.people import PeopleStore
from storage.pins import PinStore
from storage.reactions import ReactionStore
from storage.reading import ReadingStore
from storage.room_changes import RoomChanges
from storage.rooms import RoomStore
from storage.search import SearchStore

if TYPE_CHECKING:
    from config.sections import Settings


@dataclass(frozen=True, slots=True)
class Chat:
    """Every service of the chat, by the noun that it is about."""

    rooms: Rooms
    messages: Messages
    reactions: Reactions
    pins: Pins
    search: Search
    reading: Reading
    people: People
    files: Files

    def methods(self) -> Mapping[str, RPC]:
        """The RPC methods, by name."""
        return {
            **room_methods.methods(self.rooms),
            **message_methods.methods(self.messages),
            **reaction_methods.methods(self.reactions),
            **pin_methods.methods(self.pins),
            **search_methods.methods(self.search),
            **reading_methods.methods(self.reading),
            **people_methods.methods(self.people),
            **file_methods.methods(self.files),
        }

    @property
    def writes(self) -> frozenset[str]:
        """Those of the methods that a client may call as often as it may publish."""
        return message_methods.WRITES | reaction_methods.WRITES | pin_methods.WRITES

    async def start(self) -> None:
        """Begin the background work."""
        for service in (self.messages, self.reading, self.people, self.files):
            await service.start()

    async def stop(self) -> None:
        """Finish what was promised; the stores are still open."""
        for service in (self.files, self.people, self.reading, self.messages):
            await service.stop()


def make_chat(
    settings: Settings, *, database: Database, messages: MessageStore, pipe: Pipe, publisher: Publisher
) -> Chat:
    """`messages`: the store that `publisher` asks about, too."""
    assert settings.token.hmac_secret, "made on the first start when not given"
    reading = Reading(ReadingStore(database), pipe, publisher.push, settings.chat)
    rooms = Rooms(RoomStore(database), RoomChanges(database), publisher, reading.ahead)
    written = Messages(messages, rooms, publisher)
    return Chat(
        rooms,
        written,
        Reactions(ReactionStore(database, messages), written, publisher),
        Pins(PinStore(database, messages), written, publisher),
        Search(SearchStore(database), messages),
        reading,
        People(PeopleStore(database), pipe),
        Files(
            FileStore(database, settings.files.orphan_ttl),
            settings.files,
            settings.data_dir,
            settings.token.hmac_secret,
            sweeps="worker" in settings.roles,
        ),
    )
