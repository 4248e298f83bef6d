"""The ledger: what was sent, acknowledged, stored and delivered, and where the four disagree.

Every message carries its sender and a sequence number that the sender counts up within a channel, so that a message
that is lost, doubled or out of order can be named. A sender waits for one acknowledgement before it sends the next
message of the same channel; the order of its messages in the log is therefore the order of the sequence numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

SHOWN = 5  # examples named in a fault; the count is always whole


class Message(NamedTuple):
    """A message by its sender's count. A row that the server wrote (somebody joined) has no sender, and its offset."""

    sender: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.sender}#{self.sequence}"


class Place(NamedTuple):
    """A message at its offset, as a reader or the stored history shows it."""

    offset: int
    message: Message

    def __str__(self) -> str:
        return f"{self.message} at {self.offset}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One promise that was broken.

    `kind` is lost, doubled, reordered, invented, gap, undelivered, unrecovered or disagreement.
    """

    kind: str
    channel: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.channel}: {self.detail}"


@dataclass(slots=True)
class ChannelLedger:
    """The books of one channel. Readers are expected to have been there before the first message was sent."""

    name: str
    sent: set[Message] = field(default_factory=set)
    acknowledged: set[Message] = field(default_factory=set)
    delivered: defaultdict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))  # by reader
    entered_at: Counter[str] = field(default_factory=Counter)  # the channel's offset when the reader came first
    stored: dict[str, list[Place]] = field(default_factory=dict)  # by the node that was asked
    unrecovered: list[str] = field(default_factory=list)  # readers that came back and were not told what they missed

    def faults(self) -> list[Fault]:
        found = self._fault("unrecovered", "times a returning reader was not told what it missed", self.unrecovered)
        for node, places in self.stored.items():
            found += self._check_places(f"history on {node}", places, 0)
            messages = {place.message for place in places if place.message.sender}
            found += self._fault("lost", f"acknowledged but not in the history on {node}", self.acknowledged - messages)
            found += self._fault("invented", f"in the history on {node} but never sent", messages - self.sent)
        reference = next(iter(self.stored.values()), None)
        if reference is None:
            return [Fault("lost", self.name, "no history was read")]
        for node, places in self.stored.items():
            if places != reference:
                found.append(Fault("disagreement", self.name, f"{node} has another history than the first node"))
        known = set(reference)
        for reader, places in self.delivered.items():
            found += self._check_places(reader, places, self.entered_at[reader])
            awaited = {place for place in known if place.offset > self.entered_at[reader]}
            missed = {place.message for place in awaited} - {place.message for place in places}
            found += self._fault("undelivered", f"stored but not delivered to {reader}", missed)
            moved = [place for place in places if place not in known]
            found += self._fault("disagreement", f"{reader} saw another message at this offset", moved)
        return found

    def _check_places(self, where: str, places: list[Place], after: int) -> list[Fault]:
        """Offsets without a hole, each message once, each sender's messages in the order in which they were sent."""
        found: list[Fault] = []
        offsets = [place.offset for place in places]
        if offsets != sorted(offsets):
            late = [second for first, second in pairwise(offsets) if second < first]
            found += self._fault("reordered", f"offsets went back, {where}", late)
        missing = set(range(after + 1, max(offsets, default=0) + 1)) - set(offsets)
        found += self._fault("gap", f"offsets missing, {where}", missing)
        twice = [message for message, times in Counter(place.message for place in places).items() if times > 1]
        found += self._fault("doubled", f"more than once, {where}", twice)
        last: dict[str, int] = {}
        for place in sorted(places):
            sender, sequence = place.message
            if sequence < last.get(sender, -1):
                found += self._fault("reordered", f"after #{last[sender]} of the same sender, {where}", [place])
            last[sender] = max(sequence, last.get(sender, -1))
        return found

    def _fault(self, kind: str, what: str, examples: Iterable[object]) -> list[Fault]:
        names = sorted(str(example) for example in examples)
        if not names:
            return []
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return [Fault(kind, self.name, f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}")]


class Ledger:
    """The books of all channels of a run. A channel's book is opened when it is first asked for."""

    def __init__(self) -> None:
        self.channels: dict[str, ChannelLedger] = {}
        self.retries = 0  # publishes whose first attempt had no answer

    def channel(self, name: str) -> ChannelLedger:
        return self.channels.setdefault(name, ChannelLedger(name))

    @property
    def sent(self) -> int:
        return sum(len(channel.sent) for channel in self.channels.values())

    @property
    def acknowledged(self) -> int:
        return sum(len(channel.acknowledged) for channel in self.channels.values())

    def stored_by_node(self) -> Counter[str]:
        """Messages in the histories as each node shows them."""
        counts: Counter[str] = Counter()
        for channel in self.channels.values():
            counts.update({node: len(places) for node, places in channel.stored.items()})
        return counts

    @property
    def delivered(self) -> int:
        return sum(len(places) for channel in self.channels.values() for places in channel.delivered.values())

    def faults(self) -> list[Fault]:
        return [fault for channel in self.channels.values() for fault in channel.faults()]
