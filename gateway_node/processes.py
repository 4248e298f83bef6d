"""Forked children: how they begin, say that they are ready, die with their parent, and come back.

A child tells its parent two things over a pipe: one byte (any but `!`) when it is ready, `!` and a sentence when it
gives up.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import structlog

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork

FAILED = b"!"
MAX_REASON = 4096  # bytes: one atomic write to a pipe

_log = structlog.get_logger("processes")


class StartError(Exception):
    """The server cannot start. The message is a sentence that says why and what to do."""


def assert_forkable() -> None:
    """A fork copies one thread and one moment: another thread's locks would stay locked for ever in the child, and
    an event loop would be shared with it."""
    assert asyncio._get_running_loop() is None, "an event loop runs in the process that forks"
    assert threading.active_count() == 1, f"threads in the process that forks: {threading.enumerate()}"
    if LINUX:  # also those that no Python code started
        assert len(os.listdir("/proc/self/task")) == 1, "native threads in the process that forks"  # noqa: PTH208


class Child:
    """A forked process, seen from its parent."""

    def __init__(self, name: str, pid: int, pipe: int, patience: float) -> None:
        self.name = name
        self.pid = pid
        self.pipe = pipe  # -1 when nothing more can come
        self.started = time.monotonic()
        self.deadline = self.started + patience  # for being ready
        self.ready = False
        self.ending = False  # told to
        self.status: int | None = None  # exit status; negative: the signal that ended it
        self._told = b""

    @property
    def alive(self) -> bool:
        return self.status is None

    @property
    def reason(self) -> str:
        """Why it ended: its own sentence when it gave one."""
        if self._told.startswith(FAILED):
            return self._told[1:].decode(errors="replace")
        if self.status is None:
            return f"{self.name} runs"
        if self.status < 0:
            return f"{self.name} was ended by {signal.Signals(-self.status).name}"
        return f"{self.name} ended with exit status {self.status}"

    def listen(self) -> None:
        """Take what has come over the pipe."""
        while self.pipe >= 0:
            try:
                data = os.read(self.pipe, MAX_REASON)
            except BlockingIOError:
                return
            ended = not data
            if data and not self._told and not data.startswith(FAILED):
                self.ready = True
                data = data[1:]
            self._told += data
            if ended:
                os.close(self.pipe)
                self.pipe = -1

    def poll(self) -> int | None:
        """The exit status if it has ended; the process is then reaped."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.listen()
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def signal(self, number: int) -> None:
        """Not yet reaped, so the id cannot belong to another process."""
        self.ending = True
        if self.status is None:
            os.kill(self.pid, number)


def fork(name: str, main: Callable[[int], None], *, patience: float) -> Child:
    """Run `main(ready_fd)` in a child that dies when this process dies, and that should be ready in `patience` seconds.

    The child has default signal handlers, a session of its own (so that a terminal's Ctrl-C reaches only the
    supervisor, which then stops everything in order) and no open files but the standard ones and `ready_fd`.
    """
    assert_forkable()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal between fork and the reset of handlers would run the parent's handler in the child.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _run(name, main, parent, writer, previous)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    os.close(writer)
    return Child(name, pid, reader, patience)


def _run(
    name: str, main: Callable[[int], None], parent: int, writer: int, mask: Iterable[signal.Signals | int]
) -> NoReturn:
    """The child's whole life: never returns into the parent's stack."""
    status = 1
    try:
        os.setsid()
        _reset_signals()
        die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        set_name(name)
        _close_files_except({0, 1, 2, writer})
        main(os.dup(writer))
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except StartError as error:
        _give_reason(writer, str(error))
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException as error:
        _log.exception("process.failed", process=name)
        _give_reason(writer, f"{name} failed: {type(error).__name__}: {error}")
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def die_with(parent: int) -> None:
    """End at once when the process `parent` ends, however it ends.

    SIGKILL, not SIGTERM: a node that drained for 30 s beside a restarted supervisor would hold its port and data.
    Nothing acknowledged is lost by it: the acknowledgement came after the commit.
    """
    if LINUX:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)


def set_name(name: str) -> None:
    """What `ps -o comm` and `top` show; the kernel keeps 15 bytes."""
    if LINUX:
        _libc.prctl(PR_SET_NAME, f"cw-{name}".encode()[:15], 0, 0, 0)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _close_files_except(keep: set[int]) -> None:
    """A child that held the parent's lock, reserved ports or pipes would keep them after the parent's end."""
    listing = Path("/proc/self/fd" if LINUX else "/dev/fd")
    for number in [int(entry.name) for entry in listing.iterdir()]:
        if number not in keep:
            try:
                os.close(number)
            except OSError:
                pass  # the one that listed the directory


def _give_reason(writer: int, reason: str) -> None:
    try:
        os.write(writer, FAILED + reason.encode()[: MAX_REASON - 1])
    except OSError:
        pass  # nobody listens any more


@dataclass(slots=True)
class Backoff:
    """Growing pauses between restarts: `first` seconds, doubled up to `longest`, from the beginning again after a
    life of `stable` seconds."""

    first: float = 0.1
    longest: float = 30.0
    stable: float = 60.0
    _failures: int = field(default=0, init=False)

    def pause(self, lived: float) -> float:
        """Seconds to wait before the next start, after a life of `lived` seconds."""
        if lived >= self.stable:
            self._failures = 0
        pause = min(self.longest, self.first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return pause


class Worker:
    """A process that is kept running: forked again, after a growing pause, when it ends."""

    def __init__(self, name: str, launch: Callable[[], Child], backoff: Backoff) -> None:
        self.name = name
        self.child: Child | None = None
        self.restarts = 0
        self.failures = 0  # lives in a row that were never ready
        self.due: float | None = None  # time.monotonic() of the next start
        self.reason = ""  # why it ended last
        self._launch = launch
        self._backoff = backoff

    @property
    def ready(self) -> bool:
        return self.child is not None and self.child.alive and self.child.ready

    def start(self) -> Child:
        self.due = None
        self.child = self._launch()
        return self.child

    def ended(self) -> float:
        """The child has ended: plan the next start, and return the seconds until then."""
        assert self.child is not None
        self.reason = self.child.reason
        self.failures = 0 if self.child.ready else self.failures + 1
        now = time.monotonic()
        pause = self._backoff.pause(now - self.child.started if self.child.ready else 0.0)
        self.due = now + pause
        self.child = None
        return pause

    def restart(self) -> Child:
        self.restarts += 1
        return self.start()
