"""Forking, ports and back-off by themselves."""

from __future__ import annotations

import socket
import threading

import pytest

from gateway_node.ports import ReservedPort
from gateway_node.processes import Backoff, StartError, assert_forkable


def test_pauses_double_up_to_the_longest_and_begin_again_after_a_stable_life() -> None:
    backoff = Backoff(first=0.1, longest=1.0, stable=60.0)
    assert [backoff.pause(1.0) for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.pause(60.0) == pytest.approx(0.1)
    assert backoff.pause(0.0) == pytest.approx(0.2)


def test_pauses_do_not_overflow() -> None:
    backoff = Backoff(first=0.1, longest=1.0)
    assert {backoff.pause(0.0) for _ in range(3000)} <= {0.1, 0.2, 0.4, 0.8, 1.0}


def test_no_fork_beside_a_thread() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="thread"):
            assert_forkable()
    finally:
        done.set()
        thread.join()


async def test_no_fork_in_an_event_loop() -> None:
    with pytest.raises(AssertionError, match="event loop"):
        assert_forkable()


def test_a_reserved_port_refuses_connections_until_a_node_listens() -> None:
    port = ReservedPort("127.0.0.1", 0)
    try:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port.port))
        (listening,) = port.listen()
        with listening:
            socket.create_connection(("127.0.0.1", port.port)).close()
    finally:
        port.close()


def test_a_reserved_port_is_refused_to_others() -> None:
    port = ReservedPort("127.0.0.1", 0)
    try:
        (listening,) = port.listen()
        with listening, pytest.raises(StartError, match=f"Port {port.port} on 127.0.0.1 is in use"):
            ReservedPort("127.0.0.1", port.port)
    finally:
        port.close()


def test_a_port_can_be_taken_again_right_after_its_server() -> None:
    """Connections in TIME_WAIT do not count."""
    port = ReservedPort("127.0.0.1", 0)
    (listening,) = port.listen()
    client = socket.create_connection(("127.0.0.1", port.port))
    listening.setblocking(True)
    accepted, _ = listening.accept()
    accepted.close()  # first, so that TIME_WAIT is on the server's side
    client.close()
    listening.close()
    port.close()
    ReservedPort("127.0.0.1", port.port).close()


def test_a_name_with_several_addresses_has_one_port_on_all() -> None:
    if not socket.has_ipv6:
        pytest.skip("needs ipv6")
    port = ReservedPort("localhost", 0)
    try:
        sockets = port.listen()
        assert {each.getsockname()[1] for each in sockets} == {port.port}
        for each in sockets:
            each.close()
    finally:
        port.close()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [("198.51.100.1", "is not one of this machine"), ("no-such-host.invalid", "has no address")],
)
def test_a_host_that_is_not_ours_is_a_sentence(host: str, sentence: str) -> None:
    with pytest.raises(StartError, match=sentence):
        ReservedPort(host, 0)
