"""The balance: what was sent, acknowledged, stored and delivered, over all workers and the server's own history.

Each worker has checked its readers' deliveries one by one (no gap, no double, no step back). Here the rest is held
together: workers saw the same message at the same offset, the history has it there too, what was acknowledged is in it,
every reader came as far as the head, and a sender's messages lie in the order in which it sent them.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from loadtest.coordinator import Outcome
from loadtest.engine import wire
from loadtest.engine.protocol import SEQUENCE_BITS, name_of
from loadtest.report.model import Channel, Fault, Ledger

CHANNELS_NAMED = 1000
FAULTS_NAMED = 1000
EXAMPLES = 5
NOBODY = (1 << 64) - 1  # a message that is not of this run


@dataclass
class Sum:
    """One channel over all workers."""

    name: str
    durable: bool = True
    sent: int = 0
    refused: int = 0
    unanswered: int = 0
    acknowledged: set[int] = field(default_factory=set)
    seen: dict[int, int] = field(default_factory=dict)  # offset -> message
    entered: int = -1
    readers: int = 0
    delivered: int = 0
    expected: int = 0


def balance(outcome: Outcome) -> Ledger:
    """The ledger of a run, with every fault that the workers or the comparison found."""
    found = list(outcome.faults)
    channels: list[Channel] = []
    for total in sums(outcome.entries, found):
        channel, faults = _balanced(total, outcome)
        channels.append(channel)
        found += faults
    faults = [fault for fault in found if not (outcome.partial and fault.kind == "undelivered")]
    # Of what the workers did not name, nobody knows the kind: it stays.
    count = outcome.fault_count - len(outcome.faults) + len(faults)
    channels.sort(key=lambda channel: (-channel.sent, channel.name))
    named, others = channels[:CHANNELS_NAMED], channels[CHANNELS_NAMED:]
    return Ledger(named, faults[:FAULTS_NAMED], count, _added(others) if others else None)


def sums(workers: Iterable[Iterable[wire.BookEntry]], faults: list[Fault]) -> Iterator[Sum]:
    """Each channel's books added up; `faults` gets what two workers saw differently."""
    totals: dict[str, Sum] = {}
    for entry in (entry for entries in workers for entry in entries):
        total = totals.setdefault(entry.name, Sum(entry.name))
        total.durable = total.durable and entry.durable  # as it is, too, where nobody entered
        total.sent += entry.sent
        total.refused += entry.refused
        total.unanswered += entry.unanswered
        total.acknowledged.update(numbers(entry.acknowledged))
        total.readers += entry.readers
        total.delivered += entry.delivered
        total.expected += entry.expected
        if entry.entered >= 0:
            total.entered = entry.entered if total.entered < 0 else min(total.entered, entry.entered)
        for offset, message in zip(numbers(entry.offsets), numbers(entry.messages), strict=True):
            known = total.seen.setdefault(offset, message)
            if known != message:
                detail = f"offset {offset} is {shown(known)} for one worker and {shown(message)} for another"
                faults.append(Fault("disagreement", entry.name, detail))
    return iter(totals.values())


def shown(message: int) -> str:
    return "somebody else's" if message == NOBODY else name_of(message)


def _balanced(total: Sum, outcome: Outcome) -> tuple[Channel, list[Fault]]:
    faults: list[Fault] = []
    before = max(0, total.entered)
    seen_up_to = max(total.seen, default=before) if total.durable else 0
    head = outcome.heads.get(total.name, seen_up_to)
    history = outcome.histories.get(total.name) if total.durable else None
    stored = dict(zip(*map(numbers, history), strict=True)) if history else {}
    first = min(stored, default=0)
    known = total.seen | stored
    ours = [message for _, message in sorted(known.items()) if message != NOBODY]

    def fault(kind: str, what: str, examples: Iterable[int], name: Callable[[int], str] = shown) -> None:
        found = list(examples)
        if found:
            more = f" and {len(found) - EXAMPLES} more" if len(found) > EXAMPLES else ""
            detail = f"{len(found)} {what}: {', '.join(map(name, found[:EXAMPLES]))}{more}"
            faults.append(Fault(kind, total.name, detail))

    expected = total.expected
    if not total.durable and outcome.steady:
        expected = total.readers * len(total.acknowledged | set(ours))
        if total.delivered < expected:
            faults.append(Fault("undelivered", total.name, f"{total.delivered:,} of {expected:,} deliveries"))
    if history is not None:
        end = max(head, *stored) if stored else head
        if stored:
            fault("gap", "offsets missing in the history", sorted(set(range(first, head + 1)) - set(stored)), str)
        differs = (offset for offset, message in stored.items() if total.seen.get(offset, message) != message)
        fault("disagreement", "offsets at which readers saw another message than is stored", differs, str)
        beyond = (offset for offset in total.seen if offset > end)
        fault("invented", f"offsets seen beyond {end}, where the history ends", beyond, str)
    if history is not None:
        trimmed = {message for offset, message in total.seen.items() if offset < first}
        fault("lost", "acknowledged but not stored", sorted(total.acknowledged - set(stored.values()) - trimmed))
    elif total.readers and (total.durable or outcome.steady):
        fault("lost", "acknowledged but seen by nobody", sorted(total.acknowledged - set(ours)))
    stray = set(ours) - total.acknowledged
    if len(stray) > total.unanswered:
        fault("invented", f"there, but only {total.unanswered} of them could have been sent", sorted(stray))
    if total.durable:
        fault("doubled", "at more than one offset", (each for each, times in Counter(ours).items() if times > 1))
        answered = (message for message in ours if message in total.acknowledged)
        fault("reordered", "after a later one of the same sender", _out_of_order(answered))
    seen = {offset: message for offset, message in total.seen.items() if offset > before or not total.durable}
    return (
        Channel(
            name=total.name,
            durable=total.durable,
            sent=total.sent,
            acknowledged=len(total.acknowledged),
            refused=total.refused,
            unanswered=total.unanswered,
            head_before=before if total.durable else 0,
            head_after=head,
            stored=sum(message != NOBODY for message in stored.values()),
            stored_digest=digest(stored) if history is not None else "",
            published_digest=digest({o: m for o, m in seen.items() if o >= first} if history is not None else seen),
            readers=total.readers,
            expected=expected,
            delivered=total.delivered,
            first_offset_stored=first,
        ),
        faults,
    )


def _out_of_order(messages: Iterable[int]) -> Iterator[int]:
    """Messages with an answer: one without may have been on its way when its sender came back and went on."""
    last: dict[int, int] = {}
    seen: set[int] = set()
    for message in messages:
        sender = message >> SEQUENCE_BITS
        if message < last.get(sender, -1) and message not in seen:
            yield message
        seen.add(message)
        last[sender] = max(message, last.get(sender, -1))


def _added(channels: list[Channel]) -> Channel:
    names = ("sent", "acknowledged", "refused", "unanswered", "head_before", "head_after", "stored", "readers",
             "expected", "delivered")  # fmt: skip
    total = {name: sum(getattr(channel, name) for channel in channels) for name in names}
    return Channel(
        name=f"{len(channels)} more channels",
        durable=all(channel.durable for channel in channels),
        stored_digest=digest(dict(enumerate(int(c.stored_digest or "0", 16) for c in channels))),
        published_digest=digest(dict(enumerate(int(c.published_digest or "0", 16) for c in channels))),
        **total,
    )


def digest(messages: Mapping[int, int]) -> str:
    """Of messages in the order of their offsets: 16 hexadecimal digits."""
    made = hashlib.blake2b(digest_size=8)
    for offset in sorted(messages):
        made.update(b"%d %d\n" % (offset, messages[offset]))
    return made.hexdigest()


def numbers(data: bytes) -> array[int]:
    found = array("Q")
    found.frombytes(data)
    return found
