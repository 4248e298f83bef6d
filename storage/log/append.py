"""The append itself: one call of `append_messages` for a batch, on whatever connection and transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asyncpg.pgproto.pgproto import UUID

from realtime.interfaces import Appended, Entry, IdTaken, LogUnavailable, Refused, Rejected
from realtime.messages import rfc3339
from realtime.namespaces import UNLIMITED
from storage.log.publication import milliseconds, publication
from storage.log.wire import APPENDED, CLOSED, DUPLICATE, ID_TAKEN, REJECTED, SILENCED, Outcome, Stored
from storage.queries import load

if TYPE_CHECKING:
    from storage.database import Connection

_APPEND = load("log")["append"]


async def append_batch(connection: Connection, entries: Sequence[Entry], timeout: float | None = None) -> list[Outcome]:
    """Store the entries and tell of each, in their order, what became of it. One bad row fails them all.

    Outside a transaction it commits. Inside one, the entries' channels stay locked until its end: do it last.
    """
    rows = await connection.fetch(
        _APPEND,
        [entry.channel for entry in entries],
        [UUID(entry.id) for entry in entries],
        [entry.sender for entry in entries],
        [entry.type for entry in entries],
        [entry.data for entry in entries],
        [entry.info or None for entry in entries],
        [entry.tags or None for entry in entries],
        [entry.counted for entry in entries],
        [entry.history_size if entry.history_size < UNLIMITED else 0 for entry in entries],
        [entry.history_ttl for entry in entries],
        [entry.search.replace("\0", " ") for entry in entries],  # a text of PostgreSQL's holds anything but NUL
        [UUID(entry.target) if entry.target else None for entry in entries],
        [i for i, entry in enumerate(entries, 1) for _ in entry.mentions],
        [UUID(user) for entry in entries for user in entry.mentions],
        timeout=timeout,
    )
    outcomes: list[Outcome | None] = [None] * len(entries)
    for i, status, offset, epoch, created_at, data, info, tags, generation in rows:
        if outcomes[i - 1] is not None:
            continue  # the second answer to a new row of a batch that also has duplicates
        if status in (ID_TAKEN, CLOSED, SILENCED):
            until = milliseconds(created_at) if status == SILENCED and created_at else 0
            outcomes[i - 1] = Outcome(status, time=until)
            continue
        stored = Stored(data, info, tags) if status == DUPLICATE else None
        outcomes[i - 1] = Outcome(status, 0, offset, f"{generation}.{epoch}", milliseconds(created_at), stored)
    assert None not in outcomes, "append_messages answers every row"
    return outcomes  # type: ignore[return-value]


def result_of(outcome: Outcome) -> Appended | IdTaken | Refused | Rejected | LogUnavailable:
    """What `MessageLog.append` returns or raises."""
    if outcome.status == APPENDED:
        return Appended(outcome.offset, outcome.epoch, outcome.time)
    if outcome.status == DUPLICATE and (stored := outcome.stored) is not None:
        before = publication(stored.data, stored.info, stored.tags, outcome.offset, outcome.time)
        return Appended(outcome.offset, outcome.epoch, outcome.time, before)
    if outcome.status == ID_TAKEN:
        return IdTaken("the channel has a message of this id by another sender")
    if outcome.status == CLOSED:
        return Refused("the room is archived")
    if outcome.status == SILENCED:
        return Refused(f"muted until {rfc3339(outcome.time)}" if outcome.time else "muted")
    if outcome.status == REJECTED:
        return Rejected(outcome.reason)
    return LogUnavailable(outcome.reason)
