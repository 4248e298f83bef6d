"""Redis: who is here, who types, who is in which lesson, and how far people have read, for as long as a key lives."""

from presence.activity import RedisActivity
from presence.cursors import RedisCursors
from presence.link import Away
from presence.media_rooms import Condition, RedisMediaRooms
from presence.online import Online
from presence.pipe import Pipe
from presence.places import RedisPlaces
from presence.store import RedisPresence
from presence.turns import Turns
from presence.typing import RedisTyping

__all__ = [
    "Away",
    "Condition",
    "Online",
    "Pipe",
    "RedisActivity",
    "RedisCursors",
    "RedisMediaRooms",
    "RedisPlaces",
    "RedisPresence",
    "RedisTyping",
    "Turns",
]
