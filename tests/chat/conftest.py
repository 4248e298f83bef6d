"""A server of two nodes for the tests of the chat. Nobody stops or kills anything in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.server import Server
from tests.stack import short_folder

SETTINGS = {
    "CLIENT__PUBLISHES_PER_SECOND": "0",
    "CLIENT__COMMANDS_PER_SECOND": "0",
    "LIMITS__REGISTRATIONS_PER_ADDRESS": "0",
    "LIMITS__REQUESTS_PER_ADDRESS": "0",
    "LIMITS__REQUESTS_PER_USER": "0",
    "CHAT__SMALL_ROOM": "4",  # so that few people make a big room
    "CHAT__PULSE": "0.1",
}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running
