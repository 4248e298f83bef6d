"""What a load test does: clients, the channels they are in, and phases of activities.

Built-in scenarios make a plan from a few options (`loadtest/scenarios`); a TOML file is a plan as it stands here:

    name = "monday"
    clients = 2000

    [[channels]]
    prefix = "chat:room-"
    size = 50

    [[phases]]
    name = "arrive"
    activities = [{ do = "open" }]

    [[phases]]
    name = "talk"
    activities = [{ do = "publish", rate = 500, seconds = 30 }, { do = "churn", rate = 20, seconds = 30 }]
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Number = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(ge=0, le=1e6)]  # a second; beyond it a harness would only measure itself
Seconds = Annotated[float, Meta(ge=0, le=1e7)]
Positive = Annotated[float, Meta(gt=0, le=1e7)]
Share = Annotated[float, Meta(ge=0, le=1)]
OURS = ("drain", "check")  # what the end of every run is called


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A misspelt name is an error, not a default."""


class Channels(Strict, frozen=True):
    """Which channels a client is in: with `size` = 50, clients 0-49 are in `prefix`0, 50-99 in `prefix`1, and so on.

    `size` = 0 puts all of them into one channel, which is then called `prefix` as it is.
    """

    prefix: Annotated[str, Meta(min_length=1, max_length=200)] = "chat:loadtest"
    size: Number = 0
    recover: bool = True  # ask for recovery, so that a client that was cut off gets what it missed
    enter: str = ""  # an RPC that is called before the channel is subscribed, with `{"class_id": <after the colon>}`

    def name(self, client: int) -> str:
        return f"{self.prefix}{client // self.size}" if self.size else self.prefix


class Activity(Strict, frozen=True, tag_field="do"):
    """Something that clients do. The activities of a phase run at the same time; it ends with the last."""


class Open(Activity, frozen=True, tag="open"):
    """Every client connects, authenticates and subscribes.

    `rate` is in connections a second, 0: as fast as `window` allows, the connections that are under way at a time.
    """

    rate: Rate = 0
    window: Count = 256


class Hold(Activity, frozen=True, tag="hold"):
    """Nothing but being there."""

    seconds: Seconds = 10.0


class Publish(Activity, frozen=True, tag="publish"):
    """Members of the channels publish.

    With `rate` (messages a second over all publishers) the loop is open: each message has its time, whether those
    before it were answered or not, and latency counts from that time. With `in_flight` it is closed: each publisher
    keeps so many unanswered, and the server sets the pace. `burst` messages go out at once, in one write.
    """

    channels: Number = 0  # which entry of the plan's channels
    publishers: Number = 1  # in each channel; 0: every member
    rate: Rate = 0
    in_flight: Number = 0
    burst: Count = 1
    seconds: Seconds = 10.0
    count: Number = 0  # messages in all; 0: as many as fit into `seconds`
    size: Annotated[int, Meta(ge=0, le=1 << 20)] = 128  # bytes of a message's data, about
    chat: bool = False  # as a message of a room or class, which the server writes anew


class Cut(Activity, frozen=True, tag="cut"):
    """A share of the clients is cut off without a goodbye, and each comes back within `back_within` s and recovers.

    Publishers stay, unless `publishers` says otherwise: their messages show what the others' return costs everybody.
    """

    share: Share = 1.0
    after: Seconds = 0
    back_within: Seconds = 0
    publishers: bool = False
    window: Count = 256


class Stall(Activity, frozen=True, tag="stall"):
    """A share of the clients stops reading for a while, and then goes on."""

    share: Share = 0.1
    seconds: Positive = 10.0


class Churn(Activity, frozen=True, tag="churn"):
    """Clients leave (close, or unsubscribe) and come back, so many a second in all."""

    rate: Positive = 50.0
    seconds: Positive = 10.0


class Call(Strict, frozen=True):
    """An HTTP request. `user`: whose access token it carries. `%n` in the body is a number that grows."""

    path: Annotated[str, Meta(pattern=r"^/[!-~]*$", max_length=2000)]
    method: Annotated[str, Meta(pattern=r"^[A-Z]{1,10}$")] = "GET"
    user: Annotated[str, Meta(max_length=255)] = ""
    body: str = ""


class Group(Strict, frozen=True):
    """Requests of one kind: one of `calls` each time. Its times are those of `name`."""

    name: Annotated[str, Meta(pattern=r"^[a-z_]{1,40}$")]
    calls: Annotated[list[Call], Meta(min_length=1)]
    share: Positive = 1.0  # of all requests, as against those of the other groups


class Request(Activity, frozen=True, tag="request"):
    """HTTP requests to the server, so many a second in all, each at its time, whether those before it were answered or
    not; a wait counts from that time."""

    rate: Positive = 50.0
    seconds: Positive = 10.0
    connections: Count = 16  # of each process, which stay open
    groups: list[Group] = []


class Rpc(Activity, frozen=True, tag="rpc"):
    """Clients call an RPC: so many a second for a while, each time another client; or every one of them `once`, so
    many at a time as `window` says."""

    method: Annotated[str, Meta(min_length=1, max_length=100)]
    data: dict[str, str | int | float | bool] = {}
    rate: Rate = 0
    seconds: Seconds = 10.0
    once: bool = False
    window: Count = 256


Activities = Open | Hold | Publish | Cut | Stall | Churn | Request | Rpc


class Phase(Strict, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=40)]
    activities: Annotated[list[Activities], Meta(min_length=1)]


class Plan(Strict, frozen=True):
    """A whole test. Clients are numbered from 0; client n is the user `user_prefix`n."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    clients: Count
    phases: Annotated[list[Phase], Meta(min_length=1)]
    channels: Annotated[list[Channels], Meta(min_length=1)] = msgspec.field(default_factory=lambda: [Channels()])
    user_prefix: Annotated[str, Meta(max_length=60)] = "load-"
    user_digits: Number = 0  # n is written with so many at least: where user ids are UUIDs
    drain: Positive = 30.0  # s in which everything that was published must have arrived

    def user(self, client: int) -> str:
        return f"{self.user_prefix}{client:0{self.user_digits}d}"


class BadPlan(Exception):
    """The message names the place and what would do."""


def read_plan(path: Path) -> Plan:
    """A plan from a TOML file. Raises BadPlan."""
    try:
        return check(msgspec.convert(tomllib.loads(path.read_text()), Plan))
    except OSError as error:
        raise BadPlan(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError, BadPlan) as error:
        raise BadPlan(f"{path}: {error}") from None


def check(plan: Plan) -> Plan:
    """What the types alone do not say. Raises BadPlan."""
    if not any(isinstance(activity, Open) for activity in plan.phases[0].activities):
        raise BadPlan('the first phase must connect the clients: activities = [{ do = "open" }]')
    for prefix, times in Counter(each.prefix for each in plan.channels).items():
        if times > 1:
            raise BadPlan(f'in channels: {times} entries have the prefix "{prefix}"; each needs its own')
    for name, times in Counter([*OURS, *(phase.name for phase in plan.phases)]).items():
        if times > 1:
            also = " (the end of every run is called so)" if name in OURS else ""
            raise BadPlan(f'in phases: {times} are called "{name}"{also}; each needs its own name')
    for phase in plan.phases:
        for activity in phase.activities:
            if isinstance(activity, Request) and not activity.groups and plan.name != "mix":
                raise BadPlan(f'in phase "{phase.name}": request needs groups, each with its calls')
            if isinstance(activity, Rpc) and bool(activity.rate) == activity.once:
                raise BadPlan(f'in phase "{phase.name}": rpc takes either rate or once')
            if isinstance(activity, Publish):
                if bool(activity.rate) == bool(activity.in_flight):
                    raise BadPlan(f'in phase "{phase.name}": publish takes either rate or in_flight')
                if not activity.seconds and not activity.count:
                    raise BadPlan(f'in phase "{phase.name}": publish needs seconds or count')
                if activity.channels >= len(plan.channels):
                    raise BadPlan(f'in phase "{phase.name}": there is no entry {activity.channels} in channels')
    return plan
