"""A server of two nodes for the tests of short links. Nobody stops or kills anything in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS as CHAT
from tests.stack import short_folder

SETTINGS = {
    **CHAT,
    "LIMITS__LINKS_PER_USER": "0",
    "LINKS__BLOCKED_DOMAINS": "evil.example",
    "LINKS__BLOCKED_CODES": "staff",
    "LINKS__STORE_IP": "truncated",
}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running
