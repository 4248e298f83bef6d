"""A load machine's side: a process that gives its workers to one coordinator after another.

The main process only forks. Each run has a session, a process with workers of its own: they are forked before its event
loop starts, and whatever a run leaves behind ends with them. A socket pair tells the session when the main process is
gone, however it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import msgspec
from nats import errors

from loadtest import plan as plans
from loadtest.crew import ForkedCrew
from loadtest.engine import wire
from loadtest.remote import messages
from loadtest.remote.chunks import Joiner, Torn
from loadtest.remote.link import Away, Link, Sender
from loadtest.remote.messages import BEAT, LEASE, Subjects
from loadtest.target import SPARE_FILES, file_limit, is_loopback

RETRY = 1.0  # s between two attempts to reach NATS
LAST_WORDS = 2.0  # s in which what was said still goes out


class AgentFailed(Exception):
    """The agent cannot begin; a sentence."""


@dataclass(frozen=True)
class Agent:
    """What stays the same from run to run. `own`: the operator says that other machines may be loaded from here."""

    url: str
    name: str
    workers: int
    subjects: Subjects
    file_limit: int
    own: bool
    say: Callable[[str], None]


def run_agent(
    url: str,
    *,
    name: str = "",
    workers: int = 0,
    pool: str = messages.POOL,
    own: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve coordinators until Ctrl-C. No event loop or thread may run in this process.

    Args:
        url: NATS servers, separated by commas; authentication is in it (nats://token@host, tls://user:password@host).
        name: for people; by default the machine's with the process id.
        workers: processes that make connections; 0: one for each core.
        pool: only coordinators of the same pool see this agent.
        own: allow targets that are not on this machine (`--i-own-this-server`).
        say: gets a sentence whenever something changes, partly in a forked process.

    Raises:
        AgentFailed: NATS cannot be reached at the start, or a name is bad. Later it is waited for.
    """
    try:
        subjects = Subjects(pool)
    except ValueError as error:
        raise AgentFailed(str(error)) from None
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    if not re.match(messages.NAME, name):
        raise AgentFailed(f"{name!r} is no name: letters, digits and . : @ - _, 80 at most.")
    agent = Agent(
        url=url,
        name=name,
        workers=workers or os.cpu_count() or 1,
        subjects=subjects,
        file_limit=file_limit(),
        own=own,
        say=say,
    )
    first = True
    while True:
        ours, theirs = socket.socketpair()
        # A Ctrl-C that comes while there are two of us must not be taken for the other's.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        pid = os.fork()
        if not pid:
            ours.close()
            _serve(agent, theirs, patient=not first)
        theirs.close()
        with ours:
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                status = os.waitpid(pid, 0)[1]
                if status and (why := ours.recv(4096).decode()):
                    raise AgentFailed(why)
                if status:
                    time.sleep(RETRY)
            except KeyboardInterrupt:
                ours.close()
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
                return
        first = False


def _serve(agent: Agent, lifeline: socket.socket, *, patient: bool) -> NoReturn:
    """The whole life of a session's process."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the lifeline tells
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            asyncio.run(Session(agent, ForkedCrew(agent.workers), lifeline, patient=patient)())
        except Away as error:
            lifeline.send(str(error).encode()[:4000])
        except Exception:
            traceback.print_exc()
        else:
            status = 0
        sys.stdout.flush()
    finally:
        os._exit(status)


class Session:
    """Waits for a coordinator, relays between it and the workers, and ends with the run."""

    def __init__(self, agent: Agent, crew: ForkedCrew, lifeline: socket.socket, *, patient: bool) -> None:
        self._agent = agent
        self._crew = crew
        self._lifeline = lifeline
        self._patient = patient
        self._id = secrets.token_hex(8)
        self._hired_by = ""
        self._silent = 0  # beats that did not come
        self._link = Link()
        self._sender: Sender | None = None
        self._joiner = Joiner()
        self._refused = False
        self._ended: asyncio.Future[str] | None = None  # why; nothing when there is nobody to tell

    async def __call__(self) -> None:
        """Raises Away when NATS is not there and the session is not patient."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        loop.add_reader(self._lifeline, self._end, f"The agent {self._agent.name} was stopped.")
        try:
            while not self._ended.done():
                await self._connected(self._ended)
        finally:
            loop.remove_reader(self._lifeline)
            if self._hired_by:
                await self._crew.stop()

    def _end(self, why: str) -> None:
        assert self._ended is not None
        if not self._ended.done():
            self._ended.set_result(why)

    async def _connected(self, ended: asyncio.Future[str]) -> None:
        """As long as one connection to NATS lasts."""
        agent = self._agent
        self._link = link = Link(refused=lambda reason: agent.say(f"NATS refuses: {reason}"))
        try:
            await link.open(agent.url, f"chalkwire load agent {agent.name}")
            await link.hear(agent.subjects.call, self._called)
            await link.hear(agent.subjects.agent(self._id), self._asked)
            await link.settled()
        except (Away, errors.Error) as error:
            await link.close()
            if not self._patient:
                raise Away(str(error)) from None
            await asyncio.wait((ended,), timeout=RETRY)
            return
        agent.say(f"{agent.name} waits for a coordinator with {agent.workers} workers.")
        self._patient = True
        lost = asyncio.create_task(link.lost.wait())
        watch = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((lost, ended), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                agent.say(f"NATS is away: {link.reason or 'it closed the connection'}.")
                if self._hired_by:
                    self._end("")
            elif self._hired_by:
                agent.say(ended.result() or "The run is over.")
                if ended.result() and self._sender is not None:
                    self._sender.put(messages.encode(messages.Gone(ended.result())))
        finally:
            for task in (lost, watch):
                task.cancel()
            if self._sender is not None:
                await self._sender.close(LAST_WORDS)
            await link.close()

    async def _watch(self) -> None:
        """End a run whose coordinator has vanished. Only our own turns are counted: a stopped machine owes nothing."""
        while True:
            await asyncio.sleep(BEAT)
            if self._hired_by:
                self._silent += 1
                if self._silent > LEASE:
                    self._end(f"The coordinator has been silent for {LEASE * BEAT:.0f} s.")

    # --- what a coordinator asks ---------------------------------------------------------------------------------

    async def _called(self, data: bytes) -> bytes:
        agent = self._agent
        return messages.encode(
            messages.Here(
                name=agent.name,
                session=self._id,
                workers=agent.workers,
                cpus=os.cpu_count() or 1,
                file_limit=agent.file_limit,
                busy=bool(self._hired_by),
                version=messages.VERSION,
            )
        )

    async def _asked(self, data: bytes) -> bytes | None:
        try:
            request = messages.decode_request(data)
        except msgspec.DecodeError:
            return None
        if request.crew != self._hired_by:
            if self._hired_by or not isinstance(request, messages.Hire):
                return messages.encode(messages.No())
            await self._hire(request.crew)
        self._silent = 0
        if isinstance(request, messages.Release):
            self._end("")
        return messages.encode(messages.Yes(time.monotonic_ns()))

    async def _hire(self, crew: str) -> None:
        self._hired_by = crew
        self._agent.say(f"{self._agent.name} is in the run of {crew}.")
        self._sender = Sender(self._link, self._agent.subjects.answers(crew, self._id))
        await self._link.hear(self._agent.subjects.orders(crew, self._id), self._ordered)
        await self._crew.start(self._heard)

    def _heard(self, worker: int, answer: wire.Answer) -> None:
        assert self._sender is not None
        self._sender.put(messages.encode(messages.Said(worker, answer)))

    async def _ordered(self, frame: bytes) -> bytes:
        try:
            message = self._joiner.feed(frame)
            if message is not None:
                self._do(messages.decode_do(message))
        except (Torn, msgspec.DecodeError) as error:
            self._end(f"An order did not arrive whole: {error}.")
        return b""

    def _do(self, do: messages.Do) -> None:
        order = do.order
        if self._refused or not 0 <= do.worker < self._crew.size:
            return
        if isinstance(order, wire.Setup):
            why = objection(order, own=self._agent.own, file_limit=self._agent.file_limit)
            if why:
                self._refused = True
                self._agent.say(why)
                self._heard(do.worker, wire.Failed(why))
                return
        self._crew.send(do.worker, order)


def objection(setup: wire.Setup, *, own: bool, file_limit: int) -> str:
    """Why this machine does not take part in a run; nothing when it does. Whoever may speak here is not trusted."""
    host = setup.target.host
    try:
        ipaddress.ip_address(host)  # a name could mean another machine when a worker resolves it again
    except ValueError:
        return f"The target {host} is no address."
    if not own and not is_loopback(host):
        return (
            f"The target {setup.target.host_header or host} is not on this machine. If it is yours to load, start the "
            "agent with --i-own-this-server."
        )
    if setup.count > file_limit - SPARE_FILES:
        return (
            f"{setup.count:,} clients in one worker are more than the {file_limit:,} files that it may open. Raise the "
            "limit (ulimit -n), or give the agents more --workers."
        )
    try:
        plans.check(setup.plan)
    except plans.BadPlan as error:
        return f"The plan is not whole: {error}."
    return ""
