"""Order, gaps, holds and recovery: what I2, I3 and I4 promise, on the core alone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

import realtime.fanout
from realtime import codec, codes
from realtime.channel import Channel, Sequence
from realtime.hub import GAP_PATIENCE
from realtime.interfaces import Entry, Page
from realtime.namespaces import ChannelOptions
from realtime.protocol import Publication, StreamPosition
from tests.realtime.harness import Cluster, Node


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster(2)


def store(cluster: Cluster, channel: str, *values: int) -> list[Publication]:
    """Publications that are in the log, but that no node was told of."""
    publications = []
    for value in values:
        entry = Entry(channel, value.to_bytes(16, "big"), "x", b"%d" % value)
        stored = cluster.log.store(entry)
        publications.append(Publication(Raw(entry.data), None, stored.offset, None, stored.time))
    return publications


def hand(node: Node, channel: str, publication: Publication, epoch: str = "e1") -> None:
    """As if another node had sent it."""
    node.broker.on_message(channel, codec.pack_publication(publication, epoch))


def snapshot_before(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """From now on a read sees the log as it is at the call, and answers when the event is set."""
    answered = asyncio.Event()
    read = cluster.log.read

    async def late(*args: Any, **kwargs: Any) -> Page:
        page = await read(*args, **kwargs)
        await answered.wait()
        return page

    monkeypatch.setattr(cluster.log, "read", late)
    return answered


async def test_what_the_broker_lost_comes_with_the_sweep(cluster: Cluster) -> None:
    one, two = cluster.nodes
    ana = await one.subscribed("ana", "chat:a")
    ben = await two.subscribed("ben", "chat:a")
    cluster.network.lose = True
    for value in range(3):
        await ana.ask(publish={"channel": "chat:a", "data": value})
    assert ben.offsets == []
    two.hub.on_heads({"chat:a": StreamPosition(3, "e1")})
    await ben.until(lambda c: c.offsets == [1, 2, 3])
    assert ana.offsets == [1, 2, 3]


async def test_the_sweep_is_heard_while_the_first_read_is_under_way(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it tells it tells once: a head that is newer than the snapshot of the read must not be forgotten."""
    node = cluster.nodes[0]
    store(cluster, "chat:a", 1)
    ana = await node.connected("ana")
    reads, answered = cluster.log.reads, snapshot_before(cluster, monkeypatch)
    number = ana.send(subscribe={"channel": "chat:a"})
    await ana.until(lambda c: cluster.log.reads > reads)
    store(cluster, "chat:a", 2)
    node.hub.on_heads({"chat:a": StreamPosition(2, "e1")})
    await asyncio.sleep(2 * GAP_PATIENCE)
    answered.set()
    reply = await ana.until(lambda c: next((each for each in c.received if each.get("id") == number), None))
    assert reply["subscribe"]["offset"] == 1
    await ana.until(lambda c: c.offsets == [2])


async def test_what_was_lost_during_the_first_read_is_read(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    node = cluster.nodes[0]
    store(cluster, "chat:a", 1)
    ana = await node.connected("ana")
    reads, answered = cluster.log.reads, snapshot_before(cluster, monkeypatch)
    ana.send(subscribe={"channel": "chat:a"})
    await ana.until(lambda c: cluster.log.reads > reads)
    _lost, third = store(cluster, "chat:a", 2, 3)
    hand(node, "chat:a", third)
    answered.set()
    await ana.until(lambda c: c.offsets == [2, 3])


async def test_of_two_first_reads_the_earlier_snapshot_may_answer_later(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel begins at the later one; whoever read the earlier one must not be missing what lies between."""
    node = cluster.nodes[0]
    ana, ben = await node.connected("ana"), await node.connected("ben")
    answers: list[asyncio.Event] = []
    read = cluster.log.read

    async def late(*args: Any, **kwargs: Any) -> Page:
        page = await read(*args, **kwargs)
        answers.append(asyncio.Event())
        await answers[-1].wait()
        return page

    with monkeypatch.context() as patch:
        patch.setattr(cluster.log, "read", late)
        numbers = []
        for client in (ana, ben):
            hand(node, "chat:a", *store(cluster, "chat:a", len(answers) + 1))
            numbers.append(client.send(subscribe={"channel": "chat:a"}))
            await client.until(lambda c: len(answers) == len(numbers))
    for client, number, answer in ((ben, numbers[1], answers[1]), (ana, numbers[0], answers[0])):
        answer.set()
        reply = await client.until(lambda c, n=number: next((each for each in c.received if each.get("id") == n), None))
        assert reply["subscribe"]["offset"] == 2


async def test_a_publication_on_the_way_hides_no_gap_behind_it(cluster: Cluster) -> None:
    """The sweep knows of two, one of which then comes by itself."""
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    first, _lost = store(cluster, "chat:a", 1, 2)
    node.hub.on_heads({"chat:a": StreamPosition(2, "e1")})
    hand(node, "chat:a", first)
    await ana.until(lambda c: c.offsets == [1, 2])


async def test_crossing_publications_wait_for_each_other(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    first, second, third = store(cluster, "chat:a", 1, 2, 3)
    reads = cluster.log.reads
    hand(node, "chat:a", third)
    hand(node, "chat:a", second)
    await asyncio.sleep(0.01)
    assert ana.offsets == []
    hand(node, "chat:a", first)
    await ana.until(lambda c: c.offsets == [1, 2, 3])
    await asyncio.sleep(0.06)
    assert cluster.log.reads == reads, "the gap closed by itself"


async def test_gap_is_filled_by_one_read(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    clients = [await node.subscribed(f"u{i}", "chat:a") for i in range(5)]
    publications = store(cluster, "chat:a", *range(1, 11))
    reads = cluster.log.reads
    hand(node, "chat:a", publications[9])
    for client in clients:
        await client.until(lambda c: c.offsets == list(range(1, 11)))
    assert cluster.log.reads == reads + 1
    assert node.hub.counters.gaps_repaired == 10


async def test_gap_that_the_log_cannot_fill_unsubscribes_with_2500(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    publications = store(cluster, "chat:a", *range(1, 11))
    cluster.log.first["chat:a"] = 8
    hand(node, "chat:a", publications[9])
    await ana.until(lambda c: any(push.get("unsubscribe", {}).get("code") == 2500 for push in c.pushes))
    assert ana.offsets == []
    reply = await ana.ask(subscribe={"channel": "chat:a", "recover": True, "offset": 0, "epoch": "e1"})
    assert reply["subscribe"].get("recovered", False) is False
    assert reply["subscribe"]["offset"] == 10


async def test_lost_position_of_a_server_side_subscription_reconnects(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.connected("ana")
    (publication,) = store(cluster, "user:ana", 1)
    hand(node, "user:ana", publication, epoch="another")
    assert await ana.closing() == (codes.INSUFFICIENT_STATE.code, "insufficient state")


async def test_repair_goes_on_when_the_log_comes_back(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    store(cluster, "chat:a", 1, 2)
    cluster.log.away = True
    node.hub.on_heads({"chat:a": StreamPosition(2, "e1")})
    await asyncio.sleep(0.1)
    assert ana.offsets == []
    cluster.log.away = False
    await ana.until(lambda c: c.offsets == [1, 2])


async def test_publications_during_subscribe_are_seen_once_in_order(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    first = store(cluster, "chat:a", 1, 2)
    ana = await node.connected("ana")
    cluster.log.gate.clear()
    number = ana.send(subscribe={"channel": "chat:a", "recover": True, "offset": 0, "epoch": "e1"})
    for _ in range(10):
        await asyncio.sleep(0)
    third, fourth = store(cluster, "chat:a", 3, 4)
    for publication in (*first, third, fourth):
        hand(node, "chat:a", publication)
    cluster.log.gate.set()
    await ana.until(lambda c: any(each.get("id") == number for each in c.received))
    (fifth,) = store(cluster, "chat:a", 5)
    hand(node, "chat:a", fifth)
    await ana.until(lambda c: 5 in c.offsets)
    reply = next(each for each in ana.received if each.get("id") == number)["subscribe"]
    assert reply["recovered"] is True
    assert [each["offset"] for each in reply["publications"]] + ana.offsets == [1, 2, 3, 4, 5]


async def test_second_subscriber_ahead_of_the_node_pulls_the_others_along(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    store(cluster, "chat:a", 1, 2, 3)
    ben = await node.connected("ben")
    reply = await ben.ask(subscribe={"channel": "chat:a", "recover": True, "offset": 1, "epoch": "e1"})
    assert [each["offset"] for each in reply["subscribe"]["publications"]] == [2, 3]
    await ana.until(lambda c: c.offsets == [1, 2, 3])
    assert ben.offsets == []


@pytest.mark.parametrize(
    ("offset", "epoch", "recovered", "offsets"),
    [
        (3, "e1", True, []),
        (1, "e1", True, [2, 3]),
        (0, "e1", True, [1, 2, 3]),
        (4, "e1", False, []),
        (1, "x", False, []),
    ],
)
async def test_recovery_is_all_or_nothing(
    cluster: Cluster, offset: int, epoch: str, recovered: bool, offsets: list[int]
) -> None:
    store(cluster, "chat:a", 1, 2, 3)
    ana = await cluster.nodes[0].connected("ana")
    reply = await ana.ask(subscribe={"channel": "chat:a", "recover": True, "offset": offset, "epoch": epoch})
    result = reply["subscribe"]
    assert result["was_recovering"] is True
    assert result.get("recovered", False) is recovered
    assert [each["offset"] for each in result.get("publications", ())] == offsets
    assert (result["offset"], result["epoch"]) == (3, "e1")


async def test_recovery_of_more_than_fits_is_refused(cluster: Cluster) -> None:
    store(cluster, "chat:a", *range(1001))
    ana = await cluster.nodes[0].connected("ana")
    reply = await ana.ask(subscribe={"channel": "chat:a", "recover": True, "epoch": "e1"})
    assert reply["subscribe"].get("recovered", False) is False
    assert reply["subscribe"]["offset"] == 1001
    reply = await (await cluster.nodes[0].connected("ben")).ask(
        subscribe={"channel": "chat:a", "recover": True, "offset": 1, "epoch": "e1"}
    )
    assert len(reply["subscribe"]["publications"]) == 1000


async def test_removal_reaches_a_subscriber_whose_subscription_is_under_way(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    room = "room:7d2b3a44-0000-4000-8000-000000000001"
    ana = await node.connected("ana")
    node.authoriser.members[room] = {"ana"}
    cluster.log.gate.clear()
    number = ana.send(subscribe={"channel": room})
    for _ in range(10):
        await asyncio.sleep(0)
    node.hub.unsubscribe_user("ana", room, "", codes.UNSUBSCRIBED_BY_SERVER)
    cluster.log.gate.set()
    reply = await ana.until(lambda c: next((each for each in c.received if each.get("id") == number), None))
    assert reply["error"]["code"] == 103
    assert room not in node.hub.channels


async def test_subscriber_added_between_publish_and_flush_gets_nothing_twice(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    ben = await node.connected("ben")
    (publication,) = store(cluster, "chat:a", 1)
    node.hub.publish("chat:a", publication, "e1")  # pending: not flushed before the loop turns
    reply = await ben.ask(subscribe={"channel": "chat:a"})
    await ana.until(lambda c: c.offsets == [1])
    seen = [reply["subscribe"]["offset"], *ben.offsets]
    assert seen in ([1], [0, 1])


async def test_big_room_is_written_in_slices_and_in_order(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    clients = [await node.subscribed(f"u{i}", "chat:a") for i in range(300)]
    for publication in store(cluster, "chat:a", *range(1, 21)):
        node.hub.publish("chat:a", publication, "e1")
        if publication.offset % 7 == 0:
            await asyncio.sleep(0)
    for client in clients:
        await client.until(lambda c: c.offsets == list(range(1, 21)))


async def test_slow_reader_is_cut_off_and_the_others_are_not(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana, ben = await node.subscribed("ana", "chat:a"), await node.subscribed("ben", "chat:a")
    ben.connection.pause_writing()
    ben.transport.buffered = node.endpoint.outbox_limit + 1
    await ana.ask(publish={"channel": "chat:a", "data": 1})
    assert (await ben.closing())[0] == 3008
    await ana.until(lambda c: c.offsets == [1])


async def test_a_transport_that_raises_stops_nobody_elses_delivery(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = cluster.nodes[0]
    broken = await node.subscribed("ana", "chat:a")
    clients = [await node.subscribed(f"u{i}", "chat:a") for i in range(200)]

    def write(data: bytes) -> None:
        raise RuntimeError("broken transport")

    monkeypatch.setattr(broken.transport, "write", write)
    for publication in store(cluster, "chat:a", 1, 2, 3):
        node.hub.publish("chat:a", publication, "e1")
        await asyncio.sleep(0)
    assert broken.connection.transport.is_closing()
    for client in clients:
        await client.until(lambda c: c.offsets == [1, 2, 3])


async def test_who_leaves_while_a_frame_is_written_stops_nobody_elses_delivery(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(realtime.fanout, "SLICE_SECONDS", 0)
    node = cluster.nodes[0]
    clients = [await node.subscribed(f"u{i}", "chat:a") for i in range(200)]
    (publication,) = store(cluster, "chat:a", 1)
    node.hub.publish("chat:a", publication, "e1")
    await asyncio.sleep(0)
    leaving, staying = clients[100:150], clients[:100] + clients[150:]
    assert not any(client.offsets for client in leaving)  # the first slice is written, theirs are not
    for client in leaving:
        client.connection.end(codes.SHUTDOWN)
    for client in staying:
        await client.until(lambda c: c.offsets == [1])
    for client in leaving:
        client.pull()
        assert (client.offsets, client.close and client.close[0]) == ([], codes.SHUTDOWN.code)
    assert not caplog.records


OFFSETS = st.lists(st.integers(1, 12), max_size=40)


@given(OFFSETS, st.integers(0, 5))
@settings(max_examples=300)
def test_channel_hands_on_each_offset_once_and_in_order(arrivals: list[int], head: int) -> None:
    """Whatever comes in whatever order, as often as it likes: delivered is head+1, head+2 ... without a hole."""
    channel = Channel("c", ChannelOptions(history_size=1))
    delivered = [each.offset for each in channel.start(head, "e")]
    for offset in arrivals:
        place = channel.place(offset, "e")
        if place is Sequence.NEXT:
            channel.position = offset
            delivered += [offset, *(each.offset for each in channel.take_ahead())]
        elif place is Sequence.AHEAD:
            channel.keep(Publication(Raw(b"1"), offset=offset))
    expected = head
    while expected + 1 in arrivals:
        expected += 1
    assert delivered == list(range(head + 1, expected + 1))
    assert channel.position == expected


class Outlet:
    """A subscriber and its transport in one, as far as the fan-out knows them."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.deflate = False

    @property
    def transport(self) -> Outlet:
        return self

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)


async def test_what_comes_while_a_batch_is_written_goes_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is short of its processor joins more into a write, and does not queue batch behind batch."""
    monkeypatch.setattr(realtime.fanout, "SLICE_SECONDS", -1.0)  # one slice a turn of the loop
    fanout = realtime.fanout.Fanout(compress=False, after_slices=lambda: None)
    channel = Channel("chat:big", ChannelOptions())
    outlets = [Outlet() for _ in range(20 * realtime.fanout.SLICE_WRITES)]
    for outlet in outlets:
        channel.add(outlet)  # type: ignore[arg-type]
    for number in range(1, 6):
        channel.flushed_at = 0.0  # long ago: its time has come at once
        fanout.add(channel, b"%d" % number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert channel.batches is not None and len(channel.batches) == 1
    while channel.batches is not None:
        await asyncio.sleep(0)
    for outlet in outlets:
        assert [frame[2:] for frame in outlet.frames] == [b"1", b"2\n3\n4\n5"]
