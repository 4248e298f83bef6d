"""I8: who is on a node that was killed is offline within 15 s, once; whoever has another device is not."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from redis.asyncio import Redis

from loadtest.server import Server
from presence import keys
from tests.invariants.conftest import poll, strike, whole
from tests.invariants.rawclient import RawClient, raw_client
from tests.stack import redis_of

pytestmark = pytest.mark.chaos

OFFLINE = 15.0  # seconds from a node's death until its people are offline


@asynccontextmanager
async def notices(redis: Redis) -> AsyncIterator[Counter[str]]:
    """How often each `online:<user>` and `offline:<user>` was said."""
    heard: Counter[str] = Counter()
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.NOTICES)

        async def listen() -> None:
            async for each in pubsub.listen():
                if each["type"] == "message":
                    heard[each["data"].decode()] += 1

        listening = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening


async def is_online(redis: Redis, user: str) -> bool:
    return bool(await redis.exists(keys.online(user)[0]))


async def test_i8_people_of_a_killed_node_are_offline_within_15_s_and_leave_once(server: Server) -> None:
    """I8: Ana and Cy (two devices) were on the killed node alone, Bo on both, and Dee comes back. Ana and Cy go
    offline once, the others never do; each connection's leave is pushed once; presence shows no ghost."""
    channel = f"chat:{uuid.uuid4()}"
    ana, bo, cy, dee, eve = (f"{name}-{uuid.uuid4()}" for name in ("ana", "bo", "cy", "dee", "eve"))
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_of(server))
        heard = await stack.enter_async_context(notices(redis))

        async def arrive(user: str, node: int, *, comes_back: bool = False) -> RawClient:
            address, token = server.websocket(node), server.token(user)
            someone = await stack.enter_async_context(raw_client(address, token, comes_back=comes_back))
            await someone.subscribe(channel, join_leave=True)
            return someone

        witness = await arrive(eve, 1)
        there = await arrive(bo, 1)
        lost = [await arrive(user, 0) for user in (ana, bo, cy, cy)]
        back = await arrive(dee, 0, comes_back=True)
        gone = {each.client for each in (*lost, back)}
        incarnation = back.client.partition(".")[0]
        await poll(lambda: heard[f"online:{dee}"], "they are online")
        seen = witness.subscriptions[channel]
        await poll(lambda: is_settled(witness, channel, there, *lost, back), "presence shows all of them")

        strike(server, "node-1")
        async with asyncio.timeout(OFFLINE):
            await witness.until(lambda: gone <= {each["client"] for each in seen.leaves})
            await poll(lambda: heard[f"offline:{ana}"] and heard[f"offline:{cy}"], "they are offline")
        await poll(lambda: is_done(redis, incarnation), "what the node left is removed")

        await back.until(lambda: back.subscriptions[channel].live)
        await poll(lambda: is_settled(witness, channel, there, back), "presence shows who is there")
        await poll(lambda: is_settled(back, channel, there, witness), "and on the node that came back")
        assert [await is_online(redis, user) for user in (ana, bo, cy, dee, eve)] == [False, True, False, True, True]
        assert await redis.smembers(keys.online(bo)[1]) == {there.client.partition(".")[0].encode()}

        # What comes last was said last: nothing is under way any more.
        await arrive(f"marker-{uuid.uuid4()}", 0)
        await arrive(marker := f"marker-{uuid.uuid4()}", 1)
        await witness.until(lambda: any(each["user"] == marker for each in seen.joins))
        await poll(lambda: heard[f"online:{marker}"], "the marker is online")
        assert Counter(each["client"] for each in seen.leaves) == dict.fromkeys(gone, 1)
        assert max(Counter(each["client"] for each in seen.joins).values()) == 1
        for user in (ana, bo, cy, dee):
            assert heard[f"online:{user}"] == 1
        assert [heard[f"offline:{user}"] for user in (ana, bo, cy, dee, eve)] == [1, 0, 1, 0, 0]
    await whole(server)


async def is_done(redis: Redis, incarnation: str) -> bool:
    return bool(await redis.get(keys.reaper(incarnation)) == b"done")


async def test_i8_connections_that_are_cut_and_come_back_leave_no_ghost(server: Server) -> None:
    """I8: ten times a cut without a close frame, while another device stays: never offline, one leave each."""
    channel, user = f"chat:{uuid.uuid4()}", f"ana-{uuid.uuid4()}"
    async with (
        redis_of(server) as redis,
        notices(redis) as heard,
        raw_client(server.websocket(1), server.token("eve")) as witness,
        raw_client(server.websocket(0), server.token(user)) as restless,
        raw_client(server.websocket(1), server.token(user)) as steady,
    ):
        seen = await witness.subscribe(channel, join_leave=True)
        await steady.subscribe(channel)
        await restless.subscribe(channel)
        # Redis has both by now: a cut that it hears of before the other device would leave nobody there for a moment.
        await poll(lambda: is_settled(witness, channel, restless, steady), "both are present")
        clients = [restless.client]
        for _ in range(10):
            restless.cut()
            await restless.until(lambda: restless.subscriptions[channel].live and restless.client != clients[-1])
            clients.append(restless.client)
        await witness.until(lambda: len(seen.leaves) >= 10)
        await poll(lambda: is_settled(witness, channel, restless, steady), "presence is settled")
        assert Counter(each["client"] for each in seen.leaves) == dict.fromkeys(clients[:-1], 1)
        assert heard[f"offline:{user}"] == 0
        assert heard[f"online:{user}"] == 1
        assert await is_online(redis, user)


async def is_settled(witness: RawClient, channel: str, *others: RawClient) -> bool:
    return await witness.members(channel) == {witness.client, *(other.client for other in others)}


async def test_i8_a_presence_store_that_lost_everything_is_told_again(server: Server) -> None:
    """I8: Valkey is emptied; the nodes register their people again, and nobody is said to have come or gone."""
    channel, user = f"chat:{uuid.uuid4()}", f"ana-{uuid.uuid4()}"
    async with (
        redis_of(server) as redis,
        raw_client(server.websocket(0), server.token(user)) as ana,
        raw_client(server.websocket(1), server.token("eve")) as eve,
    ):
        await ana.subscribe(channel)
        seen = await eve.subscribe(channel, join_leave=True)
        await poll(lambda: is_settled(eve, channel, ana), "both are there")
        joins = len(seen.joins)
        async with notices(redis) as heard:
            await redis.flushall()
            await poll(lambda: is_online(redis, user), "she is online again")
            await poll(lambda: is_settled(eve, channel, ana), "both are there again")
            assert heard[f"offline:{user}"] == heard[f"online:{user}"] == 0
        assert seen.leaves == []
        assert len(seen.joins) == joins
