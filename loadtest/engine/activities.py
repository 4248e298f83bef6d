"""What the clients of one process do, as the plan says. Each begins with `start` and calls `done` once at its end."""

from __future__ import annotations

import json
import random
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from loadtest import plan
from loadtest.engine import frames
from loadtest.engine.books import Book, Reader
from loadtest.engine.client import GIVEN_UP, LIVE, Client
from loadtest.engine.protocol import Reply, message_id
from loadtest.engine.swarm import Swarm

Done = Callable[[], None]
SECOND = 1_000_000_000  # ns
TURN = 2_000_000  # ns: how long an activity may keep the loop before sockets are read again
COUNTED = {"connect": "connects", "recovery": "recoveries"}
ANSWERS_PATIENCE = 15.0  # s after the last message in which answers still count


class Activity(Protocol):
    def start(self, done: Done) -> None: ...

    def stop(self) -> None:
        """Begin nothing more, and be done soon."""


class Opening:
    """Connects clients, so many under way at a time, at a rate if there is one."""

    def __init__(
        self,
        swarm: Swarm,
        clients: Sequence[Client],
        rate: float,
        window: int,
        *,
        kind: str = "connect",
        since: int = 0,
    ) -> None:
        """`since`: the time of the run's clock from which all of them have been waiting, if there is one."""
        self._since = since or None
        self._swarm = swarm
        self._left = deque(clients)
        self._rate = rate
        self._window = window
        self._kind = kind
        self._under_way: set[Client] = set()
        self._begun = 0
        self._started = 0
        self._waits = self._finished = False
        self._done: Done = lambda: None

    def start(self, done: Done) -> None:
        self._done = done
        self._started = self._swarm.now
        self._swarm.on_live.append(self._live)
        self._swarm.on_gone.append(self._gone)
        self._go_on()

    def stop(self) -> None:
        self._left.clear()
        self._under_way.clear()
        self._go_on()

    def _go_on(self) -> None:
        swarm = self._swarm
        while self._left and len(self._under_way) < self._window:
            intended = self._since
            if self._rate:
                intended = self._started + int(self._begun / self._rate * SECOND)
                if intended > swarm.now:
                    if not self._waits:  # one timer, however many have arrived meanwhile
                        self._waits = True
                        swarm.at(intended, self._on_time)
                    return
            client = self._left.popleft()
            self._begun += 1
            if client.phase != LIVE:
                self._under_way.add(client)
                swarm.connect(client, intended)
        if not (self._left or self._under_way or self._finished):
            self._finished = True
            swarm.on_live.remove(self._live)
            swarm.on_gone.remove(self._gone)
            self._done()

    def _on_time(self) -> None:
        self._waits = False
        self._go_on()

    def _live(self, client: Client) -> None:
        if client in self._under_way:
            self._under_way.discard(client)
            self._swarm.latency[self._kind][(self._swarm.now - client.began) // 1000] += 1
            self._swarm.counts[COUNTED[self._kind]] += 1
            self._go_on()

    def _gone(self, client: Client) -> None:
        if client in self._under_way:
            self._under_way.discard(client)
            self._go_on()


class Calling:
    """Clients call an RPC: at their times, each time another one; or every one of them once."""

    def __init__(self, swarm: Swarm, spec: plan.Rpc, clients: Sequence[Client], rate: float, window: int) -> None:
        self._swarm = swarm
        self._spec = spec
        self._clients = clients
        self._rate = rate
        self._window = window
        self._left = deque(clients) if spec.once else deque()
        self._turn = 0
        self._under_way = 0
        self._started = 0
        self._over = self._finished = False
        self._done: Done = lambda: None
        data = json.dumps({"method": spec.method, "data": spec.data})
        self._request = b'"rpc":' + data.encode()

    def start(self, done: Done) -> None:
        self._done = done
        self._started = self._swarm.now
        if self._spec.once:
            self._go_on()
        else:
            self._at_their_times()

    def stop(self) -> None:
        self._left.clear()
        self._over = True
        self._settle()

    def _at_their_times(self) -> None:
        swarm = self._swarm
        while not self._over:
            due = self._started + int(self._turn / self._rate * SECOND) if self._rate else 1 << 62
            if due >= self._started + self._spec.seconds * SECOND:
                self._over = True
            elif due > swarm.now:
                swarm.at(due, self._at_their_times)
                return
            else:
                self._turn += 1
                client = random.choice(self._clients)
                if client.phase == LIVE:
                    self._call(client, due)
        self._settle()

    def _go_on(self) -> None:
        while self._left and self._under_way < self._window:
            client = self._left.popleft()
            if client.phase == LIVE:
                self._call(client, self._swarm.now)
            else:
                self._swarm.counts["not_called"] += 1
        self._over = not self._left
        self._settle()

    def _call(self, client: Client, intended: int) -> None:
        self._under_way += 1
        self._swarm.counts["calls"] += 1
        self._swarm.ask(client, self._request, partial(self._answered, intended))

    def _answered(self, intended: int, reply: Reply, now: int) -> None:
        self._under_way -= 1
        if reply.error is not None:
            self._swarm.counts["calls_refused"] += 1
            self._swarm.errors[f"call: {reply.error.code} {reply.error.message}"] += 1
        elif reply.id:
            self._swarm.counts["calls_answered"] += 1
            self._swarm.latency[self._spec.method.replace(".", "_")][(now - intended) // 1000] += 1
        if self._spec.once:
            self._go_on()
        else:
            self._settle()

    def _settle(self) -> None:
        if self._over and not self._under_way and not self._finished:
            self._finished = True
            self._done()


class Holding:
    """Nothing, for a while."""

    def __init__(self, swarm: Swarm, seconds: float) -> None:
        self._swarm = swarm
        self._seconds = seconds

    def start(self, done: Done) -> None:
        self._done = done
        self._swarm.after(self._seconds, done)

    def stop(self) -> None:
        self._done()


class Publisher:
    """One client that publishes into one channel."""

    __slots__ = ("book", "client", "head", "left", "place", "unanswered")

    def __init__(self, client: Client, book: Book, run: str, place: int) -> None:
        self.client = client
        self.book = book
        self.place = place  # among all publishers of the run
        self.left = 0  # closed loop: how many messages it may still send
        self.unanswered = 0
        self.head = b'"publish":{"channel":%b,"data":{"run":"%b","s":%d,"n":' % (
            json.dumps(book.name).encode(),
            run.encode(),
            client.number,
        )


class Publishing:
    """Members publish: at their times (open loop), or as fast as they are answered (closed loop).

    A message whose time has come while its client is away is sent when the client is back, and its latency counts from
    its time. One whose client does not come back is counted as unsent.
    """

    def __init__(
        self,
        swarm: Swarm,
        spec: plan.Publish,
        publishers: Sequence[Client],
        *,
        place: Callable[[Client], int],
        total: int,
        sequences: dict[tuple[int, str], int],
    ) -> None:
        """`place` says which of the `total` publishers of the run a client is: their times are spread evenly."""
        self._swarm = swarm
        self._spec = spec
        self._publishers = [
            Publisher(client, client.readers[spec.channels].book, swarm.ledger.run, place(client))
            for client in publishers
        ]
        self._total = total
        self._sequences = sequences
        self._padding = b"x" * max(0, spec.size - 60)
        self._late: dict[Client, list[tuple[Publisher, int, int]]] = {}  # with the time of each turn, and how many
        self._turn = 0  # of my turns: turn k is publisher k % mine, in round k // mine
        self._started = self._ends = 0
        self._unanswered = self._answers = 0
        self._ended = self._over = False
        self._done: Done = lambda: None

    def start(self, done: Done) -> None:
        swarm, spec = self._swarm, self._spec
        self._done = done
        self._started = swarm.now
        self._ends = self._started + int(spec.seconds * SECOND) if spec.seconds else 1 << 62
        if not self._publishers:
            done()
            return
        swarm.on_live.append(self._back)
        swarm.on_gone.append(self._gone)
        if spec.rate:
            self._at_their_times()
            return
        for publisher in self._publishers:
            share, rest = divmod(spec.count, self._total)
            publisher.left = share + (publisher.place < rest) if spec.count else 1 << 62
            self._refill(publisher)
        if spec.seconds:
            swarm.at(self._ends, self._end)
        else:
            self._look_for_answers(-1)
        self._settle()

    def stop(self) -> None:
        for client in list(self._late):
            self._gone(client)
        self._end()

    # --- open loop ---------------------------------------------------------------------------------------------

    def _at_their_times(self) -> None:
        """All bursts of the run are `burst / rate` seconds apart."""
        swarm, spec, publishers = self._swarm, self._spec, self._publishers
        pause = swarm.now + TURN
        while not self._ended:
            publisher = publishers[self._turn % len(publishers)]
            number = (self._turn // len(publishers) * self._total + publisher.place) * spec.burst
            due = self._started + int(number / spec.rate * SECOND)
            if due >= self._ends or (spec.count and number >= spec.count):
                swarm.at(min(due, self._ends), self._end)
                return
            now = swarm.now
            if due > now or now > pause:
                swarm.at(max(due, now), self._at_their_times)
                return
            self._turn += 1
            times = min(spec.burst, spec.count - number) if spec.count else spec.burst
            self._publish_or_keep(publisher, due, times)

    def _publish_or_keep(self, publisher: Publisher, due: int, times: int) -> None:
        client = publisher.client
        if client.phase == LIVE:
            self._publish(publisher, due, times)
        elif client.phase == GIVEN_UP:
            self._swarm.counts["unsent"] += times
        else:
            self._late.setdefault(client, []).append((publisher, due, times))

    def _back(self, client: Client) -> None:
        for kept in self._late.pop(client, ()):
            self._publish_or_keep(*kept)
        if self._spec.in_flight:
            for publisher in self._publishers:
                if publisher.client is client:
                    self._refill(publisher)
        self._settle()

    def _gone(self, client: Client) -> None:
        self._swarm.counts["unsent"] += sum(times for _, _, times in self._late.pop(client, ()))
        for publisher in self._publishers:
            if publisher.client is client:
                publisher.left = 0
        self._settle()

    # --- closed loop -------------------------------------------------------------------------------------------

    def _refill(self, publisher: Publisher) -> None:
        free = min(self._spec.in_flight - publisher.unanswered, publisher.left)
        if free > 0 and publisher.client.phase == LIVE and not self._ended:
            publisher.left -= free
            self._publish(publisher, self._swarm.now, free)

    def _look_for_answers(self, before: int) -> None:
        """A server that has stopped answering does not stop the run."""
        if self._unanswered and self._answers == before:
            self._finish()
        elif not self._over:
            self._swarm.after(ANSWERS_PATIENCE, partial(self._look_for_answers, self._answers))

    # --- both --------------------------------------------------------------------------------------------------

    def _publish(self, publisher: Publisher, intended: int, times: int) -> None:
        swarm, client, book, spec = self._swarm, publisher.client, publisher.book, self._spec
        key = (client.number, book.name)
        sequence = self._sequences.get(key, 0)
        self._sequences[key] = sequence + times
        write = b""
        for n in range(sequence, sequence + times):
            if spec.chat:
                request = self._chat_message(publisher, n, intended)
            else:
                request = b'%b%d,"t":%d,"p":"%b"}}' % (publisher.head, n, intended, self._padding)
            answer = partial(self._answered, publisher, message_id(client.number, n), intended)
            write += frames.frame(swarm.expect(client, request, answer))
        book.sent += times
        publisher.unanswered += times
        self._unanswered += times
        swarm.counts["published"] += times
        swarm.send(client, write)

    def _chat_message(self, publisher: Publisher, n: int, intended: int) -> bytes:
        """A message whose content is the mark; its id is of this run, sender and turn alone."""
        run, sender = self._swarm.ledger.run, publisher.client.number
        mark = {"run": run, "s": sender, "n": n, "t": intended, "p": self._padding.decode()}
        id = f"{run}-0000-4000-8000-{(sender << 20 | n) & (1 << 48) - 1:012x}"
        data = {"id": id, "type": "text", "content": json.dumps(mark, separators=(",", ":"))}
        return b'"publish":' + json.dumps({"channel": publisher.book.name, "data": data}).encode()

    def _answered(self, publisher: Publisher, message: int, intended: int, reply: Reply, now: int) -> None:
        book, swarm = publisher.book, self._swarm
        publisher.unanswered -= 1
        self._unanswered -= 1
        self._answers += 1
        if not reply.id:
            pass  # the connection ended: it may be stored or not
        elif reply.error is not None:
            book.refused += 1
            swarm.counts["refused"] += 1
            swarm.errors[f"publish: {reply.error.code} {reply.error.message}"] += 1
        else:
            book.acknowledged.append(message)
            swarm.counts["acknowledged"] += 1
            swarm.latency["publish"][(now - intended) // 1000] += 1
        if self._spec.in_flight:
            self._refill(publisher)
        if not self._unanswered:
            self._settle()

    def _end(self) -> None:
        """Nothing more is sent; wait for the answers."""
        self._ended = True
        self._settle()
        if not self._over:
            self._swarm.after(ANSWERS_PATIENCE, self._finish)

    def _settle(self) -> None:
        """Is that all?"""
        all_sent = self._ended or not (self._spec.rate or any(publisher.left for publisher in self._publishers))
        if all_sent and not self._unanswered and not self._late:
            self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        if self._late:  # they come back or are given up: the swarm sees to it
            self._swarm.after(ANSWERS_PATIENCE, self._finish)
            return
        self._ended = self._over = True
        self._swarm.on_live.remove(self._back)
        self._swarm.on_gone.remove(self._gone)
        self._done()


class Cutting:
    """Clients are cut off, and come back."""

    def __init__(self, swarm: Swarm, spec: plan.Cut, clients: Sequence[Client], window: int) -> None:
        self._swarm = swarm
        self._spec = spec
        self._clients = clients
        self._window = window
        self._return: Opening | None = None
        self._stopped = False
        self._done: Done = lambda: None

    def start(self, done: Done) -> None:
        self._done = done
        self._swarm.after(self._spec.after, self._cut)

    def stop(self) -> None:
        self._stopped = True
        if self._return is None:
            self._done()
        else:
            self._return.stop()

    def _cut(self) -> None:
        if self._stopped:
            return
        victims = [client for client in self._clients if client.phase == LIVE]
        for client in victims:
            self._swarm.close(client, reset=True)
        self._swarm.counts["cut"] += len(victims)
        random.shuffle(victims)
        within = self._spec.back_within
        rate = len(victims) / within if within else 0.0
        since = 0 if within else self._swarm.now  # all want to be back at once
        self._return = Opening(self._swarm, victims, rate, self._window, kind="recovery", since=since)
        self._return.start(self._done)


class Stalling:
    """Clients do not read for a while."""

    def __init__(self, swarm: Swarm, seconds: float, clients: Sequence[Client]) -> None:
        self._swarm = swarm
        self._seconds = seconds
        self._clients = clients
        self._stalled: list[tuple[Client, socket.socket | None]] = []
        self._done: Done = lambda: None

    def start(self, done: Done) -> None:
        self._done = done
        self._stalled = [(client, client.socket) for client in self._clients if client.phase == LIVE]
        for client, _ in self._stalled:
            client.deliveries = self._swarm.latency["stalled_delivery"]  # what they read late is nobody else's wait
            self._swarm.pause(client)
        self._swarm.counts["stalled"] += len(self._stalled)
        self._swarm.after(self._seconds, self.stop)

    def stop(self) -> None:
        stalled, self._stalled = self._stalled, []
        for client, connection in stalled:
            if client.socket is connection:
                self._swarm.resume(client)
        self._done()


class Churning:
    """Clients leave and come back a moment later: every second one closes, the others unsubscribe."""

    AWAY_FOR = 1.0  # s

    def __init__(self, swarm: Swarm, rate: float, seconds: float, clients: Sequence[Client]) -> None:
        self._swarm = swarm
        self._rate = rate
        self._seconds = seconds
        self._clients = clients
        self._turn = 0
        self._out: set[Client] = set()
        self._over = False
        self._started = 0
        self._done: Done = lambda: None

    def start(self, done: Done) -> None:
        if not self._clients or not self._rate:
            done()
            return
        self._done = done
        self._started = self._swarm.now
        self._swarm.on_live.append(self._back)
        self._swarm.on_gone.append(self._gone)
        self._go_on()

    def stop(self) -> None:
        self._over = True
        self._out.clear()
        self._end_when_all_are_back()

    def _go_on(self) -> None:
        swarm = self._swarm
        if self._over or swarm.now - self._started >= self._seconds * SECOND:
            self._over = True
            self._end_when_all_are_back()
            return
        client = random.choice(self._clients)
        self._turn += 1
        if client not in self._out and client.phase == LIVE and all(reader.live for reader in client.readers):
            self._out.add(client)
            swarm.counts["leaves"] += 1
            if self._turn % 2:
                swarm.leave(client)
                swarm.after(self.AWAY_FOR, partial(swarm.connect, client))
            else:
                left = list(client.readers)
                for reader in client.readers:
                    swarm.unsubscribe(client, reader, partial(self._unsubscribed, client, left))
        swarm.at(self._started + int(self._turn / self._rate * SECOND), self._go_on)

    def _unsubscribed(self, client: Client, left: list[Reader]) -> None:
        left.pop()
        if not left:
            self._swarm.after(self.AWAY_FOR, partial(self._subscribe, client))

    def _subscribe(self, client: Client) -> None:
        if client.phase != LIVE:
            return  # cut off meanwhile: it subscribes when it connects, and is back then
        for reader in client.readers:
            if not reader.live:
                self._swarm.subscribe(client, reader)
        self._back(client)

    def _back(self, client: Client) -> None:
        if client in self._out:
            self._out.discard(client)
            self._swarm.counts["joins"] += 1
            self._end_when_all_are_back()

    def _gone(self, client: Client) -> None:
        self._out.discard(client)
        self._end_when_all_are_back()

    def _end_when_all_are_back(self) -> None:
        if self._over and not self._out and self._back in self._swarm.on_live:
            self._swarm.on_live.remove(self._back)
            self._swarm.on_gone.remove(self._gone)
            self._done()
