"""A server of two nodes for the tests of live classes. Nobody stops or kills anything in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.stack import short_folder


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=SETTINGS) as running:
        yield running
