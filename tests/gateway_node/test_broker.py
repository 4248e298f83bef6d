"""The broker on a real NATS: what arrives, in which order, and what a server that goes away changes."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.embedded import EmbeddedStack
from gateway_node import broker as module
from gateway_node.broker import BrokerMisconfigured, NatsBroker, subject_of
from realtime.interfaces import BrokerUnavailable
from tests.stack import short_folder

pytestmark = pytest.mark.integration


class Node:
    """A broker and all that came in through it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.control: list[bytes] = []
        self.reconnects = 0
        self.broker = NatsBroker(url, self._on_message, self.control.append, self._on_reconnect, **options)

    def _on_message(self, channel: str, message: bytes) -> None:
        self.messages.append((channel, message))

    def _on_reconnect(self) -> None:
        self.reconnects += 1


@asynccontextmanager
async def node(url: str, **options: Any) -> AsyncIterator[Node]:
    made = Node(url, **options)
    await made.broker.start()
    try:
        yield made
    finally:
        await made.broker.close()


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def freeze(stack: EmbeddedStack) -> None:
    """Stop NATS in its tracks; its threads take a moment to notice."""
    stack.kill_one("nats", Signals.SIGSTOP)
    status = Path(f"/proc/{stack.pids['nats']}/status")
    await until(lambda: "State:\tT" in status.read_text())


async def round_trip(sender: Node, receiver: Node) -> None:
    """Return when all that `sender` published before has come to `receiver`."""
    seen = len(receiver.control)
    sender.broker.publish_control(b"mark")
    await until(lambda: len(receiver.control) > seen)


@pytest.fixture
def nats() -> Iterator[EmbeddedStack]:
    """A NATS of the test's own."""
    with short_folder() as folder:
        stack = EmbeddedStack(folder / "data", postgres=False, valkey=False)
        stack.start()
        try:
            yield stack
        finally:
            stack.stop()


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_SECONDS", (0.02, 0.1))


# --- subjects -------------------------------------------------------------------------------------------------------


@given(st.text(max_size=255))
def test_subject_is_one_token_that_nats_takes(channel: str) -> None:
    subject = subject_of(channel)
    prefix, _, token = subject.rpartition(".")
    assert prefix == "cw.ch"
    assert token
    assert token.isascii()
    assert token.isprintable()
    assert not set(token) & set(" .*>")
    assert len(subject) <= 1100


@given(st.text(alphabet=".%*> aé/\ud800", max_size=4), st.text(alphabet=".%*> aé/\ud800", max_size=4))
def test_other_channel_other_subject(one: str, other: str) -> None:
    assert (subject_of(one) == subject_of(other)) == (one == other)


def test_usual_names_stay_readable() -> None:
    assert subject_of("room:0197-af") == "cw.ch.room:0197-af"
    assert subject_of("$news:a.b") == "cw.ch.$news:a%2Eb"


def test_overlong_names_stay_apart() -> None:
    one, other = subject_of("x" * 5000), subject_of("x" * 5001)
    assert one != other
    assert len(one) < 100


# --- messages -------------------------------------------------------------------------------------------------------


async def test_message_reaches_the_subscribed_node_and_not_its_publisher(nats_url: str) -> None:
    async with node(nats_url) as here, node(nats_url) as there:
        await here.broker.subscribe("room:1")
        await there.broker.subscribe("room:1")
        here.broker.publish("room:1", b"hello")
        here.broker.publish("room:2", b"for nobody")
        here.broker.publish_control(b"mark")
        await until(lambda: there.control)
        assert there.messages == [("room:1", b"hello")]
        there.broker.publish_control(b"mark")
        await until(lambda: here.control)
        assert here.messages == []


async def test_subscription_holds_when_subscribe_returns(nats_url: str) -> None:
    async with node(nats_url) as here, node(nats_url) as there:
        for number in range(200):
            await here.broker.subscribe(f"room:{number}")
            there.broker.publish(f"room:{number}", b"%d" % number)
        await until(lambda: len(here.messages) == 200)


async def test_second_subscriber_of_a_channel_waits_for_the_first(nats_url: str) -> None:
    async with node(nats_url) as here, node(nats_url) as there:
        first = asyncio.create_task(here.broker.subscribe("room:1"))
        await asyncio.sleep(0)
        await here.broker.subscribe("room:1")
        there.broker.publish("room:1", b"once")
        await round_trip(there, here)
        assert here.messages == [("room:1", b"once")]
        await first


async def test_order_of_a_publisher_is_kept(nats_url: str) -> None:
    async with node(nats_url) as here, node(nats_url) as there:
        channels = [f"room:{number}" for number in range(20)]
        await asyncio.gather(*(here.broker.subscribe(channel) for channel in channels))
        picks = random.Random(1)
        sent = [(picks.choice(channels), b"%d" % number) for number in range(5000)]
        for number, (channel, message) in enumerate(sent):
            there.broker.publish(channel, message)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(here.messages) == len(sent))
        assert here.messages == sent


@pytest.mark.parametrize(
    "channel", ["", " ", "a b", "a.b", "*", ">", "a.>", "%", "%2E", "é", "名" * 85, "\r\nPING", "x" * 3000]
)
async def test_odd_channel_names_travel(nats_url: str, channel: str) -> None:
    async with node(nats_url) as here, node(nats_url) as there:
        await here.broker.subscribe(channel)
        there.broker.publish(channel, b"odd")
        there.broker.publish("other", b"not asked for")
        await round_trip(there, here)
        assert here.messages == [(channel, b"odd")]


async def test_any_bytes_travel(nats_url: str) -> None:
    async with node(nats_url) as here, node(nats_url) as there:
        await here.broker.subscribe("room:1")
        sent = [b"", b"\r\n", b"MSG cw.ch.room:1 2 3\r\n", bytes(range(256)), b"x" * 100_000]
        for message in sent:
            there.broker.publish("room:1", message)
        await until(lambda: len(here.messages) == len(sent))
        assert [message for _, message in here.messages] == sent


async def test_failing_handler_costs_only_its_message(nats_url: str) -> None:
    got: list[bytes] = []

    def handler(channel: str, message: bytes) -> None:
        if message == b"bad":
            raise RuntimeError("a handler's mistake")
        got.append(message)

    broker = NatsBroker(nats_url, handler, lambda _: None)
    await broker.start()
    async with node(nats_url) as there:
        await broker.subscribe("room:1")
        for message in (b"one", b"bad", b"two"):
            there.broker.publish("room:1", message)
        await until(lambda: len(got) == 2)
        assert broker.connected
    await broker.close()


# --- leaving --------------------------------------------------------------------------------------------------------


async def test_unsubscribe_takes_effect_after_the_grace(nats_url: str) -> None:
    async with node(nats_url, linger=0.05) as here, node(nats_url) as there:
        await here.broker.subscribe("room:1")
        here.broker.unsubscribe("room:1")
        assert here.broker.subscriptions == 1
        await until(lambda: here.broker.subscriptions == 0)
        await round_trip(here, there)  # the server has the UNSUB
        there.broker.publish("room:1", b"late")
        await round_trip(there, here)
        assert here.messages == []


async def test_coming_back_within_the_grace_keeps_the_subscription(nats_url: str) -> None:
    async with node(nats_url, linger=0.05) as here, node(nats_url) as there:
        await here.broker.subscribe("room:1")
        await here.broker.subscribe("room:2")
        here.broker.unsubscribe("room:1")
        here.broker.unsubscribe("room:2")
        await here.broker.subscribe("room:1")
        await until(lambda: here.broker.subscriptions == 1)
        there.broker.publish("room:1", b"still here")
        await round_trip(there, here)
        assert here.messages == [("room:1", b"still here")]


async def test_unsubscribing_what_is_not_subscribed_is_nothing(nats_url: str) -> None:
    async with node(nats_url) as here:
        here.broker.unsubscribe("room:1")
        assert here.broker.subscriptions == 0


# --- the server goes away -------------------------------------------------------------------------------------------


async def test_ten_thousand_subscriptions_survive_a_restart(nats: EmbeddedStack) -> None:
    url = str(nats.urls.nats)
    async with node(url) as here, node(url) as there:
        channels = [f"room:{number}" for number in range(10_000)]
        for start in range(0, len(channels), 2000):
            await here.broker.subscribe(*channels[start : start + 2000])
        assert here.reconnects == 0
        nats.stop_one("nats")
        await until(lambda: not here.broker.connected and not there.broker.connected)
        nats.start_one("nats")
        await until(lambda: here.reconnects and there.reconnects)
        assert here.broker.connected
        for channel in channels:
            there.broker.publish(channel, channel.encode())
        await until(lambda: len(here.messages) == len(channels))
        assert here.messages == [(channel, channel.encode()) for channel in channels]
        assert here.reconnects == 1


async def test_subscriptions_and_departures_of_the_outage_hold_afterwards(nats: EmbeddedStack) -> None:
    url = str(nats.urls.nats)
    async with node(url) as here, node(url) as there:
        await here.broker.subscribe("gone")
        nats.stop_one("nats")
        await until(lambda: not here.broker.connected and not there.broker.connected)
        here.broker.unsubscribe("gone")
        with pytest.raises(BrokerUnavailable):
            await here.broker.subscribe("new")
        there.broker.publish("new", b"lost")
        there.broker.publish_control(b"lost")
        assert there.broker.dropped == 2
        nats.start_one("nats")
        await until(lambda: here.broker.connected and there.broker.connected)
        there.broker.publish("gone", b"not wanted")
        there.broker.publish("new", b"after")
        await round_trip(there, here)
        assert here.messages == [("new", b"after")]
        assert here.control == [b"mark"]


async def test_starts_without_the_server_and_finds_it_later(nats: EmbeddedStack) -> None:
    url = str(nats.urls.nats)
    nats.stop_one("nats")
    async with node(url) as here, node(url) as there:
        assert not here.broker.connected
        with pytest.raises(BrokerUnavailable):
            await here.broker.subscribe("room:1")
        nats.start_one("nats")
        await until(lambda: here.broker.connected and there.broker.connected)
        assert here.reconnects == 1  # whoever subscribed before must look at the log
        there.broker.publish("room:1", b"late, but here")
        await round_trip(there, here)
        assert here.messages == [("room:1", b"late, but here")]


async def test_subscribe_under_way_ends_when_the_server_dies(nats: EmbeddedStack) -> None:
    async with node(str(nats.urls.nats)) as here:
        await freeze(nats)
        waiting = asyncio.gather(*(here.broker.subscribe(f"room:{n}") for n in range(10)), return_exceptions=True)
        await asyncio.sleep(0.05)
        nats.kill_one("nats", Signals.SIGKILL)
        results = await waiting
        assert all(isinstance(each, BrokerUnavailable) for each in results)


async def test_frozen_server_bounds_what_waits_for_it(nats: EmbeddedStack) -> None:
    async with node(str(nats.urls.nats)) as here:
        await freeze(nats)
        for _ in range(400):
            here.broker.publish("room:1", b"x" * 100_000)
            await asyncio.sleep(0)
        assert here.broker.dropped > 0
        assert here.broker.published * 100_000 <= module.PENDING_LIMIT + 10_000_000  # and what the kernel took
        nats.kill_one("nats", Signals.SIGCONT)


async def test_silent_server_is_given_up(nats: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_node.nats_client.PING_SECONDS", 0.05)
    async with node(str(nats.urls.nats)) as here:
        await here.broker.subscribe("room:1")
        await freeze(nats)
        await until(lambda: not here.broker.connected)
        nats.kill_one("nats", Signals.SIGCONT)
        await until(lambda: here.broker.connected)
        assert here.reconnects == 1


async def test_message_above_the_servers_limit_is_dropped_alone(nats: EmbeddedStack) -> None:
    url = str(nats.urls.nats)
    async with node(url) as here, node(url) as there:
        await here.broker.subscribe("room:1")
        there.broker.publish("room:1", b"x" * (1024 * 1024 + 1))
        there.broker.publish("room:1", b"small")
        await round_trip(there, here)
        assert here.messages == [("room:1", b"small")]
        assert there.broker.connected


async def test_too_small_a_limit_of_the_server_stops_the_start(nats: EmbeddedStack) -> None:
    broker = NatsBroker(str(nats.urls.nats), lambda *_: None, lambda _: None, max_message_size=1024 * 1024)
    with pytest.raises(BrokerMisconfigured, match="max_payload: 1114112"):
        await broker.start()
    await broker.close()


async def test_close_hands_over_what_was_published(nats_url: str) -> None:
    async with node(nats_url) as here:
        await here.broker.subscribe("room:1")
        async with node(nats_url) as there:
            for number in range(1000):
                there.broker.publish("room:1", b"%d" % number)
        await until(lambda: len(here.messages) == 1000)


async def test_publish_after_close_and_before_start_is_dropped(nats_url: str) -> None:
    broker = NatsBroker(nats_url, lambda *_: None, lambda _: None)
    broker.publish("room:1", b"early")
    await broker.start()
    await broker.close()
    broker.publish("room:1", b"late")
    assert broker.dropped == 2
    assert not broker.connected


@pytest.mark.parametrize("url", ["", "http://localhost:4222", "localhost:4222", "ws://localhost"])
def test_only_urls_that_work_are_taken(url: str) -> None:
    with pytest.raises(ValueError, match="NATS URL"):
        NatsBroker(url, lambda *_: None, lambda _: None)
