"""Rooms on connect, taking over, and being added while connected: nothing is missed and nothing comes twice."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

import realtime.fanout
from realtime import codes
from realtime.core import ClientLimits
from realtime.interfaces import Identity
from realtime.joining import subscribe_by_server
from tests.realtime.harness import Client, Cluster, Node

ROOM = "room:7d2b3a44-0000-4000-8000-000000000001"
OTHER = "room:7d2b3a44-0000-4000-8000-000000000002"


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster(2)
    made.authoriser.members[ROOM] = {"ana", "ben"}
    return made


async def turns(count: int = 50) -> None:
    """Let everything go as far as it goes."""
    for _ in range(count):
        await asyncio.sleep(0)


def offsets(reply: dict[str, Any]) -> list[int]:
    return [each["offset"] for each in reply["subscribe"].get("publications", ())]


def recover(offset: int, epoch: str = "e1") -> dict[str, Any]:
    return {"channel": ROOM, "recover": True, "offset": offset, "epoch": epoch}


async def hold_the_log(cluster: Cluster, client: Client, **subscribe: Any) -> int:
    """Send a subscribe that must read, and return when it waits for the log."""
    cluster.log.gate.clear()
    number = client.send(subscribe=subscribe)
    await turns()
    assert client.answer_to(number) is None
    return number


async def answered(client: Client, number: int) -> dict[str, Any]:
    reply: dict[str, Any] = await client.until(lambda c: c.answer_to(number))
    return reply


def events(client: Client, channel: str) -> list[str]:
    """What the client was told in the channel, but for publications."""
    return [next(key for key in push if key != "channel") for push in client.pushes if push["channel"] == channel]


# --- on connect ----------------------------------------------------------------------------------------------------


async def test_a_connection_is_in_the_rooms_of_its_user(cluster: Cluster) -> None:
    cluster.authoriser.members[OTHER] = {"ben"}
    cluster.store(ROOM)
    client = cluster.nodes[0].client()
    subs = (await client.ask(connect={"token": "ana"}))["connect"]["subs"]
    assert set(subs) == {"user:ana", ROOM}
    assert subs[ROOM] == {"recoverable": True, "positioned": True, "epoch": "e1", "offset": 1}
    cluster.say(ROOM)
    await client.until(lambda c: c.offsets == [2])
    assert "publish" in await client.ask(
        publish={"channel": ROOM, "data": {"id": "7d2b3a44-0000-4000-8000-0000000000aa", "content": "hi"}}
    )


@pytest.mark.parametrize(("limit", "expected"), [(2, 1), (1, 0), (0, 3)])
async def test_rooms_take_what_the_token_leaves_of_the_limit(limit: int, expected: int) -> None:
    cluster = Cluster(1, ClientLimits(channels=limit))
    for room in (ROOM, OTHER, "room:7d2b3a44-0000-4000-8000-000000000003"):
        cluster.authoriser.members[room] = {"ana"}
    ana = await cluster.nodes[0].connected("ana")
    assert [channel.name for channel in ana.connection.channels[:1]] == ["user:ana"]
    assert len(ana.connection.channels) == 1 + expected
    assert all(ana.connection.is_given(channel.name) for channel in ana.connection.channels)


async def test_rooms_recover_by_the_positions_of_the_connect(cluster: Cluster) -> None:
    for _ in range(5):
        cluster.store(ROOM)
    client = cluster.nodes[0].client()
    reply = await client.ask(connect={"token": "ana", "subs": {ROOM: recover(2)}})
    result = reply["connect"]["subs"][ROOM]
    assert (result["recovered"], result["offset"]) == (True, 5)
    assert [each["offset"] for each in result["publications"]] == [3, 4, 5]


async def test_what_a_connect_recovers_is_bounded_for_all_rooms_together() -> None:
    """128 rooms with half an outbox each would be 64 MB in one reply."""
    cluster = Cluster(1, ClientLimits(outbox=2000))
    for room in (ROOM, OTHER):
        cluster.authoriser.members[room] = {"ana"}
        for _ in range(3):
            cluster.store(room, "x" * 250)
    client = cluster.nodes[0].client()
    asked = {room: {"recover": True, "offset": 0, "epoch": "e1"} for room in (ROOM, OTHER)}
    subs = (await client.ask(connect={"token": "ana", "subs": asked}))["connect"]["subs"]
    assert sorted(subs[room].get("recovered", False) for room in (ROOM, OTHER)) == [False, True]
    assert {subs[room]["offset"] for room in (ROOM, OTHER)} == {3}
    assert sum(len(subs[room].get("publications", ())) for room in (ROOM, OTHER)) == 3


async def test_who_is_removed_while_connecting_is_connected_without_the_room(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    cluster.log.gate.clear()
    number = client.send(connect={"token": "ana"})
    await turns()
    for publication, channel in zip(cluster.remove("ana", ROOM), (ROOM, "user:ana"), strict=True):
        cluster.tell(channel, publication)
    cluster.log.gate.set()
    assert set((await answered(client, number))["connect"]["subs"]) == {"user:ana"}
    assert ROOM not in cluster.nodes[0].hub.channels


async def test_who_is_removed_beyond_the_head_while_others_are_read_is_not_let_in(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room is joined, another channel of the connect is not yet: the removal is an event that the hold sees."""
    node = cluster.nodes[0]
    release = asyncio.Event()
    read = cluster.log.read

    async def slow_for_the_personal_channel(channel: str, *args: Any, **more: Any) -> Any:
        page = await read(channel, *args, **more)
        if channel == "user:ana":
            await release.wait()
        return page

    monkeypatch.setattr(cluster.log, "read", slow_for_the_personal_channel)
    client = node.client()
    number = client.send(connect={"token": "ana"})
    await turns()
    cluster.tell(ROOM, cluster.remove("ana", ROOM)[0])
    release.set()
    assert set((await answered(client, number))["connect"]["subs"]) == {"user:ana"}
    assert ROOM not in node.hub.channels


@pytest.mark.parametrize("told", ["before the head", "beyond the head"])
async def test_who_is_added_while_connecting_is_in_the_room(cluster: Cluster, told: str) -> None:
    """The rooms are listed first, so whatever the personal channel says from then on counts."""
    node = cluster.nodes[0]
    answered_late = asyncio.Event()
    client = node.client()
    if told == "before the head":
        cluster.log.gate.clear()
    else:
        read = cluster.log.read

        async def late(*args: Any, **more: Any) -> Any:
            page = await read(*args, **more)
            await answered_late.wait()
            return page

        cluster.log.read = late  # type: ignore[method-assign]
    number = client.send(connect={"token": "ana"})
    await turns()
    added, told_personally = cluster.add("ana", OTHER)
    cluster.tell("user:ana", told_personally)
    said = cluster.say(OTHER)
    answered_late.set()
    cluster.log.gate.set()
    assert OTHER not in (await answered(client, number))["connect"]["subs"]
    await client.until(lambda c: "subscribe" in events(c, OTHER))
    cluster.say(OTHER)
    await client.until(lambda c: len(events(c, OTHER)) == 3)
    pushed = [push for push in client.pushes if push["channel"] == OTHER]
    assert pushed[0]["subscribe"]["offset"] == added.offset
    assert [push["pub"]["offset"] for push in pushed[1:]] == [said.offset, said.offset + 1]


async def test_a_connect_that_cannot_be_complete_is_refused_for_now(cluster: Cluster) -> None:
    """What the personal channel said meanwhile is not there any more: who knows to which rooms it led."""
    client = cluster.nodes[0].client()
    cluster.log.gate.clear()
    number = client.send(connect={"token": "ana"})
    await turns()
    cluster.add("ana", OTHER)
    cluster.log.first["user:ana"] = 2
    cluster.log.gate.set()
    assert (await answered(client, number))["error"]["code"] == 100
    assert cluster.nodes[0].hub.channels == {}


# --- taking over ---------------------------------------------------------------------------------------------------


async def test_a_client_takes_over_with_its_position(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.store(ROOM)
    ana = await cluster.nodes[0].connected("ana")
    reply = await ana.ask(subscribe=recover(1))
    assert reply["subscribe"]["recovered"] is True
    assert offsets(reply) == [2, 3]
    cluster.say(ROOM)
    await ana.until(lambda c: c.offsets == [4])
    assert (await ana.ask(subscribe={"channel": ROOM}))["error"]["code"] == 105
    assert [channel.name for channel in ana.connection.channels] == ["user:ana", ROOM]


async def test_what_was_taken_over_is_lost_as_the_clients_own(cluster: Cluster) -> None:
    """It is told to subscribe again; what the server gave comes back by a reconnect alone."""
    ana, ben = await cluster.nodes[0].connected("ana"), await cluster.nodes[0].connected("ben")
    await ana.ask(subscribe={"channel": ROOM})
    cluster.tell(ROOM, cluster.store(ROOM))
    await ana.until(lambda c: c.offsets == [1])
    cluster.log.epoch = "e2"
    cluster.say(ROOM)
    await ana.until(lambda c: any(push.get("unsubscribe", {}).get("code") == 2500 for push in c.pushes))
    assert await ben.closing() == (3010, "insufficient state")


async def test_pushes_stop_while_the_takeover_is_read_and_none_is_missed_or_doubled(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    cluster.store(ROOM)
    ana, ben = await node.connected("ana"), await node.connected("ben")
    number = await hold_the_log(cluster, ana, **recover(0))
    cluster.say(ROOM)
    cluster.say(ROOM)
    await ben.until(lambda c: c.offsets == [2, 3])
    assert ana.offsets == []
    cluster.log.gate.set()
    reply = await answered(ana, number)
    cluster.say(ROOM)
    await ana.until(lambda c: 4 in c.offsets)
    assert [*offsets(reply), *ana.offsets] == [1, 2, 3, 4]


async def test_what_is_pending_or_queued_at_the_takeover_comes_before_the_reply_or_in_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A big room is written in slices: those that a reply covers must not follow it."""
    monkeypatch.setattr(realtime.fanout, "SLICE_WRITES", 1)
    monkeypatch.setattr(realtime.fanout, "SLICE_SECONDS", 0)
    node = cluster.nodes[0]
    users = [f"u{number}" for number in range(30)]
    cluster.authoriser.members[ROOM] = {"ana", *users}
    crowd = [await node.connected(user) for user in users]
    ana = await node.connected("ana")
    published = 0
    for round_ in range(20):
        for _ in range(1 + round_ % 3):
            node.hub.publish(ROOM, cluster.store(ROOM), "e1")
            published += 1
        ana.pull()
        seen = ana.offsets[-1] if ana.offsets else 0
        number = ana.send(subscribe=recover(seen))
        if round_ % 2:
            node.hub.publish(ROOM, cluster.store(ROOM), "e1")
            published += 1
        reply = await answered(ana, number)
        for each in crowd:
            await each.until(lambda c, last=published: c.offsets[-1:] == [last])
        ana.pull()
        after = [
            each["push"]["pub"]["offset"]
            for each in ana.received[ana.received.index(reply) + 1 :]
            if "pub" in each.get("push", {})
        ]
        told = [*offsets(reply), *after]
        assert told == list(range(seen + 1, published + 1)), round_
        assert "unsubscribe" in await ana.ask(unsubscribe={"channel": ROOM})
        await subscribe_by_server(ana.connection, ROOM)
        ana.received.clear()
    for each in crowd:
        assert each.offsets == list(range(1, published + 1))


async def test_nobody_hears_of_a_takeover_and_presence_stays(cluster: Cluster) -> None:
    one, two = cluster.nodes
    ben = await two.connected("ben")
    await ben.ask(subscribe={"channel": ROOM, "join_leave": True})
    ana = await one.connected("ana")
    await ben.until(lambda c: events(c, ROOM) == ["join"])
    present = dict(cluster.presence.channels[ROOM])
    await ana.ask(subscribe={"channel": ROOM, "join_leave": True})
    await turns()
    assert cluster.presence.channels[ROOM] == present
    cleo = "cleo"
    cluster.authoriser.members[ROOM].add(cleo)
    await one.connected(cleo)
    await ana.until(lambda c: events(c, ROOM) == ["join"])
    await ben.until(lambda c: events(c, ROOM) == ["join", "join"])
    await ana.ask(unsubscribe={"channel": ROOM})
    await ben.until(lambda c: events(c, ROOM) == ["join", "join", "leave"])
    assert ana.connection.client not in cluster.presence.channels[ROOM]


@pytest.mark.parametrize("told", [False, True])
async def test_who_is_removed_during_the_takeover_is_out(cluster: Cluster, told: bool) -> None:
    node = cluster.nodes[0]
    ben = await node.connected("ben")
    await ben.ask(subscribe={"channel": ROOM, "join_leave": True})
    cluster.say(ROOM)
    ana = await node.connected("ana")
    number = await hold_the_log(cluster, ana, **recover(0))
    removed, _ = cluster.remove("ana", ROOM)
    if told:
        node.hub.unsubscribe_user("ana", ROOM, "", codes.UNSUBSCRIBED_BY_SERVER, removed.offset)
    cluster.log.gate.set()
    assert (await answered(ana, number))["error"]["code"] == 103
    assert [event for event in events(ana, ROOM) if event == "unsubscribe"] == ["unsubscribe"]
    await ben.until(lambda c: "leave" in events(c, ROOM))
    assert ana.connection.client not in cluster.presence.channels[ROOM]
    assert ana.connection.channel(ROOM) is None
    assert ana.close is None


async def test_a_takeover_that_fails_for_now_changes_nothing(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    cluster.store(ROOM)
    ana = await node.connected("ana")
    number = await hold_the_log(cluster, ana, **recover(0))
    cluster.say(ROOM)
    cluster.log.away = True
    cluster.log.gate.set()
    assert (await answered(ana, number))["error"]["code"] == 100
    cluster.log.away = False
    cluster.say(ROOM)
    await ana.until(lambda c: c.offsets == [2, 3])
    assert ana.connection.is_given(ROOM)
    assert ana.connection.client in cluster.presence.channels[ROOM]


async def test_a_takeover_of_what_overflows_meanwhile_loses_the_position(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    cluster.store(ROOM)
    ana = await node.connected("ana")
    await hold_the_log(cluster, ana, **recover(0))
    for _ in range(1001):
        cluster.say(ROOM)
    cluster.log.gate.set()
    assert await ana.closing() == (3010, "insufficient state")


async def test_the_end_of_a_connection_during_a_takeover_leaves_nothing(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    cluster.store(ROOM)
    ana = await node.connected("ana")
    await hold_the_log(cluster, ana, **recover(0))
    ana.connection.connection_lost(None)
    cluster.log.gate.set()
    await turns()
    assert node.hub.channels == {}
    assert cluster.presence.channels == {ROOM: {}}
    assert node.broker.subscribed == set()


async def test_what_the_client_may_not_subscribe_to_stays_the_servers(cluster: Cluster) -> None:
    """The server put the connection into a channel that is closed to it: asking changes nothing."""
    node = cluster.nodes[0]
    ana = await node.connected("ana")
    await subscribe_by_server(ana.connection, "chat:a")
    assert (await ana.ask(subscribe={"channel": "chat:a", "token": "expired"}))["error"]["code"] == 109
    cluster.say("chat:a")
    await ana.until(lambda c: c.offsets == [1])
    assert ana.connection.is_given("chat:a")


async def test_the_channels_of_the_server_stay_apart_from_the_clients(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    await subscribe_by_server(ana.connection, "chat:b")
    assert (await ana.ask(subscribe={"channel": "user:ana"})).get("subscribe")
    given = {channel.name: ana.connection.is_given(channel.name) for channel in ana.connection.channels}
    assert given == {ROOM: True, "chat:b": True, "chat:a": False, "user:ana": False}
    for name, channels in ((ROOM, 1), ("chat:a", 1), ("chat:b", 0)):
        await ana.ask(unsubscribe={"channel": name})
        assert ana.connection.given == channels


# --- added while connected -----------------------------------------------------------------------------------------


def room_pushes(client: Client) -> tuple[list[int], list[int]]:
    """The positions of the subscriptions to the other room that the server told of, and the offsets that came there."""
    pushed = [push for push in client.pushes if push["channel"] == OTHER]
    return (
        [push["subscribe"].get("offset", 0) for push in pushed if "subscribe" in push],
        [push["pub"]["offset"] for push in pushed if "pub" in push],
    )


async def two_devices(cluster: Cluster) -> list[Client]:
    return [await node.connected("ana") for node in cluster.nodes]


async def test_who_is_added_gets_the_room_on_every_device_with_what_was_said_since(cluster: Cluster) -> None:
    cluster.authoriser.members[OTHER] = {"ben"}
    devices = await two_devices(cluster)
    ben = await cluster.nodes[1].connected("ben")
    cluster.say(OTHER)
    added, personal = cluster.add("ana", OTHER)
    cluster.tell(OTHER, added)
    cluster.say(OTHER)
    cluster.tell("user:ana", personal)
    cluster.say(OTHER)
    for device in devices:
        await device.until(lambda c: room_pushes(c) == ([2], [3, 4]))
    await ben.until(lambda c: room_pushes(c)[1] == [1, 2, 3, 4])


async def test_a_room_with_a_long_past_is_entered_at_its_head(cluster: Cluster) -> None:
    """More was said since than a recovery carries."""
    (device, _) = await two_devices(cluster)
    _, personal = cluster.add("ana", OTHER)
    for _ in range(1001):
        cluster.store(OTHER)
    cluster.tell("user:ana", personal)
    await device.until(lambda c: room_pushes(c) == ([1002], []))
    cluster.say(OTHER)
    await device.until(lambda c: room_pushes(c) == ([1002], [1003]))


async def test_being_told_twice_subscribes_once(cluster: Cluster) -> None:
    device, _ = await two_devices(cluster)
    _, first = cluster.add("ana", OTHER)
    second = cluster.store("user:ana", event="room_added", room=OTHER.removeprefix("room:"))
    cluster.tell("user:ana", first)
    cluster.tell("user:ana", second)
    await turns(200)
    cluster.say(OTHER)
    await device.until(lambda c: room_pushes(c) == ([1], [2]))


@pytest.mark.parametrize("room", ["", "x", OTHER[5:], OTHER[5:].upper(), ROOM[5:-1] + "f"])
async def test_a_room_that_is_not_theirs_is_not_entered(cluster: Cluster, room: str) -> None:
    """Removed again since, or never added: membership decides."""
    device, _ = await two_devices(cluster)
    cluster.add("ana", OTHER)
    cluster.remove("ana", OTHER)
    cluster.sweep()
    cluster.say("user:ana", event="room_added", room=room)
    await device.until(lambda c: len([p for p in c.pushes if p["channel"] == "user:ana"]) == 3)
    await turns()
    assert room_pushes(device) == ([], [])
    assert set(cluster.nodes[0].hub.channels) == {"user:ana", ROOM}


async def test_entering_is_tried_until_the_stores_answer(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.membership.RETRY_FIRST", 0.001)
    device, _ = await two_devices(cluster)
    _, personal = cluster.add("ana", OTHER)
    asked = cluster.authoriser.subscribe
    failures = [codes.INTERNAL(), codes.INTERNAL()]

    async def failing(identity: Identity, channel: str, token: str) -> Any:
        if failures:
            raise failures.pop()
        return await asked(identity, channel, token)

    monkeypatch.setattr(cluster.authoriser, "subscribe", failing)
    cluster.log.away = True
    cluster.tell("user:ana", personal)
    await device.until(lambda c: not failures)
    cluster.log.away = False
    cluster.say(OTHER)
    await device.until(lambda c: room_pushes(c) == ([1], [2]))


async def test_a_full_connection_enters_no_further_room() -> None:
    cluster = Cluster(1, ClientLimits(channels=2))
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    _, personal = cluster.add("ana", OTHER)
    cluster.tell("user:ana", personal)
    await turns()
    assert [channel.name for channel in ana.connection.channels] == ["user:ana", "chat:a"]


async def out_and_in_again(cluster: Cluster) -> tuple[Node, Client, list[tuple[str, Any]]]:
    """A member who is removed and added again before the node hears of it: the rows that it is told of later."""
    node = cluster.nodes[0]
    cluster.authoriser.members[OTHER] = {"ana", "ben"}
    await node.connected("ben")
    ana = await node.connected("ana")
    rows = [*zip((OTHER, "user:ana"), cluster.remove("ana", OTHER), strict=True)]
    rows += [*zip((OTHER, "user:ana"), cluster.add("ana", OTHER), strict=True)]
    return node, ana, rows


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 3, 0, 2), (0, 2, 1, 3), (1, 0, 3, 2)], ids=str)
async def test_who_is_out_and_in_again_is_in_whichever_channel_tells_first(
    cluster: Cluster, order: tuple[int, ...]
) -> None:
    node, ana, rows = await out_and_in_again(cluster)
    for place in order:
        cluster.tell(*rows[place], node)
        await turns()
    await ana.until(lambda c: c.connection.channel(OTHER) is not None and not node.hub.channels[OTHER].holds)
    cluster.say(OTHER)
    await ana.until(lambda c: room_pushes(c)[1][-1:] == [3])
    assert room_pushes(ana)[1].count(3) == 1


async def test_a_subscribe_behind_a_removal_that_is_history_stays(cluster: Cluster) -> None:
    """The node has not heard of the removal, and membership says that they came in after it."""
    node, ana, rows = await out_and_in_again(cluster)
    await ana.ask(unsubscribe={"channel": OTHER})
    assert "subscribe" in await ana.ask(subscribe={"channel": OTHER})
    for channel, publication in rows:
        cluster.tell(channel, publication, node)
    await turns()
    assert events(ana, OTHER) == []
    assert not ana.connection.is_given(OTHER)
    cluster.say(OTHER)
    await ana.until(lambda c: room_pushes(c) == ([], [3]))


# --- direct rooms --------------------------------------------------------------------------------------------------


async def test_both_of_a_direct_room_see_the_other_come_and_go(cluster: Cluster) -> None:
    cluster.authoriser.pairs[ROOM] = ("ana", "ben")
    one, two = cluster.nodes
    ana = await one.connected("ana")
    ben = await two.connected("ben")
    await ana.until(lambda c: events(c, ROOM) == ["join"])
    assert one.hub.channels[ROOM].pair == ("ana", "ben")
    ana.connection.connection_lost(None)
    await ben.until(lambda c: events(c, ROOM) == ["leave"])


async def test_in_a_group_joins_are_for_those_who_ask(cluster: Cluster) -> None:
    one, two = cluster.nodes
    ana = await one.connected("ana")
    await two.connected("ben")
    await turns()
    assert events(ana, ROOM) == []


async def test_what_connects_in_one_turn_is_subscribed_together() -> None:
    """Each confirmation of the broker is a round trip, and a turn of the loop for whoever waits."""
    cluster = Cluster(1)
    node = cluster.nodes[0]
    rooms = [f"room:{uuid.uuid4()}" for _ in range(3)]
    for room in rooms:
        cluster.add("ana", room)
    clients = [node.client() for _ in range(2)]
    replies = await asyncio.gather(
        *(client.ask(connect={"token": user}) for client, user in zip(clients, ("ana", "bob"), strict=True))
    )
    assert [set(reply["connect"]["subs"]) for reply in replies] == [{"user:ana", *rooms}, {"user:bob"}]
    assert [set(asked) for asked in node.broker.asked] == [{"user:ana", "user:bob", *rooms}]
    other = await node.connected("bob")
    assert len(node.broker.asked) == 1, "the broker has it already"
    await other.ask(subscribe={"channel": "chat:x"})
    assert node.broker.asked[1:] == [("chat:x",)]
