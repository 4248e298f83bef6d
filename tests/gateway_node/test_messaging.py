"""The services' view of connections, on two nodes in memory."""

from __future__ import annotations

import asyncio

import pytest

from gateway_node.services.messaging import Messaging, describe
from realtime import codes
from realtime.interfaces import Identity
from realtime.protocol import StreamPosition
from tests.realtime.harness import Cluster, Node


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster(2)


@pytest.fixture
def messaging(cluster: Cluster) -> list[Messaging]:
    def of(node: Node) -> Messaging:
        made = Messaging(node.core, node.broker, lambda: describe(node.core, 0.0))
        node.broker.on_control = made.received
        return made

    return [of(node) for node in cluster.nodes]


async def delivered() -> None:
    """The memory network hands on what was sent in the next turn of the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_disconnect_reaches_every_node_and_the_named_client_alone(
    cluster: Cluster, messaging: list[Messaging]
) -> None:
    one, two = cluster.nodes
    here, there, other = await one.connected("ana"), await two.connected("ana"), await two.connected("ben")
    second = await two.connected("ana")
    await messaging[0].disconnect("ana", second.connection.client)
    assert await second.closing() == (3503, "force disconnect")
    assert here.close is None and there.close is None
    await messaging[0].disconnect("ana", code=4001, reason="lesson over")
    assert await here.closing() == await there.closing() == (4001, "lesson over")
    assert "ping" in await other.ask(ping={})


async def test_ended_session_closes_its_connections_and_no_others(cluster: Cluster, messaging: list[Messaging]) -> None:
    for node in cluster.nodes:
        node.authoriser.identities |= {
            "phone": Identity("ana", session="s1"),
            "laptop": Identity("ana", session="s2"),
        }
    phone = await cluster.nodes[1].connected("phone")
    laptop = await cluster.nodes[0].connected("laptop")
    messaging[0].end_session("ana", "s1")
    assert (await phone.closing())[0] == 3503
    assert "ping" in await laptop.ask(ping={})


async def test_subscribe_and_unsubscribe_on_every_node(cluster: Cluster, messaging: list[Messaging]) -> None:
    one, two = cluster.nodes
    here, there = await one.connected("ana"), await two.connected("ana")
    await messaging[0].subscribe("ana", "chat:a")
    for client in (here, there):
        await client.until(lambda c: any(push.get("channel") == "chat:a" and "subscribe" in push for push in c.pushes))
    await messaging[1].publish("chat:a", b'"hi"')
    for client in (here, there):
        await client.until(lambda c: [each["data"] for each in c.publications] == ["hi"])
    await messaging[0].unsubscribe("ana", "chat:a")
    for client in (here, there):
        await client.until(lambda c: any(push.get("unsubscribe", {}).get("code") == 2000 for push in c.pushes))


async def test_channels_and_info_are_of_all_nodes(cluster: Cluster, messaging: list[Messaging]) -> None:
    one, two = cluster.nodes
    await one.subscribed("ana", "chat:a")
    ben = await two.subscribed("ben", "chat:a")
    await ben.ask(subscribe={"channel": "chat:b"})
    messaging[1].announce()
    await delivered()
    assert await messaging[0].channels("chat:*") == {"chat:a": 2, "chat:b": 1}
    nodes = await messaging[0].info()
    assert [(node["name"], node["num_clients"], node["num_users"]) for node in nodes] == [("n0", 1, 1), ("n1", 1, 1)]


async def test_a_node_that_does_not_answer_is_left_out(cluster: Cluster, messaging: list[Messaging]) -> None:
    await cluster.nodes[0].subscribed("ana", "chat:a")
    messaging[1].announce()
    await delivered()
    cluster.nodes[1].broker.on_control = lambda message: None
    assert (await messaging[0].channels())["chat:a"] == 1


async def test_removed_history_cannot_be_recovered_from(cluster: Cluster, messaging: list[Messaging]) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    await messaging[0].publish("chat:a", b"1")
    await messaging[0].history_remove("chat:a")
    cluster.nodes[0].hub.on_heads({"chat:a": StreamPosition(0, cluster.log.epoch)})
    await ana.until(lambda c: any(push.get("unsubscribe", {}).get("code") == 2500 for push in c.pushes))
    reply = await ana.ask(subscribe={"channel": "chat:a", "recover": True, "offset": 1, "epoch": "e1"})
    assert reply["subscribe"].get("recovered", False) is False


async def test_refusals(messaging: list[Messaging]) -> None:
    for channel, code in (
        ("", 107),
        ("a" * 256, 107),
        ("chat:é", 107),
        ("chat:\0", 107),
        ("nowhere:a", 102),
        ("room:not-a-uuid", 102),
        ("room:7D2B3A44-0000-4000-8000-000000000001", 102),
    ):
        with pytest.raises(codes.CommandError) as caught:
            await messaging[0].publish(channel, b"1")
        assert caught.value.code == code
    for call in (
        messaging[0].presence("fleeting:a"),
        messaging[0].history("fleeting:a", 1),
        messaging[0].history_remove("fleeting:a"),
    ):
        with pytest.raises(codes.CommandError) as caught:
            await call
        assert caught.value.code == 108
    for call in (
        messaging[0].publish("chat:a", b'"' + b"x" * 65536 + b'"'),
        messaging[0].publish("room:7d2b3a44-0000-4000-8000-000000000001", b"1", skip_history=True),
    ):
        with pytest.raises(codes.CommandError) as caught:
            await call
        assert caught.value.code in (106, 107)
    for wrong in ({"code": 2999}, {"code": 5000}, {"reason": "x" * 124}):
        with pytest.raises(codes.CommandError) as caught:
            await messaging[0].disconnect("ana", **wrong)  # type: ignore[arg-type]
        assert caught.value.code == 107
