"""The coordinator's side: the workers of several machines as one crew."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Self

import msgspec
from nats import errors

from loadtest.engine import wire
from loadtest.remote import messages
from loadtest.remote.chunks import Joiner, Torn
from loadtest.remote.clock import Clock
from loadtest.remote.link import Away, Link, Nobody, Sender
from loadtest.remote.messages import BEAT, LEASE, Here, Subjects

PATIENCE = 60.0  # s for agents to come
CALL_EVERY = 1.0  # s
ANSWER_SECONDS = 5.0
LAST_WORDS = 5.0  # s in which orders still go out

Heard = Callable[[int, wire.Answer], None]


class NotGathered(Exception):
    """There are not enough agents, or no NATS; a sentence that says what to do."""


class Member:
    """One agent that was hired, with workers numbered from `first` on."""

    def __init__(self, link: Link, subjects: Subjects, crew: str, *, here: Here, first: int, heard: Heard) -> None:
        self.here = here
        self.first = first
        self.clock = Clock()
        self._link = link
        self._crew = crew
        self._heard = heard
        self._subject = subjects.agent(here.session)
        self._answers = subjects.answers(crew, here.session)
        self._sender = Sender(link, subjects.orders(crew, here.session))
        self._joiner = Joiner()
        self._spoke = False
        self._gone = False
        self._beating: asyncio.Task[None] | None = None

    async def hire(self) -> bool:
        """Whether it is ours; else somebody else was faster, or it has just ended."""
        await self._link.hear(self._answers, self._take)
        try:
            reply = await self._ask(messages.Hire(self._crew), ANSWER_SECONDS)
            if reply is not None:
                await self.clock.measure(self._their_clock)
        except (Nobody, TimeoutError):
            return False
        if reply is not None:
            self._beating = asyncio.create_task(self._beat())
        return reply is not None

    async def _ask(self, request: messages.Request, seconds: float) -> int | None:
        """The agent's clock; None when it is not ours."""
        data = await self._link.ask(self._subject, messages.encode(request), seconds)
        reply = messages.decode_reply(data)
        return reply.clock if isinstance(reply, messages.Yes) else None

    async def _their_clock(self) -> int:
        clock = await self._ask(messages.Beat(self._crew), ANSWER_SECONDS)
        if clock is None:
            raise Nobody(self._subject)
        return clock

    async def _beat(self) -> None:
        """Tell it that we are there, until it is not."""
        silent = 0
        while silent < LEASE:
            self._spoke = False
            sent = time.monotonic_ns()
            try:
                clock = await self._ask(messages.Beat(self._crew), BEAT)
            except TimeoutError:
                silent = 0 if self._spoke else silent + 1
                continue
            except (Nobody, msgspec.DecodeError):
                clock = None
            except (OSError, errors.Error):
                return  # the crew notices that NATS is lost
            if clock is None:
                self._fail("it has ended")
                return
            silent = 0
            self.clock.compare(sent, clock, time.monotonic_ns())
            await asyncio.sleep(BEAT)
        self._fail(f"it has been silent for {LEASE * BEAT:.0f} s")

    def _fail(self, why: str) -> None:
        self._gone = True
        self._heard(self.first, wire.Failed(f"The agent {self.here.name} is gone: {why}."))

    async def _take(self, frame: bytes) -> bytes:
        self._spoke = True
        try:
            message = self._joiner.feed(frame)
            if message is None:
                return b""
            said = messages.decode_from_agent(message)
        except (Torn, msgspec.DecodeError) as error:
            self._fail(f"what it said did not arrive whole ({error})")
            return b""
        if isinstance(said, messages.Gone):
            self._fail(f"“{said.why}”")
        elif isinstance(said.answer, wire.Failed):
            self._heard(self.first + said.worker, wire.Failed(f"Agent {self.here.name}: {said.answer.why}"))
        elif 0 <= said.worker < self.here.workers:
            self._heard(self.first + said.worker, said.answer)
        return b""

    def send(self, worker: int, order: wire.Order) -> None:
        if isinstance(order, wire.Setup):  # the run began at the same moment, which their clock calls otherwise
            order = msgspec.structs.replace(order, began=order.began + self.clock.offset)
        self._sender.put(messages.encode(messages.Do(worker, order)))

    async def release(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self._sender.close(0 if self._gone else LAST_WORDS)
        if self._gone:
            return
        with contextlib.suppress(Nobody, TimeoutError, OSError, errors.Error, msgspec.DecodeError):
            await self._ask(messages.Release(self._crew), ANSWER_SECONDS)


class RemoteCrew:
    """Implements `loadtest.crew.Crew`. Made by `gather`, in the event loop of the run.

    From then on a beat goes out every second; a loop that is blocked for longer than `LEASE` beats loses its agents.
    """

    def __init__(self, link: Link, pool: str) -> None:
        self._id = secrets.token_hex(8)
        self._link = link
        self._subjects = Subjects(pool)
        self._members: list[Member] = []
        self._places: list[tuple[Member, int]] = []  # of each worker
        self._early: list[tuple[int, wire.Answer]] = []
        self._heard: Heard = lambda number, answer: self._early.append((number, answer))
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def gather(
        cls,
        url: str,
        *,
        agents: int,
        pool: str = messages.POOL,
        patience: float = PATIENCE,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> Self:
        """Wait until `agents` of a pool are free, and hire them.

        Args:
            url: NATS servers as for `run_agent`.
            patience: s to wait.
            say: gets a sentence whenever the list of agents changes.

        Raises:
            NotGathered: NATS cannot be reached, or too few came.
        """
        link = Link()
        try:
            crew = cls(link, pool)
            await link.open(url, f"chalkwire load coordinator {crew._id}")
        except (Away, ValueError) as error:
            raise NotGathered(str(error)) from None
        try:
            await crew._gather(agents, patience, say)
        except (OSError, errors.Error) as error:
            await crew.stop()
            raise NotGathered(f"NATS was lost: {link.reason or error}.") from None
        except BaseException:
            await crew.stop()
            raise
        crew._watching = asyncio.create_task(crew._watch())
        return crew

    async def _gather(self, agents: int, patience: float, say: Callable[[str], None]) -> None:
        found: dict[str, Here] = {}
        arrived = asyncio.Event()

        async def answered(data: bytes) -> None:
            with contextlib.suppress(msgspec.DecodeError):
                here = messages.decode_here(data)
                found[here.session] = here
                if len(free(found)) >= agents:
                    arrived.set()

        inbox = self._link.new_inbox()
        await self._link.hear(inbox, answered)
        deadline = time.monotonic() + patience
        shown = ""
        while True:
            found.clear()
            arrived.clear()
            await self._link.tell(self._subjects.call, b"", inbox)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(arrived.wait(), CALL_EVERY)
            here = free(found)[:agents]
            if (sentence := f"{len(here)} of {agents} agents are here: {names(here)}.") != shown:
                shown = sentence
                say(sentence)
            if len(here) == agents and await self._hire(here):
                return
            if time.monotonic() > deadline:
                raise NotGathered(missing(agents, list(found.values()), patience))

    async def _hire(self, agents: list[Here]) -> bool:
        first = 0
        for here in agents:
            member = Member(self._link, self._subjects, self._id, here=here, first=first, heard=self._hear)
            self._members.append(member)
            first += here.workers
        if not all(await asyncio.gather(*(member.hire() for member in self._members))):
            await self._release()
            self._members, self._early = [], []
            self._id = secrets.token_hex(8)
            return False
        self._places = [(member, worker) for member in self._members for worker in range(member.here.workers)]
        return True

    async def _release(self) -> None:
        await asyncio.gather(*(member.release() for member in self._members))

    def _hear(self, number: int, answer: wire.Answer) -> None:
        self._heard(number, answer)

    async def _watch(self) -> None:
        await self._link.lost.wait()
        self._hear(0, wire.Failed(f"NATS was lost: {self._link.reason or 'it closed the connection'}."))

    # --- the crew ------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return len(self._places)

    @property
    def agents(self) -> list[Here]:
        return [member.here for member in self._members]

    async def start(self, heard: Heard) -> None:
        self._heard = heard
        early, self._early = self._early, []
        for number, answer in early:
            heard(number, answer)

    def send(self, number: int, order: wire.Order) -> None:
        member, worker = self._places[number]
        member.send(worker, order)

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._release()
        await self._link.close()

    # --- for the report ------------------------------------------------------------------------------------------

    @property
    def pids(self) -> Sequence[int]:
        """None: they are elsewhere."""
        return ()

    @property
    def note(self) -> str:
        """How well the machines' clocks agree."""
        error = max((member.clock.error for member in self._members), default=0) / 1e6
        drift = max((member.clock.drift for member in self._members), default=0) / 1e6
        moved = f" During the run they moved apart by {drift:.3f} ms or more." if drift > 0 else ""
        return (
            f"Clients ran on {len(self._members)} agents: {names(self.agents)}. Their clocks were brought together "
            f"over NATS to ±{error:.3f} ms, half of the shortest round trip; a latency between two agents may be "
            f"wrong by twice as much.{moved}"
        )


def free(found: dict[str, Here]) -> list[Here]:
    return sorted((each for each in found.values() if usable(each)), key=lambda each: (each.name, each.session))


def usable(here: Here) -> bool:
    return not here.busy and here.version == messages.VERSION


def names(agents: list[Here]) -> str:
    return ", ".join(f"{each.name} ({each.workers} workers)" for each in agents) or "none"


def missing(agents: int, found: list[Here], patience: float) -> str:
    here = free({each.session: each for each in found})
    sentences = [f"{len(here)} of {agents} agents came within {patience:.0f} s: {names(here)}."]
    for each in found:
        if each.version != messages.VERSION:
            sentences.append(f"{each.name} runs version {each.version}, this is {messages.VERSION}.")
        elif each.busy:
            sentences.append(f"{each.name} is in another run.")
    sentences.append(f"Start {agents - len(here)} more: chalkwire loadtest agent --nats URL.")
    return " ".join(sentences)
