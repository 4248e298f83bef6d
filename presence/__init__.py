"""Redis: who is here, for as long as a key lives."""

from presence.store import RedisPresence

__all__ = ["RedisPresence"]
