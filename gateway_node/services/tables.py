"""Tables as CSV (RFC 4180), as a spreadsheet may open them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one at the beginning of a cell


def csv_line(cells: Sequence[object]) -> bytes:
    """Text that begins like a formula is made text for a spreadsheet, too; numbers stay numbers."""
    text = io.StringIO()
    csv.writer(text).writerow(
        f"'{each}" if isinstance(each, str) and each.startswith(_FORMULA) else each for each in cells
    )
    return text.getvalue().encode()


def csv_table(rows: Iterable[Sequence[object]]) -> bytes:
    return b"".join(map(csv_line, rows))
