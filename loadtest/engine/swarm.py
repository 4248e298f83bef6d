"""All clients of one process, on one epoll loop."""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import select
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from loadtest.engine import frames
from loadtest.engine.books import Delivery, Ledger, Reader
from loadtest.engine.client import (
    AWAY,
    CONNECT_ID,
    FIRST_SUBSCRIBE_ID,
    GIVEN_UP,
    JOINING,
    LIVE,
    OPENING,
    UPGRADING,
    Client,
)
from loadtest.engine.protocol import Publication, Push, Reply, Subscription, command, decode_reply

CHUNK = 256 * 1024  # bytes read at once
PAGE = 1000  # publications of history asked for at once
CACHED = 4096  # frames that are remembered with what they mean
ATTEMPTS = 12  # to connect, in a row; the last one begins about 40 s after the first
BACKOFF_FIRST, BACKOFF_MOST = 0.05, 5.0  # s
IP_BIND_ADDRESS_NO_PORT = 24  # Linux: the port is chosen at connect(), so that it need only be free for this target
PONG = frames.frame(b"{}")
EPOLL_TICK = 0.001  # s: epoll waits whole milliseconds, rounded up
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s: close() cuts the connection off


class Target(msgspec.Struct, frozen=True):
    """Where the server is, as a worker needs it."""

    host: str
    port: int
    path: str = "/connection/websocket"
    host_header: str = ""
    tls: bool = False


class Swarm:
    """Clients `first` to `first + count` of the run.

    Args:
        token: makes the connection token of a client; an empty one is not sent.
        sources: addresses to connect from; each has some 28,000 ports. Empty: the kernel chooses.
        enter: an RPC for each channel that must be entered before it is subscribed.
        base: ns of the monotonic clock at the start of the run, which is 0 on the run's clock.
    """

    def __init__(
        self,
        *,
        run: str,
        first: int,
        count: int,
        target: Target,
        channels: Callable[[int], Sequence[tuple[str, bool]]],
        token: Callable[[int], str],
        sources: Sequence[str],
        base: int,
        enter: Mapping[str, str] | None = None,
    ) -> None:
        self.target = target
        self.ledger = Ledger(run)
        self.first = first
        self.connections = 0  # live ones
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.latency: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))  # us -> times
        self.clients = [Client(first + n, self.latency["delivery"]) for n in range(count)]
        self.on_live: list[Callable[[Client], None]] = []
        self.on_gone: list[Callable[[Client], None]] = []
        self._channels = channels
        self._token = token
        self._enter = enter or {}
        self._sources = itertools.cycle(sources) if sources else None
        self._base = base
        self._poll = select.epoll()
        self._by_number: dict[int, Client] = {}
        self._others: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._timer_count = itertools.count()
        self._request, self._accept = frames.handshake(target.host_header or target.host, target.path)
        self._buffer = memoryview(bytearray(CHUNK))
        self._frames: dict[bytes, list[Delivery]] = {}

    # --- the loop ----------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """ns of the run's clock."""
        return time.monotonic_ns() - self._base

    def at(self, when: int, call: Callable[[], None]) -> None:
        """Call something at a time of the run's clock, in ns."""
        heapq.heappush(self._timers, (when, next(self._timer_count), call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.at(self.now + int(seconds * 1e9), call)

    def watch(self, number: int, call: Callable[[], None]) -> None:
        """Call something when a file descriptor can be read."""
        self._others[number] = call
        self._poll.register(number, READ)

    def forget(self, number: int) -> None:
        """The end of `watch`, before the descriptor is closed."""
        del self._others[number]
        self._poll.unregister(number)

    def turn(self) -> None:
        """One turn of the loop: wait for sockets or for the next timer, and serve what is ready."""
        timers = self._timers
        wait = min(1.0, max(0.0, (timers[0][0] - self.now) / 1e9)) if timers else 1.0
        if 0 < wait < EPOLL_TICK:  # epoll would come up to 1 ms late, and every message with it
            select.select((self._poll,), (), (), wait)
            wait = 0
        for number, events in self._poll.poll(max(0.0, wait - EPOLL_TICK), 1024):
            client = self._by_number.get(number)
            if client is None:
                if number in self._others:
                    self._others[number]()
                continue
            if events & ~READ:
                self._writable(client)
            if events & ~WRITE and client.socket is not None:
                self._readable(client)
        now = self.now  # what is put on the list meanwhile has its turn after the sockets
        while timers and timers[0][0] <= now:
            heapq.heappop(timers)[2]()

    # --- connecting --------------------------------------------------------------------------------------------

    def connect(self, client: Client, intended: int | None = None) -> None:
        """Begin to connect; `on_live` is called when every subscription stands. Tried again when it fails."""
        client.began = self.now if intended is None else intended
        client.attempts = 0
        self._open(client)

    def _open(self, client: Client) -> None:
        if client.phase not in (AWAY, GIVEN_UP):
            return
        made = socket.socket(socket.AF_INET6 if ":" in self.target.host else socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._sources is not None:
            made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            made.bind((next(self._sources), 0))
        client.socket, client.phase = made, OPENING
        status = made.connect_ex((self.target.host, self.target.port))
        self._by_number[made.fileno()] = client
        if status == 0:
            self._poll.register(made.fileno(), READ)
            self._greet(client)
        elif status == errno.EINPROGRESS:
            self._poll.register(made.fileno(), READ | WRITE)
        else:
            self._poll.register(made.fileno(), READ)
            self.lose(client, f"connect: {errno.errorcode.get(status, status)}")

    def _greet(self, client: Client) -> None:
        client.phase = UPGRADING
        self.send(client, self._request)

    def _upgraded(self, client: Client, data: bytes) -> bytes | None:
        """What follows the answer to the upgrade; None while that is not whole."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            client.rest = data
            return None
        if not head.startswith(b"HTTP/1.1 101 ") or self._accept not in head:
            self.lose(client, f"upgrade: {head.partition(chr(13).encode())[0].decode(errors='replace')}")
            return None
        self._join(client)
        return rest

    def _join(self, client: Client) -> None:
        """Authenticate and subscribe to everything, in one frame: one round trip to be back."""
        client.phase = JOINING
        if not client.readers:
            books = ((self.ledger.book(name), recover) for name, recover in self._channels(client.number))
            client.readers = tuple(Reader(book, client.number, recover) for book, recover in books)
        token = self._token(client.number)
        commands = [command(CONNECT_ID, connect={"token": token} if token else {})]
        client.next_id = FIRST_SUBSCRIBE_ID + len(client.readers)
        for name in {reader.book.name for reader in client.readers} & self._enter.keys():
            data = {"class_id": name.partition(":")[2]}
            request = b'"rpc":' + json.dumps({"method": self._enter[name], "data": data}).encode()
            commands.append(self.expect(client, request, partial(self._entered, client)))
        client.joining = (1 << 1 + len(client.readers)) - 1
        commands += [self._subscribe(FIRST_SUBSCRIBE_ID + n, reader) for n, reader in enumerate(client.readers)]
        self.send(client, frames.frame(b"\n".join(commands)))

    def _entered(self, client: Client, reply: Reply, now: int) -> None:
        if reply.error is not None:
            self.errors[f"enter: {reply.error.code} {reply.error.message}"] += 1
        elif reply.id:
            self.counts["entered"] += 1

    def _subscribe(self, id: int, reader: Reader) -> bytes:
        request = {"channel": reader.book.name, "positioned": True, "recoverable": True}
        if reader.recover and reader.at >= 0:
            request |= {"recover": True, "offset": reader.at, "epoch": reader.epoch}
        return command(id, subscribe=request)

    def _joined(self, client: Client, reply: Reply) -> None:
        """The answer to the connect, or to one of the subscribes."""
        missing = 1 << reply.id - CONNECT_ID
        if reply.error is not None:
            what = "connect" if reply.id == CONNECT_ID else "subscribe"
            self.lose(client, f"{what}: {reply.error.code} {reply.error.message}")
        elif not client.joining & missing:
            self._malformed(client, f"a second answer to command {reply.id}")
        elif reply.id == CONNECT_ID and reply.connect is not None:
            client.pong = reply.connect.pong
            self._stands(client, missing)
        elif reply.id != CONNECT_ID and reply.subscribe is not None:
            reader = client.readers[reply.id - FIRST_SUBSCRIBE_ID]
            self._subscribed(client, reader, reply.subscribe, partial(self._stands, client, missing))
        else:
            self._malformed(client, f"no answer to command {reply.id}")

    def _stands(self, client: Client, what: int) -> None:
        client.joining &= ~what
        if client.joining:
            return
        client.phase = LIVE
        client.attempts = 0
        self.connections += 1
        for call in tuple(self.on_live):
            call(client)

    def _malformed(self, client: Client, detail: str) -> None:
        self.ledger.faults.note("malformed", "", detail)
        self.lose(client, f"malformed: {detail}")

    def _subscribed(self, client: Client, reader: Reader, answer: Subscription, done: Callable[[], None]) -> None:
        """`done` is called when the reader has what it missed."""
        ledger = self.ledger
        if not (reader.at >= 0 and reader.recover):
            ledger.enter(reader, answer.offset, answer.epoch, durable=bool(answer.epoch))
            done()
            return
        if answer.recovered or answer.epoch != reader.epoch:
            self._recovered(reader, answer.publications)
            ledger.resume(reader, answer.recovered, answer.offset, answer.epoch)
            done()
        else:
            self.counts["unrecovered"] += 1  # too much for one reply: the client reads the history, as people's do
            reader.held = []
            self._catch_up(client, reader, answer.offset, done)

    def _recovered(self, reader: Reader, publications: Iterable[Publication]) -> None:
        for publication in publications:
            if self.ledger.deliver(reader, self.ledger.decode(reader.book.name, publication)):
                self.counts["recovered"] += 1

    def _catch_up(self, client: Client, reader: Reader, head: int, done: Callable[[], None]) -> None:
        """Read page by page what a reply was too small for; what comes live meanwhile, beyond `head`, is held back."""

        def answer(reply: Reply, now: int) -> None:
            held, reader.held = reader.held or [], None
            if not reply.id:
                return  # cut off again: the next reply begins where this one stopped
            before = reader.at
            page = reply.history.publications if reply.history else []
            self._recovered(reader, (publication for publication in page if publication.offset <= head))
            if before < reader.at < head:
                reader.held = held
                self._catch_up(client, reader, head, done)
                return
            self.ledger.resume(reader, reader.at >= head, head, reader.epoch)
            for delivery in held:
                self.ledger.deliver(reader, delivery)
            done()

        since = {"offset": reader.at, "epoch": reader.epoch}
        request = {"channel": reader.book.name, "limit": PAGE, "since": since}
        self.ask(client, b'"history":' + json.dumps(request).encode(), answer)

    # --- the end of a connection -------------------------------------------------------------------------------

    def close(self, client: Client, *, reset: bool = False) -> None:
        """Close for good or, with `reset`, as if the network had gone. Nothing is told to `on_gone`."""
        self._drop(client, reset=reset)

    def leave(self, client: Client) -> None:
        """Close, and let the books forget where its readers were."""
        for reader in client.readers:
            self.ledger.leave(reader)
        self.close(client)

    def lose(self, client: Client, why: str) -> None:
        """The connection failed or ended: note why, and come back as an SDK would."""
        self.errors[why] += 1
        was_live = client.phase == LIVE
        self._drop(client)
        client.attempts += 1
        self.counts["disconnects" if was_live else "failed_connects"] += 1
        if client.attempts > ATTEMPTS:
            client.phase = GIVEN_UP
            self.counts["given_up"] += 1
            for call in tuple(self.on_gone):
                call(client)
            return
        pause = min(BACKOFF_FIRST * 2**client.attempts, BACKOFF_MOST)
        self.after(pause * (0.5 + client.number % 97 / 97), lambda: self._open(client))
        if was_live:
            client.began = self.now

    def _drop(self, client: Client, *, reset: bool = False) -> None:
        gone = client.socket
        if gone is None:
            return
        if client.phase == LIVE:
            self.connections -= 1
        client.phase = AWAY
        number = gone.fileno()
        self._poll.unregister(number)
        del self._by_number[number]
        if reset:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        gone.close()
        client.socket = None
        client.rest = client.out = b""
        for reader in client.readers:
            reader.live = False
        waiting, client.waiting = client.waiting, None
        for answer in (waiting or {}).values():
            answer(Reply(), 0)

    # --- reading -----------------------------------------------------------------------------------------------

    def pause(self, client: Client) -> None:
        """Read nothing more of it, and let the kernel's buffers fill."""
        if client.socket is not None:
            self._poll.modify(client.socket.fileno(), 0)

    def resume(self, client: Client) -> None:
        if client.socket is not None:
            self._poll.modify(client.socket.fileno(), READ | (WRITE if client.out else 0))

    def _readable(self, client: Client) -> None:
        assert client.socket is not None
        try:
            size = client.socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(client, f"read: {errno.errorcode.get(error.errno or 0, 'error')}")
            return
        if not size:
            self.lose(client, "closed by the server without a close frame")
            return
        data = bytes(self._buffer[:size])
        if not client.rest and client.phase == LIVE:
            known = self._frames.get(data)
            if known is not None:
                self._deliver(client, known)
                return
        self._received(client, client.rest + data)

    def _received(self, client: Client, data: bytes) -> None:
        if client.phase == UPGRADING:
            rest = self._upgraded(client, data)
            if rest is None or client.socket is None:
                return
            data = rest
        try:
            messages, client.rest = frames.take_frames(data)
        except frames.BadFrame as error:
            self._malformed(client, str(error))
            return
        whole: list[Delivery] | None = [] if len(messages) == 1 and not client.rest else None
        for opcode, payload in messages:
            if client.socket is None:
                return
            if opcode == frames.TEXT:
                known = self._frames.get(payload)
                if known is None:
                    known = self._text(client, payload)
                else:
                    self._deliver(client, known)
                if known is None:
                    whole = None
                elif whole is not None:
                    whole += known
            elif opcode == frames.CLOSE:
                self._closed(client, payload)
                return
            elif opcode == frames.PING:
                self.send(client, frames.frame(payload, frames.PONG))
            elif opcode == frames.BINARY:
                self._malformed(client, "a binary frame on a connection that speaks JSON")
        if whole:
            self._remember(data, whole)

    def _text(self, client: Client, payload: bytes) -> list[Delivery] | None:
        """A frame that is seen for the first time. Its deliveries, if it has nothing else in it."""
        deliveries: list[Delivery] = []
        only = True
        for line in payload.split(b"\n"):
            if client.socket is None:
                return None
            if line == b"{}":
                only = False
                if client.pong:
                    self.send(client, PONG)
                continue
            try:
                reply = decode_reply(line)
            except msgspec.DecodeError as error:
                self.ledger.faults.note("malformed", "", f"{error}: {line[:200]!r}")
                continue
            push = reply.push
            if push is not None and push.pub is not None:
                delivery = self.ledger.decode(push.channel, push.pub)
                deliveries.append(delivery)
                self._deliver(client, (delivery,))
                continue
            only = False
            if push is not None:
                self._pushed(client, push)
            elif client.phase == JOINING and CONNECT_ID <= reply.id < FIRST_SUBSCRIBE_ID + len(client.readers):
                self._joined(client, reply)
            elif client.waiting is not None:
                answer = client.waiting.pop(reply.id, None)
                if answer is not None:
                    answer(reply, self.now)
        if only and deliveries:
            self._remember(payload, deliveries)
            return deliveries
        return None

    def _remember(self, data: bytes, deliveries: list[Delivery]) -> None:
        if len(self._frames) >= CACHED:
            self._frames.clear()
        self._frames[data] = deliveries

    def _deliver(self, client: Client, deliveries: Sequence[Delivery]) -> None:
        now = time.monotonic_ns() - self._base
        for delivery in deliveries:
            for reader in client.readers:
                if reader.book is delivery.book:
                    break
            else:
                self.counts["other_deliveries"] += 1  # the personal channel, for example
                continue
            if self.ledger.deliver(reader, delivery) and delivery.intended:
                client.deliveries[(now - delivery.intended) // 1000] += 1

    def _pushed(self, client: Client, push: Push) -> None:
        if push.disconnect is not None:
            self._ended(client, push.disconnect.code, push.disconnect.reason)
        elif push.unsubscribe is not None:
            self.errors[f"unsubscribe: {push.unsubscribe.code} {push.unsubscribe.reason}"] += 1
            self.counts["unsubscribed"] += 1
            for reader in client.readers:
                if reader.book.name != push.channel:
                    continue
                if push.unsubscribe.code >= 2500:
                    reader.live = False
                    self.subscribe(client, reader)
                else:
                    self.ledger.leave(reader)

    def _closed(self, client: Client, payload: bytes) -> None:
        self._ended(client, int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode(errors="replace"))

    def _ended(self, client: Client, code: int, reason: str) -> None:
        if 3500 <= code < 4000 or 4500 <= code < 5000:
            client.attempts = ATTEMPTS  # the server says not to come back
        self.lose(client, f"disconnect: {code} {reason}")

    # --- writing -----------------------------------------------------------------------------------------------

    def send(self, client: Client, data: bytes) -> None:
        if client.socket is None:
            return
        if client.out:
            client.out += data
            return
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.lose(client, f"write: {errno.errorcode.get(error.errno or 0, 'error')}")
            return
        if sent < len(data):
            client.out = data[sent:]
            self._poll.modify(client.socket.fileno(), READ | WRITE)

    def _writable(self, client: Client) -> None:
        assert client.socket is not None
        if client.phase == OPENING:
            status = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                self.lose(client, f"connect: {errno.errorcode.get(status, status)}")
                return
            self._poll.modify(client.socket.fileno(), READ)
            self._greet(client)
            return
        data, client.out = client.out, b""
        self._poll.modify(client.socket.fileno(), READ)
        if data:
            self.send(client, data)

    def ask(self, client: Client, request: bytes, answer: Callable[[Reply, int], None]) -> None:
        """Send one command, `request` without its id: `"publish":{…}`.

        `answer` gets the reply and its time; when the connection ends before, an empty reply and 0.
        """
        self.send(client, frames.frame(self.expect(client, request, answer)))

    def expect(self, client: Client, request: bytes, answer: Callable[[Reply, int], None]) -> bytes:
        """The command with its id, to be sent by the caller (several in one write)."""
        number = client.next_id
        client.next_id = number + 1
        if client.waiting is None:
            client.waiting = {}
        client.waiting[number] = answer
        return b'{"id":%d,%b}' % (number, request)

    def subscribe(self, client: Client, reader: Reader) -> None:
        """Subscribe again on a live connection."""

        def answer(reply: Reply, now: int) -> None:
            if reply.subscribe is not None:
                self._subscribed(client, reader, reply.subscribe, lambda: None)
            elif reply.error is not None:
                self.errors[f"subscribe: {reply.error.code} {reply.error.message}"] += 1

        request = self._subscribe(0, reader).partition(b",")[2][:-1]
        self.ask(client, request, answer)

    def unsubscribe(self, client: Client, reader: Reader, done: Callable[[], None]) -> None:
        """What is on its way until the answer comes still counts as delivered."""

        def answer(reply: Reply, now: int) -> None:
            if reply.id:
                self.ledger.leave(reader)
            done()

        self.ask(client, b'"unsubscribe":{"channel":%b}' % json.dumps(reader.book.name).encode(), answer)
