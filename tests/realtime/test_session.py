"""Commands of one client: connect, subscribe, publish, history, presence, rpc, refresh, and every refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from realtime import codes
from realtime.core import ClientLimits
from realtime.interfaces import Grant, Identity
from realtime.joining import subscribe_by_server
from tests.realtime.harness import Cluster


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster(2)


async def test_connect_tells_client_node_and_ping(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    reply = await client.ask(connect={"token": "ana"})
    result = reply["connect"]
    assert result["client"] == "n0.1"
    assert result["node"] == "n0"
    assert (result["ping"], result["pong"]) == (25, True)
    assert set(result["subs"]) == {"user:ana"}
    assert result["subs"]["user:ana"]["recoverable"] is True


async def test_invalid_token_disconnects_for_good(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    client.send(connect={"token": "bad"})
    assert await client.closing() == (3500, "invalid token")


async def test_expired_token_is_error_109_and_another_may_follow(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    reply = await client.ask(connect={"token": "expired"})
    assert reply["error"]["code"] == 109
    reply = await client.ask(connect={"token": "ana"})
    assert "connect" in reply


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"id":1}',
        b'{"id":-1,"connect":{}}',
        b'{"id":1,"connect":7}',
        b'{"connect":{}}',
        b'{"id":1,"subscribe":{"channel":"chat:a"}}',
        b'{"id":99999999999999999999999,"connect":{}}',
        b'{"id":1,"connect":{"data":' + b"[" * 65 + b"]" * 65 + b"}}",
        b"[" * 60_000,
        b'{"id":1,"connect":{"token":"ana"}}\n{"id":2,"connect":{"token":"ana"}}',
    ],
)
async def test_malformed_beginnings_end_with_3501(cluster: Cluster, frame: bytes) -> None:
    client = cluster.nodes[0].client()
    client.send_raw(frame)
    assert (await client.closing())[0] == 3501


async def test_commands_may_follow_connect_in_the_same_frame(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    client.send_raw(b'{"id":1,"connect":{"token":"ana"}}\n{"id":2,"subscribe":{"channel":"chat:a"}}')
    await client.until(lambda c: len(c.received) == 2)
    assert [each.get("id") for each in client.received if "id" in each] == [1, 2]


async def test_pretty_printed_command_is_taken(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    client.send_raw(b'{\n  "id": 1,\r\n  "connect": {"token":\n"ana"}\n}')
    await client.until(lambda c: "connect" in c.received[0] if c.received else False)


async def test_connection_without_connect_is_stale(cluster: Cluster) -> None:
    client = cluster.nodes[0].client()
    for _ in range(10):
        cluster.nodes[0].wheel.advance()
    assert await client.closing() == (3502, "stale")


async def test_publish_reaches_both_nodes_and_is_acknowledged_after_the_commit(cluster: Cluster) -> None:
    one, two = cluster.nodes
    ana = await one.subscribed("ana", "chat:a")
    ben = await two.subscribed("ben", "chat:a")
    cluster.log.gate.clear()
    number = ana.send(publish={"channel": "chat:a", "data": {"text": "hi"}})
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any(each.get("id") == number for each in ana.received)
    cluster.log.gate.set()
    await ana.until(lambda c: any(each.get("id") == number and each["publish"] == {} for each in c.received))
    await ben.until(lambda c: c.offsets == [1])
    publication = ben.publications[0]
    assert publication["data"] == {"text": "hi"}
    assert publication["info"] == {"user": "ana", "client": "n0.1"}
    assert ana.offsets == [1]


async def test_publish_while_the_log_is_away_is_a_temporary_error(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    cluster.log.away = True
    reply = await ana.ask(publish={"channel": "chat:a", "data": 1})
    assert reply["error"] == {"code": 100, "message": "the message log is not available", "temporary": True}
    cluster.log.away = False
    assert "publish" in await ana.ask(publish={"channel": "chat:a", "data": 2})


async def test_room_message_is_written_by_the_server(cluster: Cluster) -> None:
    room = "room:7d2b3a44-0000-4000-8000-000000000001"
    node = cluster.nodes[0]
    node.authoriser.members[room] = {"ana"}
    ana = await node.subscribed("ana", room)
    sent = {
        "id": "7d2b3a44-0000-4000-8000-00000000000a",
        "type": "text",
        "content": "hi",
        "from_user_id": "mallory",
        "timestamp": "1999-01-01T00:00:00Z",
    }
    first = await ana.ask(publish={"channel": room, "data": sent})
    again = await ana.ask(publish={"channel": room, "data": sent})
    assert first["publish"] == again["publish"] == {}
    await ana.until(lambda c: c.offsets)
    for _ in range(20):
        await asyncio.sleep(0)
    assert ana.offsets == [1]
    assert ana.publications[0]["data"] == {
        "id": sent["id"],
        "from_user_id": "ana",
        "room_id": "7d2b3a44-0000-4000-8000-000000000001",
        "content": "hi",
        "type": "text",
        "timestamp": "2023-11-14T22:13:20.000Z",
    }


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        {},
        {"id": "x", "content": "a"},
        {"id": "7d2b3a44-0000-4000-8000-00000000000a", "content": ""},
        {"id": "7d2b3a44-0000-4000-8000-00000000000a", "content": "  \n "},
        {"id": "7d2b3a44-0000-4000-8000-00000000000a", "content": "a" * 16_385},
        {"id": "7d2b3a44-0000-4000-8000-00000000000a", "content": 1},
        {"id": "7d2b3a44-0000-4000-8000-00000000000a", "content": "a", "type": "system"},
    ],
)
async def test_what_is_no_message_is_error_107(cluster: Cluster, data: Any) -> None:
    room = "room:7d2b3a44-0000-4000-8000-000000000001"
    node = cluster.nodes[0]
    node.authoriser.members[room] = {"ana"}
    ana = await node.subscribed("ana", room)
    reply = await ana.ask(publish={"channel": room, "data": data})
    assert reply["error"]["code"] == 107
    assert not cluster.log.rows.get(room)


async def test_nobody_publishes_the_event_of_a_removal(cluster: Cluster) -> None:
    """Nodes act on such a tag: it would put a member out."""
    node = cluster.nodes[0]
    room = "room:7d2b3a44-0000-4000-8000-000000000001"
    data = b'{"id":"7d2b3a44-0000-4000-8000-00000000000a","content":"a"}'
    options = node.core.namespaces.options(room)
    assert options is not None
    for skip_history in (False, True):
        with pytest.raises(codes.BAD_REQUEST):
            await node.core.publisher.publish(
                room, options, data, tags={"event": "member_removed", "user": "ana"}, skip_history=skip_history
            )
    assert not cluster.log.rows.get(room)
    await node.core.publisher.publish(room, options, data, tags={"colour": "red"})


async def test_message_id_of_another_sender_is_error_107(cluster: Cluster) -> None:
    room = "room:7d2b3a44-0000-4000-8000-000000000001"
    node = cluster.nodes[0]
    node.authoriser.members[room] = {"ana", "ben"}
    ana, ben = await node.subscribed("ana", room), await node.subscribed("ben", room)
    data = {"id": "7d2b3a44-0000-4000-8000-00000000000a", "content": "a"}
    assert "publish" in await ana.ask(publish={"channel": room, "data": data})
    assert (await ben.ask(publish={"channel": room, "data": data}))["error"]["code"] == 107


async def test_refusals(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].connected("ana")
    cases: list[tuple[dict[str, Any], int]] = [
        ({"subscribe": {"channel": ""}}, 107),
        ({"subscribe": {"channel": "a" * 256}}, 107),
        ({"subscribe": {"channel": "nowhere:a"}}, 102),
        ({"subscribe": {"channel": "chat:"}}, 102),
        ({"subscribe": {"channel": "room:7d2b3a44-0000-4000-8000-000000000001"}}, 103),
        ({"subscribe": {"channel": "user:ben"}}, 103),
        ({"publish": {"channel": "chat:a", "data": 1}}, 103),
        ({"publish": {"channel": "chat:a"}}, 107),
        ({"history": {"channel": "chat:a"}}, 103),
        ({"presence": {"channel": "chat:a"}}, 103),
        ({"presence_stats": {"channel": "chat:a"}}, 103),
        ({"rpc": {"method": "no.such"}}, 104),
        ({"sub_refresh": {"channel": "chat:a"}}, 103),
        ({"unheard_of": {}}, 104),
    ]
    for command, code in cases:
        reply = await ana.ask(**command)
        assert reply["error"]["code"] == code, (command, reply)


async def test_ping_send_and_pong_are_quiet(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].connected("ana")
    ana.send_raw(b'{"send":{"data":{"x":1}}}')
    ana.send_raw(b"{}")
    assert (await ana.ask(ping={}))["ping"] == {}
    assert ana.close is None


async def test_history_pages_and_positions(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    for number in range(1, 6):
        await ana.ask(publish={"channel": "chat:a", "data": number})

    async def page(**history: Any) -> list[int]:
        reply = await ana.ask(history={"channel": "chat:a", **history})
        assert (reply["history"]["offset"], reply["history"]["epoch"]) == (5, "e1")
        return [each["offset"] for each in reply["history"].get("publications", ())]

    assert await page() == []
    assert await page(limit=-1) == [1, 2, 3, 4, 5]
    assert await page(limit=2) == [1, 2]
    assert await page(limit=2, since={"offset": 2, "epoch": "e1"}) == [3, 4]
    assert await page(limit=2, reverse=True) == [5, 4]
    assert await page(limit=9, reverse=True, since={"offset": 3, "epoch": "e1"}) == [2, 1]
    reply = await ana.ask(history={"channel": "chat:a", "limit": 1, "since": {"offset": 2, "epoch": "other"}})
    assert reply["error"]["code"] == 112


async def test_history_after_publish_in_one_frame_has_the_publication(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    ana.send_raw(
        b'{"id":11,"publish":{"channel":"chat:a","data":1}}\n{"id":12,"publish":{"channel":"chat:a","data":2}}\n'
        b'{"id":13,"history":{"channel":"chat:a","limit":-1}}\n{"id":14,"publish":{"channel":"chat:a","data":3}}'
    )
    await ana.until(lambda c: any(each.get("id") == 14 for each in c.received))
    replies = [each for each in ana.received if each.get("id", 0) >= 11]
    assert [each["id"] for each in replies] == [11, 12, 13, 14]
    assert [each["offset"] for each in replies[2]["history"]["publications"]] == [1, 2]


async def test_presence_and_join_leave(cluster: Cluster) -> None:
    one, two = cluster.nodes
    ana = await one.subscribed("ana", "chat:a", join_leave=True)
    ben = await two.subscribed("ben", "chat:a")
    await ana.until(lambda c: any("join" in push and push["join"]["info"]["user"] == "ben" for push in c.pushes))
    reply = await ana.ask(presence={"channel": "chat:a"})
    assert {each["user"] for each in reply["presence"]["presence"].values()} == {"ana", "ben"}
    reply = await ana.ask(presence_stats={"channel": "chat:a"})
    assert reply["presence_stats"] == {"num_clients": 2, "num_users": 2}
    await ben.ask(unsubscribe={"channel": "chat:a"})
    await ana.until(lambda c: any("leave" in push and push["leave"]["info"]["user"] == "ben" for push in c.pushes))
    cluster.presence.away = True
    reply = await ana.ask(presence={"channel": "chat:a"})
    assert reply["error"] == {"code": 1001, "message": "presence unknown", "temporary": True}


async def test_rpc_runs_and_its_failure_is_error_100(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async def double(identity: Identity, data: bytes) -> bytes:
        return b"%d" % (2 * int(data))

    async def broken(identity: Identity, data: bytes) -> bytes:
        raise RuntimeError("secret detail")

    cluster.nodes[0].core.rpc = {"double": double, "broken": broken}
    ana = await cluster.nodes[0].connected("ana")
    assert (await ana.ask(rpc={"method": "double", "data": 21}))["rpc"] == {"data": 42}
    reply = await ana.ask(rpc={"method": "broken"})
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}


async def test_a_subscription_by_the_server_meanwhile_is_not_doubled(cluster: Cluster) -> None:
    """Whoever asks last has it: the client takes over what the server was faster to give."""
    node = cluster.nodes[0]
    ana = await node.connected("ana")
    cluster.log.gate.clear()
    by_server = asyncio.create_task(subscribe_by_server(ana.connection, "chat:a"))
    for _ in range(10):
        await asyncio.sleep(0)
    number = ana.send(subscribe={"channel": "chat:a"})
    for _ in range(10):
        await asyncio.sleep(0)
    cluster.log.gate.set()
    await by_server
    reply = await ana.until(lambda c: next((each for each in c.received if each.get("id") == number), None))
    assert "subscribe" in reply
    assert not ana.connection.is_given("chat:a")
    assert [channel.name for channel in ana.connection.channels].count("chat:a") == 1
    assert "publish" in await ana.ask(publish={"channel": "chat:a", "data": 1})
    await ana.until(lambda c: c.offsets)
    assert ana.offsets == [1]


async def test_refresh_keeps_what_the_server_subscribed(cluster: Cluster) -> None:
    """Such a subscription comes back by a reconnect alone: an unsubscribe would end it for good."""
    node = cluster.nodes[0]
    ana = await node.connected("ana")
    await subscribe_by_server(ana.connection, "chat:a")
    assert "refresh" in await ana.ask(refresh={"token": "ana"})
    ana.connection.lose_position("chat:a")
    assert await ana.closing() == (3010, "insufficient state")


async def test_refresh_keeps_the_user(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    now = node.core.clock()
    node.authoriser.identities["ana2"] = Identity("ana", expires_at=int(now) + 100)
    ana = await node.connected("ana")
    reply = await ana.ask(refresh={"token": "ana2"})
    assert reply["refresh"]["expires"] is True
    assert 98 <= reply["refresh"]["ttl"] <= 100
    assert (await ana.ask(refresh={"token": "expired"}))["error"]["code"] == 109
    ana.send(refresh={"token": "ben"})
    assert (await ana.closing())[0] == 3500


async def test_expired_connection_and_subscription_end_after_the_grace(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    now = [1000.0]
    node.core.clock = lambda: now[0]
    node.authoriser.identities["brief"] = Identity("ana", expires_at=1200)
    node.authoriser.grants["brief"] = Grant(expires_at=1100)
    ana = await node.connected("brief")
    assert (await ana.ask(subscribe={"channel": "chat:a", "token": "brief"}))["subscribe"]["ttl"] == 100
    now[0] = 1126.0
    ana.connection.ping_due()
    await ana.until(lambda c: any(push.get("unsubscribe", {}).get("code") == 2501 for push in c.pushes))
    now[0] = 1226.0
    ana.connection.ping_due()
    assert (await ana.closing())[0] == 3005


async def test_whoever_was_not_pinged_while_connecting_is_not_taken_for_silent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime.wheel.random.randrange", lambda slots: 1)
    node = cluster.nodes[0]
    slow = node.client()
    number = slow.send(connect={"token": "ana"})
    node.wheel.advance()  # its turn to be pinged, and the connect is not answered yet
    assert slow.answer_to(number) is None
    assert await slow.until(lambda c: c.answer_to(number))
    for _ in range(node.wheel.pong_timeout + 1):
        node.wheel.advance()
    slow.pull()
    assert slow.close is None


async def test_flood_is_refused_and_then_cut_off() -> None:
    node = Cluster(1, ClientLimits(commands_per_second=1, commands_burst=5)).nodes[0]
    ana = await node.connected("ana")
    for _ in range(4):
        assert "ping" in await ana.ask(ping={})
    assert (await ana.ask(ping={}))["error"] == {"code": 111, "message": "too many requests", "temporary": True}
    for _ in range(5):
        ana.send(ping={})
    assert (await ana.closing())[0] == 3013


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x82\0\0\0\0{}",
        b"\x81\x84\0\0\0\0\n\r\n ",
        b"\x89\x80\0\0\0\0",
        b"\x8a\x80\0\0\0\0",
        b"\x81\x8d\0\0\0\0" + b'{"send": {} }',
    ],
    ids=["pong", "nothing", "ping frame", "pong frame", "send"],
)
async def test_what_asks_for_nothing_is_counted_too(frame: bytes) -> None:
    node = Cluster(1, ClientLimits(commands_per_second=1, commands_burst=5)).nodes[0]
    ana = await node.connected("ana")
    for _ in range(9):
        ana.connection.data_received(frame)
    assert ana.close is None
    ana.connection.data_received(frame)
    assert (await ana.closing())[0] == 3013


async def test_a_fragment_is_counted_too() -> None:
    node = Cluster(1, ClientLimits(commands_per_second=1, commands_burst=5)).nodes[0]
    ana = await node.connected("ana")
    ana.connection.data_received(b"\x01\x80\0\0\0\0")
    for _ in range(9):
        ana.connection.data_received(b"\x00\x80\0\0\0\0")
    assert (await ana.closing())[0] == 3013


async def test_publish_rate_is_its_own() -> None:
    node = Cluster(1, ClientLimits(publishes_per_second=1, publishes_burst=2)).nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    answers = [await ana.ask(publish={"channel": "chat:a", "data": 1}) for _ in range(3)]
    assert ["error" in answer for answer in answers] == [False, False, True]
    node.wheel.advance()
    assert "publish" in await ana.ask(publish={"channel": "chat:a", "data": 1})


async def test_too_many_channels_and_connections() -> None:
    node = Cluster(1, ClientLimits(channels=2, connections_per_user=1)).nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    assert (await ana.ask(subscribe={"channel": "chat:b"}))["error"]["code"] == 106
    second = node.client()
    second.send(connect={"token": "ana"})
    assert (await second.closing())[0] == 3504


async def test_connections_that_come_at_once_are_counted_too() -> None:
    node = Cluster(1, ClientLimits(connections_per_user=3)).nodes[0]
    clients = [node.client() for _ in range(9)]
    for client in clients:
        client.send(connect={"token": "ana"})
    for client in clients:
        await client.until(lambda c: c.received or c.close)
    assert sum(bool(client.received) for client in clients) == 3
    assert {client.close for client in clients} == {None, (3504, "connection limit")}
    assert node.hub.num_connections == 3


async def test_backlog_stops_reading_until_it_is_worked_off(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    cluster.log.gate.clear()
    ana.send(history={"channel": "chat:a", "limit": 1})
    await asyncio.sleep(0)
    for _ in range(70):
        ana.send(ping={})
    assert ana.transport.reading is False
    cluster.log.gate.set()
    await ana.until(lambda c: sum("ping" in each for each in c.received) == 70)
    assert ana.transport.reading is True


async def test_who_does_not_read_its_answers_gets_no_more_of_them(cluster: Cluster) -> None:
    ana = await cluster.nodes[0].subscribed("ana", "chat:a")
    for number in range(3):
        await ana.ask(publish={"channel": "chat:a", "data": number})
    ana.send(history={"channel": "chat:a", "limit": 9})
    ana.send(history={"channel": "chat:a", "limit": 9})
    ana.connection.pause_writing()
    last = ana.send(ping={})
    await asyncio.sleep(0.05)
    ana.publications  # noqa: B018 - takes in what was written
    assert sum("history" in each for each in ana.received) == 1
    ana.connection.resume_writing()
    await ana.until(lambda c: c.received[-1].get("id") == last)
    assert sum("history" in each for each in ana.received) == 2


async def test_a_page_of_history_is_as_large_as_half_the_outbox() -> None:
    node = Cluster(1, ClientLimits(outbox=2000)).nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    for number in range(9):
        await ana.ask(publish={"channel": "chat:a", "data": str(number) * 298})
    seen = [0]
    while seen[-1] < 9:
        since = {"offset": seen[-1], "epoch": ""}
        page = (await ana.ask(history={"channel": "chat:a", "limit": -1, "since": since}))["history"]
        assert len(page["publications"]) == 3
        seen += [each["offset"] for each in page["publications"]]
    assert seen == list(range(10))
    back = (await ana.ask(history={"channel": "chat:a", "limit": 9, "reverse": True}))["history"]
    assert [each["offset"] for each in back["publications"]] == [9, 8, 7]


async def test_everything_of_a_closed_connection_is_gone(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.subscribed("ana", "chat:a")
    assert node.hub.num_users == 1
    ana.connection.connection_lost(None)
    assert node.hub.num_users == node.hub.num_connections == 0
    assert node.hub.channels == {}
    assert cluster.presence.channels == {"chat:a": {}}
    assert node.broker.subscribed == set()


async def test_close_during_subscribe_leaves_nothing(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    ana = await node.connected("ana")
    cluster.log.gate.clear()
    ana.send(subscribe={"channel": "chat:a"})
    for _ in range(10):
        await asyncio.sleep(0)
    assert "chat:a" in node.hub.channels
    ana.connection.connection_lost(None)
    cluster.log.gate.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert node.hub.channels == {}


async def test_draining_node_sends_new_connections_elsewhere(cluster: Cluster) -> None:
    cluster.nodes[0].core.draining = True
    client = cluster.nodes[0].client()
    client.send(connect={"token": "ana"})
    assert await client.closing() == (codes.SHUTDOWN.code, "shutdown")


ROOM = "room:7d2b3a44-0000-4000-8000-000000000001"


async def test_who_is_removed_from_a_room_while_its_head_is_read_is_not_let_in(cluster: Cluster) -> None:
    """The removal is a row at or below the head that is read, so no later event tells of it (I7)."""
    node = cluster.nodes[0]
    ana = await node.connected("ana")
    members = node.authoriser.members[ROOM] = {"ana"}
    cluster.log.gate.clear()
    number = ana.send(subscribe={"channel": ROOM})
    for _ in range(50):
        await asyncio.sleep(0)
    members.clear()
    cluster.log.gate.set()
    reply = await ana.until(lambda client: next((r for r in client.received if r.get("id") == number), None))
    assert reply["error"]["code"] == 103
    assert ROOM not in node.hub.channels


@pytest.mark.parametrize("by_event", [False, True])
async def test_who_is_removed_while_connecting_is_not_subscribed_by_the_token(cluster: Cluster, by_event: bool) -> None:
    """The token lists the room; the connection is made without it (I7)."""
    node = cluster.nodes[0]
    node.authoriser.identities["ana"] = Identity("ana", channels=(ROOM,))
    members = node.authoriser.members[ROOM] = {"ana"}
    ana = node.client()
    cluster.log.gate.clear()
    number = ana.send(connect={"token": "ana"})
    for _ in range(50):
        await asyncio.sleep(0)
    if by_event:
        node.hub.unsubscribe_user("ana", ROOM, "", codes.UNSUBSCRIBED_BY_SERVER)
    else:
        members.clear()
    cluster.log.gate.set()
    reply = await ana.until(lambda client: next((r for r in client.received if r.get("id") == number), None))
    assert set(reply["connect"]["subs"]) == {"user:ana"}
    assert ROOM not in node.hub.channels
