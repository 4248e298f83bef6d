"""Request limits: token buckets in Redis, shared by the nodes, or in this process while Redis is away.

A bucket holds one minute's worth of requests and refills evenly. An empty one tells how long until the next request
may pass. Losing the buckets (a Redis restart, a fall back to this process) costs a minute's worth per node at most.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from presence import Away, Pipe

PERIOD = 60.0  # seconds in which an empty bucket is full again
REDIS_TIMEOUT = 0.25  # seconds; a limit must not be what a request waits for
REDIS_PAUSE = 5.0  # seconds in which a Redis that failed is not asked again
LOCAL_BUCKETS = 65536  # about 10 MB; the longest unused go first

_log = structlog.get_logger(__name__)

# KEYS[1] a bucket; ARGV: its size, the time it takes to fill (seconds), how much to take. The clock is Redis's own: the
# nodes' may differ. A hash of tokens and time, which expires when it would be full. Returns the seconds to wait, as
# text.
_TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local size, period, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = size
if bucket[1] then
  tokens = math.min(size, bucket[1] + math.max(0, now - bucket[2]) * size / period)
end
local wait = 0
if tokens >= wanted then
  tokens = tokens - wanted
else
  wait = (wanted - tokens) * period / size
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((size - tokens) * period / size * 1000) + 1000)
return string.format('%.6f', wait)
"""


class LimitExceeded(Exception):
    """Too many requests. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests: try again in {retry_after:.1f} s")
        self.retry_after = retry_after


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class LocalBuckets:
    """Buckets of this process. `clock` is in seconds and may not go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, size: int, wanted: int = 1) -> float:
        """Take tokens. The seconds to wait until there are so many; 0 when there were."""
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(size, now)
            if len(self._buckets) > LOCAL_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.tokens = min(size, bucket.tokens + (now - bucket.at) * size / PERIOD)
        bucket.at = now
        if bucket.tokens < wanted:
            return (wanted - bucket.tokens) * PERIOD / size
        bucket.tokens -= wanted
        return 0.0


class Buckets:
    """Buckets in Redis, or of this process while Redis does not answer. What many ask at once shares a round trip."""

    def __init__(self, pipe: Pipe | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._local = LocalBuckets(clock)
        self._pipe = pipe
        self._away_until = 0.0

    async def take(self, key: str, size: int, wanted: int = 1) -> float:
        """Take tokens of a bucket of `size`. The seconds to wait until there are so many; 0 when there were."""
        if self._pipe is not None and self._clock() >= self._away_until:
            try:
                async with asyncio.timeout(REDIS_TIMEOUT):
                    # With its source: that Redis does not know a name would be a failure of all that share the trip.
                    (wait,) = await self._pipe.run([("EVAL", _TAKE, 1, f"limit:{key}", size, str(PERIOD), wanted)])
                    return float(wait)
            except (Away, TimeoutError) as error:
                self._away_until = self._clock() + REDIS_PAUSE
                _log.warning("limits.local", error=str(error) or "no answer")
        return self._local.take(key, size, wanted)


class Limit:
    """So many a minute for each subject (an address, a user). `per_minute` 0: any number."""

    def __init__(self, buckets: Buckets, name: str, per_minute: int) -> None:
        self._buckets = buckets
        self._name = name
        self._per_minute = per_minute

    async def spend(self, subject: str, number: int = 1) -> None:
        """More at once than a minute's worth cost a minute's worth. Raises: `LimitExceeded`."""
        if not self._per_minute:
            return
        number = min(number, self._per_minute)
        wait = await self._buckets.take(f"{self._name}:{subject}", self._per_minute, number)
        if wait > 0:
            raise LimitExceeded(wait)


class Limits:
    """The limits of the settings (section `limits`), on one set of buckets."""

    def __init__(
        self,
        buckets: Buckets,
        *,
        logins_per_address: int = 30,
        logins_per_user: int = 10,
        registrations_per_address: int = 10,
        requests_per_address: int = 1200,
        requests_per_user: int = 600,
        links_per_user: int = 300,
        link_passwords: int = 10,
    ) -> None:
        self.logins_per_address = Limit(buckets, "login:address", logins_per_address)
        self.logins_per_user = Limit(buckets, "login:user", logins_per_user)
        self.registrations_per_address = Limit(buckets, "register:address", registrations_per_address)
        self.requests_per_address = Limit(buckets, "http:address", requests_per_address)
        self.requests_per_user = Limit(buckets, "http:user", requests_per_user)
        self.links_per_user = Limit(buckets, "links:user", links_per_user)
        self.link_passwords = Limit(buckets, "links:password", link_passwords)


def subject_of(address: str) -> str:
    """What an address counts as: itself, or for IPv6 its network of 64 bits, which is one subscriber's."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"  # a Unix socket's peer has none
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
