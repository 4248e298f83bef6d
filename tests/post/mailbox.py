"""A real mail server (aiosmtpd) on a port of its own, that keeps what it takes and can be told to refuse.

with Mailbox() as mailbox:
    ...  # a server with the setting MAIL__URL = mailbox.url
    letter = await mailbox.letter(to="ann@example.org", about="password")
"""

from __future__ import annotations

import asyncio
import email
import re
import socket
import threading
from collections import Counter
from email.message import EmailMessage
from email.policy import default
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

PATIENCE = 15.0  # s


class Mailbox:
    """`answers`: what the next letters are answered with, by their recipient, before they are taken (`250 OK`)."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.answers: dict[str, list[str]] = {}
        self.pause = 0.0  # s before a letter is taken
        self.arrived: Counter[str] = Counter()  # attempts by recipient
        self._lock = threading.Lock()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._controller = Controller(self, "127.0.0.1", self.port, ready_timeout=10)

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        with self._lock:
            self.arrived[address] += 1
            if self.answers.get(address):
                return self.answers[address].pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.pause)
        assert isinstance(envelope.content, bytes)
        letter = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(letter, EmailMessage)
        with self._lock:
            self.letters.append(letter)
        return "250 OK"

    def to(self, address: str, about: str = "") -> list[EmailMessage]:
        """The letters for somebody with this in their subject, the first one first."""
        with self._lock:
            return [each for each in self.letters if address in each["To"] and about in each["Subject"]]

    async def letter(self, to: str, about: str = "", *, number: int = 1) -> EmailMessage:
        """The letter, or the `number`th, when it is there. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.to(to, about)) < number:
                await asyncio.sleep(0.05)
        return found[number - 1]


def text_of(letter: EmailMessage) -> str:
    body: Any = letter.get_body(("plain",))
    return str(body.get_content())


def link_in(letter: EmailMessage, purpose: str) -> str:
    """The token of the link."""
    found = re.search(rf"#{purpose}=(\S+)", text_of(letter))
    assert found is not None, text_of(letter)
    return found[1]
