"""What a coordinator and an agent say to each other beyond the orders and answers of `loadtest.engine.wire`."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Annotated

import msgspec
from msgspec import Meta

from loadtest.engine import wire

VERSION = version("chalkwire").replace("+", "-")  # what workers understand changes with it
POOL = "default"

BEAT = 1.0  # s between two signs of life
LEASE = 6  # of them that may be missing in a row

# What comes from the network goes into subjects and onto terminals.
NAME = r"\A[\w.:@-]{1,80}\Z"
Id = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
Name = Annotated[str, Meta(pattern=NAME)]
Count = Annotated[int, Meta(ge=1, le=10_000)]


class Message(msgspec.Struct, frozen=True, tag=str.lower, forbid_unknown_fields=True):
    """A field that is not known is an error: the two sides are of one version."""


class Here(Message, frozen=True):
    """An agent's answer to a call. `session` is another one for every run."""

    name: Name
    session: Id
    workers: Count
    cpus: int
    file_limit: int  # of each worker
    busy: bool
    version: Name


class Hire(Message, frozen=True):
    crew: Id


class Beat(Message, frozen=True):
    """Of the coordinator: it is there still. The answer is the agent's clock."""

    crew: Id


class Release(Message, frozen=True):
    crew: Id


Request = Hire | Beat | Release


class Yes(Message, frozen=True):
    clock: int  # ns of the agent's monotonic clock


class No(Message, frozen=True):
    """Somebody else has hired this agent."""


Reply = Yes | No


class Do(Message, frozen=True):
    """An order for one of the agent's workers. Times in it are of the agent's clock."""

    worker: int
    order: wire.Order


class Said(Message, frozen=True):
    worker: int
    answer: wire.Answer


class Gone(Message, frozen=True):
    """The agent ends in mid-run; a sentence."""

    why: str


encode = msgspec.msgpack.Encoder().encode
decode_here = msgspec.msgpack.Decoder(Here).decode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode
decode_do = msgspec.msgpack.Decoder(Do).decode
decode_from_agent = msgspec.msgpack.Decoder(Said | Gone).decode


class Subjects:
    """Of one pool: agents and coordinators that name another one never meet. Raises ValueError for a bad name."""

    def __init__(self, pool: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", pool):
            raise ValueError(f"{pool!r} is no name of a pool: letters, digits, - and _, 40 at most.")
        self._prefix = f"chalkwire.load.{pool}"
        self.call = f"{self._prefix}.call"

    def agent(self, session: str) -> str:
        return f"{self._prefix}.agent.{session}"

    def orders(self, crew: str, session: str) -> str:
        return f"{self._prefix}.run.{crew}.{session}.orders"

    def answers(self, crew: str, session: str) -> str:
        return f"{self._prefix}.run.{crew}.{session}.answers"
