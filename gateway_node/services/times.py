"""Times that people give."""

from __future__ import annotations

from datetime import datetime

from realtime import codes


def zoned(moment: datetime | None, pointer: str) -> datetime | None:
    """The same; raises error 107 at `pointer` for one without a zone, which would be another time elsewhere."""
    if moment is not None and moment.tzinfo is None:
        raise codes.BAD_REQUEST.at(pointer, "a time has a zone: 2027-01-31T12:00:00Z")
    return moment
