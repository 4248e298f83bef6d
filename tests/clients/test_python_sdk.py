"""`centrifuge-python`, unchanged, against a server of two nodes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from centrifuge import ClientInfo, ReplyError, Subscription

from loadtest.server import Server
from tests.clients.people import PATIENCE, ChannelEvents, person, stranger

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
async def what_the_sdk_does_behind() -> AsyncIterator[None]:
    """Wait at the end of a test: the SDK closes sockets in tasks that nobody awaits."""
    yield
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=PATIENCE)


@pytest.fixture
def channel() -> str:
    return f"chat:{uuid.uuid4()}"


async def test_messages_cross_between_nodes_in_order(server: Server, channel: str) -> None:
    async with (
        person(server.websocket(0), server.token("ana")) as ana,
        person(server.websocket(1), server.token("bo")) as bo,
    ):
        here, heard_by_ana = await ana.subscribe(channel)
        there, heard_by_bo = await bo.subscribe(channel)
        for number in range(20):
            await (here if number % 2 else there).publish({"number": number})
        for heard in (heard_by_ana, heard_by_bo):
            publications = await heard.publications.take(20)
            assert [publication.offset for publication in publications] == list(range(1, 21))
            assert [publication.data["number"] for publication in publications] == list(range(20))
            assert publications[0].info.user == "bo"
            assert publications[1].info.user == "ana"


async def test_history_by_page_from_either_end(server: Server, channel: str) -> None:
    async with person(server.websocket(0), server.token("ana")) as ana:
        subscription, _ = await ana.subscribe(channel)
        for number in range(5):
            await subscription.publish(number)
        everything = await subscription.history(limit=-1)
        assert [(each.offset, each.data) for each in everything.publications] == [(n + 1, n) for n in range(5)]
        assert everything.offset == 5
        newest = await subscription.history(limit=2, reverse=True)
        assert [each.offset for each in newest.publications] == [5, 4]
        position = await subscription.history(limit=0)
        assert (position.offset, position.publications) == (5, [])
        assert position.epoch == everything.epoch != ""


async def present_in(subscription: Subscription, expected: set[str]) -> list[ClientInfo]:
    """Who is present, once it is who is expected: presence is written some milliseconds behind joins and leaves."""
    async with asyncio.timeout(PATIENCE):
        while True:
            present = list((await subscription.presence()).clients.values())
            if {info.user for info in present} == expected:
                return present


async def test_presence_join_and_leave_on_both_nodes(server: Server, channel: str) -> None:
    async with person(server.websocket(0), server.token("ana", info={"name": "Ana"})) as ana:
        subscription, events = await ana.subscribe(channel, join_leave=True)
        async with person(server.websocket(1), server.token("bo")) as bo:
            await bo.subscribe(channel)
            while (await events.joins.next()).user != "bo":
                pass
            present = await present_in(subscription, {"ana", "bo"})
            assert {"name": "Ana"} in [info.conn_info for info in present]
            counts = await subscription.presence_stats()
            assert (counts.num_clients, counts.num_users) == (2, 2)
        assert (await events.leaves.next()).user == "bo"
        await present_in(subscription, {"ana"})


async def test_who_comes_back_recovers_what_was_missed(server: Server, channel: str) -> None:
    async with (
        person(server.websocket(0), server.token("ana")) as ana,
        person(server.websocket(1), server.token("bo")) as bo,
    ):
        _, heard = await ana.subscribe(channel)
        there, _ = await bo.subscribe(channel)
        await there.publish("before")
        assert (await heard.next_publication()).data == "before"
        await heard.subscribed.next()
        await ana.client.disconnect()
        for number in range(10):
            await there.publish(number)
        await ana.client.connect()
        back = await heard.subscribed.next()
        assert (back.was_recovering, back.recovered) == (True, True)
        missed = await heard.publications.take(10)
        assert [(each.offset, each.data) for each in missed] == [(n + 2, n) for n in range(10)]
        await there.publish("after")
        assert (await heard.next_publication()).offset == 12


async def test_who_was_away_too_long_is_told_so(server: Server) -> None:
    channel = f"short:{uuid.uuid4()}"
    async with (
        person(server.websocket(0), server.token("ana")) as ana,
        person(server.websocket(1), server.token("bo")) as bo,
    ):
        _, heard = await ana.subscribe(channel)
        there, _ = await bo.subscribe(channel)
        await there.publish("first")
        await heard.next_publication()
        await heard.subscribed.next()
        await ana.client.disconnect()
        for number in range(8):
            await there.publish(number)
        await ana.client.connect()
        back = await heard.subscribed.next()
        assert (back.was_recovering, back.recovered) == (True, False)


@pytest.mark.chaos
async def test_a_client_of_a_killed_node_loses_nothing(server: Server, channel: str) -> None:
    async with (
        person(server.websocket(0), server.token("ana")) as ana,
        person(server.websocket(1), server.token("bo")) as bo,
    ):
        _, heard = await ana.subscribe(channel)
        there, _ = await bo.subscribe(channel)
        await heard.subscribed.next()
        server.kill("node-1")
        for number in range(10):
            await there.publish(number)
        back = await heard.subscribed.next()
        assert back.recovered
        assert [each.offset for each in await heard.publications.take(10)] == list(range(1, 11))
        server.wait_ready(0)


async def test_without_history_a_message_has_no_offset(server: Server) -> None:
    channel = f"live:{uuid.uuid4()}"
    async with (
        person(server.websocket(0), server.token("ana")) as ana,
        person(server.websocket(1), server.token("bo")) as bo,
    ):
        _, heard = await ana.subscribe(channel)
        there, _ = await bo.subscribe(channel)
        await there.publish({"typing": True})
        publication = await heard.next_publication()
        assert (publication.offset, publication.data) == (0, {"typing": True})
        with pytest.raises(ReplyError) as refused:
            await there.history(limit=10)
        assert refused.value.code == 108


async def test_the_personal_channel_is_subscribed_by_the_server(server: Server) -> None:
    user = f"u{uuid.uuid4().hex}"
    async with person(server.websocket(0), server.token(user)) as someone:
        assert (await someone.events.server_subscribed.next()).channel == f"user:{user}"
        server.api("publish", channel=f"user:{user}", data={"for": "you"})
        heard = await someone.events.server_publications.next()
        assert (heard.channel, heard.pub.data, heard.pub.offset) == (f"user:{user}", {"for": "you"}, 1)


async def test_an_unknown_rpc_method_is_refused(server: Server) -> None:
    async with person(server.websocket(0), server.token("ana")) as ana:
        with pytest.raises(ReplyError) as refused:
            await ana.client.rpc("no.such.method", {})
        assert refused.value.code == 104


async def test_a_token_is_refreshed_before_it_expires(server: Server) -> None:
    issued: list[str] = []

    async def get_token() -> str:
        issued.append(server.token("ana", ttl=2 if not issued else 3600))
        return issued[-1]

    async with person(server.websocket(0), get_token=get_token) as ana:
        await ana.events.connected.next()
        subscription, _ = await ana.subscribe(f"chat:{uuid.uuid4()}")
        while len(issued) < 2:
            await subscription.presence()
        await subscription.publish("still here")
        assert ana.events.disconnected.empty()
        assert ana.events.connected.empty(), "the refresh must not reconnect"


async def test_an_expired_token_is_replaced_on_connect(server: Server) -> None:
    async def get_token() -> str:
        return server.token("ana")

    async with person(server.websocket(0), server.token("ana", ttl=-10), get_token) as ana:
        assert (await ana.events.connected.next()).client


async def test_a_bad_token_ends_the_connection_for_good(server: Server) -> None:
    async with stranger(server.websocket(0), "not-a-token") as ana:
        assert (await ana.events.disconnected.next()).code == 3500


async def test_a_token_of_another_secret_is_refused(server: Server) -> None:
    header, payload, _ = server.token("ana").split(".")
    async with stranger(server.websocket(0), f"{header}.{payload}.{'A' * 43}") as forger:
        assert (await forger.events.disconnected.next()).code == 3500


async def test_a_closed_channel_needs_a_subscription_token(server: Server) -> None:
    channel = f"closed:{uuid.uuid4()}"
    async with person(server.websocket(0), server.token("ana")) as ana:
        events = ChannelEvents()
        refused = ana.client.new_subscription(channel, events=events)
        await refused.subscribe()
        assert (await events.unsubscribed.next()).code == 103
        ana.client.remove_subscription(refused)
        _, heard = await ana.subscribe(channel, token=server.token("ana", channel=channel))
        server.api("publish", channel=channel, data="inside")
        assert (await heard.next_publication()).data == "inside"


async def test_another_user_s_subscription_token_ends_the_connection(server: Server) -> None:
    channel = f"closed:{uuid.uuid4()}"
    async with person(server.websocket(0), server.token("ana")) as ana:
        await ana.client.new_subscription(channel, token=server.token("bo", channel=channel)).subscribe()
        assert (await ana.events.disconnected.next()).code == 3500


async def test_unsubscribed_by_the_server_api(server: Server, channel: str) -> None:
    async with person(server.websocket(1), server.token("ana")) as ana:
        _, events = await ana.subscribe(channel)
        server.api("unsubscribe", user="ana", channel=channel)
        assert (await events.unsubscribed.next()).code == 2000


async def test_disconnected_by_the_server_api(server: Server) -> None:
    user = f"u{uuid.uuid4().hex}"
    async with person(server.websocket(1), server.token(user)) as someone:
        server.api("disconnect", user=user)
        assert (await someone.events.disconnected.next()).code == 3503
