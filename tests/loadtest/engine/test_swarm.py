"""One client against a server that says, byte by byte, what the test wants."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from loadtest.engine import swarm as swarms
from loadtest.engine.client import AWAY, GIVEN_UP, LIVE, Client
from loadtest.engine.frames import BINARY, CLOSE, GUID, PING, PONG, TEXT
from loadtest.engine.protocol import Reply
from loadtest.engine.swarm import Swarm, Target

CONNECTED = {"id": 1, "connect": {"client": "x", "ping": 25, "pong": True}}
SUBSCRIBED = {"id": 2, "subscribe": {"recoverable": True, "epoch": "e", "offset": 7}}


class Server:
    """Of one connection at a time; whatever waits for it turns the swarm."""

    def __init__(self, swarm: Swarm, listener: socket.socket) -> None:
        self.swarm = swarm
        self.client: Client = swarm.clients[0]
        self._listener = listener
        self._socket: socket.socket | None = None

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline
            self.swarm.after(0.002, lambda: None)  # or the loop waits a second for the next event
            self.swarm.turn()

    def accept(self) -> bytes:
        """The next connection; its request."""
        self.until(self._accepted)
        return self._read(b"\r\n\r\n")

    def _accepted(self) -> bool:
        try:
            accepted = self._listener.accept()[0]
        except BlockingIOError:
            return False
        if self._socket is not None:
            self._socket.close()
        self._socket = accepted
        self._socket.setblocking(False)
        return True

    def _read(self, end: bytes = b"") -> bytes:
        data = b""

        def whole() -> bool:
            nonlocal data
            try:
                data += self.socket.recv(1 << 16)
            except BlockingIOError:
                return False
            return end in data

        self.until(whole)
        return data

    @property
    def socket(self) -> socket.socket:
        assert self._socket is not None
        return self._socket

    def upgrade(self) -> list[dict[str, object]]:
        """Let it in; its first commands."""
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", self.accept())
        assert key
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
        self.socket.send(b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        return self.hear()

    def hear(self) -> list[dict[str, object]]:
        """The commands of one frame of a few bytes, which is masked with zeros."""
        data = self._read()
        size = data[1] & 0x7F
        return [json.loads(line) for line in data[8 if size == 126 else 6 :].split(b"\n")]

    def say(self, *replies: object) -> None:
        self.send("\n".join(map(json.dumps, replies)).encode())

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        size = bytes((len(payload),)) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
        self.socket.send(bytes((0x80 | opcode,)) + size + payload)

    def live(self) -> None:
        self.upgrade()
        self.say(CONNECTED, SUBSCRIBED)
        self.until(lambda: self.client.phase == LIVE)

    @property
    def faults(self) -> list[str]:
        return [fault.kind for fault in self.swarm.ledger.faults.kept]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(swarms, "BACKOFF_FIRST", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = Swarm(
            run="r", first=0, count=1, target=Target("127.0.0.1", listener.getsockname()[1], "/ws", "example.org"),
            channels=lambda client: [("chat:a", True)], token=lambda client: "token", sources=["127.0.0.9"],
            base=time.monotonic_ns(),
        )  # fmt: skip
        made.connect(made.clients[0])
        one = Server(made, listener)
        yield one
        made.close(made.clients[0])
        if one._socket is not None:
            one._socket.close()
        made._poll.close()


def test_it_greets_authenticates_and_subscribes_in_one_frame(server: Server) -> None:
    assert server.upgrade() == [
        {"id": 1, "connect": {"token": "token"}},
        {"id": 2, "subscribe": {"channel": "chat:a", "positioned": True, "recoverable": True}},
    ]
    assert server.socket.getpeername()[0] == "127.0.0.9"
    server.say(CONNECTED)
    server.say(SUBSCRIBED)
    server.until(lambda: server.client.phase == LIVE)
    assert (server.swarm.connections, server.client.readers[0].at, server.faults) == (1, 7, [])


def test_pings_of_both_kinds_are_answered(server: Server) -> None:
    server.live()
    server.send(b"are you there", PING)
    assert server._read() == bytes((0x80 | PONG, 0x80 | 13)) + b"\0\0\0\0are you there"
    server.send(b"{}")
    assert server._read() == bytes((0x80 | TEXT, 0x82)) + b"\0\0\0\0{}"


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param([CONNECTED, CONNECTED], id="two answers to one command"),
        pytest.param([{"id": 1, "subscribe": {}}], id="an answer to another command"),
        pytest.param([CONNECTED, {"id": 2}], id="an empty answer"),
    ],
)
def test_a_client_is_not_live_by_answers_that_are_none(server: Server, replies: list[object]) -> None:
    server.upgrade()
    server.say(*replies)
    server.until(lambda: server.client.phase == AWAY)
    assert server.faults == ["malformed"]
    assert server.swarm.counts["failed_connects"] == 1
    server.live()  # it tries again


@pytest.mark.parametrize("reply", [{}, {"id": 0}, {"id": -5}, {"id": 77}, {"hello": 1}])
def test_answers_to_nothing_are_left_out(server: Server, reply: object) -> None:
    server.upgrade()
    server.say(reply, CONNECTED, reply, SUBSCRIBED)
    server.until(lambda: server.client.phase == LIVE)
    assert server.faults == []


@pytest.mark.parametrize("offset", [-1, 1 << 64, "7", 1.5])
def test_offsets_that_are_none_are_malformed(server: Server, offset: object) -> None:
    server.live()
    server.say({"push": {"channel": "chat:a", "pub": {"data": {}, "offset": offset}}})
    server.until(lambda: bool(server.faults))
    assert server.faults == ["malformed"]


def test_what_is_not_json_is_malformed_and_a_binary_frame_ends_the_connection(server: Server) -> None:
    server.live()
    server.send(b"not json")
    server.until(lambda: bool(server.faults))
    assert server.client.phase == LIVE
    server.send(b"x", BINARY)
    server.until(lambda: server.client.phase != LIVE)
    assert server.faults == ["malformed"] * 2


def test_whoever_is_refused_says_why_and_tries_again(server: Server) -> None:
    server.accept()
    server.socket.send(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    server.until(lambda: server.client.phase == AWAY)
    assert server.swarm.errors == {"upgrade: HTTP/1.1 403 Forbidden": 1}
    server.upgrade()
    server.say({"id": 1, "error": {"code": 100, "message": "internal", "temporary": True}})
    server.until(lambda: server.client.phase == AWAY)
    assert server.swarm.errors["connect: 100 internal"] == 1
    server.live()


@pytest.mark.parametrize(("code", "comes_back"), [(3001, True), (3500, False), (4000, True), (4500, False)])
@pytest.mark.parametrize("by_push", [False, True])
def test_the_code_of_the_end_says_who_comes_back(server: Server, code: int, comes_back: bool, by_push: bool) -> None:
    server.live()
    if by_push:
        server.say({"push": {"channel": "", "disconnect": {"code": code, "reason": "why"}}})
    else:
        server.send(code.to_bytes(2, "big") + b"why", CLOSE)
    server.until(lambda: server.client.phase != LIVE)
    assert server.swarm.errors == {f"disconnect: {code} why": 1}
    if comes_back:
        assert server.upgrade()[1] == {
            "id": 2, "subscribe": {"channel": "chat:a", "positioned": True, "recoverable": True, "recover": True,
                                   "offset": 7, "epoch": "e"}}  # fmt: skip
    else:
        assert server.client.phase == GIVEN_UP


def test_whoever_was_away_too_long_reads_the_history_and_is_live_with_its_last_page(server: Server) -> None:
    def published(*offsets: int) -> list[dict[str, object]]:
        return [{"data": {"run": "r", "s": 3, "n": offset, "t": 1}, "offset": offset} for offset in offsets]

    def live(offset: int) -> dict[str, object]:
        return {"push": {"channel": "chat:a", "pub": published(offset)[0]}}

    server.live()
    server.socket.close()
    server.until(lambda: server.client.phase == AWAY)
    server.upgrade()
    server.say(CONNECTED, {"id": 2, "subscribe": {"epoch": "e", "offset": 10, "was_recovering": True}})
    (first,) = server.hear()
    assert first["history"] == {"channel": "chat:a", "limit": 1000, "since": {"offset": 7, "epoch": "e"}}
    server.say(live(11), {"id": first["id"], "history": {"publications": published(8), "offset": 11, "epoch": "e"}})
    (second,) = server.hear()
    assert second["history"]["since"] == {"offset": 8, "epoch": "e"}  # type: ignore[index]
    assert server.client.phase != LIVE
    # The history is read after the subscription stands: it has what comes live, too, before or after.
    page = {"publications": published(9, 10, 11, 12), "offset": 12, "epoch": "e"}
    server.say({"id": second["id"], "history": page}, live(12))
    server.until(lambda: server.client.phase == LIVE)
    (reader,) = server.client.readers
    server.until(lambda: reader.at == 12)
    assert (server.faults, reader.book.delivered) == ([], 5)


def test_an_unsubscribe_says_whether_to_subscribe_again(server: Server) -> None:
    server.live()
    (reader,) = server.client.readers
    server.say({"push": {"channel": "chat:a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}})
    (command,) = server.hear()
    assert command["subscribe"]["offset"] == 7  # type: ignore[index]
    assert not reader.live
    again = {"recoverable": True, "epoch": "e", "offset": 7, "recovered": True}
    server.say({"id": command["id"], "subscribe": again})
    server.until(lambda: reader.live)
    server.say({"push": {"channel": "chat:a", "unsubscribe": {"code": 2000, "reason": "by the server"}}})
    server.until(lambda: not reader.live)
    assert reader not in reader.book.readers
    assert server.swarm.counts["unsubscribed"] == 2


def test_a_connection_that_ends_answers_what_was_asked_when_it_is_away(server: Server) -> None:
    server.live()
    phases: list[int] = []

    def answer(reply: Reply, now: int) -> None:
        assert reply == Reply()
        phases.append(server.client.phase)

    server.swarm.ask(server.client, b'"publish":{"channel":"chat:a","data":{}}', answer)
    server.hear()
    server.socket.close()
    server.until(lambda: bool(phases))
    assert phases == [AWAY]


def test_what_is_due_after_this_turn_waits_for_the_sockets(server: Server) -> None:
    """An activity that is late does not keep the loop from reading."""
    server.live()
    server.swarm.counts.clear()
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        server.swarm.at(server.swarm.now, again)

    again()
    server.send(b"not json")
    while not server.faults:
        server.swarm.turn()
    assert turns > 1
