"""What the coordinator and its workers say to each other, in MessagePack: over a socket pair, or over NATS."""

from __future__ import annotations

import msgspec

from loadtest.engine.swarm import Target
from loadtest.plan import Plan
from loadtest.report.model import Fault


class Tokens(msgspec.Struct, frozen=True):
    """How clients authenticate: with the server's HMAC secret each is a user of its own; else one token for all."""

    secret: str = ""
    token: str = ""
    audience: str = ""
    issuer: str = ""
    ttl: int = 86400  # s


# --- to a worker -----------------------------------------------------------------------------------------------


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    run: str
    worker: int
    first: int
    count: int
    share: float  # this worker's part of a rate
    target: Target
    plan: Plan
    tokens: Tokens
    sources: list[str]
    began: int  # ns of the monotonic clock of the worker's machine at which the run's clock began


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    phase: int
    activity: int
    window: int = 0  # connections under way at a time in this worker


class Halt(msgspec.Struct, frozen=True, tag="halt"):
    """The run was stopped: bring what is under way to its end, and begin nothing more."""


class AskHeads(msgspec.Struct, frozen=True, tag="ask_heads"):
    channels: list[str]


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Wait until every reader is at the head of its channel and, where there is none, nothing more comes."""

    heads: dict[str, int]
    seconds: float


class ReadHistory(msgspec.Struct, frozen=True, tag="read_history"):
    since: dict[str, int]


class CloseBooks(msgspec.Struct, frozen=True, tag="close_books"):
    pass


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    pass


Order = Setup | Begin | Halt | AskHeads | Drain | ReadHistory | CloseBooks | Stop


# --- from a worker -----------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    pid: int


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Once a second. `counts` and `errors` are totals, `latency` (us -> times) is what came since the one before."""

    connections: int
    counts: dict[str, int]
    errors: dict[str, int]
    latency: dict[str, dict[int, int]]
    faults: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """An activity, or an order without another answer."""

    what: str
    phase: int = -1
    activity: int = -1


class Heads(msgspec.Struct, frozen=True, tag="heads"):
    heads: dict[str, int]
    refused: dict[str, str]  # channel -> why its history cannot be asked for


class Histories(msgspec.Struct, frozen=True, tag="histories"):
    """By channel: offsets and message ids of what the server has stored, in order; `bytes` are arrays of uint64."""

    offsets: dict[str, bytes]
    messages: dict[str, bytes]
    refused: dict[str, str]


class BookEntry(msgspec.Struct, frozen=True):
    """One channel's book in one worker."""

    name: str
    durable: bool
    sent: int
    refused: int
    unanswered: int
    acknowledged: bytes  # message ids, uint64
    offsets: bytes  # of what was seen; without offsets: the message ids once more
    messages: bytes
    readers: int
    entered: int  # the lowest offset at which a reader ever entered; -1 where nobody did
    delivered: int
    expected: int
    last: int  # the highest offset seen


class Books(msgspec.Struct, frozen=True, tag="books"):
    entries: list[BookEntry]
    faults: list[Fault]
    fault_count: int
    more: bool = False  # others follow: a message of NATS holds a megabyte


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The worker cannot go on; a sentence."""

    why: str


Answer = Ready | Progress | Finished | Heads | Histories | Books | Failed

encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
LENGTH = 4  # bytes before each message on a socket pair, big-endian


def packed(message: Order | Answer) -> bytes:
    body = encode(message)
    return len(body).to_bytes(LENGTH, "big") + body


class Unpacker:
    """Bytes of a stream in, whole messages out."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self._data += data
        messages = []
        while len(self._data) >= LENGTH:
            end = LENGTH + int.from_bytes(self._data[:LENGTH], "big")
            if len(self._data) < end:
                break
            messages.append(bytes(self._data[LENGTH:end]))
            del self._data[:end]
        return messages
