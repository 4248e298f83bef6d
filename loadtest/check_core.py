# mypy: disable-error-code="import-untyped, misc"
"""The proof of the core: nothing is lost, doubled or reordered while processes die.

Two nodes; members on each, in rooms that have members on both, talk through the Python SDK. Meanwhile one node is
killed twice and the log writer once with SIGKILL, and NATS is restarted. The ledger compares what was sent and
acknowledged with what both nodes hold as history and with what every member was told.

A publish without an answer is sent again with the same message id, as an application would: in rooms the id is the
idempotency key, so the retry must neither double the message nor lose it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from centrifuge import (
    CentrifugeError,
    Client,
    PublicationContext,
    ReplyError,
    StreamPosition,
    SubscribedContext,
    Subscription,
    SubscriptionEventHandler,
)
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.ledger import Ledger, Message, Place
from loadtest.server import Server, ServerFailed

NODES = 2
ROOMS_PER_MEMBER = 10
PATIENCE = 60.0  # seconds without any progress until the run is given up
RETRY_PAUSE = 0.05  # seconds
TICK = 0.1  # seconds between two looks at the books
SHOWN = 40  # faults printed

# What is killed, with which signal, and after which part of the messages is acknowledged. Each waits until the one
# before has healed. NATS is asked to end; it has nothing to lose.
BLOWS = (
    (0.15, "node-1", signal.SIGKILL),
    (0.35, "log-writer", signal.SIGKILL),
    (0.55, "nats", signal.SIGTERM),
    (0.75, "node-1", signal.SIGKILL),
)


class Stuck(Exception):
    """Nothing went on for `PATIENCE` seconds; the message says what was awaited."""


class Listener(SubscriptionEventHandler):
    """Writes into the ledger what a member was told in one room."""

    def __init__(self, ledger: Ledger, channel: str, reader: str) -> None:
        self._book = ledger.channel(channel)
        self._reader = reader
        self._places = self._book.delivered[reader]

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._places.append(_place(ctx.pub))

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        if self._reader not in self._book.entered_at and ctx.stream_position is not None:
            self._book.entered_at[self._reader] = ctx.stream_position.offset
        if ctx.was_recovering and not ctx.recovered:
            self._book.unrecovered.append(self._reader)


class Member:
    """A client on one node, in some of the rooms."""

    def __init__(self, name: str, client: Client, ledger: Ledger) -> None:
        self.name = name
        self.client = client
        self._ledger = ledger
        self.rooms: dict[str, Subscription] = {}

    async def enter(self, channel: str) -> None:
        events = Listener(self._ledger, channel, self.name)
        subscription = self.client.new_subscription(channel, events=events, max_resubscribe_delay=0.5)
        await subscription.subscribe()
        await subscription.ready(PATIENCE)
        self.rooms[channel] = subscription

    async def talk(self, channel: str, count: int, pause: float) -> None:
        """Send `count` messages, each when the one before is acknowledged, with pauses of `pause` s on average."""
        book = self._ledger.channel(channel)
        for sequence in range(count):
            await asyncio.sleep(random.uniform(0, 2 * pause))
            message = Message(self.name, sequence)
            data = {"id": str(uuid.uuid4()), "type": "text", "content": f"{self.name} {sequence}"}
            book.sent.add(message)
            while not await self._publish(channel, data):
                self._ledger.retries += 1
                await asyncio.sleep(RETRY_PAUSE)
            book.acknowledged.add(message)

    async def _publish(self, channel: str, data: dict[str, str]) -> bool:
        """Whether it was acknowledged. Raises ReplyError for a refusal that no retry changes."""
        try:
            await self.rooms[channel].publish(data)
        except ReplyError as error:
            if not error.temporary:
                raise
            return False
        except CentrifugeError:  # the connection is gone, or slow: whether the message was stored is unknown
            return False
        return True

    async def history(self, channel: str) -> list[Place]:
        """All that this member's node has of a room, oldest first."""
        places: list[Place] = []
        head = await self.rooms[channel].history(limit=0)
        while not places or places[-1].offset < head.offset:
            since = StreamPosition(places[-1].offset if places else 0, head.epoch)
            page = await self.rooms[channel].history(limit=1000, since=since)
            if not page.publications:
                break
            places += [_place(publication) for publication in page.publications]
        return places


def _place(publication: Any) -> Place:
    match publication.data:
        case {"type": "text", "content": str(content)}:
            sender, sequence = content.split()
            return Place(publication.offset, Message(sender, int(sequence)))
    return Place(publication.offset, Message("", publication.offset))


class Run:
    """One run against one server."""

    def __init__(self, server: Server, console: Console, rooms: int, messages: int, seconds: float) -> None:
        self._server = server
        self._console = console
        self._rooms = rooms
        self._messages = messages
        self._seconds = seconds
        self._started = time.monotonic()

    async def __call__(self) -> Ledger:
        ledger, members = await self._gather()
        try:
            await self._talk(ledger, members)
            for member in members:
                node = member.name.rpartition("@")[2]
                for channel in member.rooms:
                    ledger.channel(channel).stored[node] = await member.history(channel)
        finally:
            await asyncio.gather(*(member.client.disconnect() for member in members))
        return ledger

    async def _gather(self) -> tuple[Ledger, list[Member]]:
        """A client on each node for every ten rooms, and both in each of these rooms."""
        ledger = Ledger()
        members = []
        for start in range(0, self._rooms, ROOMS_PER_MEMBER):
            users = [await asyncio.to_thread(self._server.register) for _ in range(NODES)]
            people = []
            for node, user in enumerate(users):
                client = Client(
                    self._server.websocket(node), token=self._server.token(user), proxy=None, max_reconnect_delay=0.5
                )
                await client.connect()
                await client.ready(PATIENCE)
                people.append(Member(f"member-{start // ROOMS_PER_MEMBER + 1}@node-{node + 1}", client, ledger))
            for number in range(start, min(start + ROOMS_PER_MEMBER, self._rooms)):
                room = (await people[0].client.rpc("room.create", {"title": f"Room {number + 1}"})).data["id"]
                for user in users[1:]:
                    await people[0].client.rpc("room.invite", {"room_id": room, "user_id": user})
                for person in people:
                    await person.enter(f"room:{room}")
            members += people
        self._say(f"{len(members)} clients on {NODES} nodes are in {self._rooms} rooms")
        return ledger, members

    async def _talk(self, ledger: Ledger, members: list[Member]) -> None:
        each = -(-self._messages // (self._rooms * NODES))
        total = each * self._rooms * NODES
        with Progress(
            TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=self._console,
        ) as progress:  # fmt: skip
            bars = (progress.add_task("acknowledged", total=total), progress.add_task("delivered", total=total * NODES))
            async with asyncio.TaskGroup() as tasks:
                for member in members:
                    for channel in member.rooms:
                        tasks.create_task(member.talk(channel, each, self._seconds / each))
                tasks.create_task(self._strike(ledger, total))
                tasks.create_task(self._watch(ledger, total, progress, bars))

    async def _strike(self, ledger: Ledger, total: int) -> None:
        for part, name, number in BLOWS:
            pid = (await asyncio.to_thread(self._server.processes))[name].pid
            while ledger.acknowledged < part * total:  # noqa: ASYNC110 - the books have no event a message
                await asyncio.sleep(TICK / 10)
            os.kill(pid, number)
            before = ledger.acknowledged
            self._say(f"{name} (pid {pid}) ended with {number.name} after {before:,} acknowledgements")
            await asyncio.to_thread(self._server.wait_restarted, name, pid)
            for node in range(NODES):
                await asyncio.to_thread(self._server.wait_ready, node)
            self._say(f"{name} runs again; {ledger.acknowledged - before:,} acknowledgements meanwhile")

    async def _watch(self, ledger: Ledger, total: int, progress: Progress, bars: tuple[TaskID, TaskID]) -> None:
        """Show how far it is; return when every member was told everything."""
        seen, since = (0, 0), time.monotonic()
        while seen != (total, total * NODES):
            now = (ledger.acknowledged, ledger.delivered)
            for bar, completed in zip(bars, now, strict=True):
                progress.update(bar, completed=completed)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                if seen[0] == total:
                    return  # the ledger names what was not delivered
                raise Stuck(f"{seen[0]} of {total} messages are acknowledged, and no more for {PATIENCE:.0f} s")
            await asyncio.sleep(TICK)

    def _say(self, what: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/]  {what}", highlight=False)


def report(ledger: Ledger, console: Console) -> bool:
    """Print the ledger; whether it balances."""
    table = Table("", "messages", title="Ledger")
    table.add_row("sent", str(ledger.sent))
    table.add_row("acknowledged", str(ledger.acknowledged))
    for node, count in ledger.stored_by_node().items():
        table.add_row(f"in the history on {node}, with who was invited", str(count))
    table.add_row(f"delivered, to {NODES} readers each", str(ledger.delivered))
    table.add_row("publishes repeated for want of an answer", str(ledger.retries))
    console.print(table)
    faults = ledger.faults()
    for fault in faults[:SHOWN]:
        console.print(f"[red]{fault}[/]", highlight=False)
    if faults:
        console.print(f"[red]{len(faults)} faults.[/]")
    else:
        console.print(f"Offsets are 1..n in {len(ledger.channels)} rooms: nothing lost, doubled or reordered.")
    return not faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/check-core", description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rooms", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the talk takes, without the blows")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="check-core-") as folder:
        settings = {
            "CLIENT__PUBLISHES_PER_SECOND": "0",
            "CLIENT__COMMANDS_PER_SECOND": "0",
            "LIMITS__REGISTRATIONS_PER_ADDRESS": "0",
        }
        try:
            with Server(Path(folder) / "data", nodes=NODES, settings=settings) as server:
                run = Run(server, console, options.rooms, options.messages, options.seconds)
                balanced = report(asyncio.run(run()), console)
        except* (ServerFailed, Stuck, ReplyError) as group:
            for error in group.exceptions:
                console.print(f"[red]{error}[/]", highlight=False)
            balanced = False
    return 0 if balanced else 1


if __name__ == "__main__":
    sys.exit(main())
