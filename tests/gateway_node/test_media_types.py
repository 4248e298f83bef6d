from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway_node.services.media_types import HEAD, SHOWN, UNKNOWN, media_type

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def image(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(out, kind)
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.txt", "x")
    return out.getvalue()


def mp4(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\2\0isomiso2" + bytes(400)


@pytest.mark.parametrize(
    ("head", "said", "is_"),
    [
        (image("PNG"), "", "image/png"),
        (image("JPEG"), "text/html", "image/jpeg"),
        (image("GIF"), "image/png", "image/gif"),
        (image("WEBP"), "image/svg+xml", "image/webp"),
        (image("TIFF"), "", "image/tiff"),
        (mp4(b"isom"), "video/mp4", "video/mp4"),
        (mp4(b"M4A "), "audio/mp4", "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm" + bytes(300), "", "video/webm"),
        (b"ID3\x04" + bytes(6) + b"\xff\xfb\x90\0" * 100, "", "audio/mpeg"),
        (b"OggS\0\2" + bytes(20) + b"\x01\x1e\x01vorbis" + bytes(50), "", "audio/ogg"),
        (b"%PDF-1.7\n% all of it text\n", "", "application/pdf"),
        (b"hello, this is text\n", "image/png", "text/plain"),
        ("grüße — 👋\n".encode(), "", "text/plain"),
        (b"<!DOCTYPE html><script>alert(1)</script>", "image/png", "text/plain"),
        (b"<html>%PDF-1.4", "application/pdf", "text/plain"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml", "text/plain"),
        (b"alert(1)", "application/javascript", "text/plain"),
        (b"<html>\0</html>", "text/html", UNKNOWN),
        ("<script>alert(1)</script>".encode("utf-16"), "text/html", UNKNOWN),
        (archive(), "", "application/zip"),
        (archive(), WORD, WORD),
        (archive(), "image/png", "application/zip"),
        (archive(), "text/html", "application/zip"),
        (bytes(range(128, 256)), "image/png", UNKNOWN),
        (b"\x7fELF" + bytes(300), "application/pdf", UNKNOWN),
    ],
)
def test_the_bytes_decide(head: bytes, said: str, is_: str) -> None:
    assert media_type(head, said) == is_


def test_a_character_that_the_head_cuts_in_two_is_text_still() -> None:
    assert media_type(("x" + "é" * HEAD).encode()[:HEAD], "") == "text/plain"


@given(st.binary(max_size=300), st.text(max_size=40))
def test_nothing_is_ever_called_what_a_browser_runs(head: bytes, said: str) -> None:
    found = media_type(head, said)
    assert not any(word in found for word in ("html", "svg", "script", "flash"))
    assert not found.endswith("xml")


@given(st.sampled_from(["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "image/png"]))
def test_what_the_sender_says_makes_nothing_shown(said: str) -> None:
    assert media_type(b"\xff\0\xfe\1\xfd\2 nothing known", said) not in SHOWN
