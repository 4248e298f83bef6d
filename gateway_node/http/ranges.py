"""A part of a file: `Range` and `If-Range` (RFC 9110, section 14), single ranges of bytes."""

from __future__ import annotations

import re
from http import HTTPStatus

from litestar.exceptions import HTTPException

_SINGLE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


class RangeNotSatisfiable(HTTPException):
    status_code = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def part_of(size: int, wanted: str, if_range: str, etag: str) -> tuple[int, int] | None:
    """From where up to where (exclusive) the header `Range` wants; `None`: all of it.

    So several ranges, other units and what is malformed are answered with the whole, and a part of another version
    than the one of `etag` as well.

    Raises: `RangeNotSatisfiable`.
    """
    match = _SINGLE.fullmatch(wanted.replace(" ", ""))
    if match is None or (if_range and if_range != etag):
        return None
    first, last = match[1], match[2]
    if not first and not last:
        return None
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= size:
        raise RangeNotSatisfiable(f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return start, end
