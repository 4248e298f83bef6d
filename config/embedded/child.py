"""One server process: started to die with us, logged, stopped in steps."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from config.embedded.errors import StackError
from config.embedded.identity import Identity
from config.embedded.process import end_leftover, write_pid

_PR_SET_PDEATHSIG = 1
_LONGEST_LOG = 8 * 1024 * 1024  # bytes; a longer log is set aside at the next launch, one generation is kept
_libc = ctypes.CDLL(None, use_errno=True)  # before any fork: a child must not import
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/"}
_OUR_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Child:
    """A server process of `data_dir`. `stop_signals` are tried in turn, SIGKILL at last; the first is also what the
    kernel sends when our own process dies (Linux)."""

    def __init__(
        self, name: str, data_dir: Path, stop_signals: tuple[signal.Signals, ...], identity: Identity | None = None
    ) -> None:
        self.name = name
        self.log = data_dir / "log" / f"{name}.log"
        self._pid_file = data_dir / f"{name}.pid"
        self._stop_signals = stop_signals
        self._identity = identity or Identity()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """`None` while it runs."""
        return self._process.poll() if self._process else 0

    def launch(self, argv: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start it. Must happen in the main thread: the parent-death signal follows the thread that forked."""
        self.log.parent.mkdir(mode=0o700, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LONGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        parent = os.getpid()

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a supervisor may wait for signals that it blocks
            for number in _OUR_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._identity.enter()
            if sys.platform == "linux":
                _libc.prctl(_PR_SET_PDEATHSIG, int(self._stop_signals[0]), 0, 0, 0)
                if os.getppid() != parent:  # it died in between
                    os._exit(1)

        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**_ENVIRONMENT, **(environment or {})},
                # A Ctrl-C at the terminal must reach the supervisor alone, which stops the databases last.
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 (the owner has no threads)
                **self._identity.popen,
            )
        write_pid(self._pid_file, self._process.pid)

    def said(self) -> str:
        """The end of what it logged since its launch."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - 2000))
            return log.read().decode(errors="replace").strip()

    def failure(self) -> StackError:
        """Why it ended, for the operator."""
        said = self.said()
        if "No space left on device" in said:
            return StackError(
                f"{self.name} cannot run: no space is left for {self.log.parent.parent}. Free some of it."
            )
        return StackError(f"{self.name} ended with code {self.exit_code}; the end of {self.log}:\n{said}")

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Whether it ended within `timeout` seconds."""
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                return False
        return True

    def stop(self, grace: float = 15.0) -> None:
        """Return when it has ended, after at most `grace` seconds a signal."""
        for number in (*self._stop_signals, signal.SIGKILL):
            if self.exit_code is not None:
                break
            self.send(number)
            self.wait(grace)
        self._pid_file.unlink(missing_ok=True)

    def end_leftover(self) -> None:
        """End the process that an earlier run left behind."""
        end_leftover(self._pid_file, self._stop_signals)
