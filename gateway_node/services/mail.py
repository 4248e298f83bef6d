"""Mail: letters from templates, over SMTP (RFC 5321, RFC 5322)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiosmtplib
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound

from gateway_node.services.deliveries import Away, Delayed, Send, Undeliverable
from gateway_node.services.recovery import RecoveryTokens
from storage.deliveries import Delivery

if TYPE_CHECKING:
    from config.sections import Mail as MailSettings

TEMPLATES = Path(__file__).parents[1] / "letters"
TIMEOUT = 10.0  # s for one step with the mail server
PORTS = {"smtp": 587, "smtps": 465}
RESET, VERIFY = "password.reset", "email.verification"


class Letters:
    """Writes them. `folder`: templates of the operator's own, which go before ours; each begins with its subject."""

    def __init__(self, sender: str, public_url: str, tokens: RecoveryTokens, folder: Path | None = None) -> None:
        folders = [str(each) for each in (folder, TEMPLATES) if each is not None]
        self._templates = Environment(  # noqa: S701 - they are text: `_as_html` makes HTML of it, and escapes everything
            loader=FileSystemLoader(folders), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._sender = sender
        self._host = sender.rpartition("@")[2].rstrip(">")
        self._public_url = public_url.rstrip("/")
        self._tokens = tokens

    def write(self, delivery: Delivery) -> EmailMessage:
        """Raises `Undeliverable` for an address that can be none."""
        try:
            template = self._templates.get_template(f"{delivery.kind}.txt")
        except TemplateNotFound:
            raise Undeliverable(f"there is no template {delivery.kind}.txt") from None
        words = {**delivery.data, "name": delivery.name, "email": delivery.email, "course": delivery.course or ""}
        text = template.render({**words, "url": self._public_url, "link": self._link(delivery)})
        subject, _, body = text.partition("\n")
        message = EmailMessage(policy=SMTP_POLICY)
        message["From"] = self._sender
        message["Subject"] = " ".join(subject.removeprefix("Subject:").split())
        message["Date"] = format_datetime(delivery.created_at)
        message["Message-ID"] = f"<{delivery.id}@{self._host}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine answers it
        try:
            message["To"] = Address(display_name=delivery.name, addr_spec=delivery.email)
        except Exception as error:  # the parser's own errors are of many kinds
            raise Undeliverable(f"{delivery.email!r} is no address: {error}") from None
        message.set_content(body.strip() + "\n")
        message.add_alternative(_as_html(body.strip()), subtype="html")
        return message

    def _link(self, delivery: Delivery) -> str:
        """After the `#`, because what stands there is sent to no server and kept in no log."""
        if delivery.kind == RESET:
            return f"{self._public_url}/#reset={self._tokens.for_reset(delivery.user_id, delivery.password_hash)}"
        if delivery.kind == VERIFY:
            return f"{self._public_url}/#verify={self._tokens.for_address(delivery.user_id, delivery.email)}"
        if (class_id := delivery.data.get("class_id")) is not None:
            return f"{self._public_url}/#/class/{class_id}"
        return f"{self._public_url}/"


class Mail:
    """A `Carrier` over one mail server."""

    def __init__(self, settings: MailSettings, letters: Letters) -> None:
        assert settings.url is not None, "mail is set up"
        self._url = urlsplit(settings.url)
        self._letters = letters

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Send]:
        """One connection for all of them. Raises `Away`."""
        url = self._url
        assert url.hostname is not None, "checked with the settings"
        smtp = aiosmtplib.SMTP(
            hostname=url.hostname,
            port=url.port or PORTS[url.scheme],
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            use_tls=url.scheme == "smtps",
            timeout=TIMEOUT,
        )
        try:
            async with smtp:
                yield lambda delivery: self._send(smtp, delivery)
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Away(f"the mail server {url.hostname}: {error}") from None

    async def _send(self, smtp: aiosmtplib.SMTP, delivery: Delivery) -> None:
        message = self._letters.write(delivery)
        try:
            await smtp.send_message(message)
        except aiosmtplib.SMTPRecipientsRefused as error:
            (refused,) = error.recipients
            raise _verdict(refused.code, refused.message) from None
        except aiosmtplib.SMTPSenderRefused as error:
            # Not the letter's fault: the operator's `mail.sender` is wrong, and will be put right.
            raise Delayed(f"the sender is refused: {error.code} {error.message}") from None
        except aiosmtplib.SMTPResponseException as error:
            raise _verdict(error.code, error.message) from None
        except aiosmtplib.SMTPNotSupported as error:  # an address like x@münchen.example: this letter's trouble alone
            raise Delayed(str(error)) from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise Away(f"the mail server {self._url.hostname}: {error}") from None


def _verdict(code: int, message: str) -> Exception:
    """RFC 5321, section 4.2.1: what begins with 5 will not be taken later either."""
    kind = Undeliverable if 500 <= code < 600 else Delayed
    return kind(f"{code} {message}")


def _as_html(text: str) -> str:
    """Paragraphs, with the lines that are a link made one."""
    parts = []
    for paragraph in text.split("\n\n"):
        safe = html.escape(paragraph.strip())
        if safe.startswith(("http://", "https://")) and " " not in safe:
            safe = f'<a href="{safe}">{safe}</a>'
        parts.append(f"<p>{safe.replace(chr(10), '<br>')}</p>")
    return "<!doctype html><html><body>" + "".join(parts) + "</body></html>"
