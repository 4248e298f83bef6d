"""SQL lives in `.sql` files: a block begins with `-- name: <name>` and ends where the next one begins."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """The named statements of `storage/sql/<file>.sql`."""
    text = files("storage").joinpath("sql", f"{file}.sql").read_text("utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) < len(names):
        raise ValueError(f"{file}.sql has two statements of one name")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}
