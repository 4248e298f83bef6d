"""What Redis has to do in one step, in Lua. Each script returns at once and touches keys of one cluster slot.

Times are milliseconds of the server's clock, so that nodes need not agree on theirs. A *deadline* (0: none) is the end
of a reaper's claim: a removal that comes after it does nothing, because the node may be back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Script:
    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# A lease and a claim are renewed when memory is full, too: else a full Redis would make every node look dead.
_ALWAYS = "#!lua flags=allow-oom\n"

RENEW = Script(
    _ALWAYS
    + _NOW
    + """
-- KEYS nodes, reaper:<node>   ARGV node, lease, seconds that `nodes` lives, how many expired nodes to name
local claim = redis.call('GET', KEYS[2])
if claim and claim ~= 'done' then return {'held'} end
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
if claim then redis.call('DEL', KEYS[2]) end
local state = 'kept'
if claim then state = 'reaped' elseif not score then state = 'new' elseif tonumber(score) < now then state = 'late' end
return {state, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])}
"""
)

CLAIM = Script(
    _ALWAYS
    + _NOW
    + """
-- KEYS nodes, reaper:<dead>   ARGV dead, claimant, length of the claim.   Returns the deadline, or 0.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) > now then return 0 end
local claim = redis.call('GET', KEYS[2])
if claim and claim ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return now + ARGV[3]
"""
)

FINISH = Script(
    _ALWAYS
    + """
-- KEYS nodes, reaper:<dead>   ARGV dead, claimant, seconds to remember it
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], 'done', 'EX', ARGV[3])
return 1
"""
)

REMOVE = Script(
    _NOW
    + """
-- KEYS channel's hash   ARGV deadline, clients ...   Returns the clients that were there; nil: too late.
if tonumber(ARGV[1]) > 0 and now > tonumber(ARGV[1]) then return false end
local removed = {}
for i = 2, #ARGV do
  if redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then removed[#removed + 1] = ARGV[i] end
end
return removed
"""
)

ONLINE = Script(
    """
-- KEYS user's mark, user's nodes   ARGV node, seconds, notice (empty: none)
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
local before = redis.call('SET', KEYS[1], '1', 'EX', ARGV[2], 'GET')
if not before and ARGV[3] ~= '' then redis.call('PUBLISH', 'presence', ARGV[3]) end
return 1
"""
)

WENT_OFFLINE = 2
OFFLINE = Script(
    _NOW
    + """
-- KEYS user's mark, user's nodes   ARGV node, deadline, notice.   Returns 2: offline by this; 1: not; nil: too late.
if tonumber(ARGV[2]) > 0 and now > tonumber(ARGV[2]) then return false end
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('SCARD', KEYS[2]) == 0 and redis.call('DEL', KEYS[1]) == 1 then
  redis.call('PUBLISH', 'presence', ARGV[3])
  return 2
end
return 1
"""
)

ALL = (RENEW, CLAIM, FINISH, REMOVE, ONLINE, OFFLINE)
