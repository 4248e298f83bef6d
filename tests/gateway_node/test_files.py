"""Files: names, and how many may come in at once. What needs a database is in http/test_files.py."""

from __future__ import annotations

from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_node.services.files import MAX_NAME, clean_name, content_disposition


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("notes.txt", "notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\photo.jpg", "photo.jpg"),
        ("a\r\nSet-Cookie: x=1", "aSet-Cookie: x=1"),
        ("nul\0.txt", "nul.txt"),
        ("gpj.\u202etxt.exe", "gpj.txt.exe"),
        ("café ☕.pdf", "café ☕.pdf"),
        ("👩‍👩‍👧.png", "👩‍👩‍👧.png"),
        ("..", "file"),
        ("", "file"),
        ("/", "file"),
        (" . ", "file"),
        (".profile", "profile"),
        ("x" * 300, "x" * 255),
        ("x" * 300 + ".tar", "x" * 251 + ".tar"),
    ],
)
def test_a_name_is_cleaned(given_name: str, kept: str) -> None:
    assert clean_name(given_name) == kept


@given(st.text(alphabet=st.characters(), max_size=600))
def test_every_name_can_be_said_in_a_header(name: str) -> None:
    name = clean_name(name)
    assert 1 <= len(name) <= MAX_NAME
    assert "/" not in name
    header = content_disposition(name)
    header.encode("ascii")
    assert "\r" not in header
    assert "\n" not in header
    assert unquote(header.partition("filename*=UTF-8''")[2]) == name
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"


def test_the_name_for_old_clients_ends_nothing() -> None:
    header = content_disposition('a"; filename=b.exe', inline=True)
    assert header == ("inline; filename=\"a_; filename=b.exe\"; filename*=UTF-8''a%22%3B%20filename%3Db.exe")
