"""The workers of a run: forked processes of this machine, spoken with over socket pairs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from loadtest.engine import wire, worker


class Crew(Protocol):
    """Numbered workers, here or on other machines.

    `pids` are those of this machine; `note` is what the report should say of them.
    """

    @property
    def size(self) -> int: ...

    @property
    def pids(self) -> Sequence[int]: ...

    @property
    def note(self) -> str: ...

    async def start(self, heard: Callable[[int, wire.Answer], None]) -> None:
        """Begin to listen: `heard` gets each answer with the worker's number."""

    def send(self, number: int, order: wire.Order) -> None: ...

    async def stop(self) -> None: ...


class ForkedCrew:
    """Forked before the event loop runs: what was imported until then is shared with the coordinator."""

    def __init__(self, size: int) -> None:
        self.pids: list[int] = []
        self.note = ""
        self._sockets: list[socket.socket] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._listeners: list[asyncio.Task[None]] = []
        gc.collect()
        gc.freeze()
        for _ in range(size):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if not pid:
                ours.close()
                for each in self._sockets:
                    each.close()  # or a worker would not notice that the coordinator is gone
                worker.run(theirs)
            theirs.close()
            self.pids.append(pid)
            self._sockets.append(ours)

    @property
    def size(self) -> int:
        return len(self.pids)

    async def start(self, heard: Callable[[int, wire.Answer], None]) -> None:
        for number, each in enumerate(self._sockets):
            reader, writer = await asyncio.open_connection(sock=each)
            self._writers.append(writer)
            self._listeners.append(asyncio.create_task(self._listen(number, reader, heard)))

    async def _listen(
        self, number: int, reader: asyncio.StreamReader, heard: Callable[[int, wire.Answer], None]
    ) -> None:
        unpacker = wire.Unpacker()
        try:
            while data := await reader.read(1 << 20):
                for message in unpacker.feed(data):
                    heard(number, wire.decode_answer(message))
        except ConnectionError:
            pass
        heard(number, wire.Failed(f"worker {number} (pid {self.pids[number]}) ended"))

    def send(self, number: int, order: wire.Order) -> None:
        self._writers[number].write(wire.packed(order))

    async def stop(self) -> None:
        """End them, politely first; they hold nothing that anybody needs."""
        for task in self._listeners:
            task.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        for number, writer in enumerate(self._writers):
            with contextlib.suppress(OSError):
                self.send(number, wire.Stop())
                writer.close()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        deadline = time.monotonic() + 5
        left = list(self.pids)
        while left:
            left = [pid for pid in left if os.waitpid(pid, os.WNOHANG)[0] == 0]
            if left and time.monotonic() > deadline:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
