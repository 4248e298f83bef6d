"""Redis: who is here, who types, and how far people have read, for as long as a key lives."""

from presence.cursors import RedisCursors
from presence.link import Away
from presence.online import Online
from presence.pipe import Pipe
from presence.store import RedisPresence
from presence.turns import Turns
from presence.typing import RedisTyping

__all__ = ["Away", "Online", "Pipe", "RedisCursors", "RedisPresence", "RedisTyping", "Turns"]
