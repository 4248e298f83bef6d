"""On which media server each live class is, as all nodes have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from presence import keys
from presence.pipe import Pipe

TTL_SECONDS = 300  # after which a class that no node speaks of any more is on none

Condition = Literal["up", "late", "down"]
"""Of a server, as the node that asks sees it: a class goes to one that is up, and leaves one that is down."""

# Lua, in one step: two nodes at once choose the same. Times are milliseconds of Redis's clock.
_PLACE = """
-- KEYS room, rooms of each server   ARGV class, ms to keep it, where the caller has it (or empty), then of each server
-- its name and condition.   Returns where the class is (empty: nowhere), and whether it was elsewhere before.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local before = redis.call('GET', KEYS[1]) or ARGV[3]
local chosen, least, at = false, false, 0
for i = 2, #KEYS do
  local name, condition = ARGV[2 * i], ARGV[2 * i + 1]
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  if name == before and condition ~= 'down' then
    chosen, at = name, i
    break
  end
  local load = redis.call('ZCARD', KEYS[i])
  if condition == 'up' and (not least or load < least) then
    chosen, least, at = name, load, i
  end
end
if not chosen then return {before, 0} end
for i = 2, #KEYS do
  if i ~= at then redis.call('ZREM', KEYS[i], ARGV[1]) end
end
redis.call('SET', KEYS[1], chosen, 'PX', ARGV[2])
redis.call('ZADD', KEYS[at], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[at], ARGV[2])
return {chosen, (before ~= '' and before ~= chosen) and 1 or 0}
"""


class Placed(NamedTuple):
    """`server` empty: none is up. `moved`: the class was on another one, and this call has moved it."""

    server: str
    moved: bool


class RedisMediaRooms:
    """`{media}:room:<class>`, the name of a server, and a sorted set a server of the classes on it, whose score is when
    they are forgotten. Every method raises `Away`."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def place(self, class_id: str, servers: Mapping[str, Condition], known: str = "") -> Placed:
        """Where a class is; if it is nowhere, or on a server that is down, it is now on the one with the fewest classes
        of those that are up. `known`: where the caller has it, should Redis have lost it."""
        names = [keys.media_room(class_id), *map(keys.media_rooms, servers)]
        asked: list[str | int] = [class_id, TTL_SECONDS * 1000, known]
        for name, condition in servers.items():
            asked += [name, condition]
        ((server, moved),) = await self._pipe.run([("EVAL", _PLACE, len(names), *names, *asked)])
        return Placed(server.decode(), bool(moved))

    async def release(self, class_id: str, servers: Mapping[str, Condition]) -> None:
        """A class is over."""
        await self._pipe.run(
            [("DEL", keys.media_room(class_id)), *(("ZREM", keys.media_rooms(each), class_id) for each in servers)]
        )
