"""A worker, spoken with over its socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import jwt
import msgspec
import pytest

from loadtest.engine import wire
from loadtest.engine.swarm import Target
from loadtest.engine.worker import Worker, each_of, token_maker
from loadtest.plan import Open, Phase, Plan


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def heard(ours: socket.socket) -> list[wire.Answer]:
    ours.setblocking(False)
    return [wire.decode_answer(message) for message in wire.Unpacker().feed(ours.recv(1 << 16))]


def set_up(theirs: socket.socket, began: int) -> Worker:
    worker = Worker(theirs)
    worker._obey(
        wire.Setup(
            run="r",
            worker=0,
            first=0,
            count=3,
            share=1.0,
            target=Target("127.0.0.1", 1),
            plan=Plan(name="p", clients=3, phases=[Phase(name="open", activities=[Open()])]),
            tokens=wire.Tokens(),
            sources=[],
            began=began,
        )
    )
    return worker


def test_the_run_s_clock_does_not_depend_on_when_the_order_comes(sockets: tuple[socket.socket, socket.socket]) -> None:
    began = time.monotonic_ns() - 5_000_000_000
    before = time.monotonic_ns()
    worker = set_up(sockets[1], began)
    assert before - began <= worker.swarm.now <= time.monotonic_ns() - began
    assert set_up(sockets[1], began).swarm._base == worker.swarm._base


def test_after_the_books_are_closed_nothing_is_counted(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    worker = set_up(theirs, time.monotonic_ns())
    worker.swarm.counts["published"] = 3
    worker._obey(wire.CloseBooks())
    progress, books = heard(ours)
    assert isinstance(progress, wire.Progress)
    assert progress.counts["unanswered"] == 3
    assert isinstance(books, wire.Books)
    worker._progress()
    with pytest.raises(BlockingIOError):
        ours.recv(1)


def test_a_halted_worker_begins_nothing_and_says_that_it_is_done(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    worker = set_up(theirs, time.monotonic_ns())
    worker._obey(wire.Halt())
    worker._obey(wire.Begin(0, 0, 1))
    assert heard(ours) == [wire.Finished("activity", 0, 0)]
    assert worker.swarm.on_live == []


def test_a_worker_ends_when_the_coordinator_is_gone(sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = sockets
    ours.close()
    Worker(theirs).run()


def test_each_of_takes_everything_and_says_so_once() -> None:
    done: list[str] = []
    waiting = []
    names = [str(n) for n in range(200)]
    each_of(names, lambda name, go_on: waiting.append((name, go_on)), lambda: done.append("all"))
    seen = []
    while waiting:
        name, go_on = waiting.pop(0)
        assert not done
        seen.append(name)
        go_on()
    assert (sorted(seen), done) == (sorted(names), ["all"])
    each_of([], lambda name, go_on: None, lambda: done.append("none"))
    assert done == ["all", "none"]


def test_with_a_secret_each_client_is_a_user_of_its_own() -> None:
    secret = "s" * 32
    plan = Plan(name="x", clients=10, phases=[Phase(name="connect", activities=[Open()])])
    token = token_maker(wire.Tokens(secret=secret, audience="a", issuer="i"), plan)(7)
    claims = jwt.decode(token, secret, "HS256", audience="a", issuer="i")
    assert claims["sub"] == "load-7"
    assert msgspec.structs.replace(plan, user_prefix="c-", user_digits=3).user(7) == "c-007"
    assert claims["exp"] - claims["iat"] == wire.Tokens().ttl
    assert token_maker(wire.Tokens(token="one for all"), plan)(7) == "one for all"
