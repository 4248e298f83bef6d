"""Who PostgreSQL runs as: it refuses to run as root.

Root with user namespaces: a namespace of one id, in which root is an ordinary user. No account, no chown, no chmod; it
works below a 0700 home. Root without them (containers often forbid them): the account `postgres` or `nobody`, which
must be able to reach the programs and the data. Anyone else: themselves.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.embedded.errors import StackError

_CLONE_NEWUSER = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)  # before any fork: a child must not import


@dataclass(frozen=True, slots=True)
class Identity:
    """How a child becomes someone who may run PostgreSQL. `inner` is its uid inside a user namespace."""

    account: pwd.struct_passwd | None = None
    inner: int | None = None

    @classmethod
    def choose(cls) -> Identity:
        if os.geteuid() != 0:
            return cls()
        # initdb looks its uid up, so the inner one must have an account (uid 1 is `daemon` or `bin` nearly everywhere).
        inner = cls(inner=next((entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0), 1))
        return inner if inner._works() else cls(account=_ordinary_account())

    def enter(self) -> None:
        """In the child, before the program: the parent-death signal must come after, as this clears it."""
        if self.inner is None:
            return
        if _libc.unshare(_CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{self.inner} 0 1"), ("gid_map", f"{self.inner} 0 1")):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(fd, text.encode())
            os.close(fd)

    @property
    def popen(self) -> dict[str, Any]:
        """What `subprocess.Popen` needs to change the account."""
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def _works(self) -> bool:
        try:
            return subprocess.run(["true"], preexec_fn=self.enter, timeout=5, check=False).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False

    def own(self, folder: Path) -> None:
        """Make `folder` usable for the server. Only root's and the accounts' own data change hands. Raises
        `StackError`."""
        uid = self.account.pw_uid if self.account else os.geteuid()
        gid = self.account.pw_gid if self.account else os.getegid()
        owner = folder.stat().st_uid
        if owner == uid:
            return
        if os.geteuid() != 0 or owner not in {0, *(account.pw_uid for account in _accounts())}:
            raise StackError(f"{folder} belongs to {_name(owner)}: start as {_name(owner)}, or give the folder away.")
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(parent, name), uid, gid, follow_symlinks=False)
        os.chown(folder, uid, gid)

    def check_reach(self, *paths: Path) -> None:
        """Raises `StackError` when the account cannot reach one of `paths`."""
        if self.account is None:
            return
        for path in paths:
            if subprocess.run(["test", "-x", path], cwd="/", check=False, **self.popen).returncode != 0:
                raise StackError(
                    f"The account {self.account.pw_name}, as which PostgreSQL must run here, cannot reach {path}: a "
                    "folder above it is private. Start as an ordinary user, or put program and data elsewhere."
                )


def _accounts() -> list[pwd.struct_passwd]:
    return [entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody")]


def _ordinary_account() -> pwd.struct_passwd:
    for account in sorted(_accounts(), key=lambda account: account.pw_name != "postgres"):
        return account
    raise StackError(
        "PostgreSQL does not run as root, user namespaces are forbidden here, and there is no account postgres or "
        "nobody: start as an ordinary user."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
