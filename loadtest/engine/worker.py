"""A worker process: a swarm of clients that does what the coordinator orders."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import socket
import time
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from typing import NoReturn

import jwt

from loadtest import plan
from loadtest.engine import activities, wire
from loadtest.engine.books import FOREIGN, Book, Reader
from loadtest.engine.client import LIVE, Client
from loadtest.engine.protocol import Reply
from loadtest.engine.requests import Requesting
from loadtest.engine.swarm import Swarm
from loadtest.plan import Plan

PROGRESS_EVERY = 1.0  # s
PATIENCE = 30.0  # s for an answer to a question about history
NO_ANSWER = Reply()
DRAIN_LOOK = 0.05  # s between two looks at the readers
PAGE = 1000  # publications of history asked for at once
ASKED_AT_ONCE = 64  # histories under way
GOLDEN = 0.6180339887  # multiples of it lie evenly in 0..1, wherever one begins
BATCH = 400_000  # bytes of books in one message


class Worker:
    """Speaks with the coordinator over one stream socket."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._unpacker = wire.Unpacker()
        self._swarm: Swarm | None = None
        self._plan: Plan | None = None
        self._setup: wire.Setup | None = None
        self._sequences: dict[tuple[int, str], int] = {}
        self._heads: dict[str, int] = {}
        self._running: dict[tuple[int, int], activities.Activity] = {}
        self._halted = False
        self._is_closed = False  # the books are: nothing is counted any more
        self._ended = False

    def run(self) -> None:
        self._say(wire.Ready(os.getpid()))
        while self._swarm is None and not self._ended:
            self._listen()
        if self._swarm is None:
            return
        self._swarm.watch(self._control.fileno(), self._listen)
        self._swarm.after(PROGRESS_EVERY, self._progress)
        while not self._ended:
            self._swarm.turn()

    def _say(self, message: wire.Answer) -> None:
        try:
            self._control.sendall(wire.packed(message))
        except OSError:
            self._ended = True  # nobody listens any more

    def _listen(self) -> None:
        try:
            data = self._control.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._ended = True
            return
        for message in self._unpacker.feed(data):
            self._obey(wire.decode_order(message))

    def _obey(self, order: wire.Order) -> None:
        match order:
            case wire.Setup():
                self._set_up(order)
            case wire.Begin():
                self._begin(order)
            case wire.Halt():
                self._halted = True
                for activity in list(self._running.values()):
                    activity.stop()
            case wire.AskHeads():
                self._ask_heads(order.channels)
            case wire.Drain():
                self._heads = order.heads
                self._drain(order, self.swarm.now + int(order.seconds * 1e9))
            case wire.ReadHistory():
                self._read_histories(order.since)
            case wire.CloseBooks():
                self._close_books()
            case wire.Stop():
                self._ended = True

    @property
    def swarm(self) -> Swarm:
        assert self._swarm is not None
        return self._swarm

    def _set_up(self, setup: wire.Setup) -> None:
        self._setup = setup
        self._plan = setup.plan
        self._swarm = Swarm(
            run=setup.run,
            first=setup.first,
            count=setup.count,
            target=setup.target,
            channels=lambda client: [(each.name(client), each.recover) for each in setup.plan.channels],
            token=token_maker(setup.tokens, setup.plan),
            enter={each.name(0): each.enter for each in setup.plan.channels if each.enter},
            sources=setup.sources,
            base=setup.began,
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)  # clients live long, and make no cycles

    def _progress(self) -> None:
        if self._is_closed:
            return
        swarm = self.swarm
        books = swarm.ledger.books.values()
        swarm.counts["delivered"] = sum(book.delivered for book in books)
        latency = {kind: dict(times) for kind, times in swarm.latency.items() if times}
        for times in swarm.latency.values():
            times.clear()
        self._say(
            wire.Progress(swarm.connections, dict(swarm.counts), dict(swarm.errors), latency, swarm.ledger.faults.count)
        )
        swarm.after(PROGRESS_EVERY, self._progress)

    # --- activities --------------------------------------------------------------------------------------------

    def _begin(self, order: wire.Begin) -> None:
        assert self._plan is not None
        place = (order.phase, order.activity)
        activity = self._activity(self._plan.phases[order.phase].activities[order.activity], order.window)
        self._running[place] = activity
        done = partial(self._done, place)
        if self._halted:
            done()
        else:
            activity.start(done)

    def _done(self, place: tuple[int, int]) -> None:
        if self._running.pop(place, None) is not None:
            self._say(wire.Finished("activity", *place))

    def _activity(self, spec: plan.Activities, window: int) -> activities.Activity:
        assert self._setup is not None
        swarm, share = self.swarm, self._setup.share
        match spec:
            case plan.Open():
                return activities.Opening(swarm, swarm.clients, spec.rate * share, window)
            case plan.Hold():
                return activities.Holding(swarm, spec.seconds)
            case plan.Publish():
                return self._publishing(spec)
            case plan.Cut():
                victims = swarm.clients if spec.publishers else self._silent()
                return activities.Cutting(swarm, spec, self._part(spec.share, victims), window)
            case plan.Stall():
                return activities.Stalling(swarm, spec.seconds, self._part(spec.share, self._silent()))
            case plan.Request():
                token = user_tokens(self._setup.tokens)
                return Requesting(swarm, spec, self._setup.target, share=share, token=token)
            case plan.Rpc():
                return activities.Calling(swarm, spec, swarm.clients, spec.rate * share, window)
            case plan.Churn():
                return activities.Churning(swarm, spec.rate * share, spec.seconds, self._silent())

    def _part(self, share: float, clients: list[Client]) -> list[Client]:
        """A share of some clients, spread evenly over all of them."""
        return [client for client in clients if client.number * GOLDEN % 1 < share]

    def _silent(self) -> list[Client]:
        """Those that never publish."""
        assert self._plan is not None
        specs = [each for phase in self._plan.phases for each in phase.activities if isinstance(each, plan.Publish)]
        return [c for c in self.swarm.clients if not any(self._publishes(spec, c.number) for spec in specs)]

    def _publishes(self, spec: plan.Publish, number: int) -> bool:
        assert self._plan is not None
        size = self._plan.channels[spec.channels].size or self._plan.clients
        return number % size < (spec.publishers or size)

    def _publishing(self, spec: plan.Publish) -> activities.Publishing:
        assert self._plan is not None
        size = self._plan.channels[spec.channels].size or self._plan.clients
        each = min(spec.publishers or size, size)
        whole, rest = divmod(self._plan.clients, size)
        return activities.Publishing(
            self.swarm,
            spec,
            [client for client in self.swarm.clients if client.readers and self._publishes(spec, client.number)],
            place=lambda client: client.number // size * each + client.number % size,
            total=whole * each + min(rest, each),
            sequences=self._sequences,
        )

    # --- the end -----------------------------------------------------------------------------------------------

    def _somebody_in(self, channel: str) -> Client | None:
        book = self.swarm.ledger.books.get(channel)
        for reader in book.readers if book else ():
            client = self.swarm.clients[reader.who - self.swarm.first]
            if client.phase == LIVE and reader.live:
                return client
        return None

    def _ask_heads(self, channels: list[str]) -> None:
        heads: dict[str, int] = {}
        refused: dict[str, str] = {}

        def ask(channel: str, done: Callable[[], None]) -> None:
            def answer(reply: Reply) -> None:
                if reply.history is not None:
                    heads[channel] = reply.history.offset
                else:
                    refused[channel] = reason(reply)
                done()

            self._ask_history(channel, {"limit": 0}, answer)

        each_of(channels, ask, lambda: self._say(wire.Heads(heads, refused)))

    def _ask_history(self, channel: str, request: dict[str, object], answer: Callable[[Reply], None]) -> None:
        """Ask through any reader of the channel; an empty reply when there is none, or none within PATIENCE."""
        client = self._somebody_in(channel)
        open_ = [answer]

        def once(reply: Reply = NO_ANSWER, now: int = 0) -> None:
            if open_:
                open_.pop()(reply)

        if client is None:
            self.swarm.after(0, partial(once, Reply()))
            return
        self.swarm.ask(client, b'"history":' + json.dumps({"channel": channel, **request}).encode(), once)
        self.swarm.after(PATIENCE, once)

    def _owes(self, reader: Reader) -> bool:
        """Whether the server still owes it everything up to the head."""
        return reader.live or (reader.recover and not self._halted)

    def _drain(self, order: wire.Drain, deadline: int, seen: int = -1) -> None:
        swarm = self.swarm
        books = swarm.ledger.books.values()
        behind = (
            (reader, head)
            for book in books
            if book.durable and (head := order.heads.get(book.name, 0))
            for reader in book.readers
            if reader.at < head and self._owes(reader)
        )
        late = next(behind, None)
        delivered = sum(book.delivered for book in books)
        if (late is not None or delivered != seen) and swarm.now < deadline:
            swarm.after(DRAIN_LOOK, partial(self._drain, order, deadline, delivered))
            return
        if late is not None:
            for reader, head in (late, *behind):
                detail = f"reader {reader.who} is at {reader.at} of {head}"
                swarm.ledger.faults.note("undelivered", reader.book.name, detail)
        self._say(wire.Finished("drain"))

    def _read_histories(self, since: dict[str, int]) -> None:
        offsets: dict[str, bytes] = {}
        messages: dict[str, bytes] = {}
        refused: dict[str, str] = {}
        ledger = self.swarm.ledger

        def read(channel: str, done: Callable[[], None]) -> None:
            places, ids = array("Q"), array("Q")

            def ask(after: int) -> None:
                request = {"limit": PAGE, "since": {"offset": after, "epoch": ledger.book(channel).epoch}}
                self._ask_history(channel, request, partial(answer, after))

            def answer(after: int, reply: Reply) -> None:
                page = reply.history
                if page is None:
                    refused[channel] = reason(reply)
                    done()
                    return
                for publication in page.publications:
                    delivery = ledger.decode(channel, publication)
                    places.append(delivery.offset)
                    ids.append(unsigned(delivery.message))
                if page.publications and after < places[-1] < page.offset:
                    ask(places[-1])
                    return
                offsets[channel], messages[channel] = places.tobytes(), ids.tobytes()
                done()

            ask(since[channel])

        each_of(list(since), read, lambda: self._say(wire.Histories(offsets, messages, refused)))

    def _close_books(self) -> None:
        counts, faults = self.swarm.counts, self.swarm.ledger.faults
        counts["unanswered"] = counts["published"] - counts["acknowledged"] - counts["refused"]
        self._progress()
        self._is_closed = True
        entries: list[wire.BookEntry] = []
        weight = 0
        for book in self.swarm.ledger.books.values():
            entry = self._entry(book)
            entries.append(entry)
            weight += 200 + len(entry.acknowledged) + len(entry.offsets) + len(entry.messages)
            if weight > BATCH:
                self._say(wire.Books(entries, [], 0, more=True))
                entries, weight = [], 0
        self._say(wire.Books(entries, faults.kept, faults.count))

    def _entry(self, book: Book) -> wire.BookEntry:
        head = self._heads.get(book.name, 0)
        expected = book.expected_before if book.durable else book.delivered
        for reader in book.readers if book.durable else ():
            expected += (max(head, reader.at) if self._owes(reader) else reader.at) - reader.entered
        return wire.BookEntry(
            name=book.name,
            durable=book.durable,
            sent=book.sent,
            refused=book.refused,
            unanswered=book.sent - len(book.acknowledged) - book.refused,
            acknowledged=array("Q", book.acknowledged).tobytes(),
            offsets=array("Q", book.messages).tobytes(),
            messages=array("Q", map(unsigned, book.messages.values())).tobytes(),
            readers=len(book.readers),
            entered=book.entered,
            delivered=book.delivered,
            expected=expected,
            last=max(book.messages, default=0) if book.durable else 0,
        )


def unsigned(message: int) -> int:
    return (1 << 64) - 1 if message == FOREIGN else message


def reason(reply: Reply) -> str:
    if reply is NO_ANSWER:
        return f"no answer within {PATIENCE:.0f} s"
    return f"{reply.error.code} {reply.error.message}" if reply.error else "nobody of this run is there any more"


def each_of(names: Iterable[str], work: Callable[[str, Callable[[], None]], None], done: Callable[[], None]) -> None:
    """Do something with each name, a few at a time; `work` calls its second argument at its end."""
    left = list(names)
    under_way = len(left)
    if not left:
        done()
        return

    def next_one() -> None:
        nonlocal under_way
        under_way -= 1
        if left:
            work(left.pop(), next_one)
        elif not under_way:
            done()

    for _ in range(min(ASKED_AT_ONCE, len(left))):
        if left:
            work(left.pop(), next_one)


def token_maker(tokens: wire.Tokens, plan: Plan) -> Callable[[int], str]:
    token = user_tokens(tokens)
    return lambda client: token(plan.user(client))


def user_tokens(tokens: wire.Tokens) -> Callable[[str], str]:
    """What makes an access token for a user."""
    if not tokens.secret:
        return lambda user: tokens.token
    now = int(time.time())
    claims = {"iat": now, "exp": now + tokens.ttl}
    if tokens.audience:
        claims["aud"] = tokens.audience  # type: ignore[assignment]
    if tokens.issuer:
        claims["iss"] = tokens.issuer  # type: ignore[assignment]
    encode = functools.partial(jwt.encode, key=tokens.secret, algorithm="HS256")
    return lambda user: encode({"sub": user, **claims})


def run(control: socket.socket) -> NoReturn:
    """The whole life of a forked worker process."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the coordinator decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        worker = Worker(control)
        try:
            worker.run()
        except Exception as error:
            import traceback

            control.setblocking(True)
            control.sendall(wire.packed(wire.Failed(f"{error!r}\n{traceback.format_exc()}")))
        else:
            status = 0
    finally:
        os._exit(status)
