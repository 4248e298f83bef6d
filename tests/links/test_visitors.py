"""An operator's own database of countries."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from gateway_node.services.links.visitors import Visitors
from tests.links.visitor import BROWSER


def encoded(value: Any) -> bytes:
    """MaxMind DB format 2.0, data section: maps, strings, unsigned numbers and arrays, as far as they are needed."""
    if isinstance(value, dict):
        return bytes([7 << 5 | len(value)]) + b"".join(encoded(key) + encoded(each) for key, each in value.items())
    if isinstance(value, str):
        return bytes([2 << 5 | len(value)]) + value.encode()
    if isinstance(value, list):
        return bytes([len(value), 4]) + b"".join(map(encoded, value))
    if isinstance(value, bytes):
        return value
    return bytes([6 << 5 | 4]) + struct.pack(">I", value)


def small(value: int) -> bytes:
    """16 bits, as most numbers of the metadata are."""
    return bytes([5 << 5 | 2]) + struct.pack(">H", value)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The lower half of all addresses is in one country, the upper half in another."""
    lower, upper = encoded({"country": {"iso_code": "NZ"}}), encoded({"country": {"iso_code": "PE"}})
    node = b"".join((1 + 16 + offset).to_bytes(3) for offset in (0, len(lower)))
    metadata = {
        "node_count": 1,
        "record_size": small(24),
        "ip_version": small(4),
        "database_type": "Test",
        "languages": ["en"],
        "binary_format_major_version": small(2),
        "binary_format_minor_version": small(0),
        "build_epoch": bytes([8, 2]) + struct.pack(">Q", 1),
        "description": {"en": "Two halves"},
    }
    path = tmp_path / "countries.mmdb"
    path.write_bytes(node + bytes(16) + lower + upper + b"\xab\xcd\xefMaxMind.com" + encoded(metadata))
    return path


def test_countries_of_an_operators_own_file(database: Path) -> None:
    visitors = Visitors(database)
    for address, country in (("8.8.8.8", "NZ"), ("200.1.2.3", "PE"), ("2001:db8::1", None), ("nonsense", None)):
        assert visitors.describe(address, b"", BROWSER, False).country == country
