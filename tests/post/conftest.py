"""A server of two nodes that sends mail and pushes, and the mail server that it sends to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.server import Server
from tests.chat.conftest import SETTINGS
from tests.post.mailbox import Mailbox
from tests.post.pushservice import PushService
from tests.stack import short_folder


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as running:
        yield running


@pytest.fixture(scope="session")
def push_service() -> Iterator[PushService]:
    with PushService() as running:
        yield running


@pytest.fixture(scope="session")
def server(mailbox: Mailbox, push_service: PushService) -> Iterator[Server]:
    settings = {
        **SETTINGS,
        "LIMITS__LOGINS_PER_ADDRESS": "0",
        "LIMITS__LOGINS_PER_USER": "0",
        "HTTP__PUBLIC_URL": "https://school.example",
        "MAIL__URL": mailbox.url,
        "MAIL__SENDER": "The School <no-reply@school.example>",
        "MAIL__RETRY_AFTER": "0.5",
        "PUSH__CONTACT": "mailto:admin@school.example",
        "PUSH__SERVICES": push_service.origin,
    }
    with short_folder() as folder, Server(folder / "data", nodes=2, settings=settings) as running:
        yield running
