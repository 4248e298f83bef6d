"""Where Unix sockets go."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from config.embedded.errors import StackError

# A socket's path has at most 104 (macOS) or 108 bytes with its final zero; the longest name we put below is
# `/pg/.s.PGSQL.5432`, 17 bytes.
_LONGEST = 84


def socket_directory(data_dir: Path) -> Path:
    """The private folder (0700) for this data directory's Unix sockets, made when missing. Raises `StackError`.

    `run` in the data directory; for a long path, or one that a connection URL cannot carry, a folder in the system's
    temporary directory whose name is a hash of it.
    """
    folder = data_dir / "run"
    if not _fits(folder):
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
        candidates = [Path(parent, f"chalkwire-{digest}") for parent in (tempfile.gettempdir(), "/tmp")]  # noqa: S108
        folder = next(candidate for candidate in candidates if _fits(candidate))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise StackError(f"{folder} is not a private folder of this account: remove it, or set TMPDIR elsewhere.")
    return folder


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) <= _LONGEST and re.fullmatch(r"[\w./ +-]+", str(folder)) is not None
