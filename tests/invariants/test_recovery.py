"""I2, I4: whoever is cut off, however often and wherever they come back, has everything once and in order."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from loadtest.server import Server
from tests.invariants.conftest import Book, head_of, healed, room, strike
from tests.invariants.rawclient import RawClient, raw_client

pytestmark = pytest.mark.chaos

MESSAGES = 150  # of each sender
DEVICES = 8
SEED = 20


async def test_i4_devices_that_are_cut_off_and_come_back_on_another_node_have_everything_once(server: Server) -> None:
    """I4, I2: eight devices are cut every few messages and change nodes each time, while people on both talk."""
    dice = random.Random(SEED)
    async with room(server) as people, AsyncExitStack() as stack:
        book = Book(people.channel)
        devices: list[RawClient] = []
        for number in range(DEVICES):
            token = people.people[number % 2].token
            device = await stack.enter_async_context(raw_client(server.websocket(number % 2), token))
            await device.subscribe(people.channel)
            devices.append(device)

        async def move(device: RawClient) -> None:
            subscription = device.subscriptions[people.channel]
            while len(book.acknowledged) < 2 * MESSAGES - 50:
                await device.told(people.channel, subscription.offset + dice.randint(1, 25))
                device.address = server.websocket(int(device.node == "node-1"))
                await device.cut_and_return()

        async with asyncio.TaskGroup() as tasks:
            for number, person in enumerate(people.people):
                tasks.create_task(book.talk(person, f"sender-{number}", MESSAGES))
            for device in devices:
                tasks.create_task(move(device))
        offset = await head_of(server, people.channel)
        for device in (*people.people, *devices):
            await device.told(people.channel, offset)
        await book.balance(server, *(each.subscriptions[people.channel] for each in (*people.people, *devices)))
        assert min(device.subscriptions[people.channel].recoveries for device in devices) >= 3


async def test_i1_i2_i4_several_processes_that_die_at_once_take_nothing_with_them(server: Server) -> None:
    """I1, I2, I4: both nodes together, then the log writer with NATS, Valkey and a node, in mid-traffic."""
    async with room(server, nodes=(0, 1, 0, 1)) as people:
        book = Book(people.channel)

        async def blows() -> None:
            for acknowledged, victims in (
                (100, ("node-1", "node-2")),
                (300, ("nats", "log-writer", "valkey", "node-2")),
            ):
                await book.reaches(people.people[1], acknowledged)
                pids = {name: strike(server, name) for name in victims}
                for name, pid in pids.items():
                    await healed(server, name, pid)

        async with asyncio.TaskGroup() as tasks:
            for number, person in enumerate(people.people):
                tasks.create_task(book.talk(person, f"sender-{number}", MESSAGES))
            tasks.create_task(blows())
        await people.settled(server)
        await book.balance(server, *people.subscriptions)
        assert len(book.acknowledged) == 4 * MESSAGES
        assert min(subscription.recoveries for subscription in people.subscriptions) >= 1
