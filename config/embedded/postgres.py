"""The embedded PostgreSQL: a Unix socket, durable settings, a database that its application owns but does not rule."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from config.embedded.binaries import find_postgres, postgres_major
from config.embedded.child import Child
from config.embedded.errors import StackError
from config.embedded.identity import Identity
from config.embedded.server import Server

SUPERUSER = "postgres"
NAME = "chalkwire"  # of the role and of its database

# The application is no superuser, so that an injected statement cannot reach COPY ... PROGRAM.
# It reads the system identifier and the timeline: they tell one history from another after a restore.
_BOOTSTRAP = f"""
SELECT 'CREATE ROLE {NAME} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{NAME}') \\gexec
SELECT 'CREATE DATABASE {NAME} OWNER {NAME}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{NAME}') \\gexec
\\connect {NAME}
GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() TO {NAME};
"""  # noqa: S608


class Postgres(Server):
    def __init__(self, data_dir: Path, sockets: Path, max_connections: int, identity: Identity) -> None:
        # Fast shutdown (ends sessions), then immediate, then none at all: the log is replayed at the next start.
        self.child = Child("postgres", data_dir, (signal.SIGINT, signal.SIGQUIT), identity)
        self._creation = Child("initdb", data_dir, (signal.SIGTERM,), identity)
        self._data_dir = data_dir
        self._data = data_dir / "postgres"
        self._sockets = sockets / "pg"
        self._max_connections = max_connections
        self._identity = identity
        self._bootstrapped = False

    @property
    def url(self) -> str:
        return self.url_of(NAME, NAME)

    def url_of(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={quote(str(self._sockets))}"

    def starting(self) -> Iterator[None]:
        programs = find_postgres()
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        if self._identity.account is not None:  # it must be able to walk to its folders
            for folder in (self._data_dir, self._sockets.parent):
                folder.chmod(0o711)
        self._identity.own(self._sockets)
        self._identity.check_reach(programs / "postgres", self._sockets)
        if (self._data / "PG_VERSION").exists():
            self._check_version(postgres_major(programs))
            self._identity.own(self._data)
        else:
            yield from self._create(programs)
        yield from self._run(programs)
        if not self._bootstrapped:
            self._bootstrap(programs)
            self._bootstrapped = True

    def _check_version(self, ours: int) -> None:
        theirs = (self._data / "PG_VERSION").read_text().strip()
        if theirs == str(ours):
            return
        raise StackError(
            f"{self._data} was written by PostgreSQL {theirs}, and the installed one is {ours}. "
            f"Install version {theirs}; to change over, dump with its pg_dump and restore into a new data directory."
        )

    def _create(self, programs: Path) -> Iterator[None]:
        """Make the cluster beside its place and move it there, so that a start cut short leaves none half made."""
        aside = self._data.with_suffix(".new")
        self._creation.end_leftover()
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        self._identity.own(aside)
        locale = ["--locale=C.UTF-8"]
        if postgres_major(programs) >= 17:
            # The built-in provider sorts alike on every system: no index breaks with an upgrade of libc.
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        argv: list[str | Path] = [programs / "initdb", "-D", aside, "-U", SUPERUSER, "-E", "UTF8", *locale]
        argv += ["--data-checksums", "--auth-local=trust", "--auth-host=reject"]
        self._creation.launch(argv)
        while self._creation.exit_code is None:
            yield
        if self._creation.exit_code != 0:
            shutil.rmtree(aside, ignore_errors=True)
            raise self._creation.failure()
        self._creation.stop()
        aside.rename(self._data)

    def _run(self, programs: Path) -> Iterator[None]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._sockets}"',
            "unix_socket_permissions": "0700",
            "max_connections": self._max_connections,
            "shared_buffers": "128MB",
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "wal_level": "minimal",  # nobody replicates from an embedded server
            "max_wal_senders": 0,
            "max_wal_size": "1GB",
            # Containers have 64 MB of /dev/shm, and logind removes a user's segments at logout.
            "dynamic_shared_memory_type": "mmap",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
            "log_error_verbosity": "terse",  # details quote the row
        }
        argv: list[str | Path] = [programs / "postgres", "-D", self._data]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        while True:
            self.child.launch(argv, self._stranger())
            while self.child.exit_code is None:
                yield
                if self._answers():
                    return
            # After a postmaster's violent death its other processes hold the shared memory until they notice.
            if "is still in use" not in self.child.said():
                raise self.child.failure()

    def _answers(self) -> bool:
        """The postmaster says so in the eighth line of its lock file, which `pg_ctl` also reads."""
        lines = self._lock_file()
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def _lock_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _stranger(self) -> dict[str, str]:
        """Lets the server pass over the pid of its lock file when that is another program's by now.

        Small pids come back soon in a container, and the server would refuse to start for as long as that program runs.
        It does pass over the pid in this variable, and goes on to check that nobody holds its shared memory.
        """
        pid = next(iter(self._lock_file()), "")
        try:
            program = Path(f"/proc/{int(pid)}/comm").read_text().strip()
        except (OSError, ValueError):
            return {}
        return {} if program == "postgres" else {"PG_GRANDPARENT_PID": pid}

    def _bootstrap(self, programs: Path) -> None:
        done = subprocess.run(
            [programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url_of(SUPERUSER, "postgres")],
            input=_BOOTSTRAP,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"The database {NAME} could not be made: {done.stderr.strip()}")

    def close(self) -> None:
        self._creation.stop()
        super().close()
