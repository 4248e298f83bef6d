"""Several load machines: agents as processes of their own, over a real NATS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.embedded.binaries import find_nats
from loadtest.balance import balance
from loadtest.coordinator import Coordinator, RunFailed, sources
from loadtest.engine import wire
from loadtest.engine.swarm import Target
from loadtest.plan import Channels, Hold, Open, Phase, Plan, Publish
from loadtest.remote import chunks
from loadtest.remote.agent import objection
from loadtest.remote.clock import Clock
from loadtest.remote.crew import Member, NotGathered, RemoteCrew
from loadtest.remote.link import WINDOW, Link, Sender
from loadtest.remote.messages import Here, Subjects, decode_do, decode_here
from loadtest.server import Server

SECRET = "a secret of at least thirty-two characters"
TOKENS = wire.Tokens(secret=SECRET)
START = """
import signal, sys
from loadtest.remote.agent import AgentFailed, run_agent
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are begun without
try:
    run_agent(sys.argv[1], name=sys.argv[2], workers=2, say=lambda sentence: print(sentence, flush=True))
except AgentFailed as error:
    sys.exit(str(error))
"""
GATHER = """
import asyncio, sys
from loadtest.remote.crew import RemoteCrew

async def main():
    await RemoteCrew.gather(sys.argv[1], agents=1)
    print("gathered", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Nats:
    """A server with a token, on a port that it keeps when it is started again."""

    def __init__(self, folder: Path, max_payload: int) -> None:
        self._config = folder / "nats.conf"
        self._ports = folder / "ports"
        self._ports.mkdir()
        self._max_payload = max_payload
        self.port = -1

    def start(self) -> None:
        self._config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\nports_file_dir: {json.dumps(str(self._ports))}\n"
            f"max_payload: {self._max_payload}\nauthorization {{ token: hidden }}\n"
        )
        for old in self._ports.iterdir():
            old.unlink()
        self._process = subprocess.Popen([find_nats(), "-c", self._config], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while self.port < 0 or not list(self._ports.iterdir()):
            for file in self._ports.iterdir():
                with contextlib.suppress(ValueError):
                    self.port = int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"nats://hidden@127.0.0.1:{self.port}"


class AgentProcess:
    """`run_agent` in a process group of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, url, name], stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def wait_said(self, part: str) -> str:
        """The next line with this in it."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if part in line:
                return line
        raise AssertionError(f"the agent ended without {part!r}")

    def kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self) -> None:
        self.kill_group()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    """It takes a kilobyte at most: most of what is said comes in several frames."""
    nats = Nats(tmp_path, max_payload=1024)
    nats.start()
    yield nats
    nats.stop()


Start = Callable[..., AgentProcess]


@pytest.fixture
def start(nats: Nats) -> Iterator[Start]:
    agents: list[AgentProcess] = []

    def start(name: str) -> AgentProcess:
        agents.append(AgentProcess(nats.url, name))
        return agents[-1]

    yield start
    for agent in agents:
        agent.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"TOKEN__HMAC_SECRET": SECRET, "CLIENT__PUBLISHES_PER_SECOND": "0", "CLIENT__COMMANDS_PER_SECOND": "0"}
    with Server(tmp_path_factory.mktemp("server") / "data", nodes=1, settings=settings) as server:
        yield server


def rooms(name: str, *talk: Publish | Hold) -> Plan:
    """Rooms of 20 over workers of 15: most rooms have members on both agents."""
    phases = [Phase(name="open", activities=[Open()]), Phase(name="talk", activities=list(talk))]
    return Plan(name=name, clients=60, channels=[Channels(prefix=f"chat:{name}-", size=20)], phases=phases)


async def perform(nats: Nats, plan: Plan, target: Target, when_connected: Callable[[], None] | None = None) -> str:
    """A run with two agents; returns the crew's note."""
    crew = await RemoteCrew.gather(nats.url, agents=2)
    assert crew.size == 4
    coordinator: Coordinator
    struck = False

    def watch(moment: object) -> None:
        nonlocal struck
        if when_connected is not None and not struck and coordinator.phase == "talk":
            struck = True
            when_connected()

    coordinator = Coordinator(plan, crew, [target], TOKENS)
    coordinator.watch = watch
    outcome = await coordinator(asyncio.Event())
    ledger = balance(outcome)
    assert ledger.clean, ledger.faults
    assert len(ledger.channels) == 3
    assert sum(channel.acknowledged for channel in ledger.channels) == 300
    assert sum(channel.delivered for channel in ledger.channels) == 300 * 20
    assert all(any(entry.readers for entry in entries) for entries in outcome.entries), "every worker had readers"
    return crew.note


async def test_two_agents_do_a_run_and_then_another_one(nats: Nats, start: Start, server: Server) -> None:
    agents = [start("one"), start("two")]
    target = Target("127.0.0.1", server.port)
    for name in ("first", "second"):
        note = await perform(nats, rooms(name, Publish(publishers=0, rate=300, count=300)), target)
        assert "one (2 workers), two (2 workers)" in note
        assert 0 < float(note.partition("±")[2].partition(" ms")[0]) < 1000
    for agent in agents:
        agent.wait_said("The run is over")
        agent.wait_said("waits for a coordinator")
        agent.process.send_signal(signal.SIGINT)
        assert agent.process.wait(20) == 0


@pytest.mark.parametrize("how", ["whole", "main", "interrupted"])
async def test_an_agent_that_ends_is_named_within_seconds(nats: Nats, start: Start, server: Server, how: str) -> None:
    """The machine is gone; or only the main process, and the rest ends by itself; or somebody pressed Ctrl-C."""
    start("stays")
    agent = start("dies")
    ended: list[float] = []

    def end() -> None:
        ended.append(time.monotonic())
        if how == "whole":
            agent.kill_group()
        elif how == "main":
            agent.process.kill()
        else:
            os.killpg(agent.process.pid, signal.SIGINT)

    with pytest.raises(RunFailed, match="The agent dies is gone"):
        await perform(nats, rooms(how, Hold(seconds=100)), Target("127.0.0.1", server.port), end)
    assert time.monotonic() - ended[0] < 30
    assert await asyncio.to_thread(agent.process.wait) == (0 if how == "interrupted" else -signal.SIGKILL)
    assert agent.process.stdout is not None
    await asyncio.to_thread(agent.process.stdout.read)  # until the last process that holds it has ended


async def test_an_agent_that_hangs_is_given_up(nats: Nats, start: Start, server: Server) -> None:
    start("stays")
    agent = start("hangs")
    try:
        with pytest.raises(RunFailed, match="The agent hangs is gone: it has been silent for 6 s"):
            await perform(
                nats,
                rooms("hang", Hold(seconds=100)),
                Target("127.0.0.1", server.port),
                lambda: os.killpg(agent.process.pid, signal.SIGSTOP),
            )
    finally:
        os.killpg(agent.process.pid, signal.SIGCONT)


async def test_an_agent_whose_coordinator_vanishes_waits_for_the_next(nats: Nats, start: Start) -> None:
    agent = start("one")
    with subprocess.Popen([sys.executable, "-c", GATHER, nats.url], stdout=subprocess.PIPE) as coordinator:
        assert coordinator.stdout is not None
        assert await asyncio.to_thread(coordinator.stdout.readline) == b"gathered\n"
        with pytest.raises(NotGathered, match="one is in another run"):
            await RemoteCrew.gather(nats.url, agents=1, patience=0)
        coordinator.kill()
    await asyncio.to_thread(agent.wait_said, "The coordinator has been silent")
    again = await RemoteCrew.gather(nats.url, agents=1)
    await again.stop()


async def test_who_is_missing_is_said(nats: Nats, start: Start) -> None:
    start("lonely").wait_said("waits for a coordinator")
    heard: list[str] = []
    with pytest.raises(NotGathered) as caught:
        await RemoteCrew.gather(nats.url, agents=3, patience=1, say=heard.append)
    assert "1 of 3 agents came within 1 s: lonely (2 workers). Start 2 more" in str(caught.value)
    assert heard == ["1 of 3 agents are here: lonely (2 workers)."]


async def test_an_idle_agent_outlives_nats_and_a_run_does_not(nats: Nats, start: Start, server: Server) -> None:
    agent = start("one")
    agent.wait_said("waits for a coordinator")
    nats.stop()
    agent.wait_said("NATS is away")
    nats.start()
    start("two")
    with pytest.raises(RunFailed, match="NATS was lost"):
        await perform(nats, rooms("lost", Hold(seconds=100)), Target("127.0.0.1", server.port), nats.stop)
    agent.wait_said("NATS is away")
    nats.start()
    crew = await RemoteCrew.gather(nats.url, agents=2)
    await crew.stop()


def test_an_agent_that_finds_no_nats_says_so_without_the_secret(nats: Nats) -> None:
    nats.stop()
    done = subprocess.run([sys.executable, "-c", START, nats.url, "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"NATS cannot be reached at 127.0.0.1:{nats.port}" in done.stderr
    nats.start()
    wrong = nats.url.replace("hidden", "wrong")
    done = subprocess.run([sys.executable, "-c", START, wrong, "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Authorization Violation" in done.stderr or "are the token, or user and password, right?" in done.stderr
    assert "wrong" not in done.stderr


async def test_an_agent_loads_only_its_own_machine(nats: Nats, start: Start) -> None:
    start("one"), start("two")
    with pytest.raises(RunFailed, match=r"192.0.2.1:80 is not on this machine.*--i-own-this-server"):
        await perform(nats, rooms("far", Hold(seconds=1)), Target("192.0.2.1", 80, host_header="192.0.2.1:80"))


# --- without processes -------------------------------------------------------------------------------------------


def setup(**changes: object) -> wire.Setup:
    plan = rooms("x", Hold(seconds=1))
    target = Target("127.0.0.1", 80)
    whole = wire.Setup("r", 0, 0, 15, 0.25, target, plan, TOKENS, [], 0)
    return msgspec.structs.replace(whole, **changes)


@pytest.mark.parametrize(
    ("changes", "own", "sentence"),
    [
        ({}, False, ""),
        ({"target": Target("::1", 80)}, False, ""),
        ({"target": Target("192.0.2.1", 80)}, True, ""),
        ({"target": Target("192.0.2.1", 80)}, False, "not on this machine"),
        ({"target": Target("localhost", 80)}, False, "is no address"),
        ({"count": 901}, False, "more than the 1,000 files"),
        ({"plan": Plan(name="x", clients=1, phases=[Phase(name="x", activities=[Hold()])])}, False, "first phase"),
    ],
)
def test_what_an_agent_refuses(changes: dict[str, object], own: bool, sentence: str) -> None:
    why = objection(setup(**changes), own=own, file_limit=1000)
    assert sentence in why
    assert bool(why) == bool(sentence)


@pytest.mark.parametrize(
    "order",
    [{"type": "shell", "command": "true"}, {"type": "begin", "phase": "x", "activity": 0}, {"type": "begin"}, 7],
)
def test_an_order_that_is_none_is_not_understood(order: object) -> None:
    data = msgspec.msgpack.encode({"type": "do", "worker": 0, "order": order, "at": 0})
    with pytest.raises(msgspec.ValidationError):
        decode_do(data)


@pytest.mark.parametrize(
    "wrong", [{"session": "*"}, {"session": "0123456789abcdef\n"}, {"name": "\x1b[2J"}, {"workers": -1}]
)
def test_who_announces_nonsense_is_not_heard(wrong: dict[str, object]) -> None:
    right = {"name": "a", "session": "0123456789abcdef", "workers": 2, "cpus": 1, "file_limit": 1, "busy": False}
    right |= {"type": "here", "version": "1"}
    assert decode_here(msgspec.msgpack.encode(right)).name == "a"
    with pytest.raises(msgspec.ValidationError):
        decode_here(msgspec.msgpack.encode(right | wrong))


async def test_the_run_s_clock_begins_at_the_same_moment_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(Sender, "put", lambda sender, message: sent.append(message))
    here = Here("a", "s", 1, 1, 1000, False, "1")
    member = Member(Link(), Subjects("default"), "c", here=here, first=0, heard=lambda number, answer: None)
    member.clock.offset = 3_000_000_000  # ahead of ours
    member.send(0, setup(began=7_000_000_000))
    assert decode_do(sent[0]).order == setup(began=10_000_000_000)
    await member._sender.close(0)


async def test_a_large_message_never_runs_ahead_of_its_reader(nats: Nats) -> None:
    """NATS cuts a reader off that is 64 MB behind."""
    ours, theirs = Link(), Link()
    await ours.open(nats.url, "ours")
    await theirs.open(nats.url, "theirs")
    joiner = chunks.Joiner()
    joined: asyncio.Queue[bytes] = asyncio.Queue()
    taken = most = 0

    async def take(frame: bytes) -> bytes:
        nonlocal taken, most
        while not taken and theirs._client.stats["in_bytes"] < WINDOW - ours.frame:  # read nothing until it is full
            await asyncio.sleep(0.01)
        for _ in range(0 if taken else 20):
            await ours.settled()
            await theirs.settled()
        most = max(most, theirs._client.stats["in_bytes"] - taken)
        taken += len(frame)
        if (message := joiner.feed(frame)) is not None:
            joined.put_nowait(message)
        return b""

    await theirs.hear("stream", take)
    await theirs.settled()
    sender = Sender(ours, "stream")
    sent = [os.urandom(5_000_000), b"", os.urandom(100)]
    for message in sent:
        sender.put(message)
    assert [await joined.get() for _ in sent] == sent
    assert most <= WINDOW + ours.frame
    await sender.close(1)
    await ours.close()
    await theirs.close()


async def test_a_cancellation_that_meets_the_answer_is_not_lost(nats: Nats) -> None:
    link = Link()
    await link.open(nats.url, "ours")

    async def take(frame: bytes) -> bytes:
        return frame

    await link.hear("question", take)
    asking = asyncio.create_task(link.ask("question", b"", 20))
    while not (answers := link._client._resp_map):  # another one from the first request on
        await asyncio.sleep(0)
    next(iter(answers.values())).add_done_callback(lambda _: asking.cancel())
    with pytest.raises(asyncio.CancelledError):
        await asking
    await link.close()


def test_no_two_workers_connect_from_one_address() -> None:
    """Agents on one machine share its loopback; the workers are numbered over all of them."""
    found = [address for worker in range(2000) for address in sources("127.0.0.1", worker)]
    assert len(found) == len(set(found)) == 8000


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(chunks.HEADER.size + 1, 64))
def test_messages_come_out_as_they_went_in(messages: list[bytes], limit: int) -> None:
    splitter, joiner = chunks.Splitter(limit), chunks.Joiner()
    frames = [frame for message in messages for frame in splitter.split(message)]
    assert all(len(frame) <= limit for frame in frames)
    joined = [joiner.feed(frame) for frame in frames]
    assert [message for message in joined if message is not None] == messages


@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_lost_repeated_or_moved_frame_is_noticed(message: bytes, data: st.DataObject) -> None:
    splitter, joiner = chunks.Splitter(chunks.HEADER.size + 20), chunks.Joiner()
    frames = [*splitter.split(message), *splitter.split(message)]
    wrong = data.draw(
        st.permutations(frames) | st.integers(0, len(frames) - 2).map(lambda n: frames[:n] + frames[n + 1 :])
    )
    wrong = wrong if wrong != frames else [frames[0], *frames]
    with pytest.raises(chunks.Torn):
        for frame in wrong:
            joiner.feed(frame)


def test_what_is_no_frame_or_too_large_is_refused() -> None:
    with pytest.raises(chunks.Torn):
        chunks.Joiner().feed(b"short")
    joiner = chunks.Joiner(most=100)
    with pytest.raises(chunks.Torn):
        for frame in chunks.Splitter(60).split(bytes(101)):
            joiner.feed(frame)


async def test_the_clock_s_error_covers_the_truth() -> None:
    """Another clock is ahead by a minute; half of the delay of each way is unknown, and no round trip says which."""
    ahead = 60_000_000_000
    clock = Clock()
    delays = iter([0.004, 0.001, 0.002] * 10)

    def asking(before: float, after: float) -> Callable[[], Awaitable[int]]:
        async def ask() -> int:
            delay = next(delays)
            await asyncio.sleep(delay * before)
            theirs = time.monotonic_ns() + ahead
            await asyncio.sleep(delay * after)
            return theirs

        return ask

    await clock.measure(asking(0.9, 0.1))
    assert abs(clock.offset - ahead) <= clock.error
    now = time.monotonic_ns()
    clock.compare(now, now + ahead, now)
    assert clock.drift == 0
    clock.compare(now, now + ahead + 2 * clock.error + 5_000_000, now)
    assert clock.drift >= 5_000_000
