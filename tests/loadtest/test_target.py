"""Where the server is, and what this machine must allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.target import Unusable, is_loopback, kernel_memory, parse, workers_for


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000, "/connection/websocket"),
        ("ws://127.0.0.1", "127.0.0.1", 80, "/connection/websocket"),
        ("http://127.0.0.1:9/x?y=z", "127.0.0.1", 9, "/x?y=z"),
        ("ws://[::1]:8000/", "::1", 8000, "/connection/websocket"),
    ],
)
def test_addresses(url: str, host: str, port: int, path: str) -> None:
    target = parse(url)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1", "wss://127.0.0.1", "127.0.0.1:99999", "http://"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(Unusable):
        parse(url)


def test_only_loopback_is_ones_own() -> None:
    assert is_loopback("127.9.9.9")
    assert is_loopback("::1")
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("no-such-host.invalid")


def test_workers() -> None:
    assert workers_for(10, 0, 2) == 2
    assert workers_for(1, 0, 2) == 1
    assert workers_for(1_000_000, 0, 2) >= 53
    with pytest.raises(Unusable, match="--workers"):
        workers_for(10_000_000_000, 1, 2)


def test_the_kernel_is_asked_for_memory_only_by_crowds(tmp_path: Path) -> None:
    limits = tmp_path / "tcp_mem"
    limits.write_text("287901\t383868\t575802\n")
    assert kernel_memory(50_000, limits) == ""
    assert kernel_memory(200_000, limits) == ""
    assert 'tcp_mem="1000000 1500000 2000000"' in kernel_memory(1_000_000, limits)
    assert kernel_memory(1_000_000, tmp_path / "none") == ""
